"""Make cost tables of elastic networks: exact, without running a network for each candidate.

The cost of a layer depends on its own widths and kernel alone, and on the depths and choices of layers around it; so
each layer is extracted by itself for all combinations of these few choices. Its multiply-adds are proportional to its
weights, with the factor that the largest network that runs it shows. That is verified on more networks; where
multiply-adds depend on something else (products of feature maps, a depth that forward takes), whole networks are
counted for the combinations of those choices.

Differs: MIT's Once-for-All builds a description of the network for each candidate and adds up its layers, 0.75 ms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mutators.choices.applying import apply_choices
from mutators.choices.extracting import extract
from mutators.costs.about import OnStep, Steps, check_table, describe_model
from mutators.costs.count import CannotRun, DryRun, Ignore, count_params, is_quantized, to_bit_operations
from mutators.costs.elastic_latency import measure_terms
from mutators.elastic.anatomy import Anatomy, FloatArray, Part, sum_terms, weightless
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.embedding import ElasticEmbedding
from mutators.elastic.layers.norm import ElasticNorm
from mutators.inputs import Example
from mutators.quantization.layers import Quantized
from search_spaces.checks import whole
from search_spaces.cost.sums import Term, fold_terms, spread
from search_spaces.cost.table import CostTable
from search_spaces.errors import CostError
from search_spaces.schema import Space, Tokens

COUNTED = ("macs", "params", "bit_operations")
FREE = (ElasticNorm, ElasticEmbedding)
"""Elastic layers without multiply-adds; their plain layers have none either."""
MOST_RUNS = 1024
"""Number of combinations of choices, at most, for which whole networks are counted."""


def cost_table(
    model: nn.Module,
    input_shape: Example,
    metrics: Sequence[str] | None = None,
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
        model: whose choices are elastic or of layers, without a mutator; stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example.
        metrics: some of "macs", "params", of a model with quantized layers "bit_operations", and "latency_ms", which is
            measured and takes a while; None: all but that.
        checks: number of random sub-networks, equal ones counted once.
        seed: of these, and of those that latency is measured on.
        ignore: see :func:`mutators.costs.count_macs`.
        repeats: number of times each part is timed in each of its forms.
        threads: of torch, for latency; None leaves them as they are.
        progress: called after each network that was run.

    Raises:
        CostError: a metric is unknown, the model has no elastic choices or others than these and choices of layers, or
            it cannot be run or counted.
        ChoiceError: the model's choices do not fit together, or a mutator is bound.
    """
    metrics = choose_metrics(model, metrics, (*COUNTED, "latency_ms"))
    if problems := whole("checks", checks, 0):
        raise CostError(f"{problems[0]}.")
    anatomy = Anatomy(model)
    space, about = anatomy.space, describe_model(model, input_shape)
    fixed: dict[str, float] = {}
    terms: dict[str, list[Term]] = {}
    counted = [metric for metric in COUNTED if metric in metrics]
    if counted:
        counter = NetworkCounter(model, anatomy, input_shape, ignore, Steps(4 + checks, progress))
        for metric in counted:
            fixed[metric], terms[metric] = sum_terms(counter.terms(metric))
        table = _table(space, fixed, terms, about)
        samples = np.unique(space.sample_tokens(np.random.default_rng(seed), checks), axis=0)
        costs = [counter.whole(tuple(row), counted) for row in samples.tolist()]
        about["check"] = check_table(table, samples, costs, seed)
    if "latency_ms" in metrics:
        fixed["latency_ms"], terms["latency_ms"], about["latency_ms"] = measure_terms(
            model, anatomy, input_shape, repeats=repeats, threads=threads, seed=seed, progress=progress
        )
    return _table(space, fixed, terms, about)


def choose_metrics(model: nn.Module, metrics: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return metrics, or those that are counted of a model; raise a CostError unless there are some, all known."""
    known = known if is_quantized(model) else [metric for metric in known if metric != "bit_operations"]
    if metrics is None:
        return [metric for metric in COUNTED if metric in known]
    if not metrics or not set(metrics) <= set(known):
        hint = ": no layer of this model is quantized" if "bit_operations" in metrics else ""
        raise CostError(f"metrics are {list(metrics)}, wanted some of {', '.join(known)}{hint}.")
    return list(metrics)


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


class NetworkCounter:
    """A counter of the multiply-adds of whole networks: on shapes alone, or where that fails with numbers."""

    def __init__(self, model: nn.Module, anatomy: Anatomy, input_shape: Example, ignore: Ignore, steps: Steps) -> None:
        self._anatomy, self._input_shape, self._ignore = anatomy, input_shape, (*ignore, *FREE)
        self._steps, self._known = steps, dict[Tokens, dict[str, int]]()
        self._shapes = weightless(model, ())
        self._macs: dict[str, Term] | None = None
        try:
            self._start(DryRun(model))
        except CannotRun:
            self._start(DryRun(model, weightless=False))

    def _start(self, dry: DryRun) -> None:
        """Count the largest network, as all others later, in a dry run."""
        for module in dry.model.modules():
            if isinstance(module, ElasticConvolution):
                module._transforms = False  # an extracted network does not multiply by kernels' matrices either
        self._dry = dry
        self.by_module(self._anatomy.largest)

    def by_module(self, tokens: Tokens) -> dict[str, int]:
        """Return the multiply-adds of a sub-network by path."""
        if tokens not in self._known:
            apply_choices(self._dry.model, self._anatomy.space.decode(tokens))
            self._known[tokens] = self._dry.macs_by_module(self._input_shape, self._ignore)
            self._steps.count()
        return self._known[tokens]

    def whole(self, tokens: Tokens, metrics: Sequence[str]) -> dict[str, int]:
        """Return what a sub-network costs when it is extracted."""
        costs, by_module = {}, self.by_module(tokens)
        if "macs" in metrics:
            costs["macs"] = sum(by_module.values())
        if "bit_operations" in metrics:
            apply_choices(self._dry.model, self._anatomy.space.decode(tokens))
            costs["bit_operations"] = sum(to_bit_operations(self._dry.model, by_module).values())
        if "params" in metrics:
            costs["params"] = count_params(extract(self._shapes, self._anatomy.space.decode(tokens)))
        return costs

    def terms(self, metric: str) -> list[Term]:
        """Return one of the metrics :data:`COUNTED` of all modules as terms."""
        if metric == "params":
            return self._anatomy.params()
        if self._macs is None:
            self._macs = self._count_macs()
        if metric == "macs":
            return list(self._macs.values())
        layers = {part.path: part.module for part in self._anatomy.parts if isinstance(part.module, Quantized)}
        return [self._times_bits(layers[path], term) for path, term in self._macs.items() if path in layers]

    def _times_bits(self, layer: Quantized, term: Term) -> Term:
        """Return the bit operations of a layer from its multiply-adds."""
        for bits in (layer.weight_bits, layer.activation_bits):
            keys = () if isinstance(bits, int) else (self._anatomy.position(bits),)
            numbers = np.array(bits if isinstance(bits, int) else bits.values, dtype=np.float64)
            wider = tuple(sorted({*term[0], *keys}))
            term = wider, spread(*term, wider) * spread(keys, numbers, wider)
        return term

    def _count_macs(self) -> dict[str, Term]:
        """Return the multiply-adds of each module as a term."""
        anatomy = self._anatomy
        parts = {part.path: part for part in anatomy.parts}
        found: dict[str, Term] = {}
        for path in dict.fromkeys([*self.by_module(anatomy.largest), *parts]):
            tokens = self._reference(part := parts[path])
            if macs := self.by_module(tokens).get(path, 0):
                sizes = anatomy.sizes(part)["weights"]
                weights = sizes[tuple(tokens[key] for key in part.keys)]
                found[path] = anatomy.gated(part, sizes / weights * macs if weights else np.full_like(sizes, macs))
        found = {path: (keys, np.rint(costs)) for path, (keys, costs) in found.items()}
        odd = [path for path in parts if self._is_odd(path, found.get(path, ((), np.zeros(()))))]
        dependent: dict[tuple[int, ...], list[str]] = {}
        for path in odd:
            dependent.setdefault(self._deciding(parts[path]), []).append(path)
        for keys, paths in dependent.items():
            if math.prod(anatomy.space.radices[key] for key in keys) <= MOST_RUNS:
                found.update(self._enumerate(keys, paths))
        return found

    def _alike(self, tokens: Tokens) -> list[Tokens]:
        """Return tokens with all choices of layers at their last candidate, at the one before it, and so on."""
        layers, radices = self._anatomy.layers, self._anatomy.space.radices
        back = range(max((radices[key] for key in layers), default=1))
        return [tuple(max(0, radices[k] - 1 - n) if k in layers else t for k, t in enumerate(tokens)) for n in back]

    def _reference(self, part: Part) -> Tokens:
        """Return the largest network in which a module runs; as few different ones as may be."""
        alike = self._alike(self._anatomy.largest)
        running = [tokens for tokens in alike if self._anatomy.running(part, tokens) == tokens]
        return running[0] if running else self._anatomy.running(part, self._anatomy.largest)

    def _is_odd(self, path: str, term: Term) -> bool:
        """Return whether a module's multiply-adds differ from its term in one of the corners of the space."""
        keys, costs = term
        corners = self._corners()
        return any(costs[tuple(t[key] for key in keys)] != self.by_module(t).get(path, 0) for t in corners)

    def _corners(self) -> list[Tokens]:
        """Return the smallest depths, the smallest of all else, and the smallest of both, with all layers alike."""
        anatomy = self._anatomy
        depths = {key for part in anatomy.parts for key in part.gates} - anatomy.layers
        shallow = depths | (set(range(len(anatomy.space))) - anatomy.known)
        narrow = set(range(len(anatomy.space))) - shallow
        ends = list(zip(anatomy.smallest, anatomy.largest, strict=True))
        corners = [
            tuple(least if key in small else most for key, (least, most) in enumerate(ends))
            for small in (shallow, narrow, shallow | narrow)
        ]
        return [tokens for corner in corners for tokens in self._alike(corner)]

    def _deciding(self, part: Part) -> tuple[int, ...]:
        """Return the positions of the choices that, alone at their smallest, change a module's multiply-adds.

        With those of the choices of layers around it, without which it does not run.
        """
        anatomy, tokens = self._anatomy, self._reference(part)
        found, macs = set(part.gates) & anatomy.layers, self.by_module(tokens).get(part.path, 0)
        for key, least in enumerate(anatomy.smallest):
            if self.by_module((*tokens[:key], least, *tokens[key + 1 :])).get(part.path, 0) != macs:
                found.add(key)
        return tuple(sorted(found))

    def _enumerate(self, keys: tuple[int, ...], paths: Sequence[str]) -> dict[str, Term]:
        """Return the terms of some modules by counting a whole network for each combination of their choices."""
        shape = [self._anatomy.space.radices[key] for key in keys]
        found = {path: np.zeros(shape) for path in paths}
        for setting, tokens in self._anatomy.combinations(keys):
            macs = self.by_module(tokens)
            for path in paths:
                found[path][setting] = macs.get(path, 0)
        return {path: (keys, costs) for path, costs in found.items()}
