"""What choices cost at run time: a training step of a model with 20 LayerChoices against the extracted plain model.

Run: python -m tests.benchmarks.mutables_overhead            (about a minute)
Prints the median over interleaved pairs of the ratio of two steps' times, and the same for the plain model against a
copy of itself, which is the noise to compare with.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial

import torch
from torch import nn

from mutators import LayerChoice, Mutator, apply_choices, extract, search_space_of
from search_spaces import Space
from tests.benchmarks.pairs import compare


def model(channels: int) -> nn.Sequential:
    """(N, channels, H, W) -> (N, channels, H, W), by 20 choices among three convolutions."""
    return nn.Sequential(
        *(LayerChoice([nn.Conv2d(channels, channels, k, padding=k // 2) for k in (1, 3, 5)]) for _ in range(20))
    )


class Middle(Mutator):
    """Always the second candidate."""

    def sample_search(self) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([False, True, False]) for key in self.domains}

    sample_final = sample_search


def step(network: nn.Module, x: torch.Tensor) -> None:
    """One forward and backward pass."""
    network(x).square().mean().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--channels", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    chosen = model(options.channels)
    choices = Space.from_json(search_space_of(chosen)).decode((1,) * 20)
    apply_choices(chosen, choices)
    plain = extract(chosen, choices)
    steered = copy.deepcopy(chosen)
    Middle(steered).reset()
    x = torch.randn(10, options.channels, 24, 24)

    rows = [("plain / plain", copy.deepcopy(plain)), ("choices applied / plain", chosen), ("mutator / plain", steered)]
    for name, network in rows:
        ratio, milliseconds = compare(partial(step, network, x), partial(step, plain, x), options.pairs)
        print(f"{name:24} median of {options.pairs} pairs {ratio:.4f}   (step of {milliseconds:.0f} ms)")


if __name__ == "__main__":
    main()
