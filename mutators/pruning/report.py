"""Count the zeros of a model, for each weight and in all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from mutators.pruning.masking import zero_pruned
from mutators.pruning.prunable import find_weights, is_conv1x1, unwrap


@dataclass(frozen=True)
class LayerSparsity:
    """The zeros of one weight.

    Attributes:
        name: of the parameter.
        kind: class of its module.
        shape: of the tensor.
        weights: number of elements.
        zeros: number of elements that are exactly zero.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    zeros: int

    @property
    def share(self) -> float:
        """Return the share of zeros, in [0, 1]."""
        return self.zeros / self.weights


@dataclass(frozen=True)
class SparsityReport:
    """The zeros of all weights of a model that can be pruned; ``str()`` gives a table.

    Attributes:
        layers: one for each weight, in definition order.
        params: number of elements of all parameters, biases and norms too.
    """

    layers: tuple[LayerSparsity, ...]
    params: int

    @property
    def weights(self) -> int:
        """Return the number of elements of all weights."""
        return sum(layer.weights for layer in self.layers)

    @property
    def zeros(self) -> int:
        """Return the number of elements that are exactly zero."""
        return sum(layer.zeros for layer in self.layers)

    @property
    def share(self) -> float:
        """Return the share of zeros among the weights, in [0, 1]."""
        return self.zeros / self.weights if self.weights else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        layers = [{**asdict(layer), "shape": list(layer.shape), "share": layer.share} for layer in self.layers]
        totals = {"params": self.params, "weights": self.weights, "zeros": self.zeros, "share": self.share}
        return {**totals, "layers": layers}

    def __str__(self) -> str:
        rows = [("weight", "layer", "shape", "weights", "zeros", "share")]
        rows += [
            (x.name, x.kind, " x ".join(map(str, x.shape)), f"{x.weights:,}", f"{x.zeros:,}", f"{x.share:.2%}")
            for x in self.layers
        ]
        total = (f"{self.weights:,}", f"{self.zeros:,}", f"{self.share:.2%}")
        rows.append(("all", f"of {self.params:,} params", "", *total))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = "  ".join(f"{{:{'<' if i < 3 else '>'}{width}}}" for i, width in enumerate(widths))
        return "\n".join(aligned.format(*row) for row in rows)


def sparsity_report(model: nn.Module) -> SparsityReport:
    """Count the zeros of each weight that can be pruned: two or more dimensions, no bias, no norm. Needs no pruner.

    Weights that a pruner has pruned are first set to zero, as at a save: an optimizer may just have moved them.
    """
    model = unwrap(model)
    zero_pruned(model)
    layers = tuple(
        LayerSparsity(name, type(module).__name__, tuple(weight.shape), weight.numel(), _zeros(weight))
        for name, (module, weight) in find_weights(model).items()
    )
    return SparsityReport(layers, sum(p.numel() for p in model.parameters()))


def total_sparse(model: nn.Module) -> float:
    """Return the share of zeros among all parameters, biases and norms too, without the statistics of batch norms."""
    zero_pruned(model)
    return _share(list(model.parameters()))


def total_sparse_conv1x1(model: nn.Module) -> float:
    """Return the share of zeros among the weights of 1x1 convolutions; 0 if there are none."""
    model = unwrap(model)
    zero_pruned(model)
    return _share([weight for module, weight in find_weights(model).values() if is_conv1x1(model, module, weight)])


def _share(tensors: list[nn.Parameter]) -> float:
    total = sum(tensor.numel() for tensor in tensors)
    return sum(map(_zeros, tensors)) / total if total else 0.0


def _zeros(tensor: torch.Tensor) -> int:
    return tensor.numel() - int(torch.count_nonzero(tensor.detach()))
