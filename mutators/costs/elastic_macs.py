"""Multiply-adds of an elastic network as terms of its choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from mutators.choices.applying import apply_choices
from mutators.choices.extracting import extract
from mutators.costs.count import CannotRun, DryRun, Ignore, count_params
from mutators.costs.example import Example
from mutators.elastic.anatomy import Anatomy, Term, weightless
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.embedding import ElasticEmbedding
from mutators.elastic.layers.norm import ElasticNorm
from search_spaces.schema import Tokens

FREE = (ElasticNorm, ElasticEmbedding)
"""Elastic layers that cost no multiply-adds, as their plain ones."""
MOST_RUNS = 1024
"""Of whole networks, for what a single module's costs depend on."""

Progress = Callable[[int, int], None]
"""Called with how many steps are done, and of how many."""


class Counter:
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
        self._anatomy, self._input_shape, self._ignore = anatomy, input_shape, (*ignore, *FREE)
        self._progress, self._done, self._total = progress, 0, 4 + checks
        self._known: dict[Tokens, dict[str, int]] = {}
        self._shapes = weightless(model, ())
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


def _cropping(dry: DryRun) -> DryRun:
    """The run with kernels that are cropped only: an extracted network does not multiply by matrices either."""
    for module in dry.model.modules():
        if isinstance(module, ElasticConvolution):
            module._transforms = False
    return dry
