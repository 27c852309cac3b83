"""Spaces of networks that a list of tokens describes, as data: no torch until one is built.

A token is the index of one of its options. An architecture's options make a :class:`Network`, a description in layers;
the same function, given all options at once, says what every architecture costs (:mod:`.quantities`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search_spaces.checks import is_int
from search_spaces.domains import LayerDomain
from search_spaces.paddleslim.layers import Layers
from search_spaces.paddleslim.quantities import Number, Quantity
from search_spaces.schema import Space, Tokens

KERNELS = (3, 5)
"""What every token of a kernel size chooses from."""

Values = Mapping[str, Any]
"""By key: an option's int or name, or for costs the quantity of them all."""


@dataclass(frozen=True)
class Token:
    """One token: its key, and what its values 0, 1, ... stand for."""

    key: str
    options: tuple[int | str, ...]

    def quantity(self) -> Quantity:
        """All of the options at once; of an option with a name the index."""
        return Quantity.of(self.key, (o if isinstance(o, int) else i for i, o in enumerate(self.options)))


@dataclass(frozen=True)
class Network:
    """A network as data.

    Attributes:
        stages: by name, in the order of running.
        features: channels at the end.
    """

    stages: tuple[tuple[str, Layers], ...]
    features: Number


@dataclass(frozen=True)
class Architecture:
    """A network of tokens, all of whose arguments fit.

    Attributes:
        tokens: of the architecture.
        network: as data.
        num_classes: of the linear layer after global pooling; None: there is none.
        paddle: whether it is PaddleSlim's, faults and all.
    """

    tokens: Tokens
    network: Network
    num_classes: int | None
    paddle: bool


class Config(Protocol):
    """Arguments of a space, beside the tokens: a frozen dataclass."""

    def problems(self) -> list[str]:
        """Everything that is wrong with them."""


@dataclass(frozen=True)
class Images:
    """What a whole network needs to know of its images.

    Attributes:
        in_channels: of the images.
    """

    in_channels: int = 3

    def problems(self) -> list[str]:
        return at_least("in_channels", self.in_channels, 1)


class TokenSpace(Protocol):
    """What a net's module offers as ``SPACE``."""

    @property
    def config(self) -> type[Any]:
        """The class of its :class:`Config`."""

    def tokens(self, config: Any) -> tuple[Token, ...]:
        """All tokens, in order."""

    def tokens_like(self, keys: Sequence[str]) -> tuple[Token, ...]:
        """All tokens of the architecture that has these keys, whatever the config was."""

    def tokens_for(self, count: int) -> tuple[Token, ...]:
        """All tokens of an architecture of so many, whatever the config was; another number if there is none."""

    def initial(self, config: Any) -> Tokens:
        """The architecture to start from."""

    def network(self, values: Values, config: Any, paddle: bool) -> Network:
        """The network of these options, ours or PaddleSlim's."""


@dataclass(frozen=True)
class WholeSpace:
    """A space whose architectures are complete networks for images.

    Attributes:
        all_tokens: in order.
        start: the initial tokens.
        make: the network of (options by key, channels of the images, whether as PaddleSlim has it).
    """

    all_tokens: tuple[Token, ...]
    start: Tokens
    make: Callable[[Values, int, bool], Network]
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


def group(name: str, **options: Sequence[int | str]) -> tuple[Token, ...]:
    """The tokens of one stage, with keys such as ``stage1.channels``."""
    return tuple(Token(f"{name}.{key}", tuple(of)) for key, of in options.items())


def own(values: Values, name: str) -> dict[str, Any]:
    """The options of one stage, without its name."""
    return {key.partition(".")[2]: value for key, value in values.items() if key.partition(".")[0] == name}


def spanned(tokens: Sequence[Token]) -> Space:
    """The search space that these tokens span."""
    return Space({token.key: LayerDomain(tuple(map(str, token.options))) for token in tokens})


def chosen(tokens: Sequence[Token], architecture: Sequence[int]) -> dict[str, int | str]:
    """What an architecture's tokens stand for, by key."""
    return {token.key: token.options[i] for token, i in zip(tokens, architecture, strict=True)}


def token_problems(tokens: Sequence[Token], architecture: Any) -> list[str]:
    """Everything that is wrong with a list of tokens."""
    if not isinstance(architecture, (list, tuple, np.ndarray)) or len(architecture) != len(tokens):
        got = f"{len(architecture)} tokens" if isinstance(architecture, (list, tuple, np.ndarray)) else architecture
        return [f"got {got}, wanted {len(tokens)}, one for each of {', '.join(token.key for token in tokens)}"]
    return [
        f"token {at} ({token.key}) is {given!r}, wanted 0 to {len(token.options) - 1}"
        for at, (token, given) in enumerate(zip(tokens, architecture, strict=True))
        if not is_int(given) or not 0 <= given < len(token.options)
    ]


def at_least(name: str, value: Any, lowest: int) -> list[str]:
    """What is wrong with an int that has to be so large."""
    return [] if is_int(value) and value >= lowest else [f"{name} is {value!r}, wanted an int of at least {lowest}"]
