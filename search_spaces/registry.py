"""The nets by name: the one registry. Costs no torch until a net is built.

A net is a module with ``INPUT_SHAPE`` (C, H, W) of the paper, ``REFERENCES``: what published architectures cost, and
either a function ``build(**config) -> nn.Module`` whose default is the published network with its choices, or a
``SPACE`` of networks without any, one for each list of tokens (:mod:`search_spaces.token_space`).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from search_spaces.schema import Tokens

if TYPE_CHECKING:
    from torch import nn

_NETS = {
    "DartsSpace": "search_spaces.darts_widths",
    "InceptionABlockSpace": "search_spaces.inception_a_block",
    "InceptionCBlockSpace": "search_spaces.inception_c_block",
    "MobileNetV1BlockSpace": "search_spaces.mobilenet_v1_block",
    "MobileNetV1Space": "search_spaces.mobilenet_v1",
    "MobileNetV2BlockSpace": "search_spaces.mobilenet_v2_block",
    "MobileNetV2Space": "search_spaces.mobilenet_v2",
    "ResNetBlockSpace": "search_spaces.resnet_block",
    "ResNetSpace": "search_spaces.resnet",
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


def build(name: str, tokens: Sequence[int] | None = None, **config: Any) -> nn.Module:
    """Return a net: with its choices in it, or of PaddleSlim's nets the plain network of a list of tokens.

    Args:
        name: one of :func:`names`.
        tokens: the architecture, of a net of tokens; None: its initial one, unless there are ``choices``.
        config: arguments of the net's own ``build``; without any, the published network. Of the nets of tokens those
            of :func:`search_spaces.token_codec.architecture`: ``num_classes``, ``paddle_compatible``, ``choices`` and
            the space's own.

    Raises:
        NetError: the name or an argument is unknown, or tokens or arguments do not fit; all that is wrong is listed.
        ValueError: an argument does not fit, as the net's ``build`` says.
    """
    net: nn.Module
    config |= {} if tokens is None else {"tokens": tokens}
    if is_of_tokens(name):
        architecture = import_module("search_spaces.token_codec").architecture(name, **config)
        net = import_module("search_spaces.token_net").token_net(architecture)
        return net
    function = module_of(name).build
    problems = unknown_problems(name, config, inspect.signature(function).parameters)
    if problems:
        raise NetError(f"{problems[0]}.")
    net = function(**config)
    return net


def is_of_tokens(name: str) -> bool:
    """Whether a net is a plain network of tokens, rather than one with choices in it.

    Raises:
        NetError: the name is unknown.
    """
    return hasattr(module_of(name), "SPACE")


def unknown_problems(name: str, config: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """What is wrong with the names of arguments."""
    wanted = list(known)
    unknown = [argument for argument in config if argument not in wanted]
    return [f"{name} takes no {', '.join(map(repr, unknown))}, wanted some of: {', '.join(wanted)}"] if unknown else []


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
