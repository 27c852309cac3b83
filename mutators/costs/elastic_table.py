"""Make cost tables of elastic networks: exact, without running a network for each candidate.

The cost of a layer depends on its own widths and kernel alone, and on the depths of the stages around it; so each layer
is extracted by itself for all combinations of these few choices. Its multiply-adds are proportional to its weights,
with the factor that the largest network shows. That is verified on more networks; where multiply-adds depend on
something else (products of feature maps, a depth that forward takes), whole networks are counted for the combinations
of those choices.

Differs: MIT's Once-for-All builds a description of the network for each candidate and adds up its layers, 0.75 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mutators.costs.about import OnStep, check_table, describe_model
from mutators.costs.count import Ignore
from mutators.costs.elastic_latency import measure_terms
from mutators.costs.elastic_macs import NetworkCounter
from mutators.elastic.anatomy import Anatomy, FloatArray, sum_terms
from mutators.inputs import Example
from search_spaces.checks import whole
from search_spaces.cost.sums import Term, fold_terms
from search_spaces.cost.table import CostTable
from search_spaces.errors import CostError
from search_spaces.schema import Space

METRICS = ("macs", "params")


def cost_table(
    model: nn.Module,
    input_shape: Example,
    metrics: Sequence[str] = METRICS,
    *,
    checks: int = 10,
    seed: int = 0,
    ignore: Ignore = (),
    repeats: int = 15,
    threads: int | None = None,
    progress: OnStep | None = None,
) -> CostTable:
    """Return a table of the costs of an elastic network's sub-networks, with joint terms.

    ``about["check"]`` says how far the table's multiply-adds and parameters are from those of whole random
    sub-networks; ``about["latency_ms"]``, how far its milliseconds are: see :mod:`mutators.costs.elastic_latency`.

    Args:
        model: all of whose choices are elastic, without a mutator; stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example.
        metrics: some of "macs", "params" and "latency_ms"; the last is measured, which takes a while.
        checks: number of random sub-networks, equal ones counted once.
        seed: of these, and of those that latency is measured on.
        ignore: see :func:`mutators.costs.count_macs`.
        repeats: number of times each part is timed in each of its forms.
        threads: of torch, for latency; None leaves them as they are.
        progress: called after each network that was run.

    Raises:
        CostError: a metric is unknown, the model has no elastic choices or others beside them, or it cannot be run or
            counted.
        ChoiceError: the model's choices do not fit together, or a mutator is bound.
    """
    check_metrics(metrics, (*METRICS, "latency_ms"))
    if problems := whole("checks", checks, 0):
        raise CostError(f"{problems[0]}.")
    anatomy = Anatomy(model)
    space, about = anatomy.space, describe_model(model, input_shape)
    fixed: dict[str, float] = {}
    terms: dict[str, list[Term]] = {}
    counted = [metric for metric in METRICS if metric in metrics]
    counter = NetworkCounter(model, anatomy, input_shape, ignore, progress, checks) if counted else None
    for metric in counted:
        assert counter is not None
        found = counter.macs() if metric == "macs" else anatomy.params()
        fixed[metric], terms[metric] = sum_terms(found)
    if counter is not None:
        table = _table(space, fixed, terms, about)
        samples = np.unique(space.sample_tokens(np.random.default_rng(seed), checks), axis=0)
        costs = [counter.whole(tuple(row), counted) for row in samples.tolist()]
        about["check"] = check_table(table, samples, costs, seed)
    if "latency_ms" in metrics:
        ms = measure_terms(model, anatomy, input_shape, repeats=repeats, threads=threads, seed=seed, progress=progress)
        fixed["latency_ms"], terms["latency_ms"], about["latency_ms"] = ms.fixed, ms.terms, ms.about
    return _table(space, fixed, terms, about)


def check_metrics(metrics: Sequence[str], known: Sequence[str]) -> None:
    """Check that there are metrics, and that all of them are known.

    Raises:
        CostError: they are not.
    """
    if not metrics or not set(metrics) <= set(known):
        raise CostError(f"metrics are {list(metrics)}, wanted some of {', '.join(known)}.")


def _table(
    space: Space, fixed: Mapping[str, float], terms: Mapping[str, Sequence[Term]], about: Mapping[str, Any]
) -> CostTable:
    options: dict[str, dict[str, list[float]]] = {}
    joint: dict[str, list[tuple[list[str], FloatArray]]] = {}
    for metric, given in terms.items():
        columns = {key: [0.0] * radix for key, radix in zip(space.keys, space.radices, strict=True)}
        for keys, costs in fold_terms(given):
            if len(keys) == 1:
                columns[space.keys[keys[0]]] = costs.tolist()
            else:
                joint.setdefault(metric, []).append(([space.keys[key] for key in keys], costs))
        options[metric] = columns
    return CostTable(space, fixed, options, about, joint)
