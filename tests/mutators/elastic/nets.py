"""Elastic networks that several tests share, and making them lively."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import search_spaces
from mutators.elastic.layers import ElasticLinear, ElasticMultiheadAttention
from mutators.elastic.mit_config import ElasticNetwork
from search_spaces.nets import ofa_mobilenet_v3, ofa_resnet50


def small(name: str) -> ElasticNetwork:
    """One of MIT's nets with two narrow stages, with and without squeeze-and-excite; everything else as it is."""
    stages: Sequence[Any]
    if name == "ofa_mobilenet_v3":
        stage = ofa_mobilenet_v3.MobileNetStage
        stages = (
            stage(16, stride=2, squeeze=True, hardswish=True, depths=(1, 2)),
            stage(24, stride=2, squeeze=False, hardswish=False, depths=(1, 2)),
        )
    else:
        stages = (ofa_resnet50.ResNetStage(64, 1, 1, depths=(0, 1)), ofa_resnet50.ResNetStage(128, 2, 1, depths=(0, 1)))
    return lively(search_spaces.build(name, num_classes=10, stages=stages, dropout=0.0))


def full(name: str) -> ElasticNetwork:
    """One of MIT's nets as published, for 10 classes."""
    return lively(search_spaces.build(name, num_classes=10))


def lively(net: nn.Module, size: int = 32) -> Any:
    """The net in evaluation mode, after matrices, affine parameters and statistics became all different."""
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "matrix" in name or parameter.dim() == 1:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for norm in norms:
            norm.momentum = 1.0
        net.train()(torch.randn(8, 3, size, size, generator=generator))
        for norm in norms:
            norm.momentum = 0.1
    return net.eval()


def configs_of(
    net: ElasticNetwork, n: int, seed: int, trained: Mapping[str, Sequence[float]] | None = None
) -> Iterator[dict[str, list[float]]]:
    """Random configurations; of parts in ``trained`` only these values."""
    generator = torch.Generator().manual_seed(seed)
    offers = {part: [offers_of(net, part, at) for at in range(len(v))] for part, v in net.config_of().items()}
    for part, values in (trained or {}).items():
        offers[part] = [[value for value in offer if value in values] for offer in offers[part]]
    for _ in range(n):
        yield {
            part: [offer[int(torch.randint(len(offer), (), generator=generator))] for offer in slots]
            for part, slots in offers.items()
        }


def offers_of(net: ElasticNetwork, part: str, at: int) -> list[float]:
    """The values of one slot of a configuration."""
    names = {"ks": "kernel_size", "e": "expand_ratio", "d": "depth", "w": "width"}
    found = [m for name, m in net.named_modules() if name.rpartition(".")[2] == names[part]]
    values: list[float] = list(found[at].values)  # type: ignore[arg-type]
    return list(range(len(values))) if part == "w" else values


class Encoder(nn.Module):
    """One transformer layer: heads and neurons are elastic. (N, L, 12) to (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        attention = nn.MultiheadAttention(12, 4, batch_first=True, dropout=0.5)
        self.attention = ElasticMultiheadAttention.of(attention, heads=(1, 2, 4))
        self.norm = nn.LayerNorm(12)
        self.up = ElasticLinear(12, (5, 8, 20))
        self.down = ElasticLinear(self.up.outputs, 12)  # type: ignore[arg-type]
        self.head = nn.Linear(12, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        x = x + self.down(F.gelu(self.up(x)))  # of a ReLU, what is written and what is read matter alike
        logits: torch.Tensor = self.head(x.mean(1))
        return logits


def is_descending(values: torch.Tensor) -> bool:
    return all(a >= b for a, b in itertools.pairwise(values.tolist()))
