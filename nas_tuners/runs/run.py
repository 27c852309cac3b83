"""A search bound to its journal: every event is on the disk before it counts, and replay gives the same object."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas_tuners.runs.journal import Event, Journal, JournalError, begun, read
from nas_tuners.search.arguments import check_search
from nas_tuners.search.base import Search, SearchError
from nas_tuners.search.records import InPhase, Proposal, Trial, as_metrics
from search_spaces import Space, SpaceError, Tokens
from search_spaces.domains import Choice, Domain, InputDomain, LayerDomain

_log = logging.getLogger(__name__)


class Run:
    """A search with a memory. Use :meth:`start`, :meth:`resume` or :func:`open_or_start`.

    Args:
        search: set up with ``space`` already.
        optimize_mode: ``maximize`` or ``minimize``.
        journal: where the events go; None keeps them in memory only.
    """

    def __init__(self, search: Search, optimize_mode: str = "maximize", journal: Journal | None = None) -> None:
        self.search, self.optimize_mode = search, optimize_mode
        self._journal = journal
        self._broken = False

    @staticmethod
    def start(
        search: Search,
        space: Space,
        optimize_mode: str = "maximize",
        path: str | Path | None = None,
        **more: Any,
    ) -> Run:
        """Begin a search on ``space``; ``more`` goes into the journal's header.

        Raises:
            JournalError: there is a journal already, or it cannot be written.
        """
        check_search(search)
        search.setup(space, optimize_mode)
        if path is None:
            return Run(search, optimize_mode)
        if begun(Path(path)):
            raise JournalError(f"{path} exists: resume it, or give another folder.")
        return Run(search, optimize_mode, Journal(path, header(search, optimize_mode) | more))

    @staticmethod
    def resume(search: Search, path: str | Path) -> Run:
        """Rebuild ``search``, which has seen nothing yet, from its journal, and go on in that.

        Raises:
            JournalError: the journal cannot be read, is held by another process, or does not fit.
        """
        check_search(search)
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
        return self.search.space

    @property
    def phase(self) -> InPhase | None:
        """That of the last ask; None before the first, and in a search without phases."""
        return next((t.phase for t in reversed(self.search.trials.values()) if t.phase is not None), None)

    def ask(self, n: int = 1) -> list[Proposal]:
        """As :meth:`Search.ask`, and on the disk when it returns."""
        self._check()
        proposals = self.search.ask(n)
        if proposals:
            tokens = [list(proposal.tokens) for proposal in proposals]
            phase = proposals[0].phase
            more = {} if phase is None else {"phase": asdict(phase)}
            self._write({"event": "ask", "uid": proposals[0].uid, "tokens": tokens, **more})
        return proposals

    def suggest(self, tokens: Sequence[int]) -> Proposal:
        """As :meth:`Search.suggest`, and on the disk when it returns."""
        self._check()
        proposal = self.search.suggest(tokens)
        self._write({"event": "suggest", "uid": proposal.uid, "tokens": [list(proposal.tokens)]})
        return proposal

    def tell(self, uid: int, metrics: Any, job: str | None = None) -> bool:
        """As :meth:`Search.tell`; the result is on the disk before the search learns from it."""
        self._check()
        kept = as_metrics(metrics, self.search.score_key)
        if uid not in self.search.trials:
            return self.search.tell(uid, kept, job)  # raises
        if self.search.trials[uid].state == "dropped":
            self.note(f"result for uid {uid}, which is not part of the space any more: {kept}")
            return False
        self._write({"event": "tell", "uid": uid, "metrics": kept, "job": job})
        return self.search.tell(uid, kept, job)

    def fail(self, uid: int, reason: str, learn: bool = True) -> bool:
        """As :meth:`Search.fail`; the failure is on the disk before the search learns from it."""
        self._check()
        if uid in self.search.trials and self.search.trials[uid].state != "pending":
            return False
        self._write({"event": "fail", "uid": uid, "reason": reason, "learn": learn})
        return self.search.fail(uid, reason, learn)

    def note(self, text: str, **more: Any) -> None:
        """Write down something that changes nothing."""
        self._check()
        self._write({"event": "note", "text": text, **more})

    def change_space(self, space: Space) -> int:
        """Go on in another space with all that still fits it. Returns: how many trials did not.

        Raises:
            CostError: the search has constraints, and its cost table is of the old space; nothing has changed then.
        """
        self._check()
        search = moved(self.search, space, self.optimize_mode)
        self._write({"event": "space", "space": space.to_json(), "digest": space.digest})
        self.search = search
        return self.search.counts.dropped

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()

    def _check(self) -> None:
        if self._broken:
            raise JournalError("an event could not be written to the journal: this run is at its end; resume it.")

    def _write(self, event: Event) -> None:
        if self._journal is not None:
            try:
                self._journal.append(event)
            except BaseException:
                self._broken = True  # the search may be one event ahead of its journal
                raise


class Ledger(Search):
    """The bookkeeping alone, to read a journal whose algorithm is not at hand."""

    def readmit(self, asked: Sequence[Tokens], drawn: bool, phase: InPhase | None = None) -> bool:
        return super().readmit(asked, drawn=False, phase=phase)

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return []

    def _learn(self, tokens: Tokens, score: float) -> None:
        """Nothing is proposed, so nothing has to be learnt."""


def load(path: str | Path) -> tuple[Run, Event]:
    """Read a journal, also while it is being written. Returns: a run to look at, and the header."""
    events, _ = read(path)
    if not events:
        raise JournalError(f"{path} is empty.")
    ledger = Ledger(score_key=_arguments(events[0]).get("score_key", "default"))
    return replay(ledger, events, path), events[0]


def header(search: Search, optimize_mode: str) -> Event:
    """The first event of a journal: all that a resume needs."""
    cls, table = type(search), search.cost_table
    return {
        "digest": search.space.digest,
        "space": search.space.to_json(),
        "search": {"name": cls.__name__, "module": cls.__module__, "arguments": search.arguments}
        | ({} if table is None else {"cost_digest": table.digest}),
        "optimize_mode": optimize_mode,
    }


def replay(search: Search, events: Sequence[Event], path: str | Path) -> Run:
    """Bring ``search`` to where the events leave it."""
    first = events[0]
    _check_costs(search, first, path)
    try:
        search.setup(Space.from_json(first["space"]), first["optimize_mode"])
        run = Run(search, first["optimize_mode"])
    except (KeyError, SpaceError, ValueError) as error:
        raise JournalError(f"{path}, line 1: the header does not fit: {error}") from None
    for number, event in enumerate(events[1:], start=2):
        try:
            _apply(run, event)
        except SearchError as error:
            _log.warning("%s, line %d: %s", path, number, error)
        except (KeyError, TypeError, ValueError, LookupError) as error:
            raise JournalError(f"{path}, line {number} does not fit what is before it: {error}") from None
    return run


def _check_costs(search: Search, first: Event, path: str | Path) -> None:
    """Other limits or other costs would make other proposals, and allow what was not allowed."""
    if isinstance(search, Ledger):
        return
    then = _arguments(first).get("constraints") or {}
    now = {limit.metric: limit.to_json() for limit in search.constraints}
    if then != now:
        raise JournalError(f"{path} is of a search with the constraints {then}, wanted those and not {now}.")
    digest, table = first.get("search", {}).get("cost_digest"), search.cost_table
    if now and table is not None and digest != table.digest:
        raise JournalError(
            f"{path} is of a search with another cost table: its digest is {str(digest)[:12]}, that of the table now "
            f"{table.digest[:12]}. Put the old file back, or start a new search."
        )


def _arguments(first: Event) -> dict[str, Any]:
    arguments = first.get("search", {}).get("arguments", {})
    return arguments if isinstance(arguments, dict) else {}


def _apply(run: Run, event: Event) -> None:
    search, kind = run.search, event["event"]
    if kind in ("ask", "suggest"):
        phase = InPhase(**event["phase"]) if "phase" in event else None
        if not search.readmit([tuple(tokens) for tokens in event["tokens"]], kind == "ask", phase):
            _log.warning("%s proposes something else than its journal says: was it changed?", type(search).__name__)
    elif kind == "tell":
        score = {search.score_key: float(event["metrics"][search.score_key])}  # NaN and infinity are text there
        search.tell(event["uid"], {**event["metrics"], **score}, event.get("job"))
    elif kind == "fail":
        search.fail(event["uid"], event["reason"], event["learn"])
    elif kind == "space":
        run.search = moved(search, Space.from_json(event["space"]), run.optimize_mode)
    elif kind != "note":
        raise ValueError(f"unknown event {kind!r}")


def moved(search: Search, space: Space, optimize_mode: str) -> Search:
    """Return a fresh search on ``space`` that knows what ``search`` knew, as far as that still fits."""
    new = search.fresh()
    new.setup(space, optimize_mode)
    new.counts.duplicate, new.counts.infeasible = search.counts.duplicate, search.counts.infeasible
    for trial in search.trials.values():
        tokens = None if trial.state == "dropped" else _translated(trial, space)
        if tokens is None or (new.known(tokens) and not trial.provisional):
            new.trials.adopt_dropped(trial)
        else:
            new.suggest(tokens, trial.phase)
    for trial in sorted(search.trials.values(), key=lambda t: t.resolved):
        if new.trials[trial.uid].state == "pending" and trial.state == "told":
            new.tell(trial.uid, trial.metrics, trial.job)
        elif new.trials[trial.uid].state == "pending" and trial.state == "failed":
            new.fail(trial.uid, trial.reason or "")
    return new


def _translated(trial: Trial, space: Space) -> Tokens | None:
    choices = trial.space.decode(trial.tokens)
    if choices.keys() != space.domains.keys():
        return None
    tokens = [_token(domain, choices[key]) for key, domain in space.domains.items()]
    return None if None in tokens else tuple(token for token in tokens if token is not None)


def _token(domain: Domain, choice: Choice) -> int | None:
    """The token of an option by its name, since indices shift when candidates come or go."""
    if isinstance(domain, LayerDomain) and isinstance(choice, dict) and domain.names.count(choice["_value"]) == 1:
        choice = {"_idx": domain.names.index(choice["_value"])}
    elif isinstance(domain, InputDomain) and isinstance(choice, dict) and isinstance(choice["_value"], list):
        names = domain.candidates
        if all(names.count(name) == 1 for name in choice["_value"]):
            choice = {"_idx": sorted(names.index(name) for name in choice["_value"])}
    return None if domain.problems(choice) else domain.token(choice)
