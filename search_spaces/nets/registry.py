"""The nets by name: the one registry. Costs no torch until a net is built.

A net is a module with ``INPUT_SHAPE`` (C, H, W) of the paper, ``REFERENCES``: what published architectures cost, and
either a function ``build(**config) -> nn.Module`` whose default is the published network with its choices, or a
``SPACE`` of networks without any, one for each list of tokens (:mod:`search_spaces.paddleslim.space`).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from search_spaces.checks import unknown
from search_spaces.errors import NetError
from search_spaces.paddleslim import codec
from search_spaces.reference import Reference
from search_spaces.schema import Choices, Space, Tokens

if TYPE_CHECKING:
    from torch import nn

_NETS = {
    **{name: f"search_spaces.paddleslim.{module}" for name, module in codec.MODULES.items()},
    "darts": "search_spaces.nets.darts",
    "ofa_mobilenet_v3": "search_spaces.nets.ofa_mobilenet_v3",
    "ofa_resnet50": "search_spaces.nets.ofa_resnet50",
    "shufflenet_v2": "search_spaces.nets.shufflenet_v2",
}


def names() -> list[str]:
    """The nets that :func:`build` knows, sorted."""
    return sorted(_NETS)


def build(name: str, tokens: Sequence[int] | None = None, **config: Any) -> nn.Module:
    """Return a net: with its choices in it, or of PaddleSlim's nets the plain network of a list of tokens.

    Args:
        name: one of :func:`names`.
        tokens: the architecture, of a net of tokens; None: its initial one, unless there are ``choices``.
        config: arguments of the net's own ``build``; without any, the published network. Of the nets of tokens those
            of :func:`search_spaces.paddleslim.codec.architecture`: ``num_classes``, ``paddle_compatible``, ``choices``
            and the space's own.

    Raises:
        NetError: the name or an argument is unknown, or tokens or arguments do not fit; all that is wrong is listed.
        ValueError: an argument does not fit, as the net's ``build`` says.
    """
    net: nn.Module
    config |= {} if tokens is None else {"tokens": tokens}
    if is_of_tokens(name):
        from search_spaces.paddleslim.network import token_net  # costs torch

        return token_net(codec.architecture(name, **config))
    function = module_of(name).build
    problems = unknown(name, config, inspect.signature(function).parameters)
    if problems:
        raise NetError(f"{problems[0]}.")
    net = function(**config)
    return net


def is_of_tokens(name: str) -> bool:
    """Whether a net is a plain network of tokens, rather than one with choices in it.

    Raises:
        NetError: the name is unknown.
    """
    module_of(name)
    return name in codec.MODULES


def space_of(name: str, **config: Any) -> Space:
    """Return the search space of a net.

    Args:
        name: one of :func:`names`.
        config: arguments of the net.

    Raises:
        NetError: the name or an argument is unknown, or arguments do not fit.
    """
    if is_of_tokens(name):
        return codec.space_of(name, **config)
    from mutators import search_space_of  # costs torch

    return Space.from_json(search_space_of(build(name, **config)))


def tokens_of(name: str, choices: Choices, **config: Any) -> Tokens:
    """Return the tokens of an architecture; keys that begin with ``_`` are ignored.

    Args:
        name: one of :func:`names`.
        choices: the architecture, or a trial's parameters.
        config: arguments of the net. Without any, a block space has as many blocks as the keys name.

    Raises:
        NetError: see :func:`space_of`.
        SpaceError: keys are missing or unknown, or a choice is not on offer; all of them are named.
    """
    if is_of_tokens(name):
        return codec.tokens_of(name, choices, **config)
    return space_of(name, **config).encode(choices)


def choices_of(name: str, tokens: Sequence[int], **config: Any) -> dict[str, Any]:
    """Return the choices that tokens stand for. Without ``config`` a block space has the blocks that they suffice for.

    Raises:
        NetError: see :func:`space_of`.
        SpaceError: there are too few or too many, or some are out of their range; all of these are named.
    """
    if is_of_tokens(name):
        return codec.choices_of(name, tokens, **config)
    return space_of(name, **config).decode(tokens)


def input_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) that a net was published for.

    Raises:
        NetError: the name is unknown.
    """
    shape: tuple[int, int, int] = module_of(name).INPUT_SHAPE
    return shape


def references(name: str) -> tuple[Reference, ...]:
    """What architectures of a net cost, where it is known.

    Raises:
        NetError: the name is unknown.
    """
    found: tuple[Reference, ...] = getattr(module_of(name), "REFERENCES", ())
    return found


def module_of(name: str) -> Any:
    """The net's module.

    Raises:
        NetError: the name is unknown.
    """
    if name not in _NETS:
        near = difflib.get_close_matches(name, _NETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names())}."
        raise NetError(f"there is no net {name!r}: {hint}")
    return import_module(_NETS[name])
