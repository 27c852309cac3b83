"""Check the arguments of a conversion against the model, before anything is changed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mutators.choices.errors import ElasticError
from mutators.elastic.conversion.layers import is_depthwise, kind_of
from mutators.elastic.layers.kernel import check_kernels
from search_spaces.checks import is_int, is_number

Numbers = tuple[float, ...]
Depth = Sequence[float] | Mapping[str, Sequence[float]] | None
NAMES = ("kernel_size", "expand_ratio", "channel", "heads")
"""Names that ``ofa_layers`` may have for a layer."""

LIMIT = 10**6
"""Ratios and numbers of channels are smaller than this."""


@dataclass(frozen=True)
class Options:
    """The candidates of a conversion, for all layers and for single ones.

    Attributes:
        kernel_size, expand_ratio, depth: for all layers; None: only where ``layers`` has them.
        channel: numbers of channels by layer, as PaddleSlim lists them; ignored for a width that stays.
        skip: layers that keep their kernel and width.
        same: groups of layers whose widths are to be the same.
        layers: by path, then by name, as ``ofa_layers``.
    """

    kernel_size: Numbers | None = None
    expand_ratio: Numbers | None = None
    channel: Mapping[str, Numbers] = field(default_factory=dict)
    depth: Numbers | Mapping[str, Numbers] | None = None
    skip: frozenset[str] = frozenset()
    same: tuple[tuple[str, ...], ...] = ()
    layers: Mapping[str, Mapping[str, Numbers]] = field(default_factory=dict)

    def kernels(self, path: str) -> Numbers | None:
        """Return the kernel sizes for a layer; None: its kernel stays."""
        return None if path in self.skip else self.layers.get(path, {}).get("kernel_size", self.kernel_size)

    @property
    def wants_more_than_kernels(self) -> bool:
        """Tell whether there are candidates for widths or depths."""
        by_layer = any(named.keys() - {"kernel_size"} for named in self.layers.values())
        return bool(self.expand_ratio or self.channel or self.depth or by_layer)

    def width(self, path: str) -> tuple[str, Numbers] | None:
        """Return the name and the candidates of the width of a single layer; None: it has none of its own."""
        named = {**({"channel": self.channel[path]} if path in self.channel else {}), **self.layers.get(path, {})}
        return next(((name, named[name]) for name in ("expand_ratio", "heads", "channel") if name in named), None)


def keep_distinct(
    values: Sequence[float], wanted: Callable[[float], float], count: Callable[[float], int], what: str
) -> tuple[dict[int, float], str | None]:
    """Return candidates by the size that they come to, of several with one size the nearest; and a remark on others.

    Args:
        wanted: the size that a candidate stands for, not rounded.
        count: the size that it comes to, in whole channels, groups or blocks, as ``what`` says.
    """
    found: dict[int, float] = {}
    for value in values:
        n = count(value)
        if n not in found or abs(wanted(value) - n) < abs(wanted(found[n]) - n):
            found[n] = value
    others = [str(value) for value in values if value not in found.values()]
    remark = f"{', '.join(others)} left out: as many {what} as another, which is nearer"
    return found, remark if others else None


def parse_options(
    model: nn.Module,
    kernel_size: Any,
    expand_ratio: Any,
    channel: Any,
    depth: Any,
    skip_layers: Iterable[str],
    same_search_space: Iterable[Sequence[str]] | None,
    ofa_layers: Mapping[str, Mapping[str, Any]] | None,
) -> Options:
    """Return the arguments of :func:`convert` as options.

    Raises:
        ElasticError: they are not possible for this model; all problems are named.
    """
    if problems := _check_forms(channel, skip_layers, same_search_space, ofa_layers):
        raise ElasticError("the model cannot be converted like this:", problems)
    paths = {path for path, module in model.named_modules() if kind_of(module) is not None}
    stages = {path for path, module in model.named_modules() if isinstance(module, nn.Sequential)}
    if expand_ratio is not None and channel is not None:
        problems.append("expand_ratio and channel are both given: both set the widths, so leave one out")
    skip = _find_skipped(model, [skip_layers] if isinstance(skip_layers, str) else list(skip_layers), problems)
    same = tuple(tuple(names) for names in same_search_space or ())
    named = {path: dict(values) for path, values in (ofa_layers or {}).items()}
    if isinstance(channel, Mapping):
        for path, values in channel.items():
            named.setdefault(path, {})["channel"] = values
        channel = None
    layers = {path: _parse_named(path, values, problems) for path, values in named.items()}
    for name, given, known in (
        ("same_search_space", [path for names in same for path in names], paths),
        ("ofa_layers or channel", layers, paths),
        ("depth", depth if isinstance(depth, Mapping) else (), stages),
    ):
        problems += _check_names(name, given, known)
    kernels = _parse_numbers("kernel_size", kernel_size, problems)
    ratios = _parse_numbers("expand_ratio", expand_ratio, problems)
    channels = _by_layer(model, channel, problems)
    depths: Numbers | dict[str, Numbers] | None
    if isinstance(depth, Mapping):
        depths = {path: _parse_numbers(f"depth of {path}", given, problems) or () for path, given in depth.items()}
    else:
        depths = _parse_numbers("depth", depth, problems)
    if problems:
        raise ElasticError("the model cannot be converted like this:", problems)
    return Options(kernels, ratios, channels, depths, skip, same, layers)


def _check_forms(channel: Any, skip: Any, same: Any, layers: Any) -> list[str]:
    """Check the types of the arguments."""
    found = []
    if not (channel is None or isinstance(channel, Mapping) or _is_list(channel)):
        found.append(f"channel is {channel!r}, wanted lists of numbers, one a layer, or a mapping of them by path")
    if not isinstance(skip, (str, Iterable)):
        found.append(f"skip_layers is {skip!r}, wanted names of layers")
    if same is not None and not (_is_list(same) and all(map(_is_list, same))):
        found.append(f"same_search_space is {same!r}, wanted groups of names, such as [['conv1', 'conv2']]")
    if layers is not None and not (
        isinstance(layers, Mapping) and all(isinstance(named, Mapping) for named in layers.values())
    ):
        found.append(f"ofa_layers is {layers!r}, wanted a mapping such as {{'conv1': {{'kernel_size': (3, 5)}}}}")
    return found


def _is_list(given: Any) -> bool:
    return isinstance(given, Collection) and not isinstance(given, (str, Mapping))


def _parse_numbers(name: str, given: Any, problems: list[str]) -> Numbers | None:
    """Return candidates in ascending order."""
    if given is None:
        return None
    values = list(given) if _is_list(given) else [given]
    wrong = [value for value in values if not (is_number(value) and 0 < value < LIMIT)]
    if name.endswith(("channel", "heads")):
        wrong += [value for value in values if not is_int(value)]
    if not values or wrong or len(set(values)) < len(values):
        problems.append(f"{name} is {given!r}, wanted distinct numbers above 0 and below {LIMIT}")
        return None
    if name.endswith("kernel_size"):
        try:
            return tuple(check_kernels([value if is_int(value) else 0 for value in values]))
        except ElasticError as error:
            problems.append(f"{name}: {error}")
    return tuple(sorted(values))


def _parse_named(path: str, named: Mapping[str, Any], problems: list[str]) -> dict[str, Numbers]:
    problems += _check_names(f"ofa_layers of {path}", named, NAMES)
    if len(set(named) & {"expand_ratio", "channel", "heads"}) > 1:
        problems.append(f"ofa_layers of {path} gives its width in two ways, {sorted(named)}: leave one out")
    return {
        name: values
        for name, given in named.items()
        if (values := _parse_numbers(f"ofa_layers of {path}: {name}", given, problems)) is not None
    }


def _by_layer(model: nn.Module, channel: Sequence[Any] | None, problems: list[str]) -> dict[str, Numbers]:
    """Return lists of channels by path: one for each weight layer, in order; that of the last layer is ignored."""
    if channel is None:
        return {}
    inner = {id(child) for m in model.modules() if isinstance(m, nn.MultiheadAttention) for child in m.children()}
    types = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)
    layers = [(path, m) for path, m in model.named_modules() if isinstance(m, types) and id(m) not in inner]
    weights = [(path, m) for path, m in layers if kind_of(m) is not None]
    if len(channel) != len(weights):
        names = ", ".join(path for path, _ in weights)
        problems.append(f"channel has {len(channel)} lists, wanted {len(weights)}, one for each of {names}")
        return {}
    return {
        path: values
        for (path, module), given in zip(weights[:-1], channel, strict=False)
        if given and not is_depthwise(module)
        if (values := _parse_numbers(f"{path}: channel", given, problems)) is not None
    }


def _find_skipped(model: nn.Module, names: Iterable[str], problems: list[str]) -> frozenset[str]:
    """Return the layers of these names, and for the name of a container all layers in it."""
    known = {path: module for path, module in model.named_modules() if path}
    problems += _check_names("skip_layers", names, known)
    return frozenset(
        f"{name}.{path}" if path else name
        for name in names
        if name in known
        for path, module in known[name].named_modules()
        if kind_of(module) is not None
    )


def _check_names(where: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Check names, and give those that are near a wrong one."""
    known = sorted(known)
    found = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, cutoff=0.4) or known[:5]
            found.append(f"{where}: {name!r} is unknown, wanted some of {near}{'' if len(known) < 6 else ' ...'}")
    return found
