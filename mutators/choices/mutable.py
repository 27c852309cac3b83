"""The base of all choices, and scopes. After NNI 1.9's ``nni.nas.pytorch.mutables``.

Differs: keys come from ``key=`` or from the module's path, never from a counter, so two models built alike have the
same keys; no candidate name is reserved; choices may be nested; models with choices can be copied and pickled.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import nn

from mutators.choices.candidates import Candidates
from mutators.choices.errors import ChoiceError
from mutators.choices.torch_private import has_hooks
from mutators.choices.visitor import Extractable, Extraction
from search_spaces.domains import InputDomain, LayerDomain

NO_KEY = ""
"""In ``choose_from``: an input that is no mutable's output, or whose origin does not matter."""


class MutatorLike(Protocol):
    """The methods that a mutable calls of the mutator that steers it; see :class:`mutators.BaseMutator`."""

    def on_forward_layer_choice(self, mutable: Any, *args: Any, **kwargs: Any) -> tuple[Any, torch.Tensor]: ...
    def on_forward_input_choice(self, mutable: Any, tensor_list: list[Any]) -> tuple[Any, torch.Tensor]: ...
    def on_forward_value_choice(self, mutable: Any) -> int: ...
    def chosen_indices(self, mutable: Any) -> tuple[int, ...] | None: ...
    def enter_mutable_scope(self, mutable_scope: Any) -> None: ...
    def exit_mutable_scope(self, mutable_scope: Any) -> None: ...


class Mutable(nn.Module):
    """A module that a mutator can steer. Holds plain data and modules, and its mutator while one is bound.

    Args:
        key: of the decision; the same key on several mutables is one decision. None: the path in the model.
    """

    is_fixed = False
    __path: str | None = None

    def __init__(self, key: str | None = None) -> None:
        super().__init__()
        if key is not None and not isinstance(key, str):
            warnings.warn(f"key {key!r} is a {type(key).__name__}; it becomes the str {str(key)!r}.", stacklevel=3)
            key = str(key)
        if key == NO_KEY:
            raise ChoiceError("key is empty, wanted a name, or None for the module's path.")
        self.given_key = key
        self._resolved_key: str | None = None
        self._mutator: MutatorLike | None = None

    @property
    def key(self) -> str:
        """Return the key of the decision.

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
    def name(self) -> str:
        """Return the name that was assigned, or else the path in the model, or the key before that is known."""
        given: str | None = vars(self).get("name", self.__path)
        return self.key if given is None else given

    @name.setter
    def name(self, name: str) -> None:
        vars(self)["name"] = name

    @property
    def mutator(self) -> MutatorLike | None:
        """Return the mutator that steers this mutable, or None."""
        return self._mutator

    @property
    def domain(self) -> LayerDomain | InputDomain | None:
        """Return what can be chosen here; None if nothing can."""
        return None

    @property
    def applied_indices(self) -> tuple[int, ...] | None:
        """Return the indices that are applied, ascending, also while a mutator steers; None before."""
        return None

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """Return the indices that the next forward runs, ascending: the mutator's, or else :attr:`applied_indices`.

        None if nothing is chosen, or the mutator does not tell (:meth:`mutators.BaseMutator.chosen_indices`).
        """
        return self.applied_indices if self._mutator is None else self._mutator.chosen_indices(self)

    def choose(self, indices: Sequence[int]) -> None:
        """Set what is chosen, where :attr:`domain` says that something can be."""
        raise NotImplementedError(f"nothing can be chosen at {self.described()}")

    def bind(self, mutator: MutatorLike | None, key: str, path: str | None = None) -> None:
        """Let ``mutator`` steer this mutable from now on (None: no mutator), under ``key``. Mutators call it.

        ``path`` is that of the module in the model, where it is known.
        """
        vars(self)["_mutator"] = None if self.is_fixed else mutator  # not as a child: the mutator may be a module
        self._resolved_key = key
        self.__path = path or self.__path

    def described(self) -> str:
        """Return the type and, if it is known, the key, for a message."""
        key = self._resolved_key if self._resolved_key is not None else self.given_key
        return type(self).__name__ if key is None else f"{type(self).__name__} {key!r}"

    def extra_repr(self) -> str:
        return "" if self.given_key is None else f"key={self.given_key!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))  # not __getstate__: a copy keeps its mutator
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mutator": None}


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


class ForwardChoice(Mutable, Extractable):
    """A choice that takes part in the forward: of layers, or of inputs.

    A subclass that writes ``forward`` writes :meth:`make_plain` as well, which does the same in an extracted network.
    Without it the choice itself stays there, fixed; so does one that has hooks.
    """

    @property
    def is_plain(self) -> bool:
        """Tell whether :meth:`make_plain` does all that calling this choice does."""
        return (
            _owner(type(self), "forward") is _owner(type(self), "make_plain")
            and type(self).__call__ is nn.Module.__call__
            and vars(self).keys().isdisjoint({"forward", "__call__"})
            and not has_hooks(self)
        )

    def extracted(self, extraction: Extraction) -> nn.Module:
        """Return the plain module that stands here in an extracted network, or a fixed choice."""
        indices = extraction.plan[id(self)]
        if self.is_plain:
            return self.make_plain(indices, extraction)
        if "forward" in vars(self) and not extraction.in_place:
            raise ChoiceError(
                f"{self.described()} has a forward that was set on it from outside, which would go on calling this "
                "model: write a subclass with that forward instead."
            )
        fixed = self if extraction.in_place else self._copied(indices, extraction)
        fixed.choose(indices)
        fixed._fix()
        return fixed

    def _fix(self) -> None:
        """Stay with what is applied: without mutator, entry in the search space, and candidates that are not chosen."""
        vars(self)["_mutator"], self.is_fixed = None, True
        candidates = self._modules.get("candidates")
        if isinstance(candidates, Candidates):
            candidates.drop_others(self.applied_indices or ())

    def _copied(self, indices: tuple[int, ...], extraction: Extraction) -> Self:
        copied = extraction.put(self, type(self).__new__(type(self)))
        candidates = self._modules.get("candidates")
        if isinstance(candidates, Candidates):  # first, so that the others are not copied
            extraction.put(candidates, candidates.copied(indices, extraction))
        copied.__dict__.update(extraction.copy(self.__dict__))
        return copied

    def make_plain(self, indices: tuple[int, ...], extraction: Extraction) -> nn.Module:
        """Return the module that stands here in an extracted network."""
        raise NotImplementedError

    def _not_chosen(self) -> ChoiceError:
        return ChoiceError(
            f"{self.described()} was called before anything was chosen: first call apply_choices(model, choices) or "
            "get_and_apply_next_architecture(model), or bind a mutator such as RandomMutator(model) and reset() it."
        )


def _owner(kind: type, name: str) -> type:
    """Return the class that defines an attribute of ``kind``."""
    return next(base for base in kind.__mro__ if name in vars(base))
