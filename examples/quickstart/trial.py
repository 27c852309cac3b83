"""One trial: receive an architecture, train it, report its accuracy on the validation set."""

from __future__ import annotations

import argparse

import torch
from data import load
from model import build
from training import accuracy, train

from mutators import get_and_apply_next_architecture, report_final, report_intermediate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="a folder with MNIST-like idx.gz files; default: scikit-learn's digits")
    parser.add_argument("--limit", type=int, help="how many images to use")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    torch.set_num_threads(1)  # trials run side by side
    torch.manual_seed(0)
    model = build()
    get_and_apply_next_architecture(model)

    data = load(options.data, options.limit)
    for _ in train(model, data.train, options.epochs):
        report_intermediate(accuracy(model, data.valid))
    report_final(accuracy(model, data.valid))


if __name__ == "__main__":
    main()
