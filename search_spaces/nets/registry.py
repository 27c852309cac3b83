"""The nets by name. Importing the registry costs no torch until a net is built.

A net with choices in it is a module with

- ``build(**config) -> nn.Module``, whose default is the published network with its choices,
- ``INPUT_SHAPE``, the (C, H, W) of the paper,
- ``REFERENCES``, known costs of its architectures (:class:`~search_spaces.reference.Reference`); may be left out,

and a line in :data:`NETS`. PaddleSlim's nets have no choices in them: each list of tokens is a plain network
(:mod:`search_spaces.paddleslim.codec`).
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

NETS = {
    "darts": "search_spaces.nets.darts",
    "nas_bench_fashion": "search_spaces.nets.nas_bench_fashion",
    "ofa_mobilenet_v3": "search_spaces.nets.ofa_mobilenet_v3",
    "ofa_resnet50": "search_spaces.nets.ofa_resnet50",
    "resnet_quantized": "search_spaces.nets.resnet_quantized",
    "shufflenet_v2": "search_spaces.nets.shufflenet_v2",
}
"""The nets with choices in them: their modules by name."""


def names() -> list[str]:
    """Return the names of all nets, sorted."""
    return sorted([*NETS, *codec.MODULES])


def build(name: str, tokens: Sequence[int] | None = None, **config: Any) -> nn.Module:
    """Return a net: with its choices in it, or of PaddleSlim's nets the plain network of a list of tokens.

    Args:
        name: one of :func:`names`.
        tokens: the architecture, of a net of tokens; None: its initial one, unless there are ``choices``.
        config: arguments of the net's own ``build``; without any, the published network. Of the nets of tokens those
            of :func:`search_spaces.paddleslim.codec.describe_network`: ``num_classes``, ``paddle_compatible``,
            ``choices`` and the space's own.

    Raises:
        NetError: the name or an argument is unknown, or tokens or arguments do not fit; all that is wrong is listed.
    """
    config |= {} if tokens is None else {"tokens": tokens}
    if is_of_tokens(name):
        from search_spaces.paddleslim.network import TokenNet  # costs torch

        return TokenNet(codec.describe_network(name, **config))
    function = import_module(NETS[name]).build
    problems = unknown(name, config, inspect.signature(function).parameters)
    if problems:
        raise NetError(f"{problems[0]}.")
    net: nn.Module = function(**config)
    return net


def is_of_tokens(name: str) -> bool:
    """Return whether a net is a plain network of tokens, not one with choices. Raises NetError if it is unknown."""
    if name in codec.MODULES or name in NETS:
        return name in codec.MODULES
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names())}."
    raise NetError(f"there is no net {name!r}: {hint}")


def space_of(name: str, **config: Any) -> Space:
    """Return the search space of a net; ``config`` are arguments of the net.

    Raises:
        NetError: the name or an argument is unknown, or arguments do not fit.
    """
    if is_of_tokens(name):
        return codec.make_space(name, **config)
    from mutators import search_space_of  # costs torch

    return Space.from_json(search_space_of(build(name, **config)))


def tokens_of(name: str, choices: Choices, **config: Any) -> Tokens:
    """Return the tokens of an architecture, or of a trial's parameters; keys that begin with ``_`` are ignored.

    ``config`` are arguments of the net. Without any, a block space has as many blocks as the keys name.

    Raises:
        NetError: see :func:`space_of`.
        SpaceError: keys are missing or unknown, or a choice is not on offer; all of them are named.
    """
    return codec.encode(name, choices, **config) if is_of_tokens(name) else space_of(name, **config).encode(choices)


def choices_of(name: str, tokens: Sequence[int], **config: Any) -> dict[str, Any]:
    """Return the choices that tokens stand for.

    ``config`` are arguments of the net. Without any, a block space has the blocks that the tokens suffice for.

    Raises:
        NetError: see :func:`space_of`.
        SpaceError: there are too few or too many, or some are out of their range; all of these are named.
    """
    return codec.decode(name, tokens, **config) if is_of_tokens(name) else space_of(name, **config).decode(tokens)


def input_shape(name: str) -> tuple[int, int, int]:
    """Return the (C, H, W) that a net was published for. Raises NetError if the name is unknown."""
    if is_of_tokens(name):
        return codec.find_space(name).input_shape
    shape: tuple[int, int, int] = import_module(NETS[name]).INPUT_SHAPE
    return shape


def references(name: str) -> tuple[Reference, ...]:
    """Return the known costs of a net's architectures. Raises NetError if the name is unknown."""
    if is_of_tokens(name):
        return codec.find_space(name).references
    found: tuple[Reference, ...] = getattr(import_module(NETS[name]), "REFERENCES", ())
    return found
