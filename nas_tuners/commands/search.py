"""``nas search``: search a space with a function of one's own, without NNI. And how such a run is resumed."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from nas_tuners.commands import CommandError
from nas_tuners.commands.arguments import algorithm_of, numbers_of
from nas_tuners.commands.locate import NAME
from nas_tuners.commands.progress import Progress
from nas_tuners.commands.show import costs_of, one_line, unfinished
from nas_tuners.runs.evaluation import Evaluate, Imported
from nas_tuners.runs.journal import Event, JournalError, read
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run
from nas_tuners.search.base import Search
from search_spaces import Space
from search_spaces.cost.limits import constraints_of


@dataclass(frozen=True)
class Job:
    """What a journal's header says of the command that began it: all that a resume needs beside the search."""

    name: str
    functions: dict[str, str]
    algorithm: str
    trials: int
    workers: int
    folder: str

    @classmethod
    def of(cls, header: Event, path: Path) -> Self:
        """Return the job of a journal.

        Raises:
            JournalError: its header has none, or one of another kind.
        """
        try:
            job = cls(**header["command"])
        except (KeyError, TypeError):
            job = None
        if job is None or not (isinstance(job.functions, dict) and isinstance(job.folder, str)):
            raise JournalError(f"{path}, line 1: wanted the header of a run of nas search or nas rank.")
        return job

    def function(self, role: str) -> Imported:
        """Return what evaluates, such as ``evaluate``; not imported yet."""
        return Imported(str(self.functions.get(role)))


def search(
    space: Path,
    evaluate: str,
    folder: Path,
    *,
    algorithm: str = "evolution",
    trials: int = 100,
    seed: int = 0,
    workers: int = 1,
    optimize_mode: str = "maximize",
    constraints: list[str] | None = None,
    cost_table: Path | None = None,
    score_key: str = "default",
    numbers: list[str] | None = None,
) -> list[str]:
    """Search ``space`` and keep the journal in ``folder``.

    Args:
        space: a space file.
        evaluate: ``module:function``, looked for in the current folder first; takes choices, returns a metric.
        folder: for the journal; it must not have one yet.
        algorithm: a name of ``ALGORITHMS``.
        trials: results in total.
        seed: of the search.
        workers: processes that evaluate.
        optimize_mode: ``maximize`` or ``minimize``.
        constraints: such as ``macs<=330e6``.
        cost_table: a file of ``nas cost``.
        score_key: which entry counts where the function returns a dict.
        numbers: the algorithm's own arguments, ``name=value``.

    Returns: lines that say what was found.

    Raises:
        ValueError, RuntimeError: whatever is wrong with the arguments; nothing was written then.
    """
    made = algorithm_of(algorithm)(
        seed=seed,
        constraints=constraints_of(constraints or []),
        cost_table=cost_table,
        score_key=score_key,
        **numbers_of(algorithm, numbers or []),
    )
    job = Job("search", {"evaluate": evaluate}, algorithm, trials, workers, str(Path.cwd()))
    run = begun(job, made, Space.load(space), folder, Imported(evaluate), optimize_mode)
    conduct(run, job, Imported(evaluate), folder / NAME)
    return found(run, folder / NAME)


def begun(
    job: Job, made: Search, space: Space, folder: Path, evaluate: Evaluate, optimize_mode: str = "maximize"
) -> Run:
    """Check everything, then begin a run with its journal in ``folder``, and say how much is feasible."""
    for name, value in (("--trials", job.trials), ("--workers", job.workers)):
        if value < 1:
            raise CommandError(f"{name} is {value}, wanted a whole number from 1 up.")
    _refuse_what_exists(folder)
    _look_in(job.folder)
    check_functions(evaluate)
    run = Run.start(made, space, optimize_mode, folder / NAME, command=asdict(job))
    if made.constraints:
        about = "" if made.feasible_share_exact else "about "
        limits = ", ".join(map(str, made.constraints))
        sys.stderr.write(f"{limits}: {about}{100 * made.feasible_share:.4g} % of {space.size:.4g} architectures\n")
    return run


def check_functions(evaluate: Evaluate) -> None:
    """Raise EvaluateError where a function that is named cannot be found."""
    for value in [evaluate, *getattr(evaluate, "__dict__", {}).values()]:
        if isinstance(value, Imported):
            value.find()


def resumed(made: Search, job: Job, path: Path) -> Run:
    """Take a run up again where its journal ends, in the folder that it was begun in."""
    if Path(job.folder).is_dir():
        os.chdir(job.folder)  # the function may read files beside it
    else:
        sys.stderr.write(f"nas: warning: {job.folder} is gone: looking for the functions in {Path.cwd()}.\n")
    _look_in(str(Path.cwd()))
    return Run.resume(made, path)


def resume_search(job: Job, header: Event, path: Path) -> list[str]:
    """Go on with a run of ``nas search``. Returns: lines that say what was found."""
    path, evaluate = path.resolve(), job.function("evaluate")
    run = resumed(search_of(job, header, path), job, path)
    conduct(run, job, evaluate, path)
    return found(run, path)


def search_of(job: Job, header: Event, path: Path) -> Search:
    """Return the search of a journal, which has seen nothing yet.

    Raises:
        JournalError: its arguments are not those of its algorithm.
    """
    try:
        return algorithm_of(job.algorithm)(**header["search"]["arguments"])
    except (KeyError, TypeError) as error:
        raise JournalError(f"{path}, line 1: the arguments of {job.algorithm} do not fit: {error}") from None


def conduct(run: Run, job: Job, evaluate: Evaluate, path: Path) -> None:
    """Search, and show progress; say how to go on if that is interrupted."""
    try:
        with Progress(job.trials) as progress:
            run_search(run, evaluate, job.trials, job.workers, progress)
    except KeyboardInterrupt:
        counts = run.search.counts
        done = f"{counts.told + counts.failed} of {job.trials} trials"
        said = f"interrupted after {done}; nothing is lost. Go on with: nas resume {path.parent}"
        raise KeyboardInterrupt(said) from None
    finally:
        run.close()


def found(run: Run, path: Path) -> list[str]:
    """Say how a search has ended: its best, and what to do next.

    Raises:
        CommandError: not one trial has a result.
    """
    best, counts, folder = run.search.best, run.search.counts, path.parent
    done = counts.told + counts.failed
    ended = f"{done} trials" + (f", {counts.failed} of them failed" if counts.failed else "")
    if run.search.finished:
        ended += "; there is nothing more to try"
    if best is None:
        reasons = [trial.reason for trial in run.search.trials.values() if trial.reason]
        why = unfinished(run) or f"no result. The last one: {reasons[-1] if reasons else 'none'}"
        raise CommandError(f"{ended}; {why}\njournal {path}")
    costs = costs_of(run)
    return [
        f"best {best.score:.6g} (uid {best.uid}{costs and f', {costs}'}) of {ended}",
        one_line(run.search.trials[best.uid]),
        f"journal {path}",
        f"more: nas show {folder}; nas export {folder} -o {folder / 'best'}",
    ]


def _refuse_what_exists(folder: Path) -> None:
    path = folder / NAME
    if not path.exists():
        return
    with warnings.catch_warnings(), contextlib.suppress(JournalError):
        warnings.simplefilter("ignore")
        if not read(path)[0]:
            path.unlink()  # killed before its first line was complete: nothing was begun
            return
    raise CommandError(f"{path} exists: go on with nas resume {folder}, or give another folder with -o.")


def _look_in(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
