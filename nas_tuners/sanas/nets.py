"""Join one or several named nets of ``search_spaces`` to one space, in which their tokens follow each other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import search_spaces
from search_spaces import Space, Tokens, paddleslim
from search_spaces.cost.table import CostTable
from search_spaces.errors import ProblemsError
from search_spaces.fixing import whole_of

if TYPE_CHECKING:
    from torch import nn

_WANTED = 'wanted "Name", ("Name", {...}), or a list of those'
_NETWORK_ONLY = ("num_classes", "paddle_compatible")  # arguments that do not change the space


class SANASError(ProblemsError):
    """An argument of SANAS is wrong; the message says what to write instead."""


@dataclass(frozen=True)
class Net:
    """One entry of ``configs``: the name of a net, and the arguments that it is built with."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def space_config(self) -> dict[str, Any]:
        """Return the arguments that define the space."""
        return {name: value for name, value in self.config.items() if name not in _NETWORK_ONLY}

    def input_shape(self, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
        """Return (C, H, W) of its images. Raises SANASError if it is not known."""
        if given is not None:
            return given
        size = self.config.get("input_size")
        if size is None:
            raise SANASError(
                f"constraints need the size of the images, which {self.name} is not configured with: "
                "give input_shape=(C, H, W), or a cost_table=."
            )
        return (self.config.get("in_channels", 3), size, size)


class Nets:
    """Several nets with one space of all their choices; ``configs`` as SANAS takes them.

    Raises SANASError if they are something else, NetError if there is no net of a name, or not with these arguments.
    """

    def __init__(self, configs: Any) -> None:
        entries = configs if isinstance(configs, list) else [configs]
        if not entries:
            raise SANASError(f"configs is empty, {_WANTED}.")
        self._nets = [_parse_entry(entry) for entry in entries]
        self._spaces = [search_spaces.space_of(net.name, **net.space_config) for net in self._nets]
        many = len(self._nets) > 1
        self._prefixes = [f"net{i}." if many else "" for i in range(len(self._nets))]
        named = zip(self._prefixes, self._spaces, strict=True)
        self.space = Space({prefix + key: whole_of(domain) for prefix, s in named for key, domain in s.domains.items()})

    def initial_tokens(self) -> Tokens:
        """Return the initial tokens of all nets, in order."""
        return tuple(t for net in self._nets for t in paddleslim.initial_tokens(net.name, **net.space_config))

    def build(self, tokens: Sequence[int]) -> list[nn.Module]:
        """Return one network for each net. Raises SpaceError as :meth:`Space.decode` does."""
        self.space.decode(tokens)
        rest = iter(tokens)
        parts = [tuple(itertools.islice(rest, len(space))) for space in self._spaces]
        pairs = zip(self._nets, parts, strict=True)
        return [search_spaces.build(net.name, tokens=part, **net.config) for net, part in pairs]

    def cost_table(self, input_shape: tuple[int, int, int] | None) -> CostTable:
        """Return the costs of all networks together. Raises SANASError if the size of the images is not known."""
        tables = [paddleslim.cost_table_of(net.name, net.input_shape(input_shape), **net.config) for net in self._nets]
        return tables[0] if len(tables) == 1 else self._sum(tables)

    def _sum(self, tables: Sequence[CostTable]) -> CostTable:
        metrics = tables[0].metrics
        named = list(zip(self._prefixes, tables, strict=True))
        return CostTable(
            self.space,
            {metric: sum(table.fixed[metric] for table in tables) for metric in metrics},
            {metric: {p + key: c for p, t in named for key, c in t.options[metric].items()} for metric in metrics},
            joint={
                metric: [([p + key for key in keys], c) for p, t in named for keys, c in t.joint.get(metric, ())]
                for metric in metrics
            },
        )

    def to_json(self) -> list[list[Any]]:
        """Return the configurations as JSON.

        Raises SANASError if one holds something that cannot be written as JSON.
        """
        try:
            plain: list[list[Any]] = json.loads(json.dumps([[net.name, dict(net.config)] for net in self._nets]))
        except (TypeError, ValueError) as error:
            raise SANASError(f"configs cannot be written to a checkpoint: {error}") from None
        return plain


def _parse_entry(entry: Any) -> Net:
    parts = entry if isinstance(entry, tuple) and len(entry) in (1, 2) else (entry,)
    name, config = (*parts, {})[:2]
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise SANASError(f"configs has the entry {entry!r}, {_WANTED}.")
    return Net(name, dict(config))
