"""The search space: the contract between mutators, which emit it, and tuners, which search it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any

from search_spaces.checks import is_int, rounded
from search_spaces.conditions import Conditions, find_cycle
from search_spaces.domains import Choice, Domain, entry_of
from search_spaces.encodings import Encodings
from search_spaces.encodings import TokenArray as TokenArray
from search_spaces.encodings import Tokens as Tokens
from search_spaces.errors import SpaceError
from search_spaces.fixing import FixedDomain, narrow_when, read_fixed, whole_of
from search_spaces.nested import Nesting, expand_entries
from search_spaces.validate import Malformed, check_space, parse
from search_spaces.when import sort_clauses, write_condition

Choices = Mapping[str, Choice]
"""An architecture as a trial receives it: ``{"key": {"_value": name, "_idx": i}}``."""

When = Mapping[str, Sequence[Mapping[str, Sequence[int]]]]
"""By key, clauses of which any has to hold: by key, the tokens of which it has to have one."""


class Space(Encodings):
    """A finite search space: keys, each with a domain of numbered options, and conditions under which a key matters.

    Two encodings that differ in keys alone that do not matter are one architecture; the one where those are 0 is
    canonical. All that a space counts, draws and encodes is canonical; whatever takes tokens takes any.

    Args:
        domains: by key.
        when: by key, clauses of which any makes it matter (then it is *active*): by key, the tokens of which that key,
            active itself, has to have one.
        fixed: by key, the token of the only option that is on offer; that key then has one option, with token 0.

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

    def __init__(
        self, domains: Mapping[str, Domain], when: When | None = None, fixed: Mapping[str, int] | None = None
    ) -> None:
        self.fixed = dict(fixed or {})
        self.domains: dict[str, Domain | FixedDomain] = {
            key: FixedDomain(domain, self.fixed[key]) if key in self.fixed else domain
            for key, domain in domains.items()
        }
        self.keys = tuple(self.domains)
        self.when = {key: sort_clauses(clauses) for key, clauses in (when or {}).items()}
        radices, narrowed = tuple(d.radix for d in self.domains.values()), narrow_when(self.when, self.fixed)
        super().__init__(radices, _number_conditions(self.keys, radices, narrowed) if self.when else None)
        self._nesting = Nesting(domains)

    @classmethod
    def from_json(cls, obj: object) -> Space:
        """Build a space from the content of a space file.

        Raises:
            SpaceError: something is wrong; all problems are listed, each with its place.
        """
        domains, when, problems = check_space(obj)
        if problems:
            raise SpaceError(f"not a valid search space ({len(problems)} wrong):", problems)
        assert isinstance(obj, dict)
        given = {key: entry["_fixed"] for key, entry in expand_entries(obj) if "_fixed" in entry}
        made = cls(domains, when, read_fixed(domains, given))
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

    def _entry(self, key: str, domain: Domain | FixedDomain) -> dict[str, Any]:
        entry = entry_of(whole_of(domain))
        if key in self.when:
            entry["_when"] = write_condition(self.when[key], self.whole_domains)
        return entry | {"_fixed": domain.choice(0)} if isinstance(domain, FixedDomain) else entry

    @property
    def whole_domains(self) -> dict[str, Domain]:
        """Return the domains with all their options, by key."""
        return {key: whole_of(domain) for key, domain in self.domains.items()}

    def fix(self, options: Mapping[str, Any]) -> Space:
        """Return the space of the architectures in which keys have these options; all others are searched as before.

        The keys stay in every architecture. :attr:`whole` is the space without what is fixed.

        Args:
            options: by key; see :func:`search_spaces.fixing.read_fixed`.

        Raises:
            SpaceError: a key is not in the space, or an option not on offer; all of them are named, with the nearest.

        >>> space = Space.from_json({"conv": {"_type": "layer_choice", "_value": ["3x3", "5x5"]}}).fix({"conv": "5x5"})
        >>> space.size, space.decode((0,))
        (1, {'conv': {'_value': '5x5', '_idx': 1}})
        """
        fixed = self.fixed | read_fixed(self.domains, options)
        return self if fixed == self.fixed else Space(self.whole_domains, self.when, fixed)

    @cached_property
    def whole(self) -> Space:
        """Return the space with nothing fixed."""
        return Space(self.whole_domains, self.when) if self.fixed else self

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON with its keys in order: spaces of one digest share their tokens."""
        return _hash_entries(self.to_json())

    @cached_property
    def unordered_digest(self) -> str:
        """Return a digest that does not depend on the order of keys, for what is kept by key and not by tokens."""
        return _hash_entries(dict(sorted(self.to_json().items())))

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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and (self.domains, self.keys, self.when) == (
            other.domains,
            other.keys,
            other.when,
        )

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Space({len(self.keys)} keys, {rounded(self.size)} architectures, digest {self.digest[:12]})"


def _number_conditions(keys: tuple[str, ...], radices: Tokens, when: When) -> Conditions:
    at = {key: position for position, key in enumerate(keys)}
    clauses = {
        at[key]: [{at[other]: frozenset(tokens) for other, tokens in clause.items()} for clause in own]
        for key, own in when.items()
    }
    if cycle := find_cycle({key: {other for clause in own for other in clause} for key, own in when.items()}):
        raise SpaceError(f"the conditions of {cycle} go round in a circle.")
    return Conditions(radices, clauses)


def _hash_entries(space: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a space's JSON, without regard to its layout."""
    write = partial(json.dumps, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    canonical = "{" + ",".join(f"{write(key)}:{write(entry)}" for key, entry in space.items()) + "}"
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
