"""Take an elastic network apart: its modules, and the choices that the costs of each depend on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mutators.choices.candidates import Candidates
from mutators.choices.layer_choice import LayerChoice
from mutators.choices.mutable import Mutable
from mutators.choices.torch_private import get_parameters
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extractable, Extraction
from mutators.choices.walk import Site, space_of, walk
from mutators.elastic.layers.depth import ElasticDepth
from mutators.elastic.layers.layer import Elastic
from search_spaces.cost.sums import Term, spread
from search_spaces.errors import CostError
from search_spaces.schema import Tokens

FloatArray = npt.NDArray[np.float64]


def is_elastic(model: nn.Module) -> bool:
    """Return whether a model has choices, and all of them are elastic."""
    kinds = _kinds(model)
    return bool(kinds) and all(issubclass(kind, ValueChoice) for kind in kinds)


def has_elastic(model: nn.Module) -> bool:
    """Return whether a model has elastic choices, and beside them none but of layers."""
    kinds = _kinds(model)
    known = all(issubclass(kind, (ValueChoice, LayerChoice)) for kind in kinds)
    return known and any(issubclass(kind, ValueChoice) for kind in kinds)


def _kinds(model: nn.Module) -> set[type]:
    return {type(site.mutable) for site in walk(model) if site.domain is not None}


@dataclass(frozen=True)
class Part:
    """A module, and the choices that its own costs depend on.

    Attributes:
        keys: positions of the choices of its widths and kernel.
        gates: by position of a depth or of a choice of layers around the module, for each option whether it runs.
    """

    path: str
    module: nn.Module
    keys: tuple[int, ...]
    gates: Mapping[int, tuple[bool, ...]]


class Anatomy:
    """The modules of an elastic network, and the choices that each depends on.

    Attributes:
        space: what can be chosen.
        parts: all modules, outermost first.
        largest, smallest: tokens; of choices of layers the last and the first candidate.
        layers: positions of the choices of layers.
        known: positions of the choices of some module's width, kernel or depth, and of the choices of layers.

    Raises:
        CostError: it has no elastic choices, or others than these and choices of layers.
        ChoiceError: the model's choices do not fit together.
    """

    def __init__(self, model: nn.Module) -> None:
        self._sites: list[Site] = [site for site in walk(model) if site.domain is not None]
        others = [site.key for site in self._sites if not isinstance(site.mutable, (ValueChoice, LayerChoice))]
        if others or not any(isinstance(site.mutable, ValueChoice) for site in self._sites):
            what = f"choices that are not elastic: {others}" if others else "nothing elastic"
            raise CostError(f"{type(model).__name__} has {what}. measure_cost is for choices of any kind.")
        self.space = space_of(self._sites)
        at = {key: position for position, key in enumerate(self.space.keys)}
        self._at = {id(site.mutable): at[site.key] for site in self._sites}
        values = {at[site.key]: site.mutable.values for site in self._sites if isinstance(site.mutable, ValueChoice)}
        options = [values.get(key, tuple(range(radix))) for key, radix in enumerate(self.space.radices)]
        self.largest: Tokens = tuple(int(np.argmax(own)) for own in options)
        self.smallest: Tokens = tuple(int(np.argmin(own)) for own in options)
        self.layers = {at[site.key] for site in self._sites if isinstance(site.mutable, LayerChoice)}
        self.parts = list(self._parts("", model, {}, {}, set()))
        self.known = {key for part in self.parts for key in (*part.keys, *part.gates)} | self.layers

    def _parts(
        self,
        path: str,
        module: nn.Module,
        gates: Mapping[int, tuple[bool, ...]],
        gated: Mapping[int, tuple[nn.Module, frozenset[int]]],
        seen: set[int],
    ) -> Iterator[Part]:
        """Yield a module and all inside of it; ``gated`` says of its children when they run."""
        if id(module) in seen or isinstance(module, ValueChoice):
            return
        seen.add(id(module))
        yield Part(path, module, self.deciding(module), gates)
        if isinstance(module, Extractable) and not module.is_fixed:
            gated = module.gates()
        for name, child in module.named_children():
            inner = dict(gates)
            if id(child) in gated:
                choice, runs = gated[id(child)]
                key = self._at[id(choice)]
                outer = inner.get(key, (True,) * self.space.radices[key])
                inner[key] = tuple(on and option in runs for option, on in enumerate(outer))
            below = gated if isinstance(child, Candidates) else {}
            yield from self._parts(f"{path}.{name}" if path else name, child, inner, below, seen)

    def deciding(self, module: nn.Module) -> tuple[int, ...]:
        """Return the positions of the choices of a layer's own widths, kernel and bits, ascending."""
        if not _has_forms(module):
            return ()
        return tuple(sorted({self._at[id(choice)] for choice in module.find_choices()}))

    def position(self, choice: ValueChoice) -> int:
        """Return the position of a choice in the space."""
        return self._at[id(choice)]

    def plan(self, tokens: Tokens) -> dict[int, tuple[int, ...]]:
        """Return the options of a sub-network as an extraction takes them."""
        return {choice: (tokens[position],) for choice, position in self._at.items()}

    def combinations(self, keys: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Tokens]]:
        """Yield all settings of some choices, the last fastest, and tokens with all others at their largest."""
        for setting in itertools.product(*(range(self.space.radices[key]) for key in keys)):
            chosen = dict(zip(keys, setting, strict=True))
            yield setting, tuple(chosen.get(key, token) for key, token in enumerate(self.largest))

    def running(self, part: Part, tokens: Tokens) -> Tokens:
        """Return tokens with as few changes as let a module run."""
        opened = {key: runs.index(True) for key, runs in part.gates.items() if not runs[tokens[key]] and any(runs)}
        return tuple(opened.get(key, token) for key, token in enumerate(tokens))

    def sizes(self, part: Part) -> dict[str, FloatArray]:
        """Count a module's own parameters ("params"), and those that multiply ("weights"), by combination.

        Returns: arrays of (radix_1, ..., radix_k) of its keys.
        """
        shape = [self.space.radices[key] for key in part.keys]
        found = {name: np.zeros(shape) for name in ("params", "weights")}
        layer = weightless(part.module, self._sites) if part.keys else part.module
        for setting, tokens in self.combinations(part.keys):
            plain = layer
            if _has_forms(layer):
                with torch.device("meta"):
                    plain = Extraction(layer, self.plan(tokens)).copy(layer)
            own = _own_parameters(plain)
            found["params"][setting] = sum(parameter.numel() for parameter in own)
            found["weights"][setting] = sum(parameter.numel() for parameter in own if parameter.dim() > 1)
        return found

    def gated(self, part: Part, costs: FloatArray) -> Term:
        """Return the costs of a module as a term: nothing where a depth leaves it out."""
        keys = tuple(sorted({*part.keys, *part.gates}))
        total = np.array(np.broadcast_to(spread(part.keys, costs, keys), [self.space.radices[key] for key in keys]))
        for key, runs in part.gates.items():
            total = total * spread((key,), np.array(runs, dtype=np.float64), keys)
        return keys, total

    def params(self) -> list[Term]:
        """Return the numbers of parameters of all modules as terms; shared ones count where they stand first."""
        seen: set[int] = set()
        found = []
        for part in self.parts:
            own = _own_parameters(part.module)
            shared = sum(parameter.numel() for parameter in own if id(parameter) in seen)
            seen.update(map(id, own))
            if own and not (shared and shared == sum(parameter.numel() for parameter in own)):
                found.append(self.gated(part, self.sizes(part)["params"] - shared))
        return found


def _has_forms(module: nn.Module) -> TypeGuard[Elastic]:
    """Tell whether a module is a layer that choices decide, and that can be extracted by itself."""
    return isinstance(module, Extractable) and not isinstance(module, (ElasticDepth, Mutable))


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in get_parameters(module).values() if parameter is not None]


def sum_terms(terms: Sequence[Term]) -> tuple[float, list[Term]]:
    """Return the fixed part of terms, and one term for each set of keys."""
    fixed = 0.0
    sums: dict[tuple[int, ...], FloatArray] = {}
    for keys, costs in map(_drop_idle_keys, terms):
        if keys:
            sums[keys] = sums.get(keys, np.zeros_like(costs)) + costs
        else:
            fixed += float(costs)
    return fixed, list(sums.items())


def _drop_idle_keys(term: Term) -> Term:
    """Return a term without the keys on which its costs do not depend, as multiply-adds do not on bits."""
    keys, costs = term
    idle = [axis for axis in range(len(keys)) if (costs == costs.take([0], axis)).all()]
    kept = tuple(key for axis, key in enumerate(keys) if axis not in idle)
    return kept, np.asarray(costs[tuple(0 if axis in idle else slice(None) for axis in range(len(keys)))])


def weightless(layer: nn.Module, sites: Sequence[Site]) -> nn.Module:
    """Return a copy of a layer without numbers in its tensors, with these choices themselves."""
    memo: dict[int, Any] = {id(site.mutable): site.mutable for site in sites}
    for parameter in layer.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in layer.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(layer, memo)
