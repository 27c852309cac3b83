"""Convert between tokens, choices and networks of PaddleSlim's nets.

>>> tokens_of("MobileNetV2Space", choices_of("MobileNetV2Space", initial_tokens("MobileNetV2Space")))[:5]
(4, 4, 5, 1, 0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from search_spaces.checks import unknown
from search_spaces.errors import NetError, SpaceError
from search_spaces.paddleslim.space import Architecture, Token, TokenSpace, at_least, chosen, spanned, token_problems
from search_spaces.schema import Choices, Space, Tokens

MODULES = {
    "DartsSpace": "darts",
    "InceptionABlockSpace": "inception_a_block",
    "InceptionCBlockSpace": "inception_c_block",
    "MobileNetV1BlockSpace": "mobilenet_v1_block",
    "MobileNetV1Space": "mobilenet_v1",
    "MobileNetV2BlockSpace": "mobilenet_v2_block",
    "MobileNetV2Space": "mobilenet_v2",
    "ResNetBlockSpace": "resnet_block",
    "ResNetSpace": "resnet",
}
"""By the net's name, the module here that has its ``SPACE``, ``INPUT_SHAPE`` and ``REFERENCES``."""

_BUILDING = ("tokens", "choices", "num_classes", "paddle_compatible")


def architecture(
    name: str,
    tokens: Sequence[int] | None = None,
    num_classes: int | None = 1000,
    paddle_compatible: bool = False,
    choices: Choices | None = None,
    **config: Any,
) -> Architecture:
    """Return a network of a net of tokens as data.

    Args:
        name: one of PaddleSlim's, such as "MobileNetV2Space".
        tokens: of the architecture; None: the initial ones.
        num_classes: None: no linear layer, as in PaddleSlim; of a block space neither the pooling before it.
        paddle_compatible: PaddleSlim's own network; the net's module says what differs.
        choices: the architecture by names, or a trial's parameters; instead of ``tokens``.
        config: arguments of the net: ``in_channels``, and of a block space those of
            :class:`~search_spaces.paddleslim.block_space.Blocks`.

    Raises:
        NetError: the name or an argument is unknown, or tokens or arguments do not fit; all that is wrong is listed.
    """
    net, made, problems = _configured(name, config, _BUILDING)
    problems += at_least("num_classes", num_classes, 1) if num_classes is not None else []
    listed = () if made.problems() else net.tokens(made)
    problems += _given_problems(listed, tokens, choices)
    if problems:
        raise NetError(f"{name} cannot be built like this:" + "".join(f"\n  {problem}" for problem in problems))
    if choices is not None:
        found = spanned(listed).encode(choices)
    else:
        found = net.initial(made) if tokens is None else tuple(int(token) for token in tokens)
    network = net.network(chosen(listed, found), made, paddle_compatible)
    return Architecture(found, network, num_classes, paddle_compatible)


def _given_problems(listed: Sequence[Token], tokens: Any, choices: Any) -> list[str]:
    """What is wrong with the architecture that is asked for, where it is known which tokens there are."""
    if tokens is not None and choices is not None:
        return ["both tokens and choices are given, wanted one of them"]
    if not listed or (tokens is None and choices is None):
        return []
    return token_problems(listed, tokens) if choices is None else spanned(listed).problems(choices)


def space_of(name: str, **config: Any) -> Space:
    """Return the search space of a net of tokens.

    Raises:
        NetError: the name or an argument is unknown, or arguments do not fit.
    """
    return spanned(_tokens(name, config))


def initial_tokens(name: str, **config: Any) -> Tokens:
    """Return the architecture that a search of a net of tokens starts from; a block space's is drawn from its ``seed``.

    Raises:
        NetError: the net has none; or see :func:`space_of`.
    """
    net, made = configured_net(name, config)
    return net.initial(made)


def tokens_of(name: str, choices: Choices, **config: Any) -> Tokens:
    """Return the tokens of an architecture; keys that begin with ``_`` are ignored.

    Args:
        name: one of PaddleSlim's.
        choices: the architecture, or a trial's parameters.
        config: arguments of the net. Without any, a block space has as many blocks as the keys name.

    Raises:
        NetError: see :func:`space_of`.
        SpaceError: keys are missing or unknown, or a choice is not on offer; all of them are named.
    """
    if config:
        return space_of(name, **config).encode(choices)
    keys = [str(key) for key in choices] if isinstance(choices, Mapping) else []
    return spanned(_space(name).tokens_like(keys)).encode(choices)


def choices_of(name: str, tokens: Sequence[int], **config: Any) -> dict[str, Any]:
    """Return the choices that tokens stand for. Without ``config`` a block space has the blocks that they suffice for.

    Raises:
        NetError: see :func:`space_of`.
        SpaceError: there are too few or too many, or some are out of their range; all of these are named.
    """
    listed = _tokens(name, config) if config else _space(name).tokens_for(len(tokens))
    problems = token_problems(listed, tokens)
    if problems:
        raise SpaceError("tokens do not fit this space:", problems)
    return spanned(listed).decode(tokens)


def _configured(name: str, config: Mapping[str, Any], more: Sequence[str] = ()) -> tuple[TokenSpace, Any, list[str]]:
    """The net, its arguments, and what is wrong with these."""
    net = _space(name)
    known = [field.name for field in fields(net.config)]
    made = net.config(**{argument: value for argument, value in config.items() if argument in known})
    return net, made, unknown(name, config, [*more, *known]) + made.problems()


def configured_net(name: str, config: Mapping[str, Any]) -> tuple[TokenSpace, Any]:
    """The net and its arguments.

    Raises:
        NetError: the name or an argument is unknown, or arguments do not fit; all that is wrong is listed.
    """
    net, made, problems = _configured(name, config)
    if problems:
        raise NetError(f"{name} cannot be like this:" + "".join(f"\n  {problem}" for problem in problems))
    return net, made


def _tokens(name: str, config: Mapping[str, Any]) -> tuple[Token, ...]:
    net, made = configured_net(name, config)
    return net.tokens(made)


def _space(name: str) -> TokenSpace:
    if name not in MODULES:
        raise NetError(f"{name} is no net of tokens: its choices are in it, see search_spaces.build({name!r}).")
    net: TokenSpace = import_module(f"search_spaces.paddleslim.{MODULES[name]}").SPACE
    return net
