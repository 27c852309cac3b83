"""The nets by name: the one registry. Costs no torch until a net is built.

A net is a module with a function ``build(**config) -> nn.Module`` whose default is the published network with its
choices, ``INPUT_SHAPE`` (C, H, W) of the paper, and ``REFERENCES``: what published architectures cost.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from search_spaces.schema import Tokens

if TYPE_CHECKING:
    from torch import nn

_NETS = {
    "darts": "search_spaces.darts",
    "ofa_mobilenet_v3": "search_spaces.ofa_mobilenet_v3",
    "ofa_resnet50": "search_spaces.ofa_resnet50",
    "shufflenet_v2": "search_spaces.shufflenet_v2",
}


class NetError(ValueError):
    """There is no net of this name, or it cannot be built like this."""


@dataclass(frozen=True)
class Reference:
    """What one architecture costs, as published or as derived from what is published.

    Attributes:
        name: of the architecture.
        config: the arguments of ``build``.
        tokens: the architecture.
        macs: multiply-adds of convolutions and linear layers, batch 1, at the net's ``INPUT_SHAPE``.
        params: parameters of the extracted network.
    """

    name: str
    config: Mapping[str, Any]
    tokens: Tokens
    macs: int
    params: int


def names() -> list[str]:
    """The nets that :func:`build` knows, sorted."""
    return sorted(_NETS)


def build(name: str, **config: Any) -> nn.Module:
    """Return a net with its choices.

    Args:
        name: one of :func:`names`.
        config: arguments of the net's own ``build``; without any, the published network.

    Raises:
        NetError: the name or an argument is unknown.
        ValueError: an argument does not fit, as the net's ``build`` says.
    """
    function = _module(name).build
    known = list(inspect.signature(function).parameters)
    unknown = [argument for argument in config if argument not in known]
    if unknown:
        raise NetError(f"{name} takes no {', '.join(map(repr, unknown))}, wanted some of: {', '.join(known)}.")
    net: nn.Module = function(**config)
    return net


def input_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) that a net was published for.

    Raises:
        NetError: the name is unknown.
    """
    shape: tuple[int, int, int] = _module(name).INPUT_SHAPE
    return shape


def references(name: str) -> tuple[Reference, ...]:
    """What architectures of a net cost, where it is known.

    Raises:
        NetError: the name is unknown.
    """
    found: tuple[Reference, ...] = getattr(_module(name), "REFERENCES", ())
    return found


def _module(name: str) -> Any:
    if name not in _NETS:
        near = difflib.get_close_matches(name, _NETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names())}."
        raise NetError(f"there is no net {name!r}: {hint}")
    return import_module(_NETS[name])
