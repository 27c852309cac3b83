"""The only traversal of a model's choices, which decides on keys and order; and the search space that it emits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mutators.choices.candidates import Candidates
from mutators.choices.conditions import Chain, Conditions, Gate, add_gate, find_conditions, is_new
from mutators.choices.errors import ChoiceError
from mutators.choices.input_choice import InputChoice
from mutators.choices.mutable import NO_KEY, Mutable
from mutators.choices.torch_private import COMPILED, get_children
from mutators.choices.visitor import Extractable
from search_spaces.domains import Choice, InputDomain, LayerDomain
from search_spaces.schema import Space
from search_spaces.when import sort_clauses, write_condition


@dataclass(frozen=True)
class Site:
    """A mutable and its place.

    Attributes:
        key: of the decision; several sites may share it.
        path: of the module, as ``model.named_modules()`` counts it.
        mutable: LayerChoice, InputChoice or MutableScope.
        domain: what can be chosen; None for a scope, and for a choice that is fixed.
        chains: the choices around each place where this one stands or is read, of which it has to have one.
    """

    key: str
    path: str
    mutable: Mutable
    domain: LayerDomain | InputDomain | None
    chains: tuple[Chain, ...] = ()


def walk(model: nn.Module) -> list[Site]:
    """Return the mutables of ``model`` in definition order, each once, also where a module stands in several places.

    A key is the author's, or else the path without the parts that wrappers add: ``_orig_mod`` (``torch.compile``),
    ``module`` where it is the only child of its parent (data parallelism, averaged models), and the child that a class
    of ours says it ``WRAPS``. The container of a layer choice's candidates is no part of it either: a choice inside
    candidate "a" of ``block`` is ``block.a.inner``.

    Raises:
        ChoiceError: keys do not fit together; all that is wrong is listed.

    Differs: choices may be nested.
    """
    finder = _Finder()
    finder.visit(model, "", "", frozenset(), {})
    found = finder.sites()
    if problems := [*_bad_keys(found), *_bad_sharing(found), *_bad_origins(found)]:
        raise ChoiceError("the choices of this model do not fit together:", problems)
    return found


def decisions(sites: list[Site]) -> dict[str, LayerDomain | InputDomain]:
    """Return the decisions, each key once, in definition order."""
    return {site.key: site.domain for site in sites if site.domain is not None}


def conditions(sites: list[Site]) -> Conditions:
    """Return by key the conditions under which decisions matter; those that always do are left out.

    A choice inside a candidate matters where that is chosen, one in a block where the depth reaches it; one that is
    reached in several ways, where any of them is open.
    """
    places: dict[str, list[Chain]] = {}
    for site in sites:
        if site.domain is not None:
            places.setdefault(site.key, []).extend(site.chains)
    if not any(map(any, places.values())):
        return {}
    return find_conditions(places, {site.mutable: site.key for site in sites})


def space_of(sites: list[Site]) -> Space:
    """Return the search space of sites."""
    return Space(decisions(sites), conditions(sites))


def drop_idle(sites: list[Site], choices: dict[str, Choice]) -> dict[str, Choice]:
    """Return choices, as a model has them, without those that do not matter."""
    when = conditions(sites)
    if not when:
        return choices
    space = Space(decisions(sites), when)
    return space.decode(space.encode(choices))


def refuse_bound(sites: list[Site], advice: str = "release() it first") -> None:
    """Raise a ChoiceError if a mutator is bound to a model with these mutables, since it would have precedence."""
    for site in sites:
        if site.mutable.mutator is not None:
            owner = type(site.mutable.mutator).__name__
            raise ChoiceError(f"{owner} is bound to this model (at {site.key!r}) and has precedence: {advice}.")


def search_space_of(model: nn.Module) -> dict[str, Any]:
    """Return the search space as JSON: ``{key: {"_type": ..., "_value": ...}}``, in definition order.

    A choice inside a candidate, or in a block beyond the smallest depth, has its condition beside that, as ``_when``. A
    key that several mutables share stands in it once; a model without choices has the space ``{}``.

    Raises:
        ChoiceError: the model's choices do not fit together.
    """
    sites = walk(model)
    domains, when = decisions(sites), conditions(sites)
    entries = {key: {"_type": d.type, "_value": d.to_json()} for key, d in domains.items()}
    return entries | {k: entries[k] | {"_when": write_condition(sort_clauses(c), domains)} for k, c in when.items()}


class _Finder:
    """Goes through a model, through each module as often as it stands behind other choices."""

    def __init__(self) -> None:
        self._sites: list[Site] = []
        self._chains: dict[int, list[Chain]] = {}  # by id of the module
        self._read: dict[int, list[Chain]] = {}  # by id of the choice, of the modules that it decides

    def visit(self, module: nn.Module, path: str, key: str, chain: Chain, gates: dict[int, Gate]) -> None:
        """Find each mutable's site, parents first; ``key`` is what the path means, ``gates`` are the children's."""
        known = self._chains.setdefault(id(module), [])
        if not is_new(chain, known):
            return
        if not known and isinstance(module, Mutable):
            given, domain = module.given_key, None if module.is_fixed else module.domain
            self._sites.append(Site(key if given is None else given, path, module, domain))
        known.append(chain)
        if isinstance(module, Extractable) and not module.is_fixed:
            gates = module.gates()
            for choice in module.find_choices():
                self._read.setdefault(id(choice), []).append(chain)
        for name, child in get_children(module).items():
            if child is not None:
                inner = key if _is_wrapping(module, name) else _join(key, name)
                behind = add_gate(chain, gates.get(id(child)))
                self.visit(child, _join(path, name), inner, behind, gates if isinstance(child, Candidates) else {})

    def sites(self) -> list[Site]:
        """Return what was found, in the order of the first visits."""
        places = (self._chains[id(site.mutable)] + self._read.get(id(site.mutable), []) for site in self._sites)
        return [replace(site, chains=tuple(chains)) for site, chains in zip(self._sites, places, strict=True)]


def _is_wrapping(parent: nn.Module, name: str) -> bool:
    """Tell whether the child ``name`` is no part of the key. Under a mutable all names are the author's own."""
    if isinstance(parent, (Mutable, Candidates)):
        return name == "candidates" and isinstance(get_children(parent)[name], Candidates)
    if name == getattr(type(parent), "WRAPS", None):
        return True
    return name == COMPILED or (name == "module" and len(get_children(parent)) == 1)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _bad_keys(found: list[Site]) -> Iterator[str]:
    for site in found:
        if site.domain is None:
            continue
        if not site.key:
            yield f"the model itself is a {type(site.mutable).__name__} and so has no path: give it key="
        elif site.key.startswith("_"):
            yield f"key {site.key!r} begins with _, which is kept for the tuner: give it another with key="


def _bad_sharing(found: list[Site]) -> Iterator[str]:
    first: dict[str, Site] = {}
    for site in found:
        other = first.setdefault(site.key, site)
        if other.domain != site.domain:
            yield (
                f"key {site.key!r} is {_offer(other)} at {other.path!r} and {_offer(site)} at {site.path!r}: "
                "one key is one decision, so give one of them another key="
            )


def _bad_origins(found: list[Site]) -> Iterator[str]:
    seen = {NO_KEY}
    for site in found:
        if isinstance(site.mutable, InputChoice) and not site.mutable.is_fixed:
            unknown = [name for name in site.mutable.choose_from if name not in seen]
            if unknown:
                known = sorted(seen - {NO_KEY})
                yield f"choose_from of {site.key!r} has {unknown}, wanted NO_KEY or keys that stand before it: {known}"
        seen.add(site.key)


def _offer(site: Site) -> str:
    return type(site.mutable).__name__ if site.domain is None else f"{site.domain.type} {site.domain.to_json()}"
