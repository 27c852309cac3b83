"""Count the multiply-adds of an elastic network as terms of its choices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from mutators.choices.applying import apply_choices
from mutators.choices.extracting import extract
from mutators.costs.about import OnStep, Steps
from mutators.costs.count import CannotRun, DryRun, Ignore, count_params
from mutators.elastic.anatomy import Anatomy, weightless
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.embedding import ElasticEmbedding
from mutators.elastic.layers.norm import ElasticNorm
from mutators.inputs import Example
from search_spaces.cost.sums import Term
from search_spaces.schema import Tokens

FREE = (ElasticNorm, ElasticEmbedding)
"""Elastic layers without multiply-adds; their plain layers have none either."""
MOST_RUNS = 1024
"""Number of combinations of choices, at most, for which whole networks are counted."""


class NetworkCounter:
    """A counter of the multiply-adds of whole networks: on shapes alone, or where that fails with numbers."""

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        input_shape: Example,
        ignore: Ignore,
        progress: OnStep | None,
        checks: int,
    ) -> None:
        self._anatomy, self._input_shape, self._ignore = anatomy, input_shape, (*ignore, *FREE)
        self._steps = Steps(4 + checks, progress)
        self._known: dict[Tokens, dict[str, int]] = {}
        self._shapes = weightless(model, ())
        self._dry = _crop_kernels(DryRun(model))
        try:
            self.by_module(anatomy.largest)
        except CannotRun:
            self._dry = _crop_kernels(DryRun(model, weightless=False))
            self.by_module(anatomy.largest)

    def by_module(self, tokens: Tokens) -> dict[str, int]:
        """Return the multiply-adds of a sub-network by path.

        Raises:
            CostError: the sub-network cannot be run or counted.
        """
        if tokens not in self._known:
            apply_choices(self._dry.model, self._anatomy.space.decode(tokens))
            self._known[tokens] = self._dry.macs_by_module(self._input_shape, self._ignore)
            self._steps.count()
        return self._known[tokens]

    def whole(self, tokens: Tokens, metrics: Sequence[str]) -> dict[str, int]:
        """Return what a sub-network costs when it is extracted."""
        costs = {}
        if "macs" in metrics:
            costs["macs"] = sum(self.by_module(tokens).values())
        if "params" in metrics:
            costs["params"] = count_params(extract(self._shapes, self._anatomy.space.decode(tokens)))
        return costs

    def macs(self) -> list[Term]:
        """Return the multiply-adds of all modules as terms."""
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
                found.update(self._enumerate(keys, paths))
        return list(found.values())

    def _is_odd(self, path: str, term: Term) -> bool:
        """Return whether a module's multiply-adds differ from its term in one of the corners of the space."""
        keys, costs = term
        return any(
            costs[tuple(tokens[key] for key in keys)] != self.by_module(tokens).get(path, 0)
            for tokens in self._corners()
        )

    def _corners(self) -> list[Tokens]:
        """Return three sub-networks: the smallest depths, the smallest of all else, and the smallest of both."""
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
        """Return the positions of the choices that, alone at their smallest, change a module's multiply-adds."""
        anatomy = self._anatomy
        most = self.by_module(anatomy.largest).get(path, 0)
        found = []
        for key, radix in enumerate(anatomy.space.radices):
            tokens = list(anatomy.largest)
            tokens[key] = anatomy.smallest[key]
            if radix > 1 and self.by_module(tuple(tokens)).get(path, 0) != most:
                found.append(key)
        return tuple(found)

    def _enumerate(self, keys: tuple[int, ...], paths: Sequence[str]) -> dict[str, Term]:
        """Return the terms of some modules by counting a whole network for each combination of their choices."""
        shape = [self._anatomy.space.radices[key] for key in keys]
        found = {path: np.zeros(shape) for path in paths}
        for setting, tokens in self._anatomy.combinations(keys):
            macs = self.by_module(tokens)
            for path in paths:
                found[path][setting] = macs.get(path, 0)
        return {path: (keys, costs) for path, costs in found.items()}


def _crop_kernels(dry: DryRun) -> DryRun:
    """Crop kernels without their matrices in a dry run: an extracted network does not multiply by them either."""
    for module in dry.model.modules():
        if isinstance(module, ElasticConvolution):
            module._transforms = False
    return dry
