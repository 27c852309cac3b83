"""The choice of a layer. After NNI 1.9's ``LayerChoice``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from mutators.choices.candidates import Candidates, named_candidates, rename_weights
from mutators.choices.errors import ChoiceError
from mutators.choices.mutable import ForwardChoice
from mutators.choices.selection import ChosenLayer, NoLayer, check_reduction, combine, mask_of
from mutators.choices.torch_private import get_children
from mutators.choices.visitor import Extraction
from search_spaces.domains import LayerDomain


class LayerChoice(ForwardChoice):
    """One of several layers. Like a list and a dict of its candidates: ``len(c)``, ``c[0]``, ``c[1:]``, ``c["name"]``.

    Args:
        op_candidates: modules that take the same input, as a list (names "0", "1", ...) or a dict by name.
        reduction: what a mutator that selects several does with their outputs: "sum", "mean", "concat" (dim 1), or
            "none" for a list (also of one).
        return_mask: return (output, mask), mask (len(op_candidates),) bool.
        key: see :class:`Mutable`.

    Raises:
        TypeError: op_candidates is neither list nor dict, or holds something else than modules.
        ChoiceError: it is empty, or a name is empty or holds a dot.
        ValueError: the reduction is unknown.

    Differs: no name is reserved; names that cannot be a module's are refused here, not by torch. In a state dict,
    weights are ``candidates.NAME.weight``; ``load_state_dict`` takes those of NNI 1.9, ``NAME.weight``, as well.
    """

    def __init__(
        self,
        op_candidates: list[nn.Module] | dict[str, nn.Module],
        reduction: str = "sum",
        return_mask: bool = False,
        key: str | None = None,
    ) -> None:
        super().__init__(key)
        self.candidates = Candidates(named_candidates(op_candidates))
        self.reduction = check_reduction(reduction)
        self.return_mask = return_mask
        self._active: str | None = None
        self.register_load_state_dict_pre_hook(rename_weights)  # type: ignore[no-untyped-call]

    @property
    def names(self) -> list[str]:
        """Return the candidates' names, in order."""
        return list(get_children(self.candidates))

    @property
    def domain(self) -> LayerDomain:
        """Return what can be chosen: one of :attr:`names`."""
        return LayerDomain(tuple(self.names))

    @property
    def applied_indices(self) -> tuple[int, ...] | None:
        """Return the index of the candidate that is applied, as a tuple of one; None before."""
        return None if self._active is None else (self.names.index(self._active),)

    def choose(self, indices: Sequence[int]) -> None:
        """Set the candidate. Checks nothing: use :func:`mutators.apply_choices`."""
        (index,) = indices
        self._active = self.names[index]

    def gates(self) -> dict[int, tuple[nn.Module, frozenset[int]]]:
        """Return for each candidate, by ``id``, this choice and its index; for one that stands twice, both."""
        found: dict[int, tuple[nn.Module, frozenset[int]]] = {}
        for index, candidate in enumerate(self):
            _, indices = found.get(id(candidate), (self, frozenset[int]()))
            found[id(candidate)] = self, indices | {index}
        return found

    @property
    def is_bare(self) -> bool:
        """Tell whether the output of the chosen candidate is handed on as it is."""
        return not self.return_mask and self.reduction != "none"

    def make_plain(self, indices: tuple[int, ...], extraction: Extraction) -> nn.Module:
        if not indices:
            return NoLayer()
        (index,) = indices
        chosen = extraction.copy(self.candidate(self.names[index]))
        if self.is_bare:
            return extraction.describe(chosen, self.names, index)
        wrapper = ChosenLayer(chosen, index, self.names, self.reduction, self.return_mask)
        wrapper.training = self.training  # not train(): that would reach into the chosen module
        return wrapper

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the chosen candidate, and no other. Shapes are the candidate's.

        Raises:
            ChoiceError: nothing was chosen, and no mutator is bound.
        """
        if self._mutator is not None:
            out, mask = self._mutator.on_forward_layer_choice(self, *args, **kwargs)
            return (out, mask) if self.return_mask else out
        if self._active is None:
            raise self._not_chosen()
        out = self.candidate(self._active)(*args, **kwargs)
        if self.reduction == "none":
            out = combine([out], "none")
        return (out, mask_of(self.applied_indices or (), len(self))) if self.return_mask else out

    def candidate(self, name: str) -> nn.Module:
        """Return the candidate of this name.

        Raises:
            KeyError: there is none, or this choice is fixed to another one.
        """
        found = get_children(self._modules["candidates"]).get(name)  # type: ignore[arg-type]  # straight: the hot path
        if found is None:
            wanted = f"only {self._active!r}: it is fixed" if self.is_fixed else f"wanted one of {self.names}"
            raise KeyError(f"{self.described()} has no candidate {name!r}, {wanted}")
        return found

    def __len__(self) -> int:
        return len(get_children(self.candidates))

    def __iter__(self) -> Iterator[nn.Module]:
        return iter([self.candidate(name) for name in self.names])

    def __contains__(self, item: object) -> bool:
        return item in self.names if isinstance(item, str) else any(item is module for module in self)

    def __getitem__(self, index: int | str | slice) -> Any:
        if isinstance(index, slice):
            return [self.candidate(name) for name in self.names[index]]
        return self.candidate(index if isinstance(index, str) else self.names[index])

    def __setitem__(self, index: int | str, module: nn.Module) -> None:
        name = index if isinstance(index, str) else self.names[index]
        self.candidate(name)  # a misspelt name must not add a candidate
        if not isinstance(module, nn.Module):
            raise TypeError(f"{self.described()}[{index!r}] got a {type(module).__name__}, wanted an nn.Module.")
        get_children(self.candidates)[name] = module

    def __delitem__(self, index: int | str | slice) -> None:
        names = (
            self.names[index] if isinstance(index, slice) else [index if isinstance(index, str) else self.names[index]]
        )
        for name in names:
            self.candidate(name)
        if len(names) == len(self):
            raise ChoiceError(f"{self.described()} would have no candidate left: one at least has to stay.")
        for name in names:
            del get_children(self.candidates)[name]
        if self._active in names:
            self._active = None

    @property
    def choices(self) -> LayerChoice:
        """Return the choice itself, which is like a list. Deprecated."""
        warnings.warn(
            "LayerChoice.choices is deprecated: use the LayerChoice itself.", DeprecationWarning, stacklevel=2
        )
        return self

    @property
    def length(self) -> int:
        """Return ``len(choice)``. Deprecated."""
        warnings.warn("LayerChoice.length is deprecated: use len().", DeprecationWarning, stacklevel=2)
        return len(self)
