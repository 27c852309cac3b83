"""Report what a conversion made of a model, layer by layer, and why not more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.visitor import Extractable, Extraction


@dataclass(frozen=True)
class Row:
    """The row of one layer, or of one stage of blocks; ``layer`` is its type before the conversion.

    Attributes:
        elastic: options of what became elastic, such as ``{"kernel_size": "3, 5, 7"}``; a width with its choice's key.
        why_not: the reasons of what did not, such as ``{"width": "it is the model's output"}``.
    """

    path: str
    layer: str
    elastic: dict[str, str]
    why_not: dict[str, str]


@dataclass(frozen=True)
class Conversion(Extractable):
    """The report of a conversion: rows in definition order. As text it is a table.

    Attributes:
        notes: remarks on the analysis, such as that the model was recorded on an example, not traced.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Conversion:
        return self

    def extracted(self, extraction: Extraction) -> None:
        """Return None: an extracted network is not elastic."""

    def __getitem__(self, path: str) -> Row:
        """Return the row of a layer."""
        return next(row for row in self.rows if row.path == path)

    def __str__(self) -> str:
        lines = [("path", "layer", "elastic", "stays")]
        lines += [(row.path, row.layer, _list(row.elastic), _list(row.why_not)) for row in self.rows]
        sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ("  ".join(map(str.ljust, line, sizes)).rstrip() for line in lines)
        return "\n".join([*table, *self.notes])


def _list(named: dict[str, str]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in named.items()) or "-"


def conversion_of(net: nn.Module) -> Conversion:
    """Return the report of what :func:`convert` made of a model.

    Raises:
        ElasticError: the model did not come from ``convert``.
    """
    found = getattr(net, "_conversion", None)
    if not isinstance(found, Conversion):
        raise ElasticError(f"this {type(net).__name__} did not come from convert, so there is no report on it.")
    return found
