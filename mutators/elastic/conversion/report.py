"""What a conversion made of a model, layer by layer, and why not more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mutators.choices.visitor import Extractable, Extraction
from mutators.elastic.layers.errors import ElasticError


@dataclass(frozen=True)
class Row:
    """One layer, or one stage of blocks.

    Attributes:
        path: of the layer.
        layer: its type before the conversion.
        elastic: what became elastic, such as ``{"kernel_size": "3, 5, 7"}``; a width with the key that decides it.
        why_not: what did not, and why, such as ``{"width": "it is the model's output"}``.
    """

    path: str
    layer: str
    elastic: dict[str, str]
    why_not: dict[str, str]


@dataclass(frozen=True)
class Conversion(Extractable):
    """All rows in definition order; ``str`` of it is a table.

    Attributes:
        notes: on the analysis, for instance that the model was recorded on an example, not traced.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Conversion:
        return self

    def extracted(self, extraction: Extraction) -> None:
        """Return None: an extracted network is not elastic."""

    def __getitem__(self, path: str) -> Row:
        """The row of a layer."""
        return next(row for row in self.rows if row.path == path)

    def __str__(self) -> str:
        lines = [("path", "layer", "elastic", "stays")]
        lines += [(row.path, row.layer, _listed(row.elastic), _listed(row.why_not)) for row in self.rows]
        return "\n".join([*_aligned(lines), *self.notes])


def _listed(named: dict[str, str]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in named.items()) or "-"


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(line, sizes, strict=True)).rstrip() for line in lines]


def conversion_of(net: nn.Module) -> Conversion:
    """What :func:`convert` made of a model: rows, and a table as ``str``.

    Raises:
        ElasticError: the model did not come from ``convert``.
    """
    found = getattr(net, "_conversion", None)
    if not isinstance(found, Conversion):
        raise ElasticError(f"this {type(net).__name__} did not come from convert, so there is nothing to tell of it.")
    return found
