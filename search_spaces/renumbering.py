"""Find choices of one space in another, by the names of their options: indices shift when candidates come or go."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.domains import Choice, Domain, InputDomain, LayerDomain
from search_spaces.fixing import FixedDomain, whole_of
from search_spaces.schema import Space


def renumber(choices: Mapping[str, object], space: Space) -> dict[str, object]:
    """Return choices with the indices that the names of their options have in ``space``.

    Keys that begin with ``_`` are left out. What does not fit stays as it is: :meth:`Space.problems` names it.
    """
    return {
        key: renumber_choice(whole_of(space.domains[key]), choice) if key in space.domains else choice
        for key, choice in choices.items()
        if not str(key).startswith("_")
    }


def renumber_choice(domain: Domain | FixedDomain, choice: Choice) -> Choice:
    """Return a choice with the index of its name; as it is, where the domain has not that name once."""
    whole = whole_of(domain)
    names = choice.get("_value") if isinstance(choice, dict) else None
    if isinstance(whole, LayerDomain) and whole.names.count(names) == 1:
        return {"_value": names, "_idx": whole.names.index(names)}
    if not (isinstance(whole, InputDomain) and isinstance(names, list)):
        return choice
    if any(whole.candidates.count(name) != 1 for name in names):
        return choice
    indices = sorted(map(whole.candidates.index, names))
    return {"_value": [whole.candidates[i] for i in indices], "_idx": indices}
