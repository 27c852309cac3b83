"""Convert between tokens, choices and networks of PaddleSlim's nets.

>>> encode("MobileNetV2Space", decode("MobileNetV2Space", initial_tokens("MobileNetV2Space")))[:5]
(4, 4, 5, 1, 0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from search_spaces.checks import unknown, whole
from search_spaces.errors import NetError, SpaceError
from search_spaces.paddleslim.space import Architecture, TokenSpace, check_tokens, to_space
from search_spaces.schema import Choices, Space, Tokens

MODULES = {
    "DartsSpace": "darts",
    "InceptionABlockSpace": "inception",
    "InceptionCBlockSpace": "inception",
    "MobileNetV1BlockSpace": "mobilenet_v1",
    "MobileNetV1Space": "mobilenet_v1",
    "MobileNetV2BlockSpace": "mobilenet_v2",
    "MobileNetV2Space": "mobilenet_v2",
    "ResNetBlockSpace": "resnet",
    "ResNetSpace": "resnet",
}
"""By the net's name, the module here whose ``SPACES`` holds it."""

_BUILDING = ("tokens", "choices", "num_classes", "paddle_compatible")


def find_space(name: str) -> TokenSpace:
    """Return a space by its net's name. Raises NetError if no net of tokens has this name."""
    if name not in MODULES:
        raise NetError(f"{name} is no net of tokens: its choices are in it, see search_spaces.build({name!r}).")
    space: TokenSpace = import_module(f"search_spaces.paddleslim.{MODULES[name]}").SPACES[name]
    return space


def describe_network(
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
    net, made, problems = _configure(name, config, _BUILDING)
    problems += whole("num_classes", num_classes, 1, optional=True)
    listed = () if made.problems() else net.tokens(made)
    if tokens is not None and choices is not None:
        problems.append("both tokens and choices are given, wanted one of them")
    elif listed and tokens is not None:
        problems += check_tokens(listed, tokens)
    elif listed and choices is not None:
        problems += to_space(listed).problems(choices)
    if problems:
        raise NetError(f"{name} cannot be built like this:", problems)
    if choices is not None:
        found = to_space(listed).encode(choices)
    else:
        found = net.initial(made) if tokens is None else tuple(int(token) for token in tokens)
    values = {token.key: token.options[i] for token, i in zip(listed, found, strict=True)}
    return Architecture(found, net.network(values, made, paddle_compatible), num_classes, paddle_compatible)


def configure(name: str, config: Mapping[str, Any]) -> tuple[TokenSpace, Any]:
    """Return a space by name, and its arguments as an object of its ``config``.

    Raises NetError if the name or an argument is unknown, or arguments do not fit; all that is wrong is listed.
    """
    net, made, problems = _configure(name, config)
    if problems:
        raise NetError(f"{name} cannot be like this:", problems)
    return net, made


def _configure(name: str, config: Mapping[str, Any], more: Sequence[str] = ()) -> tuple[TokenSpace, Any, list[str]]:
    net = find_space(name)
    known = [field.name for field in fields(net.config)]
    made = net.config(**{argument: value for argument, value in config.items() if argument in known})
    return net, made, unknown(name, config, [*more, *known]) + made.problems()


def make_space(name: str, **config: Any) -> Space:
    """Return the search space of a net of tokens; arguments as of :func:`search_spaces.space_of`."""
    net, made = configure(name, config)
    return to_space(net.tokens(made))


def initial_tokens(name: str, **config: Any) -> Tokens:
    """Return the architecture that a search of a net of tokens starts from; a block space's is drawn from its ``seed``.

    Raises:
        NetError: the name or an argument is unknown, or arguments do not fit.
    """
    net, made = configure(name, config)
    return net.initial(made)


def encode(name: str, choices: Choices, **config: Any) -> Tokens:
    """Return the tokens of an architecture; arguments and errors as of :func:`search_spaces.tokens_of`."""
    if config:
        return make_space(name, **config).encode(choices)
    keys = [str(key) for key in choices] if isinstance(choices, Mapping) else []
    return to_space(find_space(name).tokens_like(keys)).encode(choices)


def decode(name: str, tokens: Sequence[int], **config: Any) -> dict[str, Any]:
    """Return the choices of an architecture; arguments and errors as of :func:`search_spaces.choices_of`."""
    if config:
        net, made = configure(name, config)
        listed = net.tokens(made)
    else:
        listed = find_space(name).tokens_for(len(tokens))
    problems = check_tokens(listed, tokens)
    if problems:
        raise SpaceError("tokens do not fit this space:", problems)
    return to_space(listed).decode(tokens)
