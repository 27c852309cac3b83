"""The cost of an architecture, for each metric: a fixed part, one number an option, and joint terms of several keys.

Without joint terms a cost is a sum over the keys. With them it need not be: the multiply-adds of a block may depend on
its kernel, its expansion and the channels before it together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.cost.bounds import Bounds, find_bounds
from search_spaces.cost.sums import FloatArray, Sum, Term, gate_term, take_options, to_lists, to_number
from search_spaces.cost.table_checks import (
    FORMAT,
    JOINT_FORMAT,
    MAX_CELLS,
    MAX_OPTIONS,
    check_costs,
    check_file,
    compare_spaces,
    flatten_costs,
)
from search_spaces.domains import is_hyperparameter
from search_spaces.errors import CostError, SpaceError, shorten
from search_spaces.files import read_file, write_atomically
from search_spaces.fixing import whole_of
from search_spaces.schema import Space


class CostTable:
    """The costs of every option of every key, in one or more metrics. What is a key's counts only where that matters.

    Args:
        space: whose options these are.
        fixed: by metric, what every architecture costs whatever is chosen.
        options: by metric and key, one cost an option, in the order of the key's tokens.
        about: anything worth knowing of how it was made (model, input, device, error); JSON.
        joint: by metric, pairs of keys (two or more) and what their options cost together, (radix_1, ..., radix_k),
            as an array or nested lists. ``options`` of such a metric may leave keys out, which then cost nothing else.

    Hyper-parameters, keys of NNI's own types, may be left out of ``options`` everywhere: they then cost nothing.

    Raises:
        CostError: entries are missing, unknown or no finite numbers, a key has more than 4096 options, or a joint
            term more than 2^20 costs.

    >>> space = Space.from_json({"conv": {"_type": "layer_choice", "_value": ["3x3", "5x5"]}})
    >>> table = CostTable(space, {"macs": 100}, {"macs": {"conv": [9, 25]}})
    >>> table.cost("macs", (1,))
    125.0
    """

    def __init__(
        self,
        space: Space,
        fixed: Mapping[str, float],
        options: Mapping[str, Mapping[str, Sequence[float]]],
        about: Mapping[str, Any] | None = None,
        joint: Mapping[str, Sequence[tuple[Sequence[str], npt.ArrayLike]]] | None = None,
    ) -> None:
        problems = check_costs(space, fixed, options, joint)
        if about is not None and not isinstance(about, Mapping):
            problems.append(f"about is {shorten(about)}, wanted an object")
        if problems:
            raise CostError(f"not a valid cost table ({len(problems)} wrong):", problems)
        self.space = space
        self.fixed = {metric: to_number(cost) for metric, cost in fixed.items()}
        self.options = {
            metric: {
                key: tuple(map(to_number, options.get(metric, {}).get(key, [0] * radix)))
                for key, radix in zip(space.keys, space.radices, strict=True)
                if key in options.get(metric, {}) or radix <= MAX_OPTIONS  # else a hyper-parameter: they cost nothing
            }
            for metric in fixed
        }
        self.about = dict(about or {})
        given = (joint or {}).items()
        self.joint = {metric: tuple(_to_term(space, *term) for term in terms) for metric, terms in given if terms}
        self._sums: dict[str, Sum] = {}  # filled when asked for: folding takes longer than reading a digest

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CostTable:
        """Read the file of a table.

        Raises:
            CostError: it cannot be read, or something in it is wrong; all of that is listed.
        """
        try:
            data = json.loads(read_file(Path(path)))
        except OSError as error:
            raise CostError(f"cannot read the cost table {path}: {error.strerror}. Make it with: nas cost") from None
        except (ValueError, RecursionError) as error:
            raise CostError(f"the cost table {path} is no JSON: {error}") from None
        try:
            return cls.from_json(data)
        except CostError as error:
            raise CostError(f"{path} is {str(error).splitlines()[0]}", error.problems) from None

    @classmethod
    def from_json(cls, data: Any) -> CostTable:
        """Build a table from its JSON. Raises CostError if something in it is wrong."""
        problems = check_file(data)
        if problems:
            raise CostError("not a valid cost table:", problems)
        try:
            space = Space.from_json(data["space"])
        except SpaceError as error:
            raise CostError("not a valid cost table, its search space is wrong:", error.problems) from None
        if data["digest"] != space.unordered_digest:
            wrong = (
                f"the digest is {str(data['digest'])[:12]!r}, but that of its space is {space.unordered_digest[:12]!r}"
            )
            raise CostError("not a valid cost table: it was changed by hand or damaged.", [wrong])
        return cls(space, data["fixed"], data["options"], data.get("about"), data.get("joint"))

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON."""
        options = {metric: {key: list(costs) for key, costs in keys.items()} for metric, keys in self.options.items()}
        data = {
            "format": JOINT_FORMAT if self.joint else FORMAT,
            "digest": self.space.unordered_digest,
            "space": self.space.to_json(),
            "fixed": self.fixed,
            "options": options,
            "about": self.about,
        }
        joint = {metric: [[list(keys), to_lists(c)] for keys, c in terms] for metric, terms in self.joint.items()}
        return {**data, "joint": joint} if joint else data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as JSON: the file is the old one or the new one, never a part.

        Raises:
            CostError: ``about`` holds something that is no JSON, or the file cannot be written.
        """
        path = Path(path)
        try:
            text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CostError(f"the cost table cannot be written, about is no JSON: {error}") from None
        try:
            write_atomically(path, (text + "\n").encode("utf-8"))
        except OSError as error:
            raise CostError(f"cannot write the cost table {path}: {error.strerror}.") from None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of its metrics, such as ``macs``, ``params``, ``latency_ms``."""
        return tuple(self.fixed)

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the space and all costs, without ``about``."""
        costs = {"space": self.space.unordered_digest, "fixed": self.fixed, "options": self.options}
        if self.joint:
            costs["joint"] = {
                metric: [[keys, hashlib.sha256(array.astype("<f8").tobytes()).hexdigest()] for keys, array in terms]
                for metric, terms in self.joint.items()
            }
        return hashlib.sha256(json.dumps(costs, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()

    def cost(self, metric: str, tokens: Sequence[int]) -> float:
        """Return the cost of one architecture.

        Raises:
            CostError: the table has no such metric, or ``tokens`` another length.
        """
        total = self._sum(metric)
        if len(tokens) != len(self.space):
            raise CostError(f"got {len(tokens)} tokens, wanted {len(self.space)}, one a key.")
        return total.add_one(tokens)

    def costs(self, metric: str, tokens: npt.ArrayLike) -> FloatArray:
        """Return the costs of many architectures, equal to :meth:`cost` to the last bit.

        Args:
            metric: one of :attr:`metrics`.
            tokens: (n, keys).

        Returns: (n,)

        Raises:
            CostError: the table has no such metric, or ``tokens`` another shape.
        """
        total, array = self._sum(metric), np.asarray(tokens)
        if array.ndim != 2 or array.shape[1] != len(self.space):
            raise CostError(f"tokens have shape {array.shape}, wanted (n, {len(self.space)}).")
        return total.add_many(array)

    def columns(self, metric: str) -> list[FloatArray]:
        """Return the costs of the options, one (radix,) array a key, in the order of the space's keys.

        Raises:
            CostError: it has no such metric, or joint terms or conditions in it, where no option has a cost alone.
        """
        self._check(metric)
        if metric in self.joint or self.space.conditions is not None:
            raise CostError(
                f"{metric} has joint terms or conditions, so no option has a cost alone: read terms({metric!r})."
            )
        options, radices = self.options[metric], zip(self.space.keys, self.space.radices, strict=True)
        return [np.array(options[key], np.float64) if key in options else np.broadcast_to(0.0, n) for key, n in radices]

    def terms(self, metric: str) -> list[Term]:
        """Return what is added to the fixed part: pairs of positions of keys, and costs (radix_1, ..., radix_k).

        A term whose keys are all in another one is folded into that; one of zeros is left out. Raises CostError if the
        table has no such metric.
        """
        return self._sum(metric).terms

    def bounds(self, metric: str) -> Bounds:
        """Return the lowest and the highest cost. Raises CostError if the table has no such metric."""
        terms = self.terms(metric)
        return find_bounds(float(self.fixed[metric]), self.space.radices, terms)

    def whole(self, metric: str) -> bool:
        """Return whether all costs are whole numbers, and their sums exact in floating point."""
        arrays = [array for _, array in self.terms(metric)]
        most = abs(self.fixed[metric]) + sum(float(np.abs(array).max()) for array in arrays)
        whole = float(self.fixed[metric]).is_integer() and all(bool((a == np.floor(a)).all()) for a in arrays)
        return whole and most < 2**53

    def arranged(self, space: Space) -> CostTable:
        """Return this table with the keys of ``space``, which may have other hyper-parameters: those cost nothing.

        Of keys that are fixed in ``space`` it has the one option.

        Raises:
            CostError: ``space`` is another than the table's; the differences are named.
        """
        if space.keys == self.space.keys and space.digest == self.space.digest:
            return self
        free = self._free_of_cost(space)
        problems = compare_spaces(self.space.whole, space.whole, ignored=free)
        problems += [f"key {key!r} is fixed in the table" for key in self.space.fixed if key not in space.fixed]
        if problems:
            raise CostError("the cost table is of another search space:", problems)
        at = {key: token for key, token in space.fixed.items() if key not in self.space.fixed}
        options = {
            metric: {key: [costs[at[key]]] if key in at else costs for key, costs in own.items() if key not in free}
            for metric, own in self.options.items()
        }
        joint = {
            metric: [(keys, take_options(keys, costs, at)) for keys, costs in terms]
            for metric, terms in self.joint.items()
        }
        return CostTable(space, self.fixed, options, self.about, joint)

    def _free_of_cost(self, space: Space) -> set[str]:
        """Return the hyper-parameters that are others than in ``space``, or stand in one alone, and cost nothing."""
        ours, theirs = self.space.whole.domains, space.whole.domains
        free = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
        free -= {key for domains in (ours, theirs) for key, d in domains.items() if not is_hyperparameter(whole_of(d))}
        free -= {key for terms in self.joint.values() for keys, _ in terms for key in keys}
        return free - {key for options in self.options.values() for key, costs in options.items() if any(costs)}

    def _check(self, metric: str) -> None:
        if metric not in self.fixed:
            raise CostError(f"the cost table has no metric {metric!r}, wanted one of {list(self.metrics)}.")

    def _sum(self, metric: str) -> Sum:
        if metric not in self._sums:
            self._check(metric)
            position = {key: at for at, key in enumerate(self.space.keys)}
            joint = [(tuple(map(position.__getitem__, keys)), costs) for keys, costs in self.joint.get(metric, ())]
            rows = self.options[metric].items()
            single = [((position[key],), np.array(costs, dtype=np.float64)) for key, costs in rows]
            self._sums[metric] = Sum(float(self.fixed[metric]), list(map(self._gated, [*joint, *single])))
        return self._sums[metric]

    def _gated(self, term: Term) -> Term:
        found = gate_term(term, self.space, MAX_CELLS)
        if found is None:
            named = ", ".join(repr(self.space.keys[key]) for key in term[0])
            raise CostError(f"the costs of {named} hang on too many other keys, by their conditions (_when).")
        return found

    def __repr__(self) -> str:
        return f"CostTable({', '.join(self.metrics)}; {len(self.space)} keys, digest {self.digest[:12]})"


def _to_term(space: Space, keys: Sequence[str], costs: npt.ArrayLike) -> tuple[tuple[str, ...], FloatArray]:
    shape = tuple(space.domains[key].radix for key in keys)
    array = np.array(flatten_costs(costs, shape), dtype=np.float64).reshape(shape) + 0.0  # no negative zeros
    array.setflags(write=False)
    return tuple(keys), array
