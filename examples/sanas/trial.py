"""The same search under NNI: a trial builds one architecture, trains it and reports."""

from __future__ import annotations

import argparse

import torch
from net import INITIAL, SPACE, build, costs, images, score

from mutators import get_next_architecture, report_final

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a folder with four MNIST-like idx.gz files")
    parser.add_argument("--limit", type=int, default=4000, help="images to train and validate with")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()

    choices = get_next_architecture(SPACE, initial=SPACE.decode(INITIAL))
    torch.manual_seed(0)
    network = build(choices=choices)
    data = images(options.data, options.limit)
    accuracy = score(network, data.train, data.valid, options.epochs)
    report_final(accuracy, tokens=list(network.tokens), macs=costs().cost("macs", network.tokens))
