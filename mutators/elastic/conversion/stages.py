"""Find the stages of a model whose last blocks can be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from mutators.elastic.conversion.analysis import Analysis
from mutators.elastic.conversion.layers import kind_of
from mutators.elastic.conversion.options import Numbers, Options, keep_distinct
from mutators.elastic.layers.depth import count_blocks
from search_spaces.checks import is_int


@dataclass(frozen=True)
class DepthStage:
    """Blocks in a row, the depths to choose from, and a remark on candidates that were dropped."""

    path: str
    module: nn.Sequential
    depths: Numbers
    dropped: str | None = None


def find_stages(model: nn.Module, analysis: Analysis, options: Options, problems: list[str]) -> list[DepthStage]:
    """Return the stages that get an elastic depth, inner ones first, and tie the widths at all their exits.

    Without paths, a stage is a ``Sequential`` whose last blocks have layers in them, are of one type and keep the
    shape. The whole stage is always on offer.
    """
    wanted, explicit = options.depth, isinstance(options.depth, Mapping)
    found: list[DepthStage] = []
    reached: set[float] = set()
    for path, module in reversed(list(model.named_modules())):
        given = wanted.get(path) if isinstance(wanted, Mapping) else wanted
        if given is None or not isinstance(module, nn.Sequential):
            continue
        if not explicit and any(stage.path.startswith(f"{path}." if path else "") for stage in found):
            continue
        first, n = _first_exit(module, analysis, explicit), len(module)
        inside = {depth for depth in given if first <= count_blocks(depth, n) <= n}
        reached |= inside
        if explicit:
            why = f"it has {n} blocks, of which those after the first {first} keep the shape: wanted {first} to {n}"
            if first > n:
                why = "it is no nn.Sequential that runs as a whole, with blocks that take and return one tensor"
            problems += [f"depth {depth} of {path} cannot be reached: {why}" for depth in given if depth not in inside]
        depths, dropped = _keep_depths(sorted(inside), n)
        if len(depths) > 1:
            found.append(DepthStage(path, module, depths, dropped))
            _tie_exits(analysis, module, depths)
    if wanted is not None and not isinstance(wanted, Mapping):
        problems += [
            f"depth {depth} cannot be reached by any stage: wanted the number or the share of blocks of an "
            "nn.Sequential whose last blocks keep the shape. Blocks in an nn.ModuleList or an nn.TransformerEncoder "
            "are run by a forward of their own: let that take depth=, and give RunConfig(elastic_depth=...)"
            for depth in wanted
            if depth not in reached and (is_int(depth) or not found)
        ]
    return found


def _first_exit(stage: nn.Sequential, analysis: Analysis, explicit: bool) -> int:
    """Return the number of blocks after which the shape is the last one's; more than there are, where there is none."""
    blocks = list(stage)
    runs = len(analysis.passed.get(id(stage), []))
    passed = [analysis.passed.get(id(block), []) for block in blocks]
    if type(stage).forward is not nn.Sequential.forward or not runs or any(len(found) != runs for found in passed):
        return len(blocks) + 1
    first = len(blocks)
    while first > 1 and all(given.shape == made.shape for given, made in passed[first - 1]):
        if not (explicit or _alike(blocks[first - 1], blocks[-1])):
            break
        first -= 1
    return first


def _alike(block: nn.Module, last: nn.Module) -> bool:
    """Return whether a block is like the last one, with layers in it, and no layer itself."""
    layers = any(kind is not None and kind.weight for kind in map(kind_of, block.modules()))
    return type(block) is type(last) and kind_of(block) is None and layers


def _keep_depths(depths: Sequence[float], n: int) -> tuple[Numbers, str | None]:
    """Return each number of blocks once, with that of the whole stage, and a remark on candidates that were dropped."""
    counts, dropped = keep_distinct(
        depths, lambda depth: depth if is_int(depth) else depth * n, lambda depth: count_blocks(depth, n), "blocks"
    )
    if counts:
        counts.setdefault(n, n if is_int(depths[0]) else 1.0)
    return tuple(counts.values()), dropped


def _tie_exits(analysis: Analysis, stage: nn.Sequential, depths: Numbers) -> None:
    """Tie the widths after every possible last block to those after the stage."""
    exits = [stage[count_blocks(depth, len(stage)) - 1] for depth in depths]
    for at, (_, last) in enumerate(analysis.passed[id(stage)]):
        layouts = analysis.ties.read(last)
        for block in exits:
            other = analysis.ties.read(analysis.passed[id(block)][at][1])
            for dim in {*layouts, *other}:
                both = [found[dim] for found in (layouts, other) if dim in found]
                if len(both) == 2:
                    analysis.ties.tie(both[0], both[1], "the exits of a stage")
                else:
                    analysis.ties.fix(both[0], "another exit of the stage has a fixed size")
