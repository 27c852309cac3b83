"""Keep a search in its journal: every event is on the disk before it counts, and replay gives the same search."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas_tuners.runs.journal import Event, Journal, JournalError, read
from nas_tuners.runs.moving import describe_change, move_search
from nas_tuners.search.arguments import check_made
from nas_tuners.search.base import Search
from nas_tuners.search.records import InPhase, Proposal, SearchError, as_metrics
from search_spaces import Space, Tokens
from search_spaces.checks import whole

ORIGINLESS = "-"  # of runs that were begun before each had an id
_JUDGING = ("score_key", "outcome_constraints", "noise", "repeats")  # arguments of a search that say what is best
_log = logging.getLogger(__name__)


class Run:
    """A search with a memory. Use :meth:`start` or :meth:`resume`; :func:`load` to look at one.

    Args:
        search: one that was set up with its space.
        optimize_mode: ``maximize`` or ``minimize``.
        journal: where the events go; None keeps them in memory only.
        id: of the run, unlike that of any other: a uid means something together with it only. None: a new one.
    """

    def __init__(
        self, search: Search, optimize_mode: str = "maximize", journal: Journal | None = None, id: str | None = None
    ) -> None:
        self.search, self.optimize_mode = search, optimize_mode
        self.id = id or secrets.token_hex(8)
        self.changes: list[str] = []  # of the space, in words
        self._journal = journal
        self._broken = False

    @staticmethod
    def start(
        search: Search, space: Space, optimize_mode: str = "maximize", path: str | Path | None = None, **more: Any
    ) -> Run:
        """Start a search on ``space``; ``more`` goes into the header of the journal.

        Raises:
            JournalError: there is a journal already, or some other file, which stays as it is; or it cannot be written.
        """
        check_made(search)
        search.setup(space, optimize_mode)
        run = Run(search, optimize_mode)
        if path is None:
            return run
        run._journal = Journal(path, make_header(search, optimize_mode) | {"run": run.id} | more)
        return run

    @staticmethod
    def resume(search: Search, path: str | Path) -> Run:
        """Rebuild a fresh ``search`` from its journal, and go on in that.

        Raises:
            JournalError: the journal cannot be read, is held by another process, or does not fit.
        """
        check_made(search)
        journal = Journal(path)
        try:
            run = replay(search, journal.events, path)
        except BaseException:
            journal.close()
            raise
        run._journal = journal
        return run

    @property
    def space(self) -> Space:
        """Return the space that is searched."""
        return self.search.space

    @property
    def path(self) -> Path | None:
        """Return the journal's path; None for a run that is kept in memory only."""
        return None if self._journal is None else self._journal.path

    @property
    def phase(self) -> InPhase | None:
        """Return the phase of the last ask; None before the first, and in a search without phases."""
        return next((t.phase for t in reversed(self.search.trials.values()) if t.phase is not None), None)

    def ask(self, n: int = 1) -> list[Proposal]:
        """Ask the search; the proposals are on the disk when this returns. See :meth:`Search.ask`."""
        self._check()
        proposals = self.search.ask(n)
        if proposals:
            tokens = [list(proposal.tokens) for proposal in proposals]
            phase = proposals[0].phase
            more: dict[str, Any] = {} if phase is None else {"phase": asdict(phase)}
            if again := sum(self.search.trials[proposal.uid].again is not None for proposal in proposals):
                more["again"] = again
            self._write({"event": "ask", "uid": proposals[0].uid, "tokens": tokens, **more})
        return proposals

    def suggest(self, tokens: Sequence[int]) -> Proposal:
        """Suggest an architecture to the search; it is on the disk when this returns. See :meth:`Search.suggest`."""
        self._check()
        proposal = self.search.suggest(tokens)
        self._write({"event": "suggest", "uid": proposal.uid, "tokens": [list(proposal.tokens)]})
        return proposal

    def tell(self, uid: int, metrics: Any, job: str | None = None, resource: int | None = None) -> bool:
        """Report a result; it is on the disk before the search learns from it. See :meth:`Search.tell`."""
        self._check()
        kept = as_metrics(metrics, self.search.score_key)
        if uid not in self.search.trials:
            return self.search.tell(uid, kept, job)  # raises
        if reason := self.search.unusable(self.search.trials[uid].tokens, kept, resource):
            return self.fail(uid, reason)
        if self.search.trials[uid].state == "dropped":
            self.note(f"result for uid {uid}, which is not part of the space any more: {kept}")
            return False
        stopped = {} if resource is None else {"resource": resource}
        self._write({"event": "tell", "uid": uid, "metrics": kept, "job": job, **stopped})
        return self.search.tell(uid, kept, job, resource)

    def report(self, uid: int, metrics: Any, resource: int, job: str | None = None) -> bool:
        """Report an intermediate result; it is on the disk, with what follows, when this returns. See Search.report."""
        self._check()
        search, kept = self.search, as_metrics(metrics, self.search.score_key)
        if uid not in search.trials or search.trials[uid].state != "pending" or whole("resource", resource, 1):
            return search.report(uid, kept, resource)  # changes nothing, or raises
        stop = search.stops(uid, kept, resource)
        self._write(
            {"event": "report", "uid": uid, "metrics": kept, "resource": resource, "job": job}
            | ({"stop": True} if stop else {})
        )
        return search.report(uid, kept, resource, job, stop)

    def fail(self, uid: int, reason: str, learn: bool = True) -> bool:
        """Report a failure; it is on the disk before the search learns from it. See :meth:`Search.fail`."""
        self._check()
        if uid in self.search.trials and self.search.trials[uid].state != "pending":
            return False
        self._write({"event": "fail", "uid": uid, "reason": reason, "learn": learn})
        return self.search.fail(uid, reason, learn)

    def note(self, text: str, **more: Any) -> None:
        """Write a note into the journal; it changes nothing."""
        self._check()
        self._write({"event": "note", "text": text, **more})

    def change_space(self, space: Space) -> int:
        """Go on in another space with all trials that fit it. Returns: how many do not. ``changes`` says more.

        Raises:
            CostError: the search has constraints, and its cost table is of the old space; nothing has changed then.
        """
        self._check()
        search = move_search(self.search, space, self.optimize_mode)
        self._write({"event": "space", "space": space.to_json(), "digest": space.digest})
        self._move_to(search)
        return self.search.counts.dropped

    def _move_to(self, search: Search) -> None:
        self.changes.append(describe_change(self.search, search))
        self.search = search

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def _check(self) -> None:
        if self._broken:
            raise JournalError("an event could not be written to the journal: this run has ended; resume it.")

    def _write(self, event: Event) -> None:
        if self._journal is not None:
            try:
                self._journal.append(event)
            except BaseException:
                self._broken = True  # the search may be one event ahead of its journal
                raise


class Ledger(Search):
    """A search without an algorithm, which keeps the trials of a journal to look at."""

    def readmit(self, asked: Sequence[Tokens], drawn: bool, phase: InPhase | None = None, again: int = 0) -> bool:
        return super().readmit(asked, False, phase, again)

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return []

    def _learn(self, tokens: Tokens, score: float) -> None:
        """Learn nothing, since nothing is proposed."""


def load(path: str | Path) -> tuple[Run, Event]:
    """Read a journal, even while it is written. Returns: a run to look at, and the header."""
    events, _ = read(path)
    if not events:
        raise JournalError(f"{path} is empty.")
    try:
        given = arguments_in(events[0])
        ledger = Ledger(**{name: given[name] for name in _JUDGING if name in given})
    except (TypeError, ValueError) as error:
        raise JournalError(f"{path}, line 1: the header does not fit: {error}") from None
    return replay(ledger, events, path), events[0]


def make_header(search: Search, optimize_mode: str) -> Event:
    """Return the first event of a journal, with all that a resume needs."""
    cls, table = type(search), search.cost_table
    return {
        "digest": search.space.digest,
        "space": search.space.to_json(),
        "search": {"name": cls.__name__, "module": cls.__module__, "arguments": search.arguments}
        | ({} if table is None else {"cost_digest": table.digest}),
        "optimize_mode": optimize_mode,
    }


def replay(search: Search, events: Sequence[Event], path: str | Path) -> Run:
    """Repeat the events of a journal on a fresh ``search``."""
    first = events[0]
    _check_costs(search, first, path)
    try:
        search.setup(read_space(first, f"{path}, line 1"), first["optimize_mode"])
        run = Run(search, first["optimize_mode"], id=str(first.get("run") or ORIGINLESS))
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise JournalError(f"{path}, line 1: the header does not fit: {error}") from None
    for number, event in enumerate(events[1:], start=2):
        try:
            _apply(run, event, f"{path}, line {number}")
        except SearchError as error:
            _log.warning("%s, line %d: %s", path, number, error)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise JournalError(f"{path}, line {number} does not fit what is before it: {error}") from None
    return run


def read_space(event: Event, place: str) -> Space:
    """Return the space in the header of a journal, or in an event that changes it.

    Raises JournalError if the space is not the one whose digest stands beside it: results would go to architectures
    that never ran. ``place`` is for the message.
    """
    space = Space.from_json(event["space"])
    if event["digest"] not in (space.digest, space.unordered_digest):  # the latter was written once
        raise JournalError(
            f"{place}: the digest is {str(event['digest'])[:12]!r}, but that of the space beside it is "
            f"{space.digest[:12]!r}: the space was changed after the run began, and the results are of other "
            "architectures. Restore the file from a copy; to search another space, start a new run and nas import this."
        )
    return space


def _check_costs(search: Search, first: Event, path: str | Path) -> None:
    """Check that limits and costs are those of the journal: others would lead to other proposals."""
    if isinstance(search, Ledger):
        return
    then = arguments_in(first).get("constraints") or {}
    now = search.arguments.get("constraints") or {}
    if then != now:
        raise JournalError(f"{path} is of a search with the constraints {then}, wanted those and not {now}.")
    digest, table = first["search"].get("cost_digest"), search.cost_table
    if now and table is not None and digest != table.digest:
        raise JournalError(
            f"{path} is of a search with another cost table: its digest was {str(digest)[:12]}, it is now "
            f"{table.digest[:12]}. Put the old file back, or start a new search."
        )


def arguments_in(header: Event) -> dict[str, Any]:
    """Return the arguments of the search that a journal's header tells of."""
    arguments: dict[str, Any] = header["search"]["arguments"]  # the journal has checked that
    return arguments


def _apply(run: Run, event: Event, place: str) -> None:
    search, kind = run.search, event["event"]
    if kind in ("ask", "suggest"):
        phase = InPhase(**event["phase"]) if "phase" in event else None
        asked = [tuple(tokens) for tokens in event["tokens"]]
        if not search.readmit(asked, kind == "ask", phase, event.get("again", 0)):
            _log.warning("%s proposes something else than its journal says: was it changed?", type(search).__name__)
    elif kind == "tell":
        score = {search.score_key: float(event["metrics"][search.score_key])}  # NaN and infinity are text there
        search.tell(event["uid"], {**event["metrics"], **score}, event.get("job"), event.get("resource"))
    elif kind == "report":
        score = {search.score_key: float(event["metrics"][search.score_key])}
        stop = bool(event.get("stop", False))
        search.report(event["uid"], {**event["metrics"], **score}, event["resource"], event.get("job"), stop)
    elif kind == "fail":
        search.fail(event["uid"], event["reason"], event["learn"])
    elif kind == "space":
        run._move_to(move_search(search, read_space(event, place), run.optimize_mode))
    elif kind != "note":
        raise ValueError(f"unknown event {kind!r}")
