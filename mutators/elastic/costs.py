"""Cost tables of elastic networks, exact, without running a network for each candidate.

What a layer costs depends on its own widths and kernel alone, and on the depths of the stages that it stands in; so
each layer is extracted by itself for all combinations of these few choices. Its multiply-adds grow with its weights,
by as many positions as the largest network shows. That is verified on four more networks; where multiply-adds depend
on something else (products of feature maps, a depth that forward looks after), whole networks are counted for the
combinations of those choices.

Differs: MIT's Once-for-All builds a description of the network for each candidate and adds up its layers, 0.75 ms.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mutators.elastic.choice import ElasticChoice
from mutators.elastic.convolution import ElasticConvolution
from mutators.elastic.depth import ElasticDepth
from mutators.elastic.embedding import ElasticEmbedding
from mutators.elastic.layer import Elastic
from mutators.elastic.norm import ElasticNorm
from mutators.elastic.width import Channels
from mutators.fixed import apply_choices, extract
from mutators.mutables import EXTRACTION
from mutators.walk import Site, decisions, walk
from search_spaces.cost.about import checked, made_of
from search_spaces.cost.count import CannotRun, DryRun, Ignore, count_params
from search_spaces.cost.example import Example
from search_spaces.cost.table import CostError, CostTable
from search_spaces.cost.table_sum import folded, spread
from search_spaces.schema import Space, Tokens

METRICS = ("macs", "params")
FREE = (ElasticNorm, ElasticEmbedding)
"""Elastic layers that cost no multiply-adds, as their plain ones."""
MOST_RUNS = 1024
"""Of whole networks, for what a single module's costs depend on."""

Progress = Callable[[int, int], None]
"""Called with how many steps are done, and of how many."""
FloatArray = npt.NDArray[np.float64]
Term = tuple[tuple[int, ...], FloatArray]
"""Positions of keys, and what their options cost together: (radix_1, ..., radix_k)."""


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
    progress: Progress | None = None,
) -> CostTable:
    """Return what the sub-networks of an elastic network cost, with joint terms.

    ``about["check"]`` says how far the table's multiply-adds and parameters are from those of whole random
    sub-networks; ``about["latency_ms"]``, how far its milliseconds are: see :mod:`mutators.elastic.latencies`.

    Args:
        model: all of whose choices are elastic, without a mutator; stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example.
        metrics: some of "macs", "params" and "latency_ms"; the last is measured, which takes a while.
        checks: number of random sub-networks, equal ones counted once.
        seed: of these, and of those that latency is measured on.
        ignore: see :func:`search_spaces.cost.count_macs`.
        repeats: how often each part is timed in each of its forms.
        threads: of torch, for latency; None leaves them as they are.
        progress: told after each network that was run.

    Raises:
        CostError: a metric is unknown, the model has no elastic choices or others beside them, or it cannot be run or
            counted.
        ChoiceError: the model's choices do not fit together, or a mutator is bound.
    """
    wrong = [metric for metric in metrics if metric not in (*METRICS, "latency_ms")]
    if wrong or not metrics or checks < 0:
        wanted = f"some of {', '.join(METRICS)}, latency_ms"
        raise CostError(f"metrics are {list(metrics)} and {checks=}, wanted {wanted} and checks of 0 or more.")
    anatomy = Anatomy(model)
    space, about = anatomy.space, made_of(model, input_shape)
    fixed: dict[str, float] = {}
    terms: dict[str, list[Term]] = {}
    counted = [metric for metric in METRICS if metric in metrics]
    counter = _Counter(model, anatomy, input_shape, (*ignore, *FREE), progress, checks) if counted else None
    for metric in counted:
        assert counter is not None
        found = counter.macs() if metric == "macs" else anatomy.params()
        fixed[metric], terms[metric] = collected(found)
    if counter is not None:
        table = _table(space, fixed, terms, about)
        samples = np.unique(space.sample_tokens(np.random.default_rng(seed), checks), axis=0)
        about["check"] = checked(table, samples, [counter.whole(tuple(row), counted) for row in samples.tolist()], seed)
    if "latency_ms" in metrics:
        from mutators.elastic.latencies import measured

        ms = measured(model, anatomy, input_shape, repeats=repeats, threads=threads, seed=seed, progress=progress)
        fixed["latency_ms"], terms["latency_ms"], about["latency_ms"] = ms.fixed, ms.terms, ms.about
    return _table(space, fixed, terms, about)


def is_elastic(model: nn.Module) -> bool:
    """Whether :func:`cost_table` is for this model: it has choices, and all of them are elastic."""
    sites = [site for site in walk(model) if site.domain is not None]
    return bool(sites) and all(isinstance(site.mutable, ElasticChoice) for site in sites)


@dataclass(frozen=True)
class Part:
    """A module, and what its own costs depend on.

    Attributes:
        path: in the model.
        module: itself.
        keys: positions of the choices of its widths and kernel.
        gates: by position of a depth, for each of its options whether the module runs.
    """

    path: str
    module: nn.Module
    keys: tuple[int, ...]
    gates: Mapping[int, tuple[bool, ...]]


class Anatomy:
    """An elastic network taken apart: its modules, and which choices each depends on.

    Attributes:
        space: what can be chosen.
        parts: all modules, outermost first.
        largest, smallest: tokens.
        known: positions of the choices that some module's widths, kernels or depth are.

    Raises:
        CostError: it has no elastic choices, or others beside them.
        ChoiceError: the model's choices do not fit together.
    """

    def __init__(self, model: nn.Module) -> None:
        self._sites: list[Site] = [site for site in walk(model) if site.domain is not None]
        others = [site.key for site in self._sites if not isinstance(site.mutable, ElasticChoice)]
        if others or not self._sites:
            what = f"choices that are not elastic: {others}" if others else "nothing elastic"
            raise CostError(f"{type(model).__name__} has {what}. measure_cost is for choices of any kind.")
        self.space = Space(decisions(self._sites))
        at = {key: position for position, key in enumerate(self.space.keys)}
        self._at = {id(site.mutable): at[site.key] for site in self._sites}
        values = [self._values(position) for position in range(len(self.space))]
        self.largest: Tokens = tuple(int(np.argmax(options)) for options in values)
        self.smallest: Tokens = tuple(int(np.argmin(options)) for options in values)
        self.parts = list(self._parts("", model, {}, set()))
        gates = [{tuple(p.gates.items()) for p in self.parts if key in p.keys} for key in range(len(self.space))]
        self._gates = {key: sorted(given) for key, given in enumerate(gates) if given and () not in given}
        self.known = {key for part in self.parts for key in (*part.keys, *part.gates)}

    def _values(self, position: int) -> tuple[float, ...]:
        mutable = next(site.mutable for site in self._sites if self._at[id(site.mutable)] == position)
        assert isinstance(mutable, ElasticChoice)
        return mutable.values

    def _parts(
        self, path: str, module: nn.Module, gates: Mapping[int, tuple[bool, ...]], seen: set[int]
    ) -> Iterator[Part]:
        if id(module) in seen or isinstance(module, ElasticChoice):
            return
        seen.add(id(module))
        yield Part(path, module, self.deciding(module), gates)
        for name, child in module.named_children():
            inner = dict(gates)
            if isinstance(module, ElasticDepth) and name in module._names:
                index, key = module._names.index(name), self._at[id(module.depth)]
                runs = tuple(count > index for count in module.counts)
                before = inner.get(key, runs)
                inner[key] = tuple(a and b for a, b in zip(runs, before, strict=True))
            yield from self._parts(f"{path}.{name}" if path else name, child, inner, seen)

    def deciding(self, module: nn.Module) -> tuple[int, ...]:
        """Positions of the choices of an elastic layer's own widths and kernel, ascending; of others none."""
        if not isinstance(module, Elastic) or isinstance(module, ElasticDepth):
            return ()
        widths = [value for value in vars(module).values() if isinstance(value, Channels)]
        found = [choice for channels in widths for choice in channels.choices]
        found += [choice for _, choice in module._choices()]
        return tuple(sorted({self._at[id(choice)] for choice in found}))

    def active(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which choices decide anything, given the depths: (n, keys) tokens to (n, keys)."""
        found = np.ones(rows.shape, dtype=np.bool_)
        for key, gates in self._gates.items():
            runs = [np.logical_and.reduce([np.array(on)[rows[:, at]] for at, on in gate]) for gate in gates]
            found[:, key] = np.logical_or.reduce(runs)
        return found

    def effective(self, tokens: Tokens) -> Tokens:
        """The same sub-network, with choices that decide nothing at their largest."""
        (active,) = self.active(np.array([tokens], dtype=np.int64))
        return tuple(t if on else most for t, on, most in zip(tokens, active.tolist(), self.largest, strict=True))

    def plan(self, tokens: Tokens) -> dict[int, tuple[int, ...]]:
        """What an extraction takes."""
        return {choice: (tokens[position],) for choice, position in self._at.items()}

    def combinations(self, keys: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Tokens]]:
        """Settings of some choices, the last fastest, with the tokens in which all others are at their largest."""
        for setting in itertools.product(*(range(self.space.radices[key]) for key in keys)):
            tokens = list(self.largest)
            for key, token in zip(keys, setting, strict=True):
                tokens[key] = token
            yield setting, tuple(tokens)

    def sizes(self, part: Part) -> dict[str, FloatArray]:
        """Numbers of a module's own parameters ("params"), and of those that multiply ("weights"), by combination.

        Returns: arrays of (radix_1, ..., radix_k) of its keys.
        """
        shape = [self.space.radices[key] for key in part.keys]
        found = {name: np.zeros(shape) for name in ("params", "weights")}
        layer = _weightless(part.module, self._sites) if part.keys else part.module
        for setting, tokens in self.combinations(part.keys):
            plain = layer
            if isinstance(layer, Elastic) and not isinstance(layer, ElasticDepth):
                with torch.device("meta"):
                    plain = copy.deepcopy(layer, {EXTRACTION: self.plan(tokens)})
            own = [parameter for parameter in plain._parameters.values() if parameter is not None]
            found["params"][setting] = sum(parameter.numel() for parameter in own)
            found["weights"][setting] = sum(parameter.numel() for parameter in own if parameter.dim() > 1)
        return found

    def gated(self, part: Part, costs: FloatArray) -> Term:
        """What a module costs as a term: nothing where a depth leaves it out."""
        keys = tuple(sorted({*part.keys, *part.gates}))
        total = np.array(np.broadcast_to(spread(part.keys, costs, keys), [self.space.radices[key] for key in keys]))
        for key, runs in part.gates.items():
            total = total * spread((key,), np.array(runs, dtype=np.float64), keys)
        return keys, total

    def params(self) -> list[Term]:
        """Parameters by module; those that modules share count where they stand first."""
        seen: set[int] = set()
        found = []
        for part in self.parts:
            own = [parameter for parameter in part.module._parameters.values() if parameter is not None]
            shared = sum(parameter.numel() for parameter in own if id(parameter) in seen)
            seen.update(map(id, own))
            if own and not (shared and shared == sum(parameter.numel() for parameter in own)):
                found.append(self.gated(part, self.sizes(part)["params"] - shared))
        return found


class _Counter:
    """Counts multiply-adds of whole networks: on shapes alone, or where that fails with numbers."""

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        input_shape: Example,
        ignore: Ignore,
        progress: Progress | None,
        checks: int,
    ) -> None:
        self._anatomy, self._input_shape, self._ignore = anatomy, input_shape, ignore
        self._progress, self._done, self._total = progress, 0, 4 + checks
        self._known: dict[Tokens, dict[str, int]] = {}
        self._shapes = _weightless(model, ())
        self._dry = _cropping(DryRun(model))
        try:
            self.by_module(anatomy.largest)
        except CannotRun:
            self._dry = _cropping(DryRun(model, weightless=False))
            self.by_module(anatomy.largest)

    def by_module(self, tokens: Tokens) -> dict[str, int]:
        """Multiply-adds by path.

        Raises:
            CostError: the sub-network cannot be run or counted.
        """
        if tokens not in self._known:
            apply_choices(self._dry.model, self._anatomy.space.decode(tokens))
            self._known[tokens] = self._dry.macs_by_module(self._input_shape, self._ignore)
            self._done += 1
            if self._progress is not None:
                self._total = max(self._total, self._done)
                self._progress(self._done, self._total)
        return self._known[tokens]

    def whole(self, tokens: Tokens, metrics: Sequence[str]) -> dict[str, int]:
        """What a sub-network costs, extracted."""
        costs = {}
        if "macs" in metrics:
            costs["macs"] = sum(self.by_module(tokens).values())
        if "params" in metrics:
            costs["params"] = count_params(extract(self._shapes, self._anatomy.space.decode(tokens)))
        return costs

    def macs(self) -> list[Term]:
        """Multiply-adds by module."""
        anatomy = self._anatomy
        largest, parts = self.by_module(anatomy.largest), {part.path: part for part in anatomy.parts}
        found: dict[str, Term] = {}
        for path, macs in largest.items():
            sizes = anatomy.sizes(parts[path])["weights"]
            weights = sizes[tuple(anatomy.largest[key] for key in parts[path].keys)]
            found[path] = anatomy.gated(parts[path], sizes / weights * macs if weights else np.full_like(sizes, macs))
        found = {path: (keys, np.rint(costs)) for path, (keys, costs) in found.items()}
        odd = [path for path in parts if self._is_odd(path, found.get(path, ((), np.zeros(()))))]
        dependent: dict[tuple[int, ...], list[str]] = {}
        for path in odd:
            dependent.setdefault(self._deciding(path), []).append(path)
        for keys, paths in dependent.items():
            if math.prod(anatomy.space.radices[key] for key in keys) <= MOST_RUNS:
                found.update(self._enumerated(keys, paths))
        return list(found.values())

    def _is_odd(self, path: str, term: Term) -> bool:
        """Whether a module's multiply-adds are others than its term says, in one of the corners of the space."""
        keys, costs = term
        return any(
            costs[tuple(tokens[key] for key in keys)] != self.by_module(tokens).get(path, 0)
            for tokens in self._corners()
        )

    def _corners(self) -> list[Tokens]:
        """All at their largest but depths; all but the others; none."""
        anatomy = self._anatomy
        depths = {key for part in anatomy.parts for key in part.gates}
        shallow = depths | (set(range(len(anatomy.space))) - anatomy.known)
        narrow = set(range(len(anatomy.space))) - shallow
        return [
            tuple(
                least if key in small else most
                for key, (least, most) in enumerate(zip(anatomy.smallest, anatomy.largest, strict=True))
            )
            for small in (shallow, narrow, shallow | narrow)
        ]

    def _deciding(self, path: str) -> tuple[int, ...]:
        """Positions of the choices that change a module's multiply-adds when they alone are at their least."""
        anatomy = self._anatomy
        most = self.by_module(anatomy.largest).get(path, 0)
        found = []
        for key, radix in enumerate(anatomy.space.radices):
            tokens = list(anatomy.largest)
            tokens[key] = anatomy.smallest[key]
            if radix > 1 and self.by_module(tuple(tokens)).get(path, 0) != most:
                found.append(key)
        return tuple(found)

    def _enumerated(self, keys: tuple[int, ...], paths: Sequence[str]) -> dict[str, Term]:
        """The terms of modules of which whole networks say what they cost."""
        shape = [self._anatomy.space.radices[key] for key in keys]
        found = {path: np.zeros(shape) for path in paths}
        for setting, tokens in self._anatomy.combinations(keys):
            macs = self.by_module(tokens)
            for path in paths:
                found[path][setting] = macs.get(path, 0)
        return {path: (keys, costs) for path, costs in found.items()}


def collected(terms: Sequence[Term]) -> tuple[float, list[Term]]:
    """The fixed part, and the terms with those added up that belong together."""
    fixed = sum(float(costs) for keys, costs in terms if not keys)
    sums: dict[tuple[int, ...], FloatArray] = {}
    for keys, costs in terms:
        if keys:
            sums[keys] = sums.get(keys, np.zeros_like(costs)) + costs
    return fixed, list(sums.items())


def _table(
    space: Space, fixed: Mapping[str, float], terms: Mapping[str, Sequence[Term]], about: Mapping[str, Any]
) -> CostTable:
    options: dict[str, dict[str, list[float]]] = {}
    joint: dict[str, list[tuple[list[str], FloatArray]]] = {}
    for metric, given in terms.items():
        columns = {key: [0.0] * radix for key, radix in zip(space.keys, space.radices, strict=True)}
        for keys, costs in folded(given):
            if len(keys) == 1:
                columns[space.keys[keys[0]]] = costs.tolist()
            else:
                joint.setdefault(metric, []).append(([space.keys[key] for key in keys], costs))
        options[metric] = columns
    return CostTable(space, fixed, options, about, joint)


def _cropping(dry: DryRun) -> DryRun:
    """The run with kernels that are cropped only: an extracted network does not multiply by matrices either."""
    for module in dry.model.modules():
        if isinstance(module, ElasticConvolution):
            module._transforms = False
    return dry


def _weightless(layer: nn.Module, sites: Sequence[Site]) -> nn.Module:
    """A copy of a layer without numbers in its tensors, with these choices themselves."""
    memo: dict[int, Any] = {id(site.mutable): site.mutable for site in sites}
    for parameter in layer.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in layer.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(layer, memo)
