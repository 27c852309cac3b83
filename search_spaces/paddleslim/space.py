"""Spaces of networks that a list of tokens describes, as data: no torch until one is built.

A token is the index of one of its options. An architecture's options make a :class:`Network`, a description in layers;
the same function, given all options at once, returns the cost of every architecture (:mod:`.quantities`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search_spaces.checks import is_int, whole
from search_spaces.domains import LayerDomain
from search_spaces.paddleslim.layers import Layers
from search_spaces.paddleslim.quantities import Number, Quantity
from search_spaces.reference import Reference
from search_spaces.schema import Space, Tokens

KERNELS = (3, 5)
"""Kernel sizes that a token chooses from."""

Values = Mapping[str, Any]
"""By key: an option's int or name, or for costs the quantity of them all."""


@dataclass(frozen=True)
class Token:
    """One token: its key, and the options that its values 0, 1, ... stand for."""

    key: str
    options: tuple[int | str, ...]

    def quantity(self) -> Quantity:
        """Return all options at once; for an option with a name its index."""
        return Quantity.of(self.key, (o if isinstance(o, int) else i for i, o in enumerate(self.options)))


@dataclass(frozen=True)
class Network:
    """A network as data."""

    stages: tuple[tuple[str, Layers], ...]  # by name, in the order of running
    features: Number  # channels at the end


@dataclass(frozen=True)
class Architecture:
    """A network and all that it takes to build it, checked."""

    tokens: Tokens  # of the architecture
    network: Network  # as data
    num_classes: int | None  # of the linear layer after global pooling; None: there is none
    paddle: bool  # whether it is PaddleSlim's, faults and all


@dataclass(frozen=True)
class Images:
    """Arguments of a complete network, beside its tokens."""

    in_channels: int = 3  # of the images

    def problems(self) -> list[str]:
        """Return everything that is wrong with them."""
        return whole("in_channels", self.in_channels, 1)


class TokenSpace(Protocol):
    """A space of token nets, as the ``SPACES`` of PaddleSlim's modules hold it by name."""

    @property
    def config(self) -> type[Any]:
        """Return the class of its arguments: a frozen dataclass with ``in_channels`` and ``problems()``."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return the (C, H, W) that it was published for."""

    @property
    def references(self) -> tuple[Reference, ...]:
        """Return known costs of its architectures."""

    def tokens(self, config: Any) -> tuple[Token, ...]:
        """Return all tokens, in order."""

    def tokens_like(self, keys: Sequence[str]) -> tuple[Token, ...]:
        """Return all tokens of an architecture with these keys, whatever the config was."""

    def tokens_for(self, count: int) -> tuple[Token, ...]:
        """Return all tokens of an architecture of ``count`` tokens, or of another count where there is none."""

    def initial(self, config: Any) -> Tokens:
        """Return the architecture that a search starts from."""

    def network(self, values: Values, config: Any, paddle: bool) -> Network:
        """Return the network of these options, ours or PaddleSlim's."""


@dataclass(frozen=True)
class WholeSpace:
    """A space whose architectures are complete networks for images."""

    all_tokens: tuple[Token, ...]  # in order
    start: Tokens  # the initial ones
    make: Callable[[Values, int, bool], Network]  # from options, channels of the images and whether PaddleSlim's
    input_shape: tuple[int, int, int]  # (C, H, W) that it was published for
    references: tuple[Reference, ...]  # known costs of its architectures
    config: type[Images] = Images

    def tokens(self, config: Images) -> tuple[Token, ...]:
        return self.all_tokens

    def tokens_like(self, keys: Sequence[str]) -> tuple[Token, ...]:
        return self.all_tokens

    def tokens_for(self, count: int) -> tuple[Token, ...]:
        return self.all_tokens

    def initial(self, config: Images) -> Tokens:
        return self.start

    def network(self, values: Values, config: Images, paddle: bool) -> Network:
        return self.make(values, config.in_channels, paddle)


def make_tokens(stage: str, **options: Sequence[int | str]) -> tuple[Token, ...]:
    """Return the tokens of one stage, with keys such as ``stage1.channels``."""
    return tuple(Token(f"{stage}.{key}", tuple(of)) for key, of in options.items())


def select_stage(values: Values, stage: str) -> dict[str, Any]:
    """Return the options of one stage, by key without its name."""
    return {key.partition(".")[2]: value for key, value in values.items() if key.partition(".")[0] == stage}


def to_space(tokens: Sequence[Token]) -> Space:
    """Return the search space of these tokens."""
    return Space({token.key: LayerDomain(tuple(map(str, token.options))) for token in tokens})


def check_tokens(tokens: Sequence[Token], architecture: object) -> list[str]:
    """Check an architecture's list of tokens."""
    if not isinstance(architecture, (list, tuple, np.ndarray)) or len(architecture) != len(tokens):
        got = f"{len(architecture)} tokens" if isinstance(architecture, (list, tuple, np.ndarray)) else architecture
        return [f"got {got}, wanted {len(tokens)}, one for each of {', '.join(token.key for token in tokens)}"]
    return [
        f"token {at} ({token.key}) is {given!r}, wanted 0 to {len(token.options) - 1}"
        for at, (token, given) in enumerate(zip(tokens, architecture, strict=True))
        if not is_int(given) or not 0 <= given < len(token.options)
    ]
