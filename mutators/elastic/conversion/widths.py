"""From nodes to widths: which are elastic, between which sizes, and which layer has the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mutators.choices.value_choice import ValueChoice
from mutators.elastic.conversion.layers import Use
from mutators.elastic.conversion.options import Numbers, Options, distinct, left_out
from mutators.elastic.conversion.ties import Layout, Node, Ties
from mutators.elastic.layers.width import Channels, Width


@dataclass
class Decision:
    """A choice of widths, and the layer that it is a child of."""

    holder: Use
    name: str
    choice: ValueChoice


@dataclass
class Widths:
    """The widths of a converted model.

    Attributes:
        decisions: by ``id`` of the layer that holds it.
        keys: by ``id`` of a width: the key that decides it.
        before: by ``id`` of a width: its size in the model, where it has grown.
        dropped: by ``id`` of the layer that holds a choice: which candidates it has not, and why.
    """

    ties: Ties
    decisions: dict[int, Decision] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    _of: dict[int, Width] = field(default_factory=dict)

    @classmethod
    def none(cls) -> Widths:
        """Of a model of which nothing is known."""
        return cls(Ties())

    def channels(self, layout: Layout) -> Channels:
        """The channels of a layout; tied widths are the same object."""
        return Channels(*((self.width(node), unit) for node, unit in self.ties.parts(layout)))

    def width(self, node: Node) -> Width:
        """The width of a root."""
        return self._of.setdefault(id(node), Width(node.full))

    def is_elastic(self, layout: Layout | None) -> bool:
        """Whether any choice decides a part of it, or it has grown."""
        return any(self.width(node).choices for node, _ in self.ties.parts(layout or ()))

    def has_grown(self, layout: Layout | None) -> bool:
        """Whether it has more channels than the model had."""
        return any(id(self.width(node)) in self.before for node, _ in self.ties.parts(layout or ()))

    def decide(self, node: Node, holder: Use, name: str, values: Numbers, own: int) -> None:
        """Let a choice decide a width; a layer whose outputs have several parts decides them all by one choice."""
        known = self.decisions.get(id(holder.module))
        why = None
        if known is None:
            values, why = _offered(node, values, name, own)
        else:
            name, values = known.name, known.choice.values
        sizes = [_size(node, value, name, own) for value in values]
        if len(set(sizes)) < 2 and sizes[0] <= node.full:
            groups = f", in multiples of {node.multiple}" if node.multiple > 1 else ""
            node.fixed = f"there is no other number of its {node.full} channels on offer{groups}"
            return
        if known is None:
            known = Decision(holder, name, ValueChoice(values))
            self.decisions[id(holder.module)] = known
            if why is not None:
                self.dropped[id(holder.module)] = why
        width = self._of[id(node)] = Width.of(known.choice, sizes)
        self.keys[id(width)] = f"{holder.path}.{name}".lstrip(".")
        if width.full > node.full:
            self.before[id(width)] = node.full


def decided(ties: Ties, uses: Sequence[Use], options: Options, problems: list[str]) -> Widths:
    """Decide all widths that layers have of their own.

    Args:
        uses: in the order of definition.
    """
    widths = Widths(ties)
    producers: dict[int, list[Use]] = {}
    nodes: dict[int, Node] = {}
    for use in uses:
        for node, _ in ties.parts(use.decides):
            nodes[id(node)] = node
            producers.setdefault(id(node), []).append(use)
    for key, users in producers.items():
        _decide(widths, nodes[key], users, options, problems)
    return widths


def _decide(widths: Widths, node: Node, users: list[Use], options: Options, problems: list[str]) -> None:
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
        holder = next((use for use in owners if _parts(widths.ties, use) == 1), owners[0])
        widths.decide(node, holder, found[0], found[1], named.width)


def _parts(ties: Ties, use: Use) -> int:
    """How many different widths a layer has in its output."""
    return len({id(node) for node, _ in ties.parts(use.decides)})


def _size(node: Node, value: float, name: str, own: int) -> int:
    """How many channels a candidate stands for, in whole groups.

    Args:
        own: how many the layer has, of which the node may be a part.
    """
    wanted = int(_wanted(node, value, name, own))
    return max(node.multiple, wanted // node.multiple * node.multiple)


def _wanted(node: Node, value: float, name: str, own: int) -> float:
    return value * node.full if name == "expand_ratio" else value * node.full / own


def _offered(node: Node, values: Numbers, name: str, own: int) -> tuple[Numbers, str | None]:
    """The candidates that differ, the model's own width where it is the largest; and what was left out, and why.

    Larger ones are among them only where it can grow.
    """
    fit = [value for value in values if _size(node, value, name, own) <= node.full or not node.rigid]
    sizes = distinct(fit, lambda value: _wanted(node, value, name, own), lambda value: _size(node, value, name, own))
    larger = [str(value) for value in values if value not in fit]
    reasons = [f"{', '.join(larger)} left out: it cannot grow, {node.rigid}" if larger else None]
    reasons.append(left_out(fit, sizes, "channels"))
    if max(sizes, default=0) < node.full:
        sizes[node.full] = 1.0 if name == "expand_ratio" else own
    return tuple(value for _, value in sorted(sizes.items())), "; ".join(filter(None, reasons)) or None
