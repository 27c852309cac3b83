"""Read and write ``_when``, the condition of a key in a space file.

``{"block": ["conv", "pool"]}``: the key matters where ``block`` matters and is one of these. Several keys in one object
have to be so at once; of several objects in a list any one is enough. Options are written as in ``_value``; of a
``layer_choice`` whose names repeat, as their index.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from search_spaces.checks import is_int
from search_spaces.conditions import find_cycle
from search_spaces.domains import Domain, InputDomain, LayerDomain
from search_spaces.errors import Problem, place, shorten

Clauses = tuple[Mapping[str, tuple[int, ...]], ...]
"""Any of them is enough: by key, the tokens of which it has to have one, ascending."""

_WANTED = "an object {key: [options]}, or a list of them, of which any is enough"


def check_conditions(
    given: Mapping[str, object], domains: Mapping[str, Domain], names: Collection[object]
) -> tuple[dict[str, Clauses], list[Problem]]:
    """Return the conditions of keys, by key, and a list of everything that is wrong with their ``_when``.

    Those of ``names`` that have no domain are wrong themselves, and nothing is said of them here.
    """
    found: list[Problem] = []
    when: dict[str, Clauses] = {}
    for key, condition in given.items():
        at = f"{place(key)}._when"
        listed = condition if isinstance(condition, list) else [condition]
        if not listed or not all(isinstance(clause, dict) and clause for clause in listed):
            found.append(Problem(at, shorten(condition), _WANTED))
            continue
        places = [f"{at}[{i}]" if listed is condition else at for i in range(len(listed))]
        clauses = [_check_clause(where, clause, domains, names) for where, clause in zip(places, listed, strict=True)]
        found += [problem for clause in clauses if isinstance(clause, list) for problem in clause]
        when[key] = sort_clauses([clause for clause in clauses if isinstance(clause, dict)])
    return when, found or _check_cycles(when)


def sort_clauses(clauses: Sequence[Mapping[str, Sequence[int]]]) -> Clauses:
    """Return clauses in the one order that they have in a space, each once."""
    plain = {tuple((key, tuple(sorted(set(clause[key])))) for key in sorted(clause)) for clause in clauses}
    return tuple(map(dict, sorted(plain)))


def _check_clause(
    at: str, clause: dict[Any, object], domains: Mapping[str, Domain], names: Collection[object]
) -> dict[str, list[int]] | list[Problem]:
    found = [Problem(f"{at}[{key!r}]", "the key twice", "each key once") for key in getattr(clause, "repeated", [])]
    tokens: dict[str, list[int]] = {}
    for key, options in clause.items():
        here, domain = f"{at}[{shorten(key)}]", domains.get(key)
        if domain is None:
            found += [] if key in names else [Problem(here, "a key that is not in this space", "another of its keys")]
        elif isinstance(domain, InputDomain):
            found.append(Problem(here, "an input_choice", "a key of which one option is chosen"))
        elif not isinstance(options, list) or not options:
            found.append(Problem(here, shorten(options), "a list of at least one of its options"))
        else:
            outcomes = [_read_option(domain, option) for option in options]
            found += [
                Problem(f"{here}[{i}]", shorten(options[i]), wanted)
                for i, wanted in enumerate(outcomes)
                if isinstance(wanted, str)
            ]
            tokens[key] = [token for token in outcomes if isinstance(token, int)]
    return found or tokens


def _read_option(domain: Domain, option: object) -> int | str:
    """Return the token of an option, or what is wanted instead."""
    assert not isinstance(domain, InputDomain)
    if not isinstance(domain, LayerDomain):
        token = domain.find(option)
        return domain.wanted() if token is None else token
    if is_int(option) and 0 <= option < len(domain.names):
        return int(option)
    if isinstance(option, str) and domain.names.count(option) == 1:
        return domain.names.index(option)
    return f"the index, from 0 to {len(domain.names) - 1}" if option in domain.names else f"one of {list(domain.names)}"


def _check_cycles(when: Mapping[str, Clauses]) -> list[Problem]:
    cycle = find_cycle({key: {other for clause in clauses for other in clause} for key, clauses in when.items()})
    if cycle is None:
        return []
    named = " under ".join(map(repr, reversed(cycle)))
    return [Problem(f"{place(cycle[0])}._when", f"a circle: {named}", "conditions that end somewhere")]


def write_condition(clauses: Clauses, domains: Mapping[str, Domain]) -> Any:
    """Return a condition as a space file has it."""
    written = [
        {key: [_write_option(domains[key], token) for token in tokens] for key, tokens in clause.items()}
        for clause in clauses
    ]
    return written[0] if len(written) == 1 else written


def _write_option(domain: Domain, token: int) -> Any:
    if isinstance(domain, LayerDomain):
        return domain.names[token] if domain.names.count(domain.names[token]) == 1 else token
    return domain.choice(token)
