"""Rebuild a search from what another program remembers of its trials, in the order in which things happened."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from nas_tuners.search.base import Search
from nas_tuners.search.records import InPhase, SearchError
from search_spaces import Space, Tokens
from search_spaces.errors import ConstraintError

_log = logging.getLogger("nas_tuners")


@dataclass(frozen=True)
class Given:
    """The architecture that a trial was given.

    Args:
        tokens: of the architecture.
        drawn: whether the search proposed it.
        again: whether it had results already.
        phase: in which it was proposed.
        passed: what the search proposed before that, and others had taken.
    """

    tokens: Tokens
    drawn: bool = True
    again: bool = False
    phase: InPhase | None = None
    passed: tuple[Tokens, ...] = ()

    @property
    def is_new(self) -> bool:
        """Return whether nobody else should be given the same."""
        return self.drawn and not self.again and (self.phase is None or self.phase.last)

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Self:
        """Read what ``asdict`` made of it, and JSON of that."""
        phase = None if obj["phase"] is None else InPhase(**obj["phase"])
        return cls(tuple(obj["tokens"]), obj["drawn"], obj["again"], phase, tuple(map(tuple, obj["passed"])))


@dataclass(frozen=True)
class Begun:
    """The start of a trial. ``given``: None if that is not known yet."""

    number: int
    given: Given | None = None


@dataclass(frozen=True)
class Finished:
    """The end of a trial: its metrics, of an early stop the last ones and their resource, or why there are none."""

    number: int
    metrics: Mapping[str, Any] | None = field(default=None, compare=False)
    resource: int | None = field(default=None, compare=False)
    reason: str = field(default="", compare=False)


@dataclass(frozen=True)
class Setting:
    """What a search has to know of the study that it serves.

    Args:
        study: its name.
        names: of the values of its trials.
        mode: of the one that counts.
        constraints: metrics that its trials report, which have to be at most 0.
    """

    study: str
    names: tuple[str, ...]
    mode: str
    constraints: tuple[str, ...]

    def set_up(self, search: Search, space: Space) -> Search:
        """Return a search anew, with the constraints and the direction of the study."""
        arguments = dict(search.arguments)
        if self.constraints:
            limits = {name: [None, 0.0] for name in self.constraints}
            arguments["outcome_constraints"] = {**(arguments.get("outcome_constraints") or {}), **limits}
        made = type(search)(**arguments)
        made.setup(space, self.mode)
        return made


def match_objectives(
    search: Search, modes: Sequence[str], names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], str]:
    """Match the values of trials with the objectives of a search. Returns: their names, and the mode of its score.

    Args:
        search: of one objective or several.
        modes: ``maximize`` or ``minimize``, by value.
        names: of the values; None: those of the objectives that the cost table does not have, in their order.

    Raises:
        ValueError: they do not fit.
    """
    key, objectives = search.score_key, search.arguments.get("objectives") or {}
    known = () if search.cost_table is None else search.cost_table.metrics
    found = tuple(names or [name for name in objectives if name not in known]) if len(modes) > 1 else (key,)
    fits = len(found) == len(modes) and key in found and (len(modes) == 1 or set(found) <= objectives.keys())
    if not fits or any(objectives.get(name, mode) != mode for name, mode in zip(found, modes, strict=True)):
        raise ValueError(
            f"the study has directions {', '.join(modes)} of {', '.join(found) or 'values without names'}, the search "
            f"has objectives {objectives or 'of which there is one'} and score_key {key!r}: wanted the same, such as "
            "NSGA2(objectives={'default': 'maximize', 'latency_ms': 'minimize'})."
        )
    return found, modes[found.index(key)]


class Rebuilding:
    """A search that follows the trials of another program, whose numbers are not its uids.

    What a trial was given that has only just begun elsewhere is not known yet: it is what the search proposes, since
    whoever runs it has the same search. So nothing is proposed twice at the same moment.

    Args:
        search: fresh, with its space.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self._events: list[Begun | Finished] = []
        self._uids: dict[int, int] = {}  # by number

    def continues(self, events: Sequence[Begun | Finished]) -> bool:
        """Return whether these events begin with those that the search has seen."""
        seen = len(self._events)
        return len(events) >= seen and all(map(_agree, events[:seen], self._events))

    @property
    def given(self) -> Given | None:
        """Return what the trial was given that was begun last; None if nothing was left."""
        last = self._events[-1]
        return last.given if isinstance(last, Begun) else None

    def follow(self, events: Sequence[Begun | Finished]) -> None:
        """Take in the events that are new."""
        for event in events[len(self._events) :]:
            if isinstance(event, Begun):
                given = self._propose(event.number) if event.given is None else self._repeat(event.number, event.given)
                self._events.append(Begun(event.number, given))
            else:
                self._settle(event)
                self._events.append(event)

    def pass_over(self) -> Given | None:
        """Propose another architecture for the trial that was begun last, whose own somebody else has taken."""
        last = self._events.pop()
        assert isinstance(last, Begun) and last.given is not None
        given = self._propose(last.number, (*last.given.passed, last.given.tokens))
        self._events.append(Begun(last.number, given))
        return given

    def _propose(self, number: int, passed: tuple[Tokens, ...] = ()) -> Given | None:
        for proposal in self.search.ask():
            self._uids[number], phase = proposal.uid, proposal.phase
            again = self.search.trials[proposal.uid].again is not None
            return Given(proposal.tokens, again=again, phase=phase, passed=passed)
        return None

    def _repeat(self, number: int, given: Given) -> Given:
        search = self.search
        for tokens in given.passed:
            with contextlib.suppress(ValueError):  # it is known
                search.readmit([tokens], True, given.phase)
        before = len(search.trials)
        try:
            if given.drawn:
                search.readmit([given.tokens], True, given.phase, int(given.again))
            else:
                search.suggest(given.tokens, given.phase)
        except ConstraintError as error:
            _log.warning("trial %d is not part of the search: %s", number, error)
            return given
        except ValueError:  # it is known: its result is that of the trial that has none yet, or a further one
            pass
        if len(search.trials) > before:
            self._uids[number] = before
        else:
            tokens = search.space.canonical(given.tokens)
            self._uids[number] = next(trial.uid for trial in search.trials.values() if trial.tokens == tokens)
        return given

    def _settle(self, event: Finished) -> None:
        uid = self._uids.get(event.number)
        if uid is None:
            return
        try:
            if event.metrics is None:
                self.search.fail(uid, event.reason)
            else:
                self.search.tell(uid, event.metrics, resource=event.resource)
        except SearchError:
            _log.exception("the search goes on without having learnt from trial %d.", event.number)


def _agree(new: Begun | Finished, old: Begun | Finished) -> bool:
    """Return whether an event is the one that the search has seen; what is still unknown is what it has guessed."""
    unknown = isinstance(new, Begun) and isinstance(old, Begun) and new.given is None
    return new.number == old.number if unknown else new == old
