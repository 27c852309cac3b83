"""Make the best architecture an ordinary, trained network: extract, retrain, save, load again, test."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from data import Split, load
from model import build
from training import accuracy, train

from mutators import extract, load_subnet, save_subnet


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="where nas export has put choices.json; the network goes there too")
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()

    data = load(options.data, options.limit)
    choices = json.loads((options.folder / "choices.json").read_text())
    torch.manual_seed(0)
    network = extract(build(), choices)
    everything = Split(
        torch.cat([data.train.images, data.valid.images]), torch.cat([data.train.labels, data.valid.labels])
    )
    for epoch in train(network, everything, options.epochs):
        print(f"\repoch {epoch + 1}/{options.epochs}", end="", flush=True)
    save_subnet(options.folder, network, choices, factory=build)

    again = load_subnet(options.folder, build)
    with torch.no_grad():
        difference = (again(data.test.images[:100]) - network.eval()(data.test.images[:100])).abs().max()
    print(f"\nsaved to {options.folder}: {sum(p.numel() for p in again.parameters())} parameters")
    print(
        f"loaded again with load_subnet({str(options.folder)!r}, build): largest difference of logits {difference:.1e}"
    )
    print(f"accuracy on {len(data.test)} held-out images: {accuracy(again, data.test):.4f}")


if __name__ == "__main__":
    main()
