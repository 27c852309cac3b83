"""Decide which widths are elastic, between which sizes, and which layer has the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mutators.choices.value_choice import ValueChoice
from mutators.elastic.conversion.layers import LayerUse
from mutators.elastic.conversion.options import Numbers, Options, keep_distinct
from mutators.elastic.conversion.ties import Layout, Node, Ties
from mutators.elastic.layers.width import Channels, Width


class Decision(NamedTuple):
    """A choice of widths, its name in the layer that holds it, and a remark on candidates that were dropped."""

    name: str
    choice: ValueChoice
    dropped: str | None


@dataclass
class Widths:
    """The widths of a converted model.

    Attributes:
        decisions: by ``id`` of the layer that holds it.
        keys: by ``id`` of a width: the key that decides it.
        before: by ``id`` of a width: its size in the model, where it has grown.
    """

    ties: Ties
    decisions: dict[int, Decision] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)
    _of: dict[int, Width] = field(default_factory=dict)

    def channels(self, layout: Layout | None) -> Channels | None:
        """Return the channels of a layout, if there is one; tied widths are the same object."""
        return Channels(*((self.width(node), unit) for node, unit in self.ties.parts(layout))) if layout else None

    def width(self, node: Node) -> Width:
        """Return the width of a root."""
        return self._of.setdefault(id(node), Width(node.full))

    def is_elastic(self, layout: Layout | None) -> bool:
        """Return whether a choice decides a part of a layout."""
        return any(self.width(node).choices for node, _ in self.ties.parts(layout or ()))

    def has_grown(self, layout: Layout | None) -> bool:
        """Return whether a layout has more channels than in the model."""
        return any(id(self.width(node)) in self.before for node, _ in self.ties.parts(layout or ()))

    def decide(self, node: Node, holder: LayerUse, name: str, values: Numbers, own: int) -> None:
        """Make a choice for a width; a layer whose outputs have several parts has one choice for all of them."""
        known, dropped = self.decisions.get(id(holder.module)), None
        if known is None:
            values, dropped = _find_candidates(node, values, name, own)
        else:
            name, values = known.name, known.choice.values
        sizes = [_size(node, value, name, own) for value in values]
        if len(set(sizes)) < 2 and sizes[0] <= node.full:
            groups = f", in multiples of {node.multiple}" if node.multiple > 1 else ""
            node.fixed = f"there is no other number of its {node.full} channels on offer{groups}"
            return
        if known is None:
            known = self.decisions[id(holder.module)] = Decision(name, ValueChoice(values), dropped)
        width = self._of[id(node)] = Width.of(known.choice, sizes)
        self.keys[id(width)] = f"{holder.path}.{name}".lstrip(".")
        if width.full > node.full:
            self.before[id(width)] = node.full


def decide_widths(ties: Ties, uses: Sequence[LayerUse], options: Options, problems: list[str]) -> Widths:
    """Decide the widths of all layers, which come in the order of definition."""
    widths = Widths(ties)
    users: dict[Node, list[LayerUse]] = {}
    for use in uses:
        for node, _ in ties.parts(use.decides):
            users.setdefault(node, []).append(use)
    for node in users:
        _decide(widths, node, users[node], options, problems)
    return widths


def _decide(widths: Widths, node: Node, users: list[LayerUse], options: Options, problems: list[str]) -> None:
    skipped = [use.path for use in users if use.path in options.skip]
    if skipped:
        node.fixed = node.fixed or f"skip_layers has {skipped[0]}"
    asked = {use.path: found for use in users if (found := options.width(use.path)) is not None}
    owners = [use for use in users if use.own is not None]
    if node.fixed:
        problems += [
            f"{path}: {name} is given, but its width stays: {node.fixed}. Leave it out"
            for path, (name, _) in asked.items()
            if path in options.layers
        ]
        return
    if len(set(asked.values())) > 1:
        problems.append(f"{' and '.join(asked)} have one width, but different candidates: give them the same")
        return
    default = None if options.expand_ratio is None else ("expand_ratio", options.expand_ratio)
    found = next(iter(asked.values()), default)
    if found is None:
        node.fixed = "nothing was asked for"
    elif owners:
        named = next((use for use in users if use.path in asked), owners[0])
        alone = [use for use in owners if all(part is node for part, _ in widths.ties.parts(use.decides))]
        widths.decide(node, (alone or owners)[0], *found, named.width)


def _size(node: Node, value: float, name: str, own: int) -> int:
    """Return the number of channels of a candidate, in whole groups."""
    return max(node.multiple, int(_wanted(node, value, name, own)) // node.multiple * node.multiple)


def _wanted(node: Node, value: float, name: str, own: int) -> float:
    """Return the number of channels that a candidate stands for; ``node`` may be a part of a layer's ``own`` ones."""
    return value * node.full if name == "expand_ratio" else value * node.full / own


def _find_candidates(node: Node, values: Numbers, name: str, own: int) -> tuple[Numbers, str | None]:
    """Return candidates of different sizes, with the model's own where it is the largest; and a remark on dropped ones.

    Larger ones are among them only where it can grow.
    """
    fit = [value for value in values if _size(node, value, name, own) <= node.full or not node.rigid]
    sizes, dropped = keep_distinct(
        fit, lambda value: _wanted(node, value, name, own), lambda value: _size(node, value, name, own), "channels"
    )
    larger = [str(value) for value in values if value not in fit]
    reasons = [f"{', '.join(larger)} left out: it cannot grow, {node.rigid}" if larger else None, dropped]
    if max(sizes, default=0) < node.full:
        sizes[node.full] = 1.0 if name == "expand_ratio" else own
    return tuple(value for _, value in sorted(sizes.items())), "; ".join(filter(None, reasons)) or None
