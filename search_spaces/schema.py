"""The search space: the contract between mutators, which emit it, and tuners, which search it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.checks import is_int, rounded
from search_spaces.domains import Choice, Domain
from search_spaces.errors import SpaceError
from search_spaces.validate import Malformed, check_space, parse

Tokens = tuple[int, ...]
"""An architecture: one int a key, each in ``range(radix)``, in the order of the space's keys."""

Choices = Mapping[str, Choice]
"""An architecture as a trial receives it: ``{"key": {"_value": name, "_idx": i}}``."""

TokenArray = npt.NDArray[np.int64]


class Space:
    """A finite search space: keys, each with a domain of numbered options.

    >>> space = Space.from_json({"conv": {"_type": "layer_choice", "_value": ["3x3", "5x5"]}})
    >>> space.radices, space.size
    ((2,), 2)
    >>> space.decode((1,))
    {'conv': {'_value': '5x5', '_idx': 1}}
    >>> space.encode({"conv": {"_value": "5x5", "_idx": 1}})
    (1,)
    """

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self.domains = dict(domains)
        self.keys = tuple(self.domains)
        self.radices: Tokens = tuple(domain.radix for domain in self.domains.values())
        self.size: int = math.prod(self.radices)
        self._bounds = np.array(self.radices, dtype=np.int64)
        self._free = np.flatnonzero(self._bounds > 1)

    @classmethod
    def from_json(cls, obj: object) -> Space:
        """Build a space from the content of a space file.

        Raises:
            SpaceError: something is wrong; all problems are listed, each with its place.
        """
        domains, problems = check_space(obj)
        if problems:
            raise SpaceError(f"not a valid search space ({len(problems)} wrong):", problems)
        return cls(domains)

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
        return {key: {"_type": d.type, "_value": d.to_json()} for key, d in self.domains.items()}

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON, which does not depend on layout or on the order of keys."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()

    def problems(self, choices: object) -> list[str]:
        """Return everything that is wrong with ``choices``; keys that begin with ``_`` are ignored."""
        if not isinstance(choices, Mapping):
            return [f"got {choices!r}, wanted an object {{key: choice}}"]
        found = [f"missing {key!r}" for key in self.keys if key not in choices]
        found += [f"unknown {key!r}" for key in choices if key not in self.domains and not str(key).startswith("_")]
        for key, domain in self.domains.items():
            if key in choices:
                found += [f"{key!r}: {problem}" for problem in domain.problems(choices[key])]
        return found

    def encode(self, choices: Choices) -> Tokens:
        """Return the tokens of an architecture; keys that begin with ``_`` are ignored.

        Raises:
            SpaceError: keys are missing or unknown, or a choice is not on offer; all of them are named.
        """
        found = self.problems(choices)
        if found:
            raise SpaceError("choices do not fit this space: " + "; ".join(found))
        return tuple(domain.token(choices[key]) for key, domain in self.domains.items())

    def decode(self, tokens: Sequence[int]) -> dict[str, Choice]:
        """Return the choices of an architecture.

        Raises:
            SpaceError: there are too few or too many, or one is out of its range.
        """
        if len(tokens) != len(self.keys):
            raise SpaceError(f"got {len(tokens)} tokens, wanted {len(self.keys)}, one for each of {list(self.keys)}.")
        for key, token, radix in zip(self.keys, tokens, self.radices, strict=True):
            if not is_int(token) or not 0 <= token < radix:
                raise SpaceError(f"token {token!r} of key {key!r} is out of range, wanted 0 to {radix - 1}.")
        pairs = zip(self.domains.items(), tokens, strict=True)
        return {key: domain.choice(int(token)) for (key, domain), token in pairs}

    def sample(self, rng: np.random.Generator) -> Tokens:
        """Draw one architecture, uniformly."""
        return tuple(self.sample_tokens(rng, 1)[0].tolist())

    def sample_tokens(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` architectures, uniformly and independently. Returns: (n, keys)."""
        return rng.integers(0, self._bounds, size=(n, len(self.keys)))

    def neighbour(self, tokens: Sequence[int], rng: np.random.Generator, steps: int = 1) -> Tokens:
        """Draw one key anew among its *other* options, ``steps`` times. A space of one architecture gives that one."""
        drawn = [int(token) for token in tokens]
        if len(self._free):
            free, shifts = rng.integers(len(self._free), size=steps).tolist(), rng.random(steps).tolist()
            for at, shift in zip(self._free[free].tolist(), shifts, strict=True):
                radix = self.radices[at]
                drawn[at] = (drawn[at] + 1 + int(shift * (radix - 1))) % radix
        return tuple(drawn)

    def neighbours(self, tokens: Sequence[int], rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` neighbours of one architecture, independently: each differs in one key. Returns: (n, keys)."""
        drawn = np.tile(np.asarray(tokens, dtype=np.int64), (n, 1))
        if len(self._free):
            at = self._free[rng.integers(0, len(self._free), size=n)]
            rows, radix = np.arange(n), self._bounds[at]
            drawn[rows, at] = (drawn[rows, at] + rng.integers(1, radix)) % radix
        return drawn

    def __len__(self) -> int:
        return len(self.keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.domains == other.domains and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Space({len(self.keys)} keys, {rounded(self.size)} architectures, digest {self.digest[:12]})"
