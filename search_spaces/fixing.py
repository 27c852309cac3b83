"""Fix keys of a search space to one option: the key stays in every architecture, and nothing else is searched of it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from search_spaces.checks import is_number
from search_spaces.domains import Choice, Domain, InputDomain, LayerDomain
from search_spaces.errors import SpaceError, shorten

_MOST_NAMED = 8  # options in a message
_MOST_COMPARED = 10_000


@dataclass(frozen=True)
class FixedDomain:
    """One option of a domain, the only one on offer.

    Args:
        whole: the domain.
        fixed: the option's token in it.
    """

    radix: ClassVar[int] = 1
    whole: Domain
    fixed: int

    @property
    def type(self) -> str:
        return self.whole.type

    def choice(self, token: int) -> Choice:
        return self.whole.choice(self.fixed)

    def token(self, choice: Choice) -> int:
        return 0

    def problems(self, choice: Choice) -> list[str]:
        found = self.whole.problems(choice)
        if found or self.whole.token(choice) == self.fixed:
            return found
        return [f"got {choice!r}, wanted {self.choice(0)!r}: it is fixed to that"]

    def to_json(self) -> Any:
        return self.whole.to_json()


def whole_of(domain: Domain | FixedDomain) -> Domain:
    """Return a domain with all its options."""
    return domain.whole if isinstance(domain, FixedDomain) else domain


def read_fixed(domains: Mapping[str, Domain | FixedDomain], given: object) -> dict[str, int]:
    """Return the tokens, in the whole domains, to which keys are fixed.

    Args:
        domains: of the space, by key.
        given: by key an option: a name, a number, a choice ``{"_value", "_idx"}``, for an input choice a list of names
            or indices. Names may also stand in one text, with commas between them; other options as their JSON.

    Raises:
        SpaceError: a key is not in the space, an option not on offer, or a key is fixed to another option already. All
            that is wrong is listed, each with what comes nearest.
    """
    if not isinstance(given, Mapping):
        raise SpaceError(f"fixed is {given!r}, wanted an object {{key: option}}.")
    tokens, problems = dict[str, int](), list[str]()
    for key, option in given.items():
        if key not in domains:
            problems.append(f"{key!r} is no key of the space{_hint(str(key), list(domains))}")
            continue
        domain = domains[key]
        outcome = _read_option(whole_of(domain), option)
        if isinstance(outcome, str):
            problems.append(f"{key!r}: {outcome}")
        elif isinstance(domain, FixedDomain) and outcome != domain.fixed:
            problems.append(f"{key!r} is fixed to {domain.choice(0)!r} already, got {option!r}")
        else:
            tokens[key] = outcome
    if problems:
        raise SpaceError(f"keys cannot be fixed like this ({len(problems)} wrong):", problems)
    return tokens


def narrow_when(
    when: Mapping[str, Sequence[Mapping[str, Sequence[int]]]], fixed: Mapping[str, int]
) -> dict[str, list[dict[str, Sequence[int]]]]:
    """Return conditions in the tokens of a space with fixed keys: 0 for those, or none if fixed to another option."""

    def narrow(key: str, tokens: Sequence[int]) -> Sequence[int]:
        return tokens if key not in fixed else (0,) if fixed[key] in tokens else ()

    return {
        key: [{other: narrow(other, tokens) for other, tokens in clause.items()} for clause in clauses]
        for key, clauses in when.items()
    }


def _read_option(domain: Domain, option: object) -> int | str:
    """Return the token of an option, or what is wrong."""
    if isinstance(option, Mapping) and "_idx" in option:
        found = domain.problems(dict(option))
        return "; ".join(found) if found else domain.token(dict(option))
    if isinstance(domain, LayerDomain):
        return _read_name(domain.names, option)
    if not isinstance(domain, InputDomain):
        return _read_value(domain, option)
    members = [_read_name(domain.candidates, name) for name in _split_names(domain.candidates, option)]
    found = [member for member in members if isinstance(member, str)] or domain.problems({"_idx": members})
    return "; ".join(found) if found else domain.token({"_idx": members})


def _split_names(names: Collection[str], option: object) -> Sequence[object]:
    if isinstance(option, str) and option not in names:
        return [name.strip() for name in option.split(",")] if option.strip() else []
    return option if isinstance(option, (list, tuple)) else [option]


def _read_name(names: Sequence[str], option: object) -> int | str:
    """Return the index of a candidate, given by its name or, where no candidate has that for a name, its index."""
    text = str(option) if is_number(option) else option
    if isinstance(text, str) and names.count(text) == 1:
        return names.index(text)
    if isinstance(text, str) and text.isdecimal() and int(text) < len(names) and text not in names:
        return int(text)
    reason = f"stands several times in {list(names)}: give its index" if text in names else "is not on offer"
    return f"{option!r} {reason}" + ("" if text in names else _hint(str(text), names))


def _read_value(domain: Any, option: object) -> int | str:
    """Return the token of a bare value: itself, what its text is as JSON, or the name of a nested space."""
    for value in (option, _from_json(option), {"_name": option}):
        token = domain.find(value)
        if token is not None:
            return int(token)
    if domain.radix > _MOST_COMPARED:
        return f"{option!r} is not on offer, wanted {domain.wanted()}"
    options = [domain.choice(token) for token in range(domain.radix)]
    known = [other if isinstance(other, str) else json.dumps(other) for other in options]
    return f"{option!r} is not on offer{_hint(str(option), known)}"


def _from_json(option: object) -> object:
    try:
        return json.loads(option) if isinstance(option, str) else option
    except (ValueError, RecursionError):
        return option


def _hint(name: str, known: Sequence[str]) -> str:
    """Return which of the known comes nearest: as a number, or else as a text; without any, the first of all."""
    number, numbers = _from_json(name), {text: _from_json(text) for text in known}
    gaps = {text: abs(other - number) for text, other in numbers.items() if is_number(other) and is_number(number)}
    near = [min(gaps, key=gaps.__getitem__)] if gaps else difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    return f", wanted one of {', '.join(map(shorten, known[:_MOST_NAMED]))}{more}"
