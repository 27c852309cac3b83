"""Choices as modules: which layer stands here, which inputs are used. After NNI 1.9's ``nni.nas.pytorch.mutables``.

Differs: keys come from ``key=`` or from the module's path, never from a counter, so two models built alike have the
same keys; no candidate name is reserved; choices may be nested; models with choices can be copied and pickled.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from mutators.choices.candidates import NO_KEY, Candidates, input_names, named_candidates
from mutators.choices.errors import ChoiceError
from mutators.choices.selection import ChosenLayer, SelectedInputs, check_reduction, combine, mask_of, ordered_inputs
from search_spaces.domains import InputDomain, LayerDomain

if TYPE_CHECKING:
    from mutators.base import BaseMutator

_EXTRACTION_MARK = object()
EXTRACTION = id(_EXTRACTION_MARK)
"""Where a deepcopy's memo holds the plan of an extraction, ``{id(mutable): chosen indices}``; see ``fixed.extract``."""


class Mutable(nn.Module):
    """What a mutator steers. Holds nothing but plain data and modules, and its mutator while one is bound.

    Args:
        key: of the decision; the same key on several mutables is one decision. None: the path in the model.
    """

    def __init__(self, key: str | None = None) -> None:
        super().__init__()
        if key is not None and not isinstance(key, str):
            warnings.warn(f"key {key!r} is a {type(key).__name__}; it becomes the str {str(key)!r}.", stacklevel=3)
            key = str(key)
        if key == NO_KEY:
            raise ChoiceError("key is empty, wanted a name, or None for the module's path.")
        self.given_key = key
        self._resolved_key: str | None = None
        self._mutator: BaseMutator | None = None

    @property
    def key(self) -> str:
        """The key of the decision.

        Differs: where it is the module's path, it is known only once a mutator or choices came upon the whole model.

        Raises:
            ChoiceError: it is not known yet.
        """
        key = self._resolved_key if self._resolved_key is not None else self.given_key
        if key is None:
            raise ChoiceError(
                f"this {type(self).__name__} is keyed by its path in the model, which it does not know yet: bind a "
                "mutator to the model or apply choices to it first, or give it key=."
            )
        return key

    @property
    def mutator(self) -> BaseMutator | None:
        """The mutator that steers this mutable, or None."""
        return self._mutator

    @property
    def domain(self) -> LayerDomain | InputDomain | None:
        """What can be chosen here; None if nothing can."""
        return None

    def choose(self, indices: Sequence[int]) -> None:
        """Set what is chosen, where :attr:`domain` says that something can be."""
        raise NotImplementedError(f"nothing can be chosen at {self.described()}")

    def bind(self, mutator: BaseMutator | None, key: str) -> None:
        """Called by mutators: from now on ``mutator`` steers this mutable (None: nobody does), under ``key``."""
        self._mutator, self._resolved_key = mutator, key

    def described(self) -> str:
        """Which mutable this is, for a message."""
        key = self._resolved_key if self._resolved_key is not None else self.given_key
        return type(self).__name__ if key is None else f"{type(self).__name__} {key!r}"

    def extra_repr(self) -> str:
        return "" if self.given_key is None else f"key={self.given_key!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        plan = memo.get(EXTRACTION, {})
        if id(self) in plan:  # so that every reference to a choice, wherever it stands, becomes the plain form
            return self._plain(plan[id(self)], memo)
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))  # not __getstate__: a copy keeps its mutator
        if EXTRACTION in memo:
            copied._mutator = None
        return copied

    def _plain(self, indices: tuple[int, ...], memo: dict[int, Any]) -> nn.Module:
        """What stands here in an extracted network."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mutator": None}

    def _not_chosen(self) -> ChoiceError:
        return ChoiceError(
            f"{self.described()} was called before anything was chosen: first call apply_choices(model, choices) or "
            "get_and_apply_next_architecture(model), or bind a mutator such as RandomMutator(model) and reset() it."
        )


class MutableScope(Mutable):
    """A part of the model whose mutables belong together. Subclass it and write ``forward``.

    Has no entry in the search space. A bound mutator's ``enter_mutable_scope`` and ``exit_mutable_scope`` run round
    each call, the latter also when forward raises.

    Differs: without a mutator it is an ordinary module, where NNI 1.9 raises.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mutator = self._mutator
        if mutator is None:
            return super().__call__(*args, **kwargs)
        mutator.enter_mutable_scope(self)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            mutator.exit_mutable_scope(self)


class LayerChoice(Mutable):
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

    Differs: no name is reserved; names that cannot be a module's are refused here, not by torch.
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

    @property
    def names(self) -> list[str]:
        """The candidates' names, in order."""
        return list(self.candidates._modules)

    @property
    def domain(self) -> LayerDomain:
        """One of :attr:`names`."""
        return LayerDomain(tuple(self.names))

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """The index of the candidate that is applied, as a tuple of one; None before."""
        return None if self._active is None else (self.names.index(self._active),)

    def choose(self, indices: Sequence[int]) -> None:
        """Set the candidate. Checks nothing: use :func:`mutators.apply_choices`."""
        (index,) = indices
        self._active = self.names[index]

    @property
    def is_bare(self) -> bool:
        """Whether the chosen candidate can simply take the choice's place: its output is handed on as it is."""
        return not self.return_mask and self.reduction != "none"

    def _plain(self, indices: tuple[int, ...], memo: dict[int, Any]) -> nn.Module:
        (index,) = indices
        chosen: nn.Module = copy.deepcopy(self[index], memo)
        if self.is_bare:
            return chosen
        wrapper = ChosenLayer(chosen, index, len(self), self.reduction, self.return_mask)
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
        return (out, mask_of(self.chosen or (), len(self))) if self.return_mask else out

    def candidate(self, name: str) -> nn.Module:
        """The candidate of this name.

        Raises:
            KeyError: there is none.
        """
        found = self._modules["candidates"]._modules.get(name)  # type: ignore[union-attr]  # straight: the hot path
        if found is None:
            raise KeyError(f"{self.described()} has no candidate {name!r}, wanted one of {self.names}")
        return found

    def __len__(self) -> int:
        return len(self.candidates._modules)

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
        self.candidates._modules[name] = module

    def __delitem__(self, index: int | str | slice) -> None:
        names = (
            self.names[index] if isinstance(index, slice) else [index if isinstance(index, str) else self.names[index]]
        )
        for name in names:
            self.candidate(name)
        if len(names) == len(self):
            raise ChoiceError(f"{self.described()} would have no candidate left: one at least has to stay.")
        for name in names:
            del self.candidates._modules[name]
        if self._active in names:
            self._active = None

    @property
    def choices(self) -> LayerChoice:
        """Deprecated name of the choice itself, which is like a list."""
        warnings.warn(
            "LayerChoice.choices is deprecated: use the LayerChoice itself.", DeprecationWarning, stacklevel=2
        )
        return self

    @property
    def length(self) -> int:
        """Deprecated name of ``len(choice)``."""
        warnings.warn("LayerChoice.length is deprecated: use len().", DeprecationWarning, stacklevel=2)
        return len(self)


class InputChoice(Mutable):
    """Some of several inputs.

    Args:
        n_candidates: how many inputs there are; may be left out if ``choose_from`` is given.
        choose_from: one name an input: the key of the mutable (or scope) that it comes from, which has to stand
            before this one in the model, or ``InputChoice.NO_KEY``. None: all are NO_KEY.
        n_chosen: k; or (lowest, highest); or None for any number, none included.
        reduction: "sum", "mean", "concat" (dim 1), or "none" for a list.
        return_mask: return (output, mask), mask (n_candidates,) bool.
        key: see :class:`Mutable`.

    Raises:
        ChoiceError: the numbers do not fit together; all that is wrong is listed.
        ValueError: the reduction is unknown.

    Differs: ranges of n_chosen are new.
    """

    NO_KEY = NO_KEY

    def __init__(
        self,
        n_candidates: int | None = None,
        choose_from: Sequence[str] | None = None,
        n_chosen: int | tuple[int, int] | None = None,
        reduction: str = "sum",
        return_mask: bool = False,
        key: str | None = None,
    ) -> None:
        super().__init__(key)
        self.choose_from = input_names(n_candidates, choose_from, n_chosen)
        self.n_candidates = len(self.choose_from)
        self.n_chosen = (n_chosen[0], n_chosen[1]) if isinstance(n_chosen, (tuple, list)) else n_chosen
        self.reduction = check_reduction(reduction)
        self.return_mask = return_mask
        self._active: tuple[int, ...] | None = None

    @property
    def domain(self) -> InputDomain:
        """A subset of :attr:`choose_from`."""
        return InputDomain(tuple(self.choose_from), self.n_chosen)

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """The indices of the inputs that are applied, ascending; None before."""
        return self._active

    def choose(self, indices: Sequence[int]) -> None:
        """Set the inputs. Checks nothing: use :func:`mutators.apply_choices`."""
        self._active = tuple(sorted(indices))

    def _plain(self, indices: tuple[int, ...], memo: dict[int, Any]) -> nn.Module:
        selected = SelectedInputs(self.choose_from, indices, self.reduction, self.return_mask)
        selected.training = self.training
        return selected

    def forward(self, optional_inputs: Any) -> Any:
        """Select and reduce.

        Args:
            optional_inputs: a list or tuple of n_candidates inputs, or a dict of them by the names in choose_from. An
                input may be None: it then contributes nothing.

        Returns: for reduction "none" a list; else one tensor, or None if nothing was selected.

        Raises:
            ChoiceError: the inputs do not fit, or nothing was chosen and no mutator is bound.
        """
        inputs = ordered_inputs(optional_inputs, self.choose_from, self.described())
        if self._mutator is not None:
            out, mask = self._mutator.on_forward_input_choice(self, list(inputs))
            return (out, mask) if self.return_mask else out
        if self._active is None:
            raise self._not_chosen()
        out = combine([inputs[i] for i in self._active], self.reduction)
        return (out, mask_of(self._active, self.n_candidates)) if self.return_mask else out
