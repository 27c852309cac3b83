"""Milliseconds of elastic networks, block by block: what is called with few choices inside is timed where it stands.

Random sub-networks are extracted and run, with a clock at each block, until every block was seen in each of its forms:
so blocks are timed with the inputs and the caches that they will have, and the number of networks is that of the forms
of one block, not of all networks. What the blocks leave of the whole is the fixed part.

Differs: Once-for-All adds up operators that were timed by themselves, and does not say how to make such a table.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mutators.choices.extracting import extract
from mutators.costs.about import compared
from mutators.costs.example import Example, shape_of
from mutators.costs.latency import device_of, evaluating, runner, threads_set, wait
from search_spaces.errors import CostError
from search_spaces.schema import Tokens

if TYPE_CHECKING:
    from mutators.costs.elastic_macs import Progress
    from mutators.elastic.anatomy import Anatomy, Part, Term

FloatArray = npt.NDArray[np.float64]
MOST_FORMS = 32
"""Of a block: what has more is timed in parts, as far as it has parts."""
WHOLE, REST = "", "."  # no module has such a path
ROUNDS = 3
HELD_OUT = 12
"""Whole sub-networks that the sums are compared with."""


class Milliseconds(NamedTuple):
    """What was measured: the fixed part, terms by positions of keys, and how it was done."""

    fixed: float
    terms: list[Term]
    about: dict[str, Any]


def measured(
    model: nn.Module,
    anatomy: Anatomy,
    input_shape: Example,
    *,
    repeats: int,
    threads: int | None,
    seed: int,
    progress: Progress | None,
) -> Milliseconds:
    """Time an elastic network; arguments and errors as of :func:`mutators.costs.elastic_table.cost_table`."""
    from mutators.costs.elastic_table import collected

    if repeats < 1:
        raise CostError(f"repeats is {repeats}, wanted at least 1.")
    rng, space = np.random.default_rng(seed), anatomy.space
    with threads_set(threads) as thread_count:
        blocks = _blocks(anatomy, _called(model, anatomy, input_shape))
        designed = _covering(anatomy, blocks, rng)
        held_out = [tuple(row) for row in space.sample_tokens(rng, HELD_OUT).tolist()]
        networks = designed + held_out
        paths = [block.path for block in blocks]
        runs: list[list[dict[str, FloatArray]]] = [[] for _ in networks]
        for turn in range(ROUNDS):  # so that a network's runs are not all in one bad moment of the machine
            for done, i in enumerate(rng.permutation(len(networks)).tolist(), 1):
                network = extract(model, space.decode(networks[i]))
                runs[i].append(_timed(network, paths, input_shape, -(-repeats // ROUNDS)))
                if progress is not None:
                    progress(turn * len(networks) + done, ROUNDS * len(networks))
    times = [_typical(rows) for rows in runs]
    seen = list(zip(designed, times, strict=False))
    fixed, terms = collected([_term(anatomy, block, seen) for block in blocks])
    fixed += float(np.median([row[REST] for _, row in seen]))
    sums = [fixed + sum(_at(term, tokens) for term in terms) for tokens in networks]
    wholes = np.array([row[WHOLE] for row in times])
    scale = float(np.median(wholes[: len(designed)] / sums[: len(designed)]))  # what disturbs runs hits some block
    fixed, terms = fixed * scale, [(keys, costs * scale) for keys, costs in terms]
    predicted = np.array(sums[len(designed) :]) * scale
    about = {
        "model": type(model).__name__,
        "input_shape": shape_of(input_shape),
        "device": str(device_of(model)),
        "machine": platform.processor() or platform.machine(),
        "threads": thread_count,
        "torch": torch.__version__,
        "blocks": len(blocks),
        "networks": len(designed),
        "repeats": repeats,
        "seed": seed,
        "held_out": compared(predicted, wholes[len(designed) :]),
    }
    return Milliseconds(fixed, terms, about)


def _called(model: nn.Module, anatomy: Anatomy, input_shape: Example) -> set[str]:
    """Paths of the modules that the largest network calls, and of no others (lists, for one)."""
    network = extract(model, anatomy.space.decode(anatomy.largest))
    found: set[str] = set()
    paths = [path for path, _ in network.named_modules() if path]
    with evaluating(network), _hooked(network, paths, lambda path, _: found.add(path)):
        runner(network, input_shape)
    return found


def _blocks(anatomy: Anatomy, called: set[str]) -> list[Part]:
    """Modules that together are the network, as large as they can be with few forms; keys are of all that is inside."""
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


def _covering(anatomy: Anatomy, blocks: Sequence[Part], rng: np.random.Generator) -> list[Tokens]:
    """Sub-networks, as deep as they can be, in which each block stands in each of its forms at least once."""
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
        tokens = tuple(int(decided.get(key, token)) for key, token in enumerate(anatomy.space.sample(rng)))
        for block, left in zip(blocks, unseen, strict=True):
            if _runs(block, tokens):
                left.discard(tuple(tokens[key] for key in block.keys))
        found.append(tokens)
    return found


def _runs(block: Part, tokens: Tokens) -> bool:
    return all(runs[tokens[key]] for key, runs in block.gates.items())


def _timed(network: nn.Module, paths: Sequence[str], input_shape: Example, repeats: int) -> dict[str, FloatArray]:
    """Milliseconds of each module, of the whole, and of what is in none of them: (repeats,); not called takes 0."""
    times = {path: np.zeros(repeats) for path in (*paths, WHOLE)}
    turn = 0

    def note(path: str, ms: float) -> None:
        times[path][turn] += ms

    present = [path for path, _ in network.named_modules() if path and path in times]
    with evaluating(network):
        run = runner(network, input_shape)
        run()
        with _hooked(network, present, note):
            for turn in range(repeats):
                times[WHOLE][turn] = run()
    times[REST] = times[WHOLE] - sum((times[path] for path in paths), np.zeros(repeats))
    return times


def _typical(rows: Sequence[dict[str, FloatArray]]) -> dict[str, float]:
    """Lower quartiles: other programs make runs slower, and never faster."""
    return {path: float(np.percentile(np.concatenate([row[path] for row in rows]), 25)) for path in rows[0]}


@contextmanager
def _hooked(network: nn.Module, paths: Sequence[str], note: Callable[[str, float], Any]) -> Iterator[None]:
    """Call ``note`` with the path and the milliseconds of each call of these modules."""
    device, started = device_of(network), dict[str, float]()

    def start(path: str) -> None:
        wait(device)
        started[path] = time.perf_counter()

    def stop(path: str) -> None:
        wait(device)
        note(path, (time.perf_counter() - started[path]) * 1000)

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for path in paths:
        module = network.get_submodule(path)
        hooks.append(module.register_forward_pre_hook(lambda *_, path=path: start(path)))
        hooks.append(module.register_forward_hook(lambda *_, path=path: stop(path)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _term(anatomy: Anatomy, block: Part, seen: Sequence[tuple[Tokens, dict[str, float]]]) -> Term:
    """A block's milliseconds: the median of all networks in which it has a form."""
    by_form: dict[tuple[int, ...], list[float]] = {}
    for tokens, row in seen:
        if not _runs(block, tokens):
            continue
        by_form.setdefault(tuple(tokens[key] for key in block.keys), []).append(row[block.path])
    costs = np.zeros([anatomy.space.radices[key] for key in block.keys])
    for form, times in by_form.items():
        costs[form] = np.median(times)
    return anatomy.gated(block, costs)


def _at(term: Term, tokens: Tokens) -> float:
    keys, costs = term
    return float(costs[tuple(tokens[key] for key in keys)])
