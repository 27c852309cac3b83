"""Every kind of layer that conversion knows really becomes elastic; one that stays plain passes other tests, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mutators.elastic import conversion_of, convert
from mutators.elastic.conversion.layers import KINDS
from mutators.elastic.layers.layer import Elastic


class Between(nn.Module):
    """A layer of 8 channels between two others. (N, 3, 8, 8) to (N, 4, 8, 8)."""

    def __init__(self, layer: nn.Module, dims: int = 2) -> None:
        super().__init__()
        self.before, self.layer, self.after = nn.Conv2d(3, 8, 3, padding=1), layer, nn.Conv2d(8, 4, 1)
        self.dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        if self.dims == 3:
            return self.after(self.layer(x.unsqueeze(2)).squeeze(2))
        if self.dims == 1:
            return self.after(self.layer(x.flatten(2)).unflatten(2, (8, 8)))
        if self.dims == 0:
            return self.after(self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return self.after(self.layer(x))


class Tokens(nn.Module):
    """An embedding, and what comes after it. (N, L) to (N, L, 4)."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.middle, self.after = nn.Embedding(10, 8), middle, nn.Linear(8, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.layer(tokens)
        return self.after(x if self.middle is None else self.middle(x, x, x)[0])


IMAGES, TEXT = torch.randn(2, 3, 8, 8), torch.randint(10, (2, 5))
CASES: dict[type[nn.Module], tuple[Callable[[], nn.Module], torch.Tensor]] = {
    nn.Conv2d: (lambda: Between(nn.Conv2d(8, 8, 3, padding=1)), IMAGES),
    nn.ConvTranspose2d: (lambda: Between(nn.ConvTranspose2d(8, 8, 3, padding=1)), IMAGES),
    nn.Linear: (lambda: Between(nn.Linear(8, 8), dims=0), IMAGES),
    nn.LayerNorm: (lambda: Between(nn.LayerNorm(8), dims=0), IMAGES),
    nn.BatchNorm1d: (lambda: Between(nn.BatchNorm1d(8), dims=1), IMAGES),
    nn.BatchNorm2d: (lambda: Between(nn.BatchNorm2d(8)), IMAGES),
    nn.BatchNorm3d: (lambda: Between(nn.BatchNorm3d(8), dims=3), IMAGES),
    nn.GroupNorm: (lambda: Between(nn.GroupNorm(4, 8)), IMAGES),
    nn.InstanceNorm2d: (lambda: Between(nn.InstanceNorm2d(8, affine=True)), IMAGES),
    nn.Embedding: (Tokens, TEXT),
    nn.MultiheadAttention: (lambda: Tokens(nn.MultiheadAttention(8, 4, batch_first=True)), TEXT),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_convert_makes_it_elastic(kind: type[nn.Module]) -> None:
    build, example = CASES[kind]
    net = build()
    place = "middle" if kind is nn.MultiheadAttention else "layer"
    supernet = convert(net, expand_ratio=(0.5, 1.0), example=example)
    assert isinstance(supernet.get_submodule(place), Elastic), str(conversion_of(supernet))
