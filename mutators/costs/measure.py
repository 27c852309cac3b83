"""Fill a cost table for a model with choices, and check how well its sums match whole networks.

One choice of a base architecture is changed at a time: there are as many runs as options, not as combinations of them.
Nothing is computed: see :mod:`mutators.costs.count`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import nn

from mutators import search_space_of
from mutators.choices.applying import apply_choices
from mutators.choices.layer_choice import LayerChoice
from mutators.choices.torch_private import get_children, get_parameters
from mutators.choices.walk import walk
from mutators.costs.about import OnStep, Steps, check_table, describe_model
from mutators.costs.count import CannotRun, DryRun, Ignore, to_bit_operations
from mutators.costs.elastic_table import COUNTED, choose_metrics, cost_table
from mutators.elastic.anatomy import has_elastic
from mutators.inputs import Example
from search_spaces.cost.table import CostTable
from search_spaces.cost.table_checks import MAX_OPTIONS
from search_spaces.domains import InputDomain
from search_spaces.errors import CostError
from search_spaces.schema import Space, Tokens

ELASTIC_CHECKS = 20
"""Number of checks of a model with elastic layers, at most: its tables are exact."""


def measure_cost(
    model: nn.Module,
    input_shape: Example,
    metrics: Sequence[str] | None = None,
    *,
    checks: int = 200,
    seed: int = 0,
    ignore: Ignore = (),
    progress: OnStep | None = None,
) -> CostTable:
    """Return a table of the costs of every option of every choice, and of the rest of the network.

    The cost of an option is that of its module where the network is additive; otherwise the change of the whole
    network's cost that it makes. ``about`` says for which model and input the table is, and under "check" how far its
    sums are from the costs of whole random architectures, and whether they are equal ("exact"). They are not where one
    choice changes the cost of another, by a stride, a width or bits. A choice inside an option of another costs
    something where that option is chosen.

    The table of a network with elastic layers, also inside choices of layers, has joint terms and is exact: see
    :func:`mutators.costs.elastic_table.cost_table`.

    Args:
        model: with choices and without a mutator; stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example.
        metrics: some of "macs", "params" and, of a model with quantized layers, "bit_operations"; None: all of these.
        checks: number of random architectures, equal ones counted once.
        seed: of these.
        ignore: see :func:`mutators.costs.count_macs`.
        progress: called after each run.

    Raises:
        CostError: a metric is unknown, the model has no choices or one of more than 4096 options, or it cannot be run
            or counted.
        ChoiceError: the model's choices do not fit together, or a mutator is bound.
    """
    metrics = choose_metrics(model, metrics, COUNTED)
    if has_elastic(model):
        most = min(checks, ELASTIC_CHECKS)
        return cost_table(model, input_shape, metrics, checks=most, seed=seed, ignore=ignore, progress=progress)
    space = tabulated_space(model)
    # The first option of every layer choice and the largest set of every input choice.
    base = tuple(d.radix - 1 if isinstance(d, InputDomain) else 0 for d in space.domains.values())
    base = space.canonical(base)
    meter = _Meter(model, space, base, input_shape, ignore)
    samples = np.unique(space.sample_tokens(np.random.default_rng(seed), checks), axis=0)
    around = {key: _reach(space, base, key) for key in space.keys}
    rows = {key: _vary(space, around[key], at) for at, key in enumerate(space.keys)}
    networks = dict.fromkeys([base, *itertools.chain(*rows.values()), *map(tuple, samples.tolist())])
    steps = Steps(len(networks), progress)
    whole: dict[Tokens, dict[str, int]] = {}
    for tokens in networks:
        whole[tokens] = meter.totals(tokens)
        steps.count()
    fixed, changes = {}, {}
    for metric in metrics:
        costs: dict[str, list[float]] = {}
        for key in _inner_first(space):  # what an option brings with it inside is known then
            own = [whole[row][metric] - _known(space, costs, row) for row in rows[key]]
            base_cost = own[around[key][space.keys.index(key)]] - meter.inside(around[key])[metric][key]
            costs[key] = [cost - base_cost for cost in own]
        fixed[metric], changes[metric] = whole[base][metric] - _known(space, costs, base), costs
    table = CostTable(space, fixed, changes, describe_model(model, input_shape))
    table.about["check"] = check_table(table, samples, [whole[tuple(row)] for row in samples.tolist()], seed)
    return table


def _vary(space: Space, tokens: Tokens, at: int) -> list[Tokens]:
    """Return an architecture with each option of a key."""
    return [space.canonical((*tokens[:at], token, *tokens[at + 1 :])) for token in range(space.radices[at])]


def _inner_first(space: Space) -> list[str]:
    """Return the keys, each after those that matter only under it."""
    order = range(len(space)) if space.conditions is None else reversed(space.conditions.order)
    return [space.keys[at] for at in order]


def _reach(space: Space, tokens: Tokens, key: str) -> Tokens:
    """Return an architecture in which a key matters, as near to ``tokens`` as can be seen.

    Raises CostError if none is found.
    """
    found = _try_to_reach(space, dict(zip(space.keys, tokens, strict=True)), key)
    if found is None:
        raise CostError(f"no architecture was found in which {key!r} matters: its conditions contradict each other.")
    return space.canonical(tuple(found[key] for key in space.keys))


def _try_to_reach(space: Space, tokens: dict[str, int], key: str) -> dict[str, int] | None:
    for clause in ({}, *space.when.get(key, ())):
        made: dict[str, int] | None = dict(tokens)
        for other, options in clause.items():
            if made is not None:
                made[other] = made[other] if made[other] in options else options[0]
                made = _try_to_reach(space, made, other)
        if made is not None and key in space.active_keys(made):
            return made
    return None


def _known(space: Space, costs: Mapping[str, Sequence[float]], tokens: Tokens) -> float:
    """Return what the options of an architecture cost, as far as that is known."""
    by_key = dict(zip(space.keys, tokens, strict=True))
    return sum(costs[key][by_key[key]] for key in space.active_keys(by_key) if key in costs)


def tabulated_space(model: nn.Module) -> Space:
    """Return a model's space. Raises a CostError if it has no choices, or one with too many options for a table."""
    emitted = search_space_of(model)
    if not emitted:
        raise CostError(
            f"{type(model).__name__} has no choices, so there is nothing to tabulate: "
            "count_macs, count_params and latency_of measure the model itself."
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


class _Meter:
    """A meter of the costs of a model's architectures: on shapes alone, or with numbers if ``base`` cannot run so."""

    def __init__(self, model: nn.Module, space: Space, base: Tokens, input_shape: Example, ignore: Ignore) -> None:
        self._space, self._input_shape, self._ignore = space, input_shape, ignore
        self._keys = {site.path: site.key for site in walk(model) if isinstance(site.mutable, LayerChoice)}
        self._run = DryRun(model)
        try:
            self.inside(base)
        except CannotRun:
            self._run = DryRun(model, weightless=False)
            self.inside(base)

    def totals(self, tokens: Sequence[int]) -> dict[str, int]:
        """Return the costs of an architecture, by metric. A CostError names the architecture."""
        try:
            return {metric: sum(parts.values()) for metric, parts in self._parts(tokens).items()}
        except CostError as error:
            choices = self._space.decode(tokens).items()
            named = ", ".join(f"{key} {choice['_value']}" for key, choice in choices)
            raise CostError(f"{error}\nThis is the architecture {named}.") from error

    def inside(self, tokens: Sequence[int]) -> dict[str, Counter[str | None]]:
        """Return by metric and key the costs of the modules inside each choice; where it is nested, the innermost."""
        found = {metric: Counter[str | None]() for metric in COUNTED}
        for metric, parts in self._parts(tokens).items():
            for path, cost in parts.items():
                found[metric][self._key_round(path)] += cost
        return found

    def _parts(self, tokens: Sequence[int]) -> dict[str, dict[str, int]]:
        """Return the costs of an architecture by metric and module path."""
        apply_choices(self._run.model, self._space.decode(tokens))
        macs = self._run.macs_by_module(self._input_shape, self._ignore)
        model = self._run.model
        return {"macs": macs, "params": _active_params(model), "bit_operations": to_bit_operations(model, macs)}

    def _key_round(self, path: str) -> str | None:
        """Return the key of the innermost choice around the module at ``path``; None: there is none."""
        while path not in self._keys:
            if not path:
                return None
            path = path.rpartition(".")[0]
        return self._keys[path]


def _active_params(model: nn.Module) -> dict[str, int]:
    """Return numbers of parameters by module path, each once, without those of candidates that are not chosen."""
    seen: set[int] = set()
    counts: dict[str, int] = {}
    for path, module in _active_modules("", model, set()):
        fresh = [p for p in get_parameters(module).values() if p is not None and id(p) not in seen]
        seen.update(map(id, fresh))
        counts[path] = sum(parameter.numel() for parameter in fresh)
    return counts


def _active_modules(path: str, module: nn.Module, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield path, module
    children: Mapping[str, nn.Module | None] = get_children(module)
    if isinstance(module, LayerChoice) and module.chosen is not None:
        (index,) = module.chosen
        children = {f"candidates.{module.names[index]}": module[index]}
    for name, child in children.items():
        if child is not None:
            yield from _active_modules(f"{path}.{name}" if path else name, child, seen)
