"""Fill the metric ``latency_ms`` of a cost table by measuring, and tell how well it predicts.

Whole networks are timed, in short rounds: each round draws as many random architectures as a choice has options, so
that every option of every choice is in place once. The options' milliseconds are those that explain the differences
within the rounds best (least absolute deviations): every run tells something about every choice, and neither a machine
that becomes slower in the meantime nor single slow runs do harm.

Differs from tables of single operators (ProxylessNAS, Once-for-all): options are timed within networks, in many
contexts, and the error on architectures that were not used for the table is reported with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from mutators.choices.applying import apply_choices
from mutators.costs.about import OnStep, Steps, compare_latency, describe_latency
from mutators.costs.elastic_table import cost_table
from mutators.costs.latency import evaluation_mode, make_runner, threads_set
from mutators.costs.measure import tabulated_space
from mutators.elastic.anatomy import is_elastic
from mutators.inputs import Example
from search_spaces.checks import whole
from search_spaces.cost.table import CostTable
from search_spaces.errors import CostError
from search_spaces.schema import Space, TokenArray, Tokens

METRIC = "latency_ms"
FloatArray = npt.NDArray[np.float64]
Timer = Callable[[Tokens], float]


def measure_latency(
    model: nn.Module,
    input_shape: Example,
    table: CostTable | None = None,
    *,
    rounds: int = 200,
    held_out: int = 20,
    repeats: int = 25,
    threads: int | None = None,
    seed: int = 0,
    progress: OnStep | None = None,
) -> CostTable:
    """Return ``table`` with the metric ``latency_ms`` added or replaced.

    In it the fastest option of each choice is 0, but for choices inside others, and the fixed part is the network of
    all those. ``about["latency_ms"]`` says where it was measured, and under "held_out" how far predictions are from
    other random architectures.

    Of an elastic network the blocks are timed, with joint terms: see :func:`mutators.elastic.cost_table`; ``rounds``
    and ``held_out`` are not used then.

    Args:
        model: with choices and without a mutator; is copied, and stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example.
        table: of the same space; None: the result has this metric alone.
        rounds: number of times each option is timed; a round takes one network for each option of the widest choice.
        held_out: number of architectures for the comparison; at least 2.
        repeats: number of times each of these is timed; the median is taken.
        threads: of torch; None leaves them as they are.
        seed: of the architectures and of the order.
        progress: called after each measurement.

    Raises:
        CostError: a number is out of its range, the table is of another space, the model has no choices, or it cannot
            be run.
        ChoiceError: the model's choices do not fit together, or a mutator is bound.
    """
    if problems := [*whole("rounds", rounds, 1), *whole("held_out", held_out, 2), *whole("repeats", repeats, 1)]:
        raise CostError("latency cannot be measured like this:", problems)
    space = tabulated_space(model)
    others = table.arranged(space) if table is not None else None
    if is_elastic(model):
        only = cost_table(model, input_shape, (METRIC,), repeats=repeats, threads=threads, seed=seed, progress=progress)
        return _merge(others, only, only.about[METRIC])
    network, rng = copy.deepcopy(model), np.random.default_rng(seed)
    steps = Steps(rounds * max(space.radices) + held_out * repeats, progress)
    with threads_set(threads) as thread_count, evaluation_mode(network):
        timer = _make_timer(network, space, input_shape, steps)
        samples, visits = space.sample_tokens(rng, held_out), _design(space, rounds, rng)
        times, sample_times = _time_all(timer, visits, samples, repeats, rng)
    fixed, options = fit_options(space, visits, times)
    made = CostTable(space, {METRIC: fixed}, {METRIC: options})
    fit = compare_latency(made.costs(METRIC, samples), _typical(sample_times))
    about = describe_latency(model, input_shape, thread_count, rounds=rounds, repeats=repeats, seed=seed, held_out=fit)
    return _merge(others, made, about)


def _make_timer(network: nn.Module, space: Space, input_shape: Example, steps: Steps) -> Timer:
    """Return a function from tokens to milliseconds."""
    apply_choices(network, space.decode([radix - 1 for radix in space.radices]))
    run = make_runner(network, input_shape)

    def time_one(tokens: Tokens) -> float:
        apply_choices(network, space.decode(tokens))
        run()  # once untimed: the weights of what was just chosen are not in the caches
        steps.count()
        return run()

    return time_one


def _design(space: Space, rounds: int, rng: np.random.Generator) -> TokenArray:
    """Draw networks in which every option of every choice stands once a round. Returns: (rounds, networks, keys)."""
    size = max(space.radices)
    visits = np.zeros((rounds, size, len(space)), dtype=np.int64)
    for at, radix in enumerate(space.radices):
        for one_round in visits:
            one_round[:, at] = rng.permutation(np.arange(size) % radix)
    return space.canonical(visits.reshape(-1, len(space))).reshape(visits.shape)


def _time_all(
    timer: Timer, visits: TokenArray, samples: TokenArray, repeats: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Time the rounds and, spread evenly among them, the samples: both see the machine in the same states.

    Returns: (rounds, networks) and (repeats, samples).
    """
    times, sample_times = [], np.zeros((repeats, len(samples)))
    for i, networks in enumerate(visits):
        times.append([timer(tuple(tokens.tolist())) for tokens in networks])
        for row in sample_times[i * repeats // len(visits) : (i + 1) * repeats // len(visits)]:
            for at in rng.permutation(len(samples)).tolist():
                row[at] = timer(tuple(samples[at].tolist()))
    return np.array(times), sample_times


def _typical(times: FloatArray) -> FloatArray:
    """Return medians over turns, without what slowed down a whole turn. (turns, n) to (n,)."""
    turns = np.median(times, axis=1, keepdims=True)
    typical: FloatArray = np.median(times - turns, axis=0) + np.median(turns)
    return typical


def fit_options(space: Space, visits: TokenArray, times: FloatArray) -> tuple[float, dict[str, list[float]]]:
    """Return the fixed part, and by key the options' milliseconds above the fastest's, that explain ``times`` best.

    ``visits`` are (rounds, networks, keys) tokens, ``times`` (rounds, networks) milliseconds.
    """
    columns = [
        column if key in space.when else column - column.min()
        for key, column in zip(space.keys, _least_deviations(space, visits, times), strict=True)
    ]
    options = {key: column.tolist() for key, column in zip(space.keys, columns, strict=True)}
    return float(np.median(times - _sums(space, columns, visits))), options


def _least_deviations(space: Space, visits: TokenArray, times: FloatArray, steps: int = 30) -> list[FloatArray]:
    """Return by key what its options add, by least absolute deviations within rounds: reweighted least squares."""
    width, weights = sum(space.radices), np.ones_like(times)
    for _ in range(steps):
        gram, moment = np.zeros((width, width)), np.zeros(width)
        for tokens, row, weight in zip(visits, times, weights, strict=True):
            active = space.active(tokens)
            hot = np.hstack([np.eye(r)[tokens[:, at]] * active[:, at, None] for at, r in enumerate(space.radices)])
            hot -= np.average(hot, axis=0, weights=weight)
            gram += (hot.T * weight) @ hot
            moment += hot.T @ (weight * row)
        effects = np.asarray(np.linalg.lstsq(gram, moment, rcond=1e-9)[0], dtype=np.float64)
        columns = np.split(effects, np.cumsum(space.radices)[:-1])
        rests = times - _sums(space, columns, visits)
        rests -= np.average(rests, axis=1, weights=weights)[:, None]
        weights = 1 / np.maximum(np.abs(rests), 1e-3 * float(np.median(times)))
    return columns


def _sums(space: Space, columns: list[FloatArray], visits: TokenArray) -> FloatArray:
    """Add up the options of each network that matter. Returns: (rounds, networks)."""
    active = space.active(visits.reshape(-1, len(space))).reshape(visits.shape)
    costs = (column[visits[:, :, at]] * active[:, :, at] for at, column in enumerate(columns))
    return sum(costs, np.zeros(visits.shape[:2]))


def _merge(others: CostTable | None, made: CostTable, about: dict[str, Any]) -> CostTable:
    if others is None:
        return CostTable(made.space, made.fixed, made.options, {METRIC: about}, made.joint)
    joint = {metric: terms for metric, terms in others.joint.items() if metric != METRIC} | made.joint
    return CostTable(
        others.space, others.fixed | made.fixed, others.options | made.options, others.about | {METRIC: about}, joint
    )
