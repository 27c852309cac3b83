"""Share networks with choices among tests, and steps on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

import search_spaces
from mutators import InputChoice, LayerChoice, extract, search_space_of
from search_spaces import Space
from search_spaces.nets.registry import is_of_tokens

TOKEN_NETS = tuple(name for name in search_spaces.names() if is_of_tokens(name))
BLOCKS = {"input_size": 32, "output_size": 8, "block_num": 3}


def config_of(name: str) -> dict[str, Any]:
    """Return the arguments that a net cannot do without."""
    return dict(BLOCKS) if name.endswith("BlockSpace") else {}


def network_of(name: str, tokens: Sequence[int], config: Mapping[str, Any]) -> nn.Module:
    """Build the plain network of an architecture, of a net of tokens or of one with choices in it."""
    if is_of_tokens(name):
        return search_spaces.build(name, tokens, **config)
    model = _supernet(name, tuple(config.items()))
    return extract(model, space_of(model).decode(tokens))


@lru_cache(maxsize=4)
def _supernet(name: str, config: tuple[tuple[str, Any], ...]) -> nn.Module:
    return search_spaces.build(name, **dict(config))


class Small(nn.Module):
    """Two layer choices, the second nested in the first's option, and an input choice; (N, 3, H, W) to (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.first = LayerChoice({"3x3": nn.Conv2d(8, 8, 3, padding=1), "5x5": nn.Conv2d(8, 8, 5, padding=2)})
        inner = LayerChoice({"1x1": nn.Conv2d(8, 8, 1), "none": nn.Identity()})
        self.second = LayerChoice({"two": nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), inner), "skip": nn.Identity()})
        self.inputs = InputChoice(n_candidates=3, n_chosen=None)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.first(x)
        z = self.second(y)
        mixed = self.inputs([x, y, z])
        return self.head(self.norm(z if mixed is None else mixed).mean(dim=(2, 3)))


def small() -> nn.Module:
    return Small()


def space_of(model: nn.Module) -> Space:
    return Space.from_json(search_space_of(model))


def step(network: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """Run forwards and backwards on two random inputs; every parameter must get a gradient. Returns: the output."""
    network.train()
    device = next(network.parameters()).device
    output = network(torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), device="cpu").to(device))
    output.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    if device.type != "meta":  # which has no numbers
        assert not [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
        assert output.isfinite().all()
    return output
