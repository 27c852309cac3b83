"""Published costs of architectures, for tests to compare our networks with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.schema import Tokens


@dataclass(frozen=True)
class Reference:
    """The costs of one architecture, as published or derived from what is published."""

    name: str  # of the architecture
    config: Mapping[str, Any]  # the arguments of ``build``
    tokens: Tokens  # the architecture
    macs: int  # multiply-adds of convolutions and linear layers, batch 1, at the net's ``INPUT_SHAPE``
    params: int  # parameters of the extracted network
