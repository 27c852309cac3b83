"""Find out which choices of a model matter only under others: inside a candidate, or in a block beyond a depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from search_spaces.conditions import find_cycle

Gate = tuple[nn.Module, frozenset[int]]
"""A choice, and the indices under which something inside it runs."""
Chain = frozenset[Gate]
"""All choices around a place, each once."""
Conditions = dict[str, list[dict[str, tuple[int, ...]]]]
"""By key, clauses of which any makes it matter: by key, indices of which that key has to have one."""


def add_gate(chain: Chain, gate: Gate | None) -> Chain:
    """Return the chain of what stands behind one more gate; one that is open for every option is none."""
    if gate is None or len(gate[1]) == gate[0].domain.radix:  # type: ignore[union-attr]
        return chain
    return chain | {gate}


def is_new(chain: Chain, known: Iterable[Chain]) -> bool:
    """Tell whether a chain lets something run where none of the known ones does, as far as can be seen."""
    return not any(other <= chain for other in known)


def find_conditions(places: Mapping[str, Sequence[Chain]], keys: Mapping[nn.Module, str]) -> Conditions:
    """Return the conditions of keys, as short as they can be.

    Args:
        places: by key, where its choices stand or are read.
        keys: by choice, its key.
    """
    whole: Conditions = {}
    for key, chains in places.items():
        clauses = _simplify([clause for chain in chains if (clause := _clause_of(chain, keys, key)) is not None])
        if clauses and {} not in clauses:
            whole[key] = clauses
            parents = {k: {other for clause in own for other in clause} for k, own in whole.items()}
            if find_cycle(parents):  # each inside the other, in different places: then one is taken to matter always
                del whole[key]
    return {key: [_shorten(clause, whole) for clause in clauses] for key, clauses in whole.items()}


def _clause_of(chain: Chain, keys: Mapping[nn.Module, str], key: str) -> dict[str, tuple[int, ...]] | None:
    """Return a chain by keys; None where choices that share a key contradict each other, so that nothing ever runs."""
    clause: dict[str, set[int]] = {}
    for choice, indices in chain:
        clause[keys[choice]] = clause.get(keys[choice], set(indices)) & indices
    if not all(clause.values()) or key in clause:
        return None
    return {other: tuple(sorted(indices)) for other, indices in clause.items()}


def _simplify(clauses: list[dict[str, tuple[int, ...]]]) -> list[dict[str, tuple[int, ...]]]:
    """Leave out clauses that say no more than others, and merge those that differ in one key."""
    merged: dict[Any, dict[str, set[int]]] = {}
    for clause in clauses:
        for key in clause if len(clause) == 1 else ():
            merged.setdefault(key, {key: set()})[key].update(clause[key])
        if len(clause) != 1:
            merged.setdefault(frozenset(clause.items()), {key: set(indices) for key, indices in clause.items()})
    kept = list(merged.values())
    return [
        {key: tuple(sorted(indices)) for key, indices in clause.items()}
        for clause in kept
        if not any(other is not clause and _implies(clause, other) for other in kept)
    ]


def _implies(clause: Mapping[str, Iterable[int]], other: Mapping[str, Iterable[int]]) -> bool:
    return all(key in clause and set(clause[key]) <= set(indices) for key, indices in other.items())


def _shorten(clause: dict[str, tuple[int, ...]], whole: Conditions) -> dict[str, tuple[int, ...]]:
    """Leave out what follows from the conditions of the clause's other keys, since those have to matter themselves."""

    def follows(key: str) -> bool:
        others = (whole[other] for other in clause if other != key and other in whole)
        return any(all(_implies(own, {key: clause[key]}) for own in clauses) for clauses in others)

    return {key: indices for key, indices in clause.items() if not follows(key)}
