"""Measure the milliseconds of an elastic network, block by block, within whole sub-networks.

A block is a module that forward calls and that has few choices inside. Random sub-networks are extracted and run, with
a clock at each block, until every block was seen in each of its forms. So blocks are timed with the inputs and the
caches that they have in use, and as many networks are needed as one block has forms. The time of a network that is not
spent in blocks is the fixed part.

Differs: Once-for-All adds up operators that were timed by themselves, and does not say how to make such a table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from mutators.choices.extracting import extract
from mutators.costs.about import OnStep, Steps, compare_latency, describe_latency
from mutators.costs.latency import evaluation_mode, make_runner, threads_set, wait
from mutators.elastic.anatomy import Anatomy, Part, sum_terms
from mutators.inputs import Example, device_of
from search_spaces.checks import whole
from search_spaces.cost.sums import Term
from search_spaces.errors import CostError
from search_spaces.schema import Tokens

FloatArray = npt.NDArray[np.float64]
MOST_FORMS = 32
"""A module with more forms is timed in parts, where it has parts."""
WHOLE, REST = "", "."  # no module has such a path
ROUNDS = 3
HELD_OUT = 12
"""Number of whole sub-networks that the sums are compared with."""


def measure_terms(
    model: nn.Module,
    anatomy: Anatomy,
    input_shape: Example,
    *,
    repeats: int,
    threads: int | None,
    seed: int,
    progress: OnStep | None,
) -> tuple[float, list[Term], dict[str, Any]]:
    """Time an elastic network; arguments and errors as of :func:`mutators.costs.elastic_table.cost_table`.

    Returns: the milliseconds as a fixed part and terms, and how they were measured.
    """
    if problems := whole("repeats", repeats, 1):
        raise CostError(f"{problems[0]}.")
    rng, space = np.random.default_rng(seed), anatomy.space
    with threads_set(threads) as thread_count:
        blocks = _find_blocks(anatomy, _find_called(model, anatomy, input_shape))
        designed = _cover(anatomy, blocks, rng)
        held_out = [tuple(row) for row in space.sample_tokens(rng, HELD_OUT).tolist()]
        networks = designed + held_out
        paths = [block.path for block in blocks]
        runs: list[list[dict[str, FloatArray]]] = [[] for _ in networks]
        steps = Steps(ROUNDS * len(networks), progress)
        for _ in range(ROUNDS):  # so that a network's runs are not all in one bad moment of the machine
            for i in rng.permutation(len(networks)).tolist():
                network = extract(model, space.decode(networks[i]))
                runs[i].append(_time(network, paths, input_shape, -(-repeats // ROUNDS)))
                steps.count()
    times = [_typical(rows) for rows in runs]
    seen = list(zip(designed, times, strict=False))
    fixed, terms = sum_terms([_term(anatomy, block, seen) for block in blocks])
    fixed += float(np.median([row[REST] for _, row in seen]))
    sums = [fixed + sum(float(c[tuple(tokens[k] for k in keys)]) for keys, c in terms) for tokens in networks]
    wholes = np.array([row[WHOLE] for row in times])
    # A disturbed run is slow in some block only, so that the blocks' lower quartiles sum to less than the whole's.
    scale = float(np.median(wholes[: len(designed)] / sums[: len(designed)]))
    fixed, terms = fixed * scale, [(keys, costs * scale) for keys, costs in terms]
    predicted = np.array(sums[len(designed) :]) * scale
    how = {"blocks": len(blocks), "networks": len(designed), "repeats": repeats, "seed": seed}
    fit = compare_latency(predicted, wholes[len(designed) :])
    return fixed, terms, describe_latency(model, input_shape, thread_count, **how, held_out=fit)


def _find_called(model: nn.Module, anatomy: Anatomy, input_shape: Example) -> set[str]:
    """Return the paths of the modules that the largest network calls; lists of modules, for example, are not called."""
    network = extract(model, anatomy.space.decode(anatomy.largest))
    found: set[str] = set()
    paths = [path for path, _ in network.named_modules() if path]
    with evaluation_mode(network), _clocks(network, paths, lambda path, _: found.add(path)):
        make_runner(network, input_shape)
    return found


def _find_blocks(anatomy: Anatomy, called: set[str]) -> list[Part]:
    """Divide the network into blocks, as large as they can be with few forms; their keys are those of all inside."""
    free = set(range(len(anatomy.space))) - anatomy.known
    found: list[Part] = []

    def descend(part: Part) -> None:
        prefix = f"{part.path}." if part.path else ""
        inside = [other for other in anatomy.parts if other.path.startswith(prefix) and other is not part]
        keys = {key for other in (part, *inside) for key in (*other.keys, *other.gates)} - part.gates.keys() | free
        children = [other for other in inside if "." not in other.path.removeprefix(prefix)]
        few = math.prod(anatomy.space.radices[key] for key in keys) <= MOST_FORMS
        if part.path in called and (few or not any(other.path in called for other in inside)):
            found.append(replace(part, keys=tuple(sorted(keys))))
        else:
            for child in children:
                descend(child)

    descend(anatomy.parts[0])
    return found


def _cover(anatomy: Anatomy, blocks: Sequence[Part], rng: np.random.Generator) -> list[Tokens]:
    """Draw sub-networks, as deep as they can be, until each block stands in each of its forms at least once."""
    varied = {key for block in blocks for key in block.keys}
    deep = {key: anatomy.largest[key] for block in blocks for key in block.gates if key not in varied}
    unseen = [{setting for setting, _ in anatomy.combinations(block.keys)} for block in blocks]
    found: list[Tokens] = []
    while any(unseen):
        decided = dict(deep)
        for i in rng.permutation(len(blocks)).tolist():
            keys = blocks[i].keys
            fitting = sorted(s for s in unseen[i] if all(decided.get(k, t) == t for k, t in zip(keys, s, strict=True)))
            if fitting:
                decided.update(zip(keys, fitting[int(rng.integers(len(fitting)))], strict=True))
        drawn = rng.integers(0, anatomy.space.radices).tolist()
        tokens = tuple(int(decided.get(key, token)) for key, token in enumerate(drawn))
        for block, left in zip(blocks, unseen, strict=True):
            if _runs(block, tokens):
                left.discard(tuple(tokens[key] for key in block.keys))
        found.append(tokens)
    return found


def _runs(block: Part, tokens: Tokens) -> bool:
    """Return whether the depths of a sub-network leave a block in it."""
    return all(runs[tokens[key]] for key, runs in block.gates.items())


def _time(network: nn.Module, paths: Sequence[str], input_shape: Example, repeats: int) -> dict[str, FloatArray]:
    """Return the milliseconds of each module, of the whole network, and of the rest of it: (repeats,) each."""
    times = {path: np.zeros(repeats) for path in (*paths, WHOLE)}
    turn = 0

    def note(path: str, ms: float) -> None:
        times[path][turn] += ms

    present = [path for path, _ in network.named_modules() if path and path in times]
    with evaluation_mode(network):
        run = make_runner(network, input_shape)
        run()
        with _clocks(network, present, note):
            for turn in range(repeats):
                times[WHOLE][turn] = run()
    times[REST] = times[WHOLE] - sum((times[path] for path in paths), np.zeros(repeats))
    return times


def _typical(rows: Sequence[dict[str, FloatArray]]) -> dict[str, float]:
    """Return lower quartiles: other programs make runs slower, and never faster."""
    return {path: float(np.percentile(np.concatenate([row[path] for row in rows]), 25)) for path in rows[0]}


@contextmanager
def _clocks(network: nn.Module, paths: Sequence[str], note: Callable[[str, float], Any]) -> Iterator[None]:
    """Call ``note`` with the path and the milliseconds of each call of these modules."""
    device, started = device_of(network), dict[str, float]()

    def start(path: str) -> None:
        wait(device)
        started[path] = time.perf_counter()

    def stop(path: str) -> None:
        wait(device)
        note(path, (time.perf_counter() - started[path]) * 1000)

    with ExitStack() as hooks:
        for path in paths:
            module = network.get_submodule(path)
            hooks.enter_context(module.register_forward_pre_hook(lambda *_, path=path: start(path)))
            hooks.enter_context(module.register_forward_hook(lambda *_, path=path: stop(path)))
        yield


def _term(anatomy: Anatomy, block: Part, seen: Sequence[tuple[Tokens, dict[str, float]]]) -> Term:
    """Return a block's milliseconds: by form, the median over the networks in which it has that form."""
    by_form: dict[tuple[int, ...], list[float]] = {}
    for tokens, row in seen:
        if _runs(block, tokens):
            by_form.setdefault(tuple(tokens[key] for key in block.keys), []).append(row[block.path])
    costs = np.zeros([anatomy.space.radices[key] for key in block.keys])
    for form, times in by_form.items():
        costs[form] = np.median(times)
    return anatomy.gated(block, costs)
