"""Fills a cost table for a model with choices, and checks how well its sums match whole networks.

From a base architecture one choice at a time is changed, so that the number of runs is the sum of the numbers of
options and not their product. Nothing is computed: see :mod:`mutators.costs.count`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from torch import nn

from mutators import LayerChoice, apply_choices, search_space_of
from mutators.choices.walk import walk
from mutators.costs.about import checked, made_of
from mutators.costs.count import CannotRun, DryRun, Ignore
from mutators.costs.elastic_table import cost_table
from mutators.costs.example import Example
from mutators.elastic.anatomy import is_elastic
from search_spaces.cost.table import CostTable
from search_spaces.cost.table_checks import MAX_OPTIONS
from search_spaces.domains import InputDomain
from search_spaces.errors import CostError
from search_spaces.schema import Space, Tokens

Progress = Callable[[int, int], None]
"""Called with how many steps are done, and of how many."""

METRICS = ("macs", "params")
ELASTIC_CHECKS = 20
"""At most; the formulas of elastic layers are exact."""


def measure_cost(
    model: nn.Module,
    input_shape: Example,
    metrics: Sequence[str] = METRICS,
    *,
    checks: int = 200,
    seed: int = 0,
    ignore: Ignore = (),
    progress: Progress | None = None,
) -> CostTable:
    """Return what every option of every choice costs, and the rest of the network.

    An option's number is what stands inside the choice, where the network is additive; otherwise what the network
    gains or loses by it. ``about`` says for which model and input the table is, and under "check" how far its sums
    are from the costs of whole random architectures, and whether they are equal ("exact"): they are not where one
    choice decides what another costs, by stride or width or because it stands inside an option that is not taken.

    The table of an elastic network has joint terms and is exact: see :func:`mutators.costs.elastic_table.cost_table`.

    Args:
        model: with choices and without a mutator; stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example.
        metrics: some of "macs" and "params".
        checks: number of random architectures, equal ones counted once.
        seed: of these.
        ignore: see :func:`mutators.costs.count_macs`.
        progress: told after each run.

    Raises:
        CostError: a metric is unknown, the model has no choices or one of more than 4096 options, or it cannot be run
            or counted.
        ChoiceError: the model's choices do not fit together, or a mutator is bound.
    """
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics:
        raise CostError(f"metrics are {list(metrics)}, wanted some of {', '.join(METRICS)}.")
    if is_elastic(model):
        most = min(checks, ELASTIC_CHECKS)
        return cost_table(model, input_shape, metrics, checks=most, seed=seed, ignore=ignore, progress=progress)
    space = checked_space(model)
    base = _base(space)
    meter = _meter(model, space, base, input_shape, ignore)
    samples = np.unique(space.sample_tokens(np.random.default_rng(seed), checks), axis=0)
    steps = _Steps(1 + sum(space.radices) - len(space) + len(samples), progress)
    whole = steps.count(meter.totals(base))
    inside = meter.inside(base)
    changes: dict[str, dict[str, list[float]]] = {metric: {} for metric in metrics}
    for at, (key, radix) in enumerate(zip(space.keys, space.radices, strict=True)):
        rows = [
            whole if token == base[at] else steps.count(meter.totals((*base[:at], token, *base[at + 1 :])))
            for token in range(radix)
        ]
        for metric in metrics:
            changes[metric][key] = [row[metric] - whole[metric] + inside[metric].get(key, 0) for row in rows]
    fixed = {metric: whole[metric] - sum(inside[metric].get(key, 0) for key in space.keys) for metric in metrics}
    about = made_of(model, input_shape)
    table = CostTable(space, fixed, changes, about)
    table.about["check"] = checked(table, samples, [steps.count(meter.totals(row.tolist())) for row in samples], seed)
    return table


def checked_space(model: nn.Module) -> Space:
    """Return the model's space.

    Raises:
        CostError: there are no choices, or a key has too many options for a table.
        ChoiceError: the model's choices do not fit together.
    """
    emitted = search_space_of(model)
    if not emitted:
        raise CostError(
            f"{type(model).__name__} has no choices, so there is nothing to tabulate: "
            "count_macs, count_params and latency_of tell what it costs."
        )
    space = Space.from_json(emitted)
    wide = [
        f"key {key!r} has {radix} options, wanted at most {MAX_OPTIONS}: split it into several keys"
        for key, radix in zip(space.keys, space.radices, strict=True)
        if radix > MAX_OPTIONS
    ]
    if wide:
        raise CostError("this model's costs do not fit a table:", wide)
    return space


class _Steps:
    """Counts runs and tells about them."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def count(self, costs: dict[str, int]) -> dict[str, int]:
        """Return ``costs``, the outcome of one more run."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return costs


class _Meter:
    """What architectures of one model cost, whole or by the choice that it happens in."""

    def __init__(self, run: DryRun, space: Space, input_shape: Example, ignore: Ignore) -> None:
        self._run, self._space, self._input_shape, self._ignore = run, space, input_shape, ignore
        sites = walk(run.model)
        self._keys = {site.path: site.key for site in sites if isinstance(site.mutable, LayerChoice)}

    def totals(self, tokens: Sequence[int]) -> dict[str, int]:
        """The costs of an architecture, by metric.

        Raises:
            CostError: this architecture cannot be run or counted; the message names it.
        """
        try:
            return {metric: sum(parts.values()) for metric, parts in self._parts(tokens).items()}
        except CostError as error:
            choices = self._space.decode(tokens).items()
            named = ", ".join(f"{key} {choice['_value']}" for key, choice in choices)
            raise CostError(f"{error}\nThis is the architecture {named}.") from error

    def inside(self, tokens: Sequence[int]) -> dict[str, dict[str, int]]:
        """By metric and key, what stands inside the choices; of nested ones inside the innermost.

        Raises:
            CostError: this architecture cannot be run or counted.
        """
        found: dict[str, dict[str, int]] = {}
        for metric, parts in self._parts(tokens).items():
            sums = found.setdefault(metric, {})
            for path, cost in parts.items():
                key = self._key_round(path)
                if key is not None:
                    sums[key] = sums.get(key, 0) + cost
        return found

    def _parts(self, tokens: Sequence[int]) -> dict[str, dict[str, int]]:
        """By metric and module path."""
        apply_choices(self._run.model, self._space.decode(tokens))
        macs = self._run.macs_by_module(self._input_shape, self._ignore)
        return {"macs": macs, "params": _active_params(self._run.model)}

    def _key_round(self, path: str) -> str | None:
        """The key of the innermost choice that the module at ``path`` stands in."""
        while path not in self._keys:
            if not path:
                return None
            path = path.rpartition(".")[0]
        return self._keys[path]


def _meter(model: nn.Module, space: Space, base: Tokens, input_shape: Example, ignore: Ignore) -> _Meter:
    """A meter that can run the base architecture: on shapes alone, or where that fails with numbers."""
    meter = _Meter(DryRun(model), space, input_shape, ignore)
    try:
        meter.inside(base)
    except CannotRun:
        meter = _Meter(DryRun(model, weightless=False), space, input_shape, ignore)
        meter.inside(base)
    return meter


def _base(space: Space) -> Tokens:
    """The first option of every layer choice and the largest set of every input choice: no network lacks its inputs."""
    domains = space.domains.values()
    return tuple(domain.radix - 1 if isinstance(domain, InputDomain) else 0 for domain in domains)


def _active_params(model: nn.Module) -> dict[str, int]:
    """Parameters by module path, without those of candidates that are not chosen, each once."""
    seen: set[int] = set()
    counts: dict[str, int] = {}
    for path, module in _active_modules("", model, set()):
        fresh = [p for p in module._parameters.values() if p is not None and id(p) not in seen]
        seen.update(map(id, fresh))
        counts[path] = sum(parameter.numel() for parameter in fresh)
    return counts


def _active_modules(path: str, module: nn.Module, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield path, module
    children: Mapping[str, nn.Module | None] = module._modules
    if isinstance(module, LayerChoice) and module.chosen is not None:
        (index,) = module.chosen
        children = {f"candidates.{module.names[index]}": module[index]}
    for name, child in children.items():
        if child is not None:
            yield from _active_modules(f"{path}.{name}" if path else name, child, seen)
