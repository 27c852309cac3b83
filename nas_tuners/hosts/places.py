"""The places where an experiment's trials can run, by name: each checks what it is given, and runs it."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from nas_tuners.hosts.local import Job
from nas_tuners.hosts.nni.handouts import Handouts
from nas_tuners.hosts.nni.results import Results
from nas_tuners.hosts.trials.loop import run_trials
from nas_tuners.hosts.trials.plan import TrialPlan, check_command
from nas_tuners.runs.evaluation import Evaluate, NamedFunction
from nas_tuners.runs.loop import OnProgress, run_search
from nas_tuners.runs.run import Run
from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces import Space
from search_spaces.resolve import look_in


@dataclass(frozen=True)
class Work:
    """What is to be done for the trials of a run."""

    trial: Evaluate | str  # a function, its name, or a command
    trials: int  # results in total
    workers: int  # trials at a time
    trial_timeout: float | None  # seconds


class Place(ABC):
    """Where trials run."""

    needs_folder: ClassVar[bool] = False

    @abstractmethod
    def check(self, work: Work) -> list[str]:
        """Return what is wrong with what a trial is to call or to start."""

    @abstractmethod
    def describe(self, work: Work, space: Space, algorithm: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what ``nas resume`` needs to go on, with the algorithm of that name; None if it cannot.

        ``arguments``: of the algorithm's tuner.
        """

    @abstractmethod
    def run(self, work: Work, run: Run, folder: Path | None, on_progress: OnProgress) -> None:
        """Run trials until there are enough results; the errors are those of the function or the command."""


class Loop(Place):
    """Calls of a function in this process, or in processes of several workers."""

    def check(self, work: Work) -> list[str]:
        trial = work.trial
        if isinstance(trial, str) and ":" not in trial:
            return [f"trial is {trial!r}, wanted a function, or module:function; a command is for host='local'"]
        if isinstance(trial, str):
            look_in(Path.cwd())
            return _list_problems(NamedFunction(trial).find)
        if not callable(trial):
            return [f"trial is {trial!r}, wanted a function of choices"]
        if (work.workers > 1 or work.trial_timeout) and not _is_importable(trial):
            how = "write it into a module and give module:function, or leave out workers and trial_timeout"
            return [f"trial is {trial!r}, which other processes cannot import: {how}"]
        return []

    def describe(self, work: Work, space: Space, algorithm: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        if not isinstance(work.trial, str):
            return None
        functions = {"evaluate": work.trial}
        return asdict(Job("search", functions, algorithm, work.trials, work.workers, os.getcwd(), work.trial_timeout))

    def run(self, work: Work, run: Run, folder: Path | None, on_progress: OnProgress) -> None:
        run_search(run, work.trial, work.trials, work.workers, on_progress, work.trial_timeout)


class Local(Place):
    """A command as processes of this machine, as ``nas run --on local`` starts them."""

    needs_folder = True

    def check(self, work: Work) -> list[str]:
        if not isinstance(work.trial, str):
            return [f"trial is {work.trial!r}, wanted a command; a function is for host='loop'"]
        return _list_problems(partial(check_command, work.trial, os.getcwd(), "trial"))

    def describe(self, work: Work, space: Space, algorithm: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        tuner = {"className": f"nas_tuners.{ALGORITHMS[algorithm].tuner}", "codeDirectory": os.getcwd()}
        config: dict[str, Any] = {"searchSpace": space.to_json(), "tuner": {**tuner, "classArgs": dict(arguments)}}
        config |= {"trialCommand": work.trial, "trialCodeDirectory": os.getcwd()}
        config |= {"trialConcurrency": work.workers, "maxTrialNumber": work.trials}
        config |= {} if work.trial_timeout is None else {"maxTrialDuration": f"{work.trial_timeout:g}s"}
        return {"name": "run", "config": {**config, "trainingService": {"platform": "local"}}}

    def run(self, work: Work, run: Run, folder: Path | None, on_progress: OnProgress) -> None:
        assert folder is not None and isinstance(work.trial, str)
        plan = TrialPlan(work.trial, os.getcwd(), work.workers, work.trials, trial_seconds=work.trial_timeout)
        results = Results(run, Handouts(), retries=0, learn_failures=True)
        run_trials(
            results, plan, folder, on_progress, lambda uid, value, sequence: results.hear(uid, value, sequence + 1)
        )


PLACES: dict[str, Place] = {"loop": Loop(), "local": Local()}
"""By the name for ``Experiment(host=...)``."""


def _list_problems(check: Callable[[], object]) -> list[str]:
    """Return what a check complains of."""
    try:
        check()
    except ValueError as error:
        return [str(error)]
    return []


def _is_importable(function: Callable[..., object]) -> bool:
    """Return whether a new process finds a function by its name: it stands at the top of a module, or of a script."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    return "<" not in name and (module != "__main__" or hasattr(sys.modules[module], "__file__"))
