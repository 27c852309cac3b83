"""The reduction of selected tensors to one, and the plain modules that stand for a choice once it is made."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ChoiceError

REDUCTIONS = ("sum", "mean", "concat", "none")


def check_reduction(reduction: str) -> str:
    """Return ``reduction``, or raise a ValueError if it is unknown."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, wanted one of {', '.join(REDUCTIONS)}.")
    return reduction


def combine(outputs: Sequence[Any], reduction: str) -> Any:
    """Reduce what was selected. Those that are None contribute nothing.

    Args:
        outputs: tensors of shapes that can be added, or for "concat" of shapes (N, C_i, ...).

    Returns: for "none" always a list; else None for nothing, the tensor itself for one, and for more their sum, their
        mean over those that are not None, or (N, sum of C_i, ...).
    """
    kept = [output for output in outputs if output is not None]
    if reduction == "none":
        return kept
    if len(kept) < 2:
        return kept[0] if kept else None
    if reduction == "concat":
        return torch.cat(kept, dim=1)
    total = functools.reduce(operator.add, kept)
    return total / len(kept) if reduction == "mean" else total


def mask_of(indices: Sequence[int], n: int) -> torch.Tensor:
    """Return a mask: (n,) bool, on the CPU, True at ``indices``."""
    mask = torch.zeros(n, dtype=torch.bool)
    mask[list(indices)] = True
    return mask


def ordered_inputs(inputs: Any, names: Sequence[str], where: str) -> Sequence[Any]:
    """Return a list, a tuple or a dict of inputs in the order of the candidates' names; "" is one without a name.

    Raises:
        ChoiceError: the number, the type or the names do not fit the choice, which is described by ``where``.
    """
    if isinstance(inputs, (list, tuple)):
        if len(inputs) != len(names):
            raise ChoiceError(f"{where} got {len(inputs)} inputs, wanted {len(names)}, one for each of {list(names)}.")
        return inputs
    if not isinstance(inputs, dict):
        raise ChoiceError(f"{where} got a {type(inputs).__name__}, wanted a list, a tuple or a dict of inputs.")
    if "" in names or len(set(names)) < len(names):
        raise ChoiceError(
            f"{where} got a dict, but its candidates {list(names)} have no names of their own: give a list."
        )
    if inputs.keys() != set(names):
        missing, unknown = [n for n in names if n not in inputs], [k for k in inputs if k not in names]
        raise ChoiceError(f"{where} got other inputs than choose_from: missing {missing}, unknown {unknown}.")
    return [inputs[name] for name in names]


class SelectedInputs(nn.Module):
    """A fixed selection of inputs, without parameters: an ``InputChoice`` in an extracted network.

    Holds all that a forward may read of an ``InputChoice``, under the same names.
    """

    def __init__(
        self,
        names: Sequence[str],
        indices: Sequence[int],
        reduction: str,
        return_mask: bool,
        n_chosen: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.indices = self.chosen = tuple(indices)
        self.choose_from, self.n_candidates, self.n_chosen = list(names), len(names), n_chosen
        self.reduction, self.return_mask = reduction, return_mask

    def forward(self, optional_inputs: Any) -> Any:
        """Select and reduce. ``optional_inputs``: a list, a tuple or a dict, as for the ``InputChoice``."""
        inputs = ordered_inputs(optional_inputs, self.names, "SelectedInputs")
        out = combine([inputs[i] for i in self.indices], self.reduction)
        return (out, mask_of(self.indices, len(self.names))) if self.return_mask else out

    def extra_repr(self) -> str:
        return f"{list(self.indices)} of {list(self.names)}, reduction={self.reduction!r}"


class ChosenLayer(nn.Module):
    """A fixed layer, as ``chosen``, that returns a list or a mask beside its output, as its ``LayerChoice`` did."""

    def __init__(self, chosen: nn.Module, index: int, names: Sequence[str], reduction: str, return_mask: bool) -> None:
        super().__init__()
        self.chosen = chosen
        self.index, self.names, self.reduction, self.return_mask = index, list(names), reduction, return_mask

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the chosen module; shapes are its own."""
        out = combine([self.chosen(*args, **kwargs)], self.reduction)
        return (out, mask_of((self.index,), len(self.names))) if self.return_mask else out


class NoLayer(nn.Module):
    """The place of a layer that was removed, since no input choice selects its output."""

    def forward(self, *_: Any, **__: Any) -> None:
        """Return None, which contributes nothing to an input choice."""
