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

from search_spaces.cost.bounds import Bounds, bounds
from search_spaces.cost.sums import Sum, Term
from search_spaces.cost.table_checks import cells_of, differences, problems_of
from search_spaces.errors import CostError, SpaceError
from search_spaces.files import write_atomically
from search_spaces.schema import Space

FORMAT = 1
JOINT_FORMAT = 2
"""Of a table with joint terms: a reader that knows none must refuse it rather than leave them out."""

FloatArray = npt.NDArray[np.float64]
Options = Mapping[str, Mapping[str, Sequence[float]]]
Joint = Mapping[str, Sequence[tuple[Sequence[str], npt.ArrayLike]]]


class CostTable:
    """What each option of each key costs, in one or more metrics.

    Args:
        space: whose options these are.
        fixed: by metric, what every architecture costs whatever is chosen.
        options: by metric and key, one cost an option, in the order of the key's tokens.
        about: anything worth knowing of how it was made (model, input, device, error); JSON.
        joint: by metric, pairs of keys (two or more) and what their options cost together, (radix_1, ..., radix_k),
            as an array or nested lists. ``options`` of such a metric may leave keys out, which then cost nothing else.

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
        options: Options,
        about: Mapping[str, Any] | None = None,
        joint: Joint | None = None,
    ) -> None:
        problems = problems_of(space, fixed, options, joint)
        if problems:
            raise CostError(f"not a valid cost table ({len(problems)} wrong):", problems)
        self.space = space
        self.fixed = {metric: _number(cost) for metric, cost in fixed.items()}
        self.options = {
            metric: {
                key: tuple(map(_number, options.get(metric, {}).get(key, [0] * radix)))
                for key, radix in zip(space.keys, space.radices, strict=True)
            }
            for metric in fixed
        }
        self.about = dict(about or {})
        self.joint = {metric: tuple(_term(space, *term) for term in terms) for metric, terms in _filled(joint).items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CostTable:
        """Read a table that :meth:`save` wrote.

        Raises:
            CostError: it cannot be read, or something in it is wrong; all of that is listed.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
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
        """Build a table from what :meth:`to_json` gave.

        Raises:
            CostError: something in it is wrong.
        """
        if not isinstance(data, dict) or data.get("format") not in (FORMAT, JOINT_FORMAT):
            raise CostError(
                f"not a cost table of format {FORMAT} or {JOINT_FORMAT}: "
                "wanted an object with format, space, fixed, options."
            )
        missing = [f"no {name!r}" for name in ("space", "digest", "fixed", "options") if name not in data]
        if ("joint" in data) != (data["format"] == JOINT_FORMAT):
            missing.append(f"'joint' has to be there in format {JOINT_FORMAT}, and cannot be in format {FORMAT}")
        if missing:
            raise CostError("not a valid cost table:", missing)
        try:
            space = Space.from_json(data["space"])
        except SpaceError as error:
            raise CostError(
                "not a valid cost table, its search space is wrong:", list(map(str, error.problems))
            ) from None
        if data["digest"] != space.digest:
            wrong = f"the digest is {str(data['digest'])[:12]!r}, but that of its space is {space.digest[:12]!r}"
            raise CostError("not a valid cost table: it was changed by hand or damaged.", [wrong])
        return cls(space, data["fixed"], data["options"], data.get("about"), data.get("joint"))

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        options = {metric: {key: list(costs) for key, costs in keys.items()} for metric, keys in self.options.items()}
        data = {
            "format": JOINT_FORMAT if self.joint else FORMAT,
            "digest": self.space.digest,
            "space": self.space.to_json(),
            "fixed": self.fixed,
            "options": options,
            "about": self.about,
        }
        joint = {metric: [[list(keys), _nested(c)] for keys, c in terms] for metric, terms in self.joint.items()}
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
        """The names of what it measures, such as ``macs``, ``params``, ``latency_ms``."""
        return tuple(self.fixed)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the space and all costs; what the table says about itself does not count."""
        costs = {"space": self.space.digest, "fixed": self.fixed, "options": self.options}
        if self.joint:
            costs["joint"] = {
                metric: [[keys, hashlib.sha256(array.astype("<f8").tobytes()).hexdigest()] for keys, array in terms]
                for metric, terms in self.joint.items()
            }
        return hashlib.sha256(json.dumps(costs, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()

    def cost(self, metric: str, tokens: Sequence[int]) -> float:
        """Return what one architecture costs.

        Raises:
            CostError: the table has no such metric, or a joint one and ``tokens`` another length.
        """
        if metric in self.joint:
            if len(tokens) != len(self.space):
                raise CostError(f"got {len(tokens)} tokens, wanted {len(self.space)}, one a key.")
            return self._sum(metric).one(tokens)
        rows, total = self._rows(metric), float(self.fixed[metric])
        for row, token in zip(rows, tokens, strict=True):
            total += row[token]
        return total

    def costs(self, metric: str, tokens: npt.ArrayLike) -> FloatArray:
        """Return what each architecture costs, equal to :meth:`cost` to the last bit.

        Args:
            metric: one of :attr:`metrics`.
            tokens: (n, keys).

        Returns: (n,)

        Raises:
            CostError: the table has no such metric, or ``tokens`` another shape.
        """
        self._rows(metric)
        array, columns = np.asarray(tokens), self._columns[metric]
        if array.ndim != 2 or array.shape[1] != len(columns):
            raise CostError(f"tokens have shape {array.shape}, wanted (n, {len(columns)}).")
        if metric in self.joint:
            return self._sum(metric).many(array)
        total = np.full(len(array), float(self.fixed[metric]))
        for column, token in zip(columns, array.T, strict=True):
            total += column[token]
        return total

    def columns(self, metric: str) -> list[FloatArray]:
        """Return the costs of the options, one (radix,) array a key, in the order of the space's keys.

        Raises:
            CostError: the table has no such metric, or joint terms in it: those have no cost of a single option.
        """
        self._rows(metric)
        if metric in self.joint:
            raise CostError(f"{metric} has joint terms, no cost of a single option: read terms({metric!r}) instead.")
        return self._columns[metric]

    def terms(self, metric: str) -> list[Term]:
        """Return what is added to the fixed part: pairs of positions of keys, and costs (radix_1, ..., radix_k).

        A term whose keys are all in another one is folded into that.

        Raises:
            CostError: the table has no such metric.
        """
        self._rows(metric)
        if metric in self.joint:
            return self._sum(metric).terms
        return [((at,), column) for at, column in enumerate(self._columns[metric])]

    def bounds(self, metric: str) -> Bounds:
        """Return the least and the most that an architecture can cost.

        Raises:
            CostError: the table has no such metric.
        """
        terms = self.terms(metric)
        fixed = float(self.fixed[metric])
        if metric not in self.joint:
            low, high = (fixed + sum(float(end(column)) for _, column in terms) for end in (np.min, np.max))
            return Bounds(low, high, True)
        found = bounds(self.space.radices, terms)
        return Bounds(fixed + found.low, fixed + found.high, found.exact)

    def whole(self, metric: str) -> bool:
        """Whether every cost is a whole number, and every sum exact in floating point."""
        arrays = [array.ravel() for _, array in self.terms(metric)]
        costs = np.concatenate([*arrays, [float(self.fixed[metric])]])
        most = sum(np.abs(array).max() for array in arrays) if metric in self.joint else np.abs(costs).sum()
        return bool((costs == np.floor(costs)).all() and most + abs(self.fixed[metric]) < 2**53)

    def arranged(self, space: Space) -> CostTable:
        """Return this table with its keys in the order of ``space``.

        Raises:
            CostError: ``space`` is another than the table's; the differences are named.
        """
        if space.keys == self.space.keys and space.digest == self.space.digest:
            return self
        problems = differences(self.space, space)
        if problems:
            raise CostError("the cost table is of another search space:", problems)
        return CostTable(space, self.fixed, self.options, self.about, self.joint)

    @cached_property
    def _columns(self) -> dict[str, list[FloatArray]]:
        return {
            metric: [np.array(costs, dtype=np.float64) for costs in keys.values()]
            for metric, keys in self.options.items()
        }

    @cached_property
    def _lists(self) -> dict[str, list[list[float]]]:
        return {metric: [column.tolist() for column in columns] for metric, columns in self._columns.items()}

    def _rows(self, metric: str) -> list[list[float]]:
        if metric not in self.fixed:
            raise CostError(f"the cost table has no metric {metric!r}, wanted one of {list(self.metrics)}.")
        return self._lists[metric]

    def _sum(self, metric: str) -> Sum:
        if metric not in self._sums:
            position = {key: at for at, key in enumerate(self.space.keys)}
            joint = [(tuple(map(position.__getitem__, keys)), costs) for keys, costs in self.joint[metric]]
            single: list[Term] = [((at,), column) for at, column in enumerate(self._columns[metric])]
            self._sums[metric] = Sum(float(self.fixed[metric]), [*joint, *single])
        return self._sums[metric]

    @cached_property
    def _sums(self) -> dict[str, Sum]:
        return {}  # filled as they are asked for: folding takes longer than reading a digest

    def __repr__(self) -> str:
        return f"CostTable({', '.join(self.metrics)}; {len(self.space)} keys, digest {self.digest[:12]})"


def _number(cost: float) -> float:
    """A plain int where it is one, so that the file shows multiply-adds to the unit."""
    return int(cost) if float(cost).is_integer() else float(cost)


def _filled(joint: Joint | None) -> Joint:
    return {metric: terms for metric, terms in (joint or {}).items() if terms}


def _term(space: Space, keys: Sequence[str], costs: npt.ArrayLike) -> tuple[tuple[str, ...], FloatArray]:
    shape = tuple(space.domains[key].radix for key in keys)
    array = np.array(cells_of(costs, shape), dtype=np.float64).reshape(shape) + 0.0  # no negative zeros
    array.setflags(write=False)
    return tuple(keys), array


def _nested(costs: FloatArray) -> Any:
    """Nested lists, with plain ints where they are whole."""
    cells = np.empty(costs.size, dtype=object)
    cells[:] = list(map(_number, costs.ravel().tolist()))
    return cells.reshape(costs.shape).tolist()
