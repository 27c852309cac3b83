"""Step 3: the winner as a plain network, from ``choices.yml`` alone, trained from three seeds; one of them is saved."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from images import Batches
from net import build, images, train_alone

from mutators import apply_fixed_architecture, load_subnet, save_subnet
from mutators.mmrazor import OneShotMutator, load_mutable_cfg
from mutators.oneshot import evaluate

SEEDS = (11, 12, 13)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with choices.yml, as nas export writes it")
    folder = parser.parse_args().folder

    chosen = load_mutable_cfg(folder / "choices.yml")
    choices = apply_fixed_architecture(build(), {key: choice["chosen"] for key, choice in chosen.items()})
    test = Batches(images().test, 500)
    accuracies = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        network = OneShotMutator().deploy_subnet(build(), chosen)
        train_alone(network, seed)
        if not accuracies:
            save_subnet(folder, network, choices, factory=build)
            network = load_subnet(folder, build())
        accuracies.append(float(evaluate(network, {}, test)["default"]))
    (folder / "accuracies.json").write_text(json.dumps(accuracies))
    print(f"accuracy of the winner on {len(images().test)} test images, three trainings: {accuracies}")
