"""Run a search from a script or a notebook: what ``nas search`` and ``nas run`` do, without their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from nas_tuners.hosts.local import following, say_what_is_feasible
from nas_tuners.hosts.places import PLACES, Work
from nas_tuners.runs.evaluation import Evaluate
from nas_tuners.runs.journal import JOURNAL, Event, JournalError, has_begun, read
from nas_tuners.runs.latest import make_folder, remember
from nas_tuners.runs.run import Run, arguments_in
from nas_tuners.search.algorithms import ALGORITHMS, AUTO, SHARED, choose_algorithm, make_search
from nas_tuners.search.base import Search
from nas_tuners.search.records import Best, Trial
from nas_tuners.show.frames import make_frame
from search_spaces import Space
from search_spaces.checks import above, one_of, whole
from search_spaces.errors import shorten


class Experiment:
    """A search, what it calls or starts for each trial, and where. :meth:`run` runs it, or goes on with it.

    Args:
        space: a model with choices, a :class:`~search_spaces.Space`, the content of a space file, or its path.
        trial: a function of choices that returns a metric or a dict of metrics, or its name, ``"module:function"``,
            which several ``workers`` need where a notebook defines it; on the host ``local`` a command, such
            as ``"python3 trial.py"``, that asks for its parameters and reports as under NNI.
        tuner: the name of an algorithm, as of ``nas search --algorithm``, or a search of :mod:`nas_tuners.search`.
        trials: results in total, failures included.
        optimize_mode: ``maximize`` or ``minimize``.
        workers: trials at a time.
        host: where trials run: ``loop``, calls of the function in this process, or in processes of several workers; or
            ``local``, the command as processes of this machine.
        folder: of the journal; if it has one, the run goes on. None: in memory only, or, of a host that starts
            commands, a new one in ``runs``.
        trial_timeout: seconds after which a trial has failed, and is ended.
        fixed: by key, the option that every architecture has.
        progress: whether to show it on stderr, once five seconds have passed.
        options: of the algorithm, if that is a name: ``seed``, ``constraints``, ``cost_table`` and so on.

    Raises:
        ValueError: an argument is none of these, or there is no such function or command; all problems are named.
        TypeError: the algorithm does not take the options; or the space is something else.
        SpaceError, ConstraintError, CostError: the space or an option is malformed.
    """

    def __init__(
        self,
        space: object,
        trial: Evaluate | str,
        tuner: Search | str = AUTO,
        *,
        trials: int = 100,
        optimize_mode: str = "maximize",
        workers: int = 1,
        host: str = "loop",
        folder: str | PathLike[str] | None = None,
        trial_timeout: float | None = None,
        fixed: Mapping[str, Any] | None = None,
        progress: bool = True,
        **options: Any,
    ) -> None:
        problems = [*whole("trials", trials, 1), *whole("workers", workers, 1), *one_of("host", host, PLACES)]
        problems += one_of("optimize_mode", optimize_mode, ("maximize", "minimize"))
        problems += [] if trial_timeout is None else above("trial_timeout", trial_timeout, 0)
        work = Work(trial, trials, workers, trial_timeout)
        problems += [] if problems else PLACES[host].check(work)
        if problems:
            raise ValueError("; ".join(problem.removesuffix(".") for problem in problems) + ".")
        self.space = read_space(space).fix(fixed or {})
        self.folder = None if folder is None else Path(folder)
        if tuner == AUTO:
            own = [name for name in options if name not in SHARED]
            tuner = self._begun_with() or choose_algorithm(self.space, trials, own)[0]
        self.search = make_search(tuner, **options)
        self._work, self._place = work, PLACES[host]
        self._optimize_mode, self._progress = optimize_mode, progress
        self._run: Run | None = None

    def run(self) -> Findings:
        """Run until there are enough results, or nothing is left to try; what was pending comes first.

        Ctrl-C loses nothing: call this again, or make the same experiment with the same ``folder``. What there is until
        then :attr:`findings` has.

        Raises:
            JournalError: the folder's journal is that of another experiment, or cannot be read or written.
            WorkerError: processes cannot be started. SearchError: the algorithm failed.
            KeyboardInterrupt: was pressed.
        """
        if self.folder is None and self._place.needs_folder:
            self.folder = make_folder()
        self._run = run = self._open()
        with following(run, self._work.trials, show=self._progress, way=self._way) as on_progress:
            self._place.run(self._work, run, self.folder, on_progress)
        return Findings(run)

    @property
    def findings(self) -> Findings:
        """Return what was found so far. Raises RuntimeError before the first :meth:`run`."""
        if self._run is None:
            raise RuntimeError("the experiment has not run yet: call run().")
        return Findings(self._run)

    def _open(self) -> Run:
        """Start the run, or go on with it: that of the folder, or the one in memory."""
        if self.folder is None:
            return self._run or self._start(None)
        path = self.folder / JOURNAL
        if not has_begun(path):
            return self._start(path)
        self._compare(path, read(path)[0][0])
        return Run.resume(self.search.fresh(), path)

    def _start(self, path: Path | None) -> Run:
        run = Run.start(self.search.fresh(), self.space, self._optimize_mode, path, command=self._describe())
        say_what_is_feasible(run)
        if path is not None:
            remember(path.parent)
        return run

    def _describe(self) -> dict[str, Any]:
        """Return what ``nas resume`` needs to go on; where it cannot, what has begun the run."""
        names = [name for name, algorithm in ALGORITHMS.items() if algorithm.search is type(self.search)]
        arguments = {**self.search.arguments, "optimize_mode": self._optimize_mode}
        described = self._place.describe(self._work, self.space, names[0], arguments) if names else None
        return described or {"name": "Experiment"}

    def _begun_with(self) -> str | None:
        """Return the algorithm of the journal in the folder, if that is one of ours."""
        if self.folder is None or not has_begun(self.folder / JOURNAL):
            return None
        begun = read(self.folder / JOURNAL)[0][0]["search"]["name"]
        return next((name for name, algorithm in ALGORITHMS.items() if algorithm.search.__name__ == begun), None)

    def _compare(self, path: Path, header: Event) -> None:
        """Check that a journal is of this experiment."""
        here = {"search": type(self.search).__name__, "digest": self.space.digest, "optimize_mode": self._optimize_mode}
        then = {**header, "search": header["search"]["name"], **arguments_in(header)}
        here |= self.search.arguments
        if other := [name for name in here if name in then and then[name] != here[name]]:
            what = "; ".join(f"{name} {shorten(then[name])}, here {shorten(here[name])}" for name in other)
            raise JournalError(f"{path} was begun with other arguments: {what}. Give those, or another folder.")

    @property
    def _way(self) -> str:
        """Return how to go on after an end that came too early."""
        return "run()" + ("" if self.folder is None else f", or the same experiment with folder={str(self.folder)!r}")


def read_space(given: object) -> Space:
    """Return the space of a model, of a space file, or of its content.

    Raises TypeError if it is none of these; SpaceError if it is malformed, ChoiceError if a model's choices are.
    """
    if isinstance(given, Space):
        return given
    if isinstance(given, (str, PathLike)):
        return Space.load(given)
    if isinstance(given, Mapping):
        return Space.from_json(dict(given))
    if callable(getattr(given, "named_modules", None)):
        from mutators.choices.walk import search_space_of  # imports torch

        return Space.from_json(search_space_of(given))  # type: ignore[arg-type]
    raise TypeError(f"space is {shorten(given)}, wanted a model with choices, a Space, or the path of a space file.")


@dataclass(frozen=True)
class Findings:
    """What a run has found."""

    run: Run

    @property
    def best(self) -> Best | None:
        """Return the best result; None if there is none."""
        return self.run.search.best

    @property
    def front(self) -> list[Best]:
        """Return the nondominated results of several objectives, the best by the first one first; or the best alone."""
        front: list[Best] | None = getattr(self.run.search, "front", None)
        return front if front is not None else [self.best] if self.best else []

    @property
    def trials(self) -> list[Trial]:
        """Return all trials, in the order of their proposals."""
        return list(self.run.search.trials.values())

    def frame(self) -> Any:
        """Return the trials as a DataFrame: uid, state, metrics, and a column for each key of the space.

        Raises FrameError if pandas is missing.
        """
        return make_frame(self.run)
