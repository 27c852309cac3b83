"""Run a search on this machine for a command, so that the folder of its journal is all that a resume needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Self

from nas_tuners.runs.evaluation import Evaluate, NamedFunction
from nas_tuners.runs.journal import JOURNAL, Event, JournalError, has_begun
from nas_tuners.runs.loop import OnProgress, run_search
from nas_tuners.runs.run import Run
from nas_tuners.runs.workers import WorkerError
from nas_tuners.search.base import Search
from nas_tuners.search.records import SearchError
from nas_tuners.show.text import describe_best, expected_results
from search_spaces import Space
from search_spaces.checks import above, rounded, whole
from search_spaces.progress import Progress
from search_spaces.resolve import look_in

ROLES = {"search": ("evaluate",), "rank": ("score", "retrain")}
"""By command, what its functions are for; on its command line, ``--ROLE MODULE:FUNCTION``.

A run of ``nas rank`` may have rivals as well, ``--rival MODULE:FUNCTION``: their roles are those names.
"""

_MOST_WORKERS = 1024  # a file may name them


@dataclass(frozen=True)
class Job:
    """A command's part in the header of a journal: all that a resume needs beside the search.

    Raises:
        ValueError: ``trials`` or ``workers`` is not a whole number from 1 up, there are too many workers, or
            ``trial_timeout`` is no number above 0.
    """

    name: str  # of the command, a key of ROLES
    functions: dict[str, str]  # ``module:function`` by role, such as "evaluate"
    algorithm: str  # its name on the command line
    trials: int  # results in total
    workers: int  # processes that evaluate
    folder: str  # where the command ran; the functions' modules are looked for there first
    trial_timeout: float | None = None  # seconds

    def __post_init__(self) -> None:
        problems = [*whole("--trials", self.trials, 1), *whole("--workers", self.workers, 1)]
        if not problems and self.workers > _MOST_WORKERS:
            problems = [f"--workers is {self.workers}, wanted at most {_MOST_WORKERS}"]
        if self.trial_timeout is not None:
            problems += above("--trial-timeout", self.trial_timeout, 0)
        if problems:
            raise ValueError("\n".join(problems))

    @classmethod
    def of(cls, header: Event, path: Path) -> Self:
        """Return the job in the header of a journal, of which nothing is done yet.

        Raises JournalError if there is none, or it is malformed.
        """
        problem = "wanted the header of a run of nas search or nas rank"
        try:
            job = cls(**header["command"])
        except (KeyError, TypeError):
            job = None
        except ValueError as error:
            job, problem = None, str(error)
        if job is None or not job._is_of_text():
            raise JournalError(f"{path}, line 1: {problem}.")
        return job

    def _is_of_text(self) -> bool:
        texts = [self.name, self.algorithm, self.folder]
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.functions, dict):
            return False
        roles, own = tuple(self.functions), ROLES.get(self.name, ())
        more = roles[len(own) :]
        fits = bool(own) and roles[: len(own)] == own and (not more or self.name == "rank")
        return fits and all(":" in role for role in more) and all(isinstance(f, str) for f in self.functions.values())

    @property
    def rivals(self) -> tuple[str, ...]:
        """Return the roles of further functions to compare with: what they were called when the run began."""
        return tuple(self.functions)[len(ROLES[self.name]) :]

    def function(self, role: str) -> NamedFunction:
        """Return the function of a role, not imported yet."""
        return NamedFunction(str(self.functions.get(role)))

    def start(self, search: Search, space: Space, folder: Path, optimize_mode: str = "maximize") -> Run:
        """Check everything, then start a run with its journal in ``folder``, and say on stderr how much is feasible.

        Raises EvaluateError if a function cannot be found, JournalError if the folder has a journal, with nothing
        written.
        """
        path = folder / JOURNAL
        if has_begun(path):
            raise JournalError(f"{path} exists: go on with nas resume {folder}, or give another folder with -o.")
        look_in(self.folder)
        for role in self.functions:  # a wrong name is an error at once
            self.function(role).find()
        run = Run.start(search, space, optimize_mode, path, command=asdict(self))
        say_what_is_feasible(run)
        return run

    def resume(self, search: Search, path: Path) -> Run:
        """Resume a run with a fresh search, in the folder in which the command ran, for whoever vouches for the job."""
        path = path.absolute()
        if Path(self.folder).is_dir():
            os.chdir(self.folder)  # the functions may read files beside them
        else:
            sys.stderr.write(f"nas: warning: {self.folder} is gone: looking for the functions in {Path.cwd()}.\n")
        look_in(Path.cwd())
        return Run.resume(search, path)

    def finish(self, run: Run, evaluate: Evaluate, quiet: float = 5.0) -> None:
        """Evaluate until the run has its trials, with progress on stderr after ``quiet`` seconds, and close it.

        Raises KeyboardInterrupt if Ctrl-C was pressed; the text says how to go on.
        """
        with following(run, self.trials, quiet) as show:
            run_search(run, evaluate, self.trials, self.workers, show, self.trial_timeout)


def say_what_is_feasible(run: Run) -> None:
    """Say on stderr which share of the space keeps the constraints of its search, if it has any."""
    search = run.search
    if search.constraints:
        about = "" if search.feasible_share_exact else "about "
        limits, share = ", ".join(map(str, search.constraints)), 100 * search.feasible_share
        part = f"{about}{share:.4g} %" if share else "less than 1e-298 %"  # of less a float knows nothing
        sys.stderr.write(f"{limits}: {part} of {rounded(run.space.size)} architectures\n")


@contextmanager
def following(
    run: Run, trials: int | None, quiet: float = 5.0, show: bool = True, way: str | None = None
) -> Iterator[OnProgress]:
    """Show progress on stderr while a run goes on, after ``quiet`` seconds; close the run at the end.

    Yields: what is to be called with the run after every result. What ends the run before it has all its results is
    raised again, with how to go on.

    Args:
        run: started or resumed.
        trials: results that it will have in total.
        quiet: seconds before the first line.
        show: whether to write any.
        way: how to go on with it; None: ``nas resume`` with its folder.
    """
    total, before = expected_results(run, trials), run.search.counts.ended
    try:
        with Progress(total, "trials", done=before, show=show, quiet=quiet) as progress:
            progress.note = lambda: describe_best(run)
            yield lambda run: progress.at(run.search.counts.ended)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted {_how_to_go_on(run, trials, way)}") from None
    except (WorkerError, JournalError, SearchError) as error:
        raise type(error)(f"{error}\nended {_how_to_go_on(run, trials, way)}") from error
    except OSError as error:
        raise OSError(f"{error}\nended {_how_to_go_on(run, trials, way)}") from error
    finally:
        run.close()


def _how_to_go_on(run: Run, trials: int | None, way: str | None) -> str:
    counts = run.search.counts
    how = way or (f"nas resume {quote(str(run.path.parent))}" if run.path else "nas resume")
    done = f"{counts.ended}{f' of {trials}' if trials else ''} trials"
    return f"after {done}; nothing is lost. Go on with: {how}"
