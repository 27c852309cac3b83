"""Step 3: the winner as a plain network, from ``choices.yml`` alone, trained from scratch and saved."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from net import EPOCHS, build, images, train
from training import accuracy

from mutators import apply_fixed_architecture, load_subnet, save_subnet
from mutators.mmrazor import OneShotMutator, load_mutable_cfg

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with choices.yml, as nas export writes it")
    folder = parser.parse_args().folder

    torch.manual_seed(0)
    chosen = load_mutable_cfg(folder / "choices.yml")
    choices = apply_fixed_architecture(build(), {key: choice["chosen"] for key, choice in chosen.items()})
    network = OneShotMutator().deploy_subnet(build(), chosen)
    train(network, EPOCHS)
    save_subnet(folder, network, choices, factory=build)

    test = images().test
    print(f"accuracy of the winner on {len(test)} test images: {accuracy(load_subnet(folder, build()), test):.4f}")
