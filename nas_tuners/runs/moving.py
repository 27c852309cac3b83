"""Carry results over to another space: an architecture is the same where its keys and the names of its options are."""

from __future__ import annotations

from nas_tuners.search.base import Search
from nas_tuners.search.records import Trial
from search_spaces import Space, Tokens
from search_spaces.domains import Choice, Domain
from search_spaces.fixing import FixedDomain
from search_spaces.renumbering import renumber_choice


def move_search(search: Search, space: Space, optimize_mode: str) -> Search:
    """Return a fresh search on ``space`` with those trials of ``search`` that fit it.

    The others are kept as dropped ones, which come back if a later space has them again.
    """
    new = search.fresh()
    new.setup(space, optimize_mode)
    new.counts.duplicate, new.counts.infeasible = search.counts.duplicate, search.counts.infeasible
    for trial in search.trials.values():
        tokens = _translate(trial, space)
        if tokens is not None and trial.again is not None and new.trials[trial.again].state == "pending":
            new.repeat(trial.again)
        elif tokens is None or (new.known(tokens) and not trial.provisional):
            new.trials.adopt_dropped(trial)
        else:
            new.suggest(tokens, trial.phase)
    new.curves.update((uid, curve) for uid, curve in search.curves.items() if new.trials[uid].state == "pending")
    for trial in sorted(search.trials.values(), key=lambda t: t.resolved):
        state = trial.before if trial.state == "dropped" else trial.state
        if new.trials[trial.uid].state == "pending" and state in ("told", "stopped"):
            new.tell(trial.uid, trial.metrics, trial.job, trial.resource)
        elif new.trials[trial.uid].state == "pending" and state == "failed":
            new.fail(trial.uid, trial.reason or "")
    return new


def describe_change(old: Search, new: Search) -> str:
    """Return what a change of space did to the space, and to the trials so far."""
    was, now = old.space.domains, new.space.domains
    parts = [f"key {key!r} was removed" for key in was if key not in now]
    parts += [f"key {key!r} was added" for key in now if key not in was]
    parts += [change for key in now if key in was for change in _describe_options(key, was[key], now[key])]
    parts += ["the conditions under which keys matter have changed"] * (old.space.when != new.space.when)
    what = "; ".join(parts) or "its keys stand in another order"
    kept, dropped = len(new.trials) - new.counts.dropped, new.counts.dropped
    text = f"the search space has changed: {what}. Of {len(new.trials)} trials so far {kept} are part of it"
    if not dropped:
        return f"{text}."
    return f"{text}; {dropped} are of other architectures: kept in the journal as dropped, they count no more."


def _describe_options(key: str, old: Domain | FixedDomain, new: Domain | FixedDomain) -> list[str]:
    if old == new:
        return []
    before, after = _names_of(old), _names_of(new)
    lost, more = ([str(o) for o in one if o not in other] for one, other in ((before, after), (after, before)))
    parts = [f"{key!r} has lost {', '.join(lost)}"] if lost else []
    parts += [f"{key!r} has got {', '.join(more)}"] if more else []
    return parts or [f"{key!r} has changed"]


def _names_of(domain: Domain | FixedDomain) -> list[object]:
    value = domain.to_json()
    return list(value["candidates"] if isinstance(value, dict) else value)


def _translate(trial: Trial, space: Space) -> Tokens | None:
    """Return the tokens of the same architecture in another space; None where there is none."""
    if trial.state == "dropped" and trial.before == "pending":
        return None  # whoever ran it was told of another space
    if trial.space.domains.keys() != space.domains.keys():
        return None
    before = dict(zip(trial.space.keys, trial.tokens, strict=True))
    mattered = trial.space.active_keys(before)
    found = {key: _token(space.domains[key], trial.space.domains[key].choice(before[key])) for key in mattered}
    tokens = dict.fromkeys(space.keys, 0) | {key: token for key, token in found.items() if token is not None}
    if any(found.get(key, 0) is None for key in space.active_keys(tokens)):
        return None
    return space.canonical(tuple(tokens.values()))


def _token(domain: Domain | FixedDomain, choice: Choice) -> int | None:
    choice = renumber_choice(domain, choice)
    return None if domain.problems(choice) else domain.token(choice)
