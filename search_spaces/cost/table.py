"""The cost of an architecture as a sum over its keys: one number an option, and a fixed part, for each metric."""

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

from search_spaces.domains import is_number
from search_spaces.files import write_atomically
from search_spaces.schema import Space, SpaceError

FORMAT = 1
MAX_OPTIONS = 4096
"""A key with more options than this has no place in a table."""

FloatArray = npt.NDArray[np.float64]
Options = Mapping[str, Mapping[str, Sequence[float]]]


class CostError(ValueError):
    """A cost table is not valid, cannot be read, or is of another space. ``problems`` lists all that is wrong."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message + "".join(f"\n  {problem}" for problem in self.problems))


class CostTable:
    """What each option of each key costs, in one or more metrics.

    Args:
        space: whose options these are.
        fixed: by metric, what every architecture costs whatever is chosen.
        options: by metric and key, one cost an option, in the order of the key's tokens.
        about: anything worth knowing of how it was made (model, input, device, error); JSON.

    Raises:
        CostError: entries are missing, unknown or no finite numbers, or a key has more than 4096 options.

    >>> space = Space.from_json({"conv": {"_type": "layer_choice", "_value": ["3x3", "5x5"]}})
    >>> table = CostTable(space, {"macs": 100}, {"macs": {"conv": [9, 25]}})
    >>> table.cost("macs", (1,))
    125.0
    """

    def __init__(
        self, space: Space, fixed: Mapping[str, float], options: Options, about: Mapping[str, Any] | None = None
    ) -> None:
        problems = _problems(space, fixed, options)
        if problems:
            raise CostError(f"not a valid cost table ({len(problems)} wrong):", problems)
        self.space = space
        self.fixed = {metric: _number(cost) for metric, cost in fixed.items()}
        self.options = {
            metric: {key: tuple(map(_number, options[metric][key])) for key in space.keys} for metric in fixed
        }
        self.about = dict(about or {})

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
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise CostError(
                f"not a cost table of format {FORMAT}: wanted an object with format, space, fixed, options."
            )
        missing = [f"no {name!r}" for name in ("space", "digest", "fixed", "options") if name not in data]
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
        return cls(space, data["fixed"], data["options"], data.get("about"))

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        options = {metric: {key: list(costs) for key, costs in keys.items()} for metric, keys in self.options.items()}
        return {
            "format": FORMAT,
            "digest": self.space.digest,
            "space": self.space.to_json(),
            "fixed": self.fixed,
            "options": options,
            "about": self.about,
        }

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
        return hashlib.sha256(json.dumps(costs, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()

    def cost(self, metric: str, tokens: Sequence[int]) -> float:
        """Return what one architecture costs.

        Raises:
            CostError: the table has no such metric.
        """
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
        array, columns = np.asarray(tokens), self.columns(metric)
        if array.ndim != 2 or array.shape[1] != len(columns):
            raise CostError(f"tokens have shape {array.shape}, wanted (n, {len(columns)}).")
        total = np.full(len(array), float(self.fixed[metric]))
        for column, token in zip(columns, array.T, strict=True):
            total += column[token]
        return total

    def columns(self, metric: str) -> list[FloatArray]:
        """Return the costs of the options, one (radix,) array a key, in the order of the space's keys."""
        self._rows(metric)
        return self._columns[metric]

    def whole(self, metric: str) -> bool:
        """Whether every cost is a whole number, and every sum exact in floating point."""
        costs = np.concatenate([*self.columns(metric), [float(self.fixed[metric])]])
        return bool((costs == np.floor(costs)).all() and np.abs(costs).sum() < 2**53)

    def arranged(self, space: Space) -> CostTable:
        """Return this table with its keys in the order of ``space``.

        Raises:
            CostError: ``space`` is another than the table's; the differences are named.
        """
        if space.keys == self.space.keys and space.digest == self.space.digest:
            return self
        problems = _differences(self.space, space)
        if problems:
            raise CostError("the cost table is of another search space:", problems)
        return CostTable(space, self.fixed, self.options, self.about)

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

    def __repr__(self) -> str:
        return f"CostTable({', '.join(self.metrics)}; {len(self.space)} keys, digest {self.digest[:12]})"


def _problems(space: Space, fixed: Any, options: Any) -> list[str]:
    if not isinstance(fixed, Mapping) or not fixed:
        return [f"fixed is {fixed!r}, wanted an object {{metric: cost}} with at least one metric"]
    if not isinstance(options, Mapping):
        return [f"options is {options!r}, wanted an object {{metric: {{key: costs}}}}"]
    found = [
        f"key {key!r} has {radix} options, wanted at most {MAX_OPTIONS}: split it into several keys"
        for key, radix in zip(space.keys, space.radices, strict=True)
        if radix > MAX_OPTIONS
    ]
    if found:
        return found
    found += [f"fixed[{m!r}] is {cost!r}, wanted a finite number" for m, cost in fixed.items() if not is_number(cost)]
    found += [f"options has no metric {metric!r}, which fixed has" for metric in fixed if metric not in options]
    found += [f"fixed has no metric {metric!r}, which options has" for metric in options if metric not in fixed]
    for metric in fixed:
        if metric in options:
            found += _option_problems(f"options[{metric!r}]", space, options[metric])
    return found


def _option_problems(at: str, space: Space, keys: Any) -> list[str]:
    if not isinstance(keys, Mapping):
        return [f"{at} is {keys!r}, wanted an object {{key: costs}}"]
    found = [f"{at} has no key {key!r}" for key in space.keys if key not in keys]
    found += [f"{at} has key {key!r}, which is not in the space" for key in keys if key not in space.domains]
    for key, radix in zip(space.keys, space.radices, strict=True):
        if key not in keys:
            continue
        costs = keys[key]
        if not isinstance(costs, (list, tuple, np.ndarray)) or len(costs) != radix:
            got = f"{len(costs)} costs" if hasattr(costs, "__len__") else repr(costs)
            found.append(f"{at}[{key!r}]: got {got}, wanted a list of {radix}, one an option")
        else:
            wrong = (i for i, cost in enumerate(costs) if not is_number(cost))
            found += [f"{at}[{key!r}][{i}] is {costs[i]!r}, wanted a finite number" for i in wrong]
    return found


def _differences(ours: Space, theirs: Space) -> list[str]:
    found = [f"key {key!r} is in the table only" for key in ours.keys if key not in theirs.domains]
    found += [f"key {key!r} is not in the table" for key in theirs.keys if key not in ours.domains]
    for key in ours.keys:
        if key in theirs.domains and ours.domains[key] != theirs.domains[key]:
            a, b = ours.domains[key], theirs.domains[key]
            found.append(f"key {key!r} is {a.type} {a.to_json()} in the table, {b.type} {b.to_json()} in the space")
    return found


def _number(cost: float) -> float:
    """A plain int where it is one, so that the file shows multiply-adds to the unit."""
    return int(cost) if float(cost).is_integer() else float(cost)
