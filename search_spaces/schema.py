"""The search space: the contract between mutators, which emit it, and tuners, which search it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from search_spaces.checks import is_int
from search_spaces.conditions import Conditions, find_cycle
from search_spaces.counting import EntangledError
from search_spaces.domains import Choice, Domain
from search_spaces.errors import SpaceError
from search_spaces.nested import Nesting
from search_spaces.validate import Malformed, check_space, parse
from search_spaces.when import Clauses, sort_clauses, write_condition

Tokens = tuple[int, ...]
"""An architecture: one int a key, each in ``range(radix)``, in the order of the space's keys."""

Choices = Mapping[str, Choice]
"""An architecture as a trial receives it: ``{"key": {"_value": name, "_idx": i}}``."""

TokenArray = npt.NDArray[np.int64]

When = Mapping[str, Sequence[Mapping[str, Sequence[int]]]]
"""By key, clauses of which any has to hold: by key, the tokens of which it has to have one."""


class Space:
    """A finite search space: keys, each with a domain of numbered options, and conditions under which a key matters.

    Two encodings that differ in keys alone that do not matter are one architecture; the one where those are 0 is
    canonical. All that a space counts, draws and encodes is canonical; whatever takes tokens takes any.

    Args:
        domains: by key.
        when: by key, clauses of which any makes it matter (then it is *active*): by key, the tokens of which that key,
            active itself, has to have one.

    Raises:
        SpaceError: conditions go round in a circle.

    >>> space = Space.from_json({"conv": {"_type": "layer_choice", "_value": ["3x3", "5x5"]}})
    >>> space.radices, space.size
    ((2,), 2)
    >>> space.decode((1,))
    {'conv': {'_value': '5x5', '_idx': 1}}
    >>> space.encode({"conv": {"_value": "5x5", "_idx": 1}})
    (1,)
    """

    def __init__(self, domains: Mapping[str, Domain], when: When | None = None) -> None:
        self.domains = dict(domains)
        self.keys = tuple(self.domains)
        self.radices: Tokens = tuple(domain.radix for domain in self.domains.values())
        self.when = {key: sort_clauses(clauses) for key, clauses in (when or {}).items()}
        self.conditions = _number_conditions(self.keys, self.radices, self.when) if self.when else None
        self._nesting = Nesting(self.domains)
        self._bounds = np.array(self.radices, dtype=np.int64)
        self._free = np.flatnonzero(self._bounds > 1)

    @classmethod
    def from_json(cls, obj: object) -> Space:
        """Build a space from the content of a space file.

        Raises:
            SpaceError: something is wrong; all problems are listed, each with its place.
        """
        domains, when, problems = check_space(obj)
        if problems:
            raise SpaceError(f"not a valid search space ({len(problems)} wrong):", problems)
        made = cls(domains, when)
        made.size  # noqa: B018 - so that conditions that cannot be counted are refused here
        return made

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Space:
        """Read a space file, JSON or JSON5.

        Raises:
            SpaceError: it cannot be read, is neither JSON nor JSON5, or is not a valid space.
        """
        try:
            obj = parse(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SpaceError(f"cannot read the search space {path}: {reason}. Write it with: nas ss-gen") from None
        except Malformed as error:
            raise SpaceError(f"{path} is neither JSON nor JSON5: {error}") from None
        try:
            return cls.from_json(obj)
        except SpaceError as error:
            raise SpaceError(f"{path} is {str(error).splitlines()[0]}", error.problems) from None

    def to_json(self) -> dict[str, Any]:
        """Return the content of the space's file."""
        return {key: self._entry(key, domain) for key, domain in self.domains.items()}

    def _entry(self, key: str, domain: Domain) -> dict[str, Any]:
        entry = {"_type": domain.type, "_value": domain.to_json()}
        return entry | {"_when": write_condition(self.when[key], self.domains)} if key in self.when else entry

    @cached_property
    def size(self) -> int:
        """Return the number of architectures.

        Raises:
            SpaceError: so many conditions hang together that it cannot be counted.
        """
        try:
            return math.prod(self.radices) if self.conditions is None else self.conditions.size
        except EntangledError:
            raise SpaceError(
                f"the conditions (_when) of {len(self.when)} keys hang together so much that the architectures cannot "
                "be counted: let fewer keys stand in several conditions, or leave some of them out."
            ) from None

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON, which does not depend on layout or on the order of keys."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()

    def problems(self, choices: object) -> list[str]:
        """Return everything that is wrong with ``choices``; keys that begin with ``_`` are ignored."""
        if not isinstance(choices, Mapping):
            return [f"got {choices!r}, wanted an object {{key: choice}}"]
        choices = self._nesting.flatten(choices)
        wrong = {key: self.domains[key].problems(choices[key]) for key in self.keys if key in choices}
        tokens = {key: self.domains[key].token(choices[key]) for key, problems in wrong.items() if not problems}
        found = [f"missing {key!r}" for key in self.active_keys(tokens) if key not in choices]
        found += [f"unknown {key!r}" for key in choices if key not in self.domains and not str(key).startswith("_")]
        return found + [f"{key!r}: {problem}" for key, problems in wrong.items() for problem in problems]

    def active_keys(self, tokens: Mapping[str, int]) -> list[str]:
        """Return the keys that matter under some tokens, by key; a key without one fulfils no condition."""
        if self.conditions is None:
            return list(self.keys)
        active = self.conditions.active_in([tokens.get(key) for key in self.keys])
        return [key for key, on in zip(self.keys, active, strict=True) if on]

    def encode(self, choices: Choices) -> Tokens:
        """Return the tokens of an architecture; keys that begin with ``_`` are ignored.

        Raises:
            SpaceError: keys that matter are missing, keys are unknown, or a choice is not on offer; all are named.
        """
        found = self.problems(choices)
        if found:
            raise SpaceError("choices do not fit this space: " + "; ".join(found))
        choices = self._nesting.flatten(choices)
        given = (domain.token(choices[key]) if key in choices else 0 for key, domain in self.domains.items())
        return self.canonical(tuple(given))

    def decode(self, tokens: Sequence[int]) -> dict[str, Choice]:
        """Return the choices of an architecture, without those that do not matter.

        Raises:
            SpaceError: there are too few or too many, or one is out of its range.
        """
        if len(tokens) != len(self.keys):
            raise SpaceError(f"got {len(tokens)} tokens, wanted {len(self.keys)}, one for each of {list(self.keys)}.")
        for key, token, radix in zip(self.keys, tokens, self.radices, strict=True):
            if not is_int(token) or not 0 <= token < radix:
                raise SpaceError(f"token {token!r} of key {key!r} is out of range, wanted 0 to {radix - 1}.")
        by_key = dict(zip(self.keys, map(int, tokens), strict=True))
        choices = {key: self.domains[key].choice(by_key[key]) for key in self.active_keys(by_key)}
        return self._nesting.nest(choices) if self._nesting else choices

    def active(self, rows: TokenArray) -> npt.NDArray[np.bool_]:
        """Return which keys of architectures matter. (n, keys) tokens to (n, keys)."""
        return np.ones(rows.shape, dtype=np.bool_) if self.conditions is None else self.conditions.active(rows)

    @overload
    def canonical(self, encoding: TokenArray) -> TokenArray: ...
    @overload
    def canonical(self, encoding: Sequence[int]) -> Tokens: ...
    def canonical(self, encoding: Sequence[int] | TokenArray) -> Tokens | TokenArray:
        """Return the encoding of the same architecture in which keys that do not matter are 0.

        Args:
            encoding: the tokens of one architecture, or an array of many, (n, keys).

        Returns: the same of it.
        """
        if isinstance(encoding, np.ndarray) and encoding.ndim == 2:
            return encoding if self.conditions is None else encoding * self.conditions.active(encoding)
        tokens = tuple(encoding)
        if self.conditions is None:
            return tokens
        return tuple(token if on else 0 for token, on in zip(tokens, self.conditions.active_in(tokens), strict=True))

    def sample(self, rng: np.random.Generator) -> Tokens:
        """Draw one architecture, uniformly."""
        return tuple(self.sample_tokens(rng, 1)[0].tolist())

    def sample_tokens(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` architectures, uniformly and independently. Returns: (n, keys)."""
        if self.conditions is not None:
            return self.conditions.draw(rng, n)
        return rng.integers(0, self._bounds, size=(n, len(self.keys)))

    def every(self) -> TokenArray:
        """Return all architectures; only for a small ``size``. Returns: (size, keys)."""
        if self.conditions is not None:
            return self.conditions.every()
        return np.indices(self.radices).reshape(len(self), -1).T

    def neighbour(self, tokens: Sequence[int], rng: np.random.Generator, steps: int = 1) -> Tokens:
        """Draw one key anew among its *other* options, ``steps`` times. A space of one architecture gives that one.

        Keys that matter only then are drawn as well.
        """
        if self.conditions is not None:
            rows = self.fill(np.array([tokens], dtype=np.int64), rng)
            for _ in range(steps):
                rows = self._step(rows, rng)
            return tuple(self.canonical(rows)[0].tolist())
        drawn = [int(token) for token in tokens]
        if len(self._free):
            free, shifts = rng.integers(len(self._free), size=steps).tolist(), rng.random(steps).tolist()
            for at, shift in zip(self._free[free].tolist(), shifts, strict=True):
                radix = self.radices[at]
                drawn[at] = (drawn[at] + 1 + int(shift * (radix - 1))) % radix
        return tuple(drawn)

    def neighbours(self, tokens: Sequence[int], rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` neighbours of one architecture, independently: each differs in one key. Returns: (n, keys).

        Keys that matter only then are drawn as well.
        """
        drawn = np.tile(np.asarray(tokens, dtype=np.int64), (n, 1))
        if self.conditions is not None:
            return self.canonical(self._step(self.fill(drawn, rng), rng))
        if len(self._free):
            at = self._free[rng.integers(0, len(self._free), size=n)]
            rows, radix = np.arange(n), self._bounds[at]
            drawn[rows, at] = (drawn[rows, at] + rng.integers(1, radix)) % radix
        return drawn

    def fill(self, rows: TokenArray, rng: np.random.Generator) -> TokenArray:
        """Draw the keys that do not matter, so that one has a value which a step makes matter. Returns: (n, keys)."""
        if self.conditions is None:
            return rows
        return np.where(self.conditions.active(rows), rows, rng.integers(0, self._bounds, size=rows.shape))

    def _step(self, rows: TokenArray, rng: np.random.Generator) -> TokenArray:
        """Draw in each row one of the keys that matter anew, in place."""
        assert self.conditions is not None
        can = self.conditions.active(rows) & (self._bounds > 1)
        at = np.where(can, rng.random(rows.shape), -1.0).argmax(axis=1)
        moved = np.flatnonzero(can.any(axis=1))
        at = at[moved]
        rows[moved, at] = (rows[moved, at] + rng.integers(1, self._bounds[at])) % self._bounds[at]
        return rows

    def __len__(self) -> int:
        return len(self.keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and (self.domains, self.keys, self.when) == (
            other.domains,
            other.keys,
            other.when,
        )

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Space({len(self.keys)} keys, {self.size:.4g} architectures, digest {self.digest[:12]})"


def _number_conditions(keys: tuple[str, ...], radices: Tokens, when: Mapping[str, Clauses]) -> Conditions:
    at = {key: position for position, key in enumerate(keys)}
    clauses = {
        at[key]: [{at[other]: frozenset(tokens) for other, tokens in clause.items()} for clause in own]
        for key, own in when.items()
    }
    if cycle := find_cycle({key: {other for clause in own for other in clause} for key, own in when.items()}):
        raise SpaceError(f"the conditions of {cycle} go round in a circle.")
    return Conditions(radices, clauses)
