"""Set a model to one architecture after another, fast; or to one, or to other training modes, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from mutators.choices.applying import apply_choices
from mutators.choices.errors import ChoiceError
from mutators.choices.mutable import Mutable
from mutators.choices.walk import refuse_bound, space_of, walk
from search_spaces.domains import LayerDomain
from search_spaces.schema import Choices

_STATE = ("_active", "_mutator", "_resolved_key")


class Switch:
    """The choices of a model, if it has any, found once, so that :meth:`set` is fast.

    Raises:
        ChoiceError: the choices do not fit together, or a mutator is bound to the model.
    """

    def __init__(self, model: nn.Module) -> None:
        sites = walk(model)
        refuse_bound(sites, "train by it with mutator=, or release() it")
        self.space = space_of(sites)
        at = {key: position for position, key in enumerate(self.space.keys)}
        for site in sites:
            site.mutable.bind(None, site.key, site.path)
        self._targets = [(at[site.key], site.mutable, site.domain) for site in sites if site.domain is not None]

    def set(self, tokens: Sequence[int]) -> None:
        """Choose by the encoding, one number a key of :attr:`space`. Checks nothing but how many there are."""
        if len(tokens) != len(self.space):
            raise ChoiceError(f"a path has {len(tokens)} tokens, wanted {len(self.space)}, one for each key.")
        for position, mutable, domain in self._targets:
            token = tokens[position]
            mutable.choose((token,) if isinstance(domain, LayerDomain) else domain.members(token))


@contextmanager
def applied(model: nn.Module, choices: Choices) -> Iterator[None]:
    """Apply ``choices`` for a while, also to a model that a mutator steers; then all is as it was before.

    Raises:
        ChoiceError: see :func:`mutators.apply_choices`.
    """
    mutables = [module for module in model.modules() if isinstance(module, Mutable)]
    before = [{name: vars(mutable)[name] for name in _STATE if name in vars(mutable)} for mutable in mutables]
    try:
        for mutable in mutables:
            vars(mutable)["_mutator"] = None
        apply_choices(model, choices)
        yield
    finally:
        for mutable, state in zip(mutables, before, strict=True):
            vars(mutable).update(state)


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put each module's training mode back afterwards, also where it is another than the model's own."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            vars(module)["training"] = training  # by its dict: a candidate may be called "training"
