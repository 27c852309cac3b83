"""Read what is asked of Slurm for each trial, and turn it into options of sbatch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from nas_tuners.hosts.trials.plan import ExperimentError, TrialPlan

Options = Mapping[str, str | None]
"""Long options of sbatch, with their values; None for one without."""

_OURS = (  # a job would not be found, or its results would not
    *("array", "chdir", "clusters", "dependency", "error", "export", "export-file", "get-user-env", "help", "input"),
    *("ignore-pbs", "job-name", "open-mode", "output", "parsable", "quiet", "test-only", "uid", "usage", "version"),
    *("wait", "wrap"),
)


def read_options(words: Iterable[str]) -> dict[str, str | None]:
    """Read ``KEY=VALUE``, or ``KEY`` alone: long options of sbatch, without their dashes. Of one given twice, the last.

    >>> read_options(["partition=gpu", "exclusive"])
    {'partition': 'gpu', 'exclusive': None}
    """
    pairs = [word.partition("=") for word in words]
    return {key: value if equals else None for key, equals, value in pairs}


def make_words(options: Options, plan: TrialPlan) -> list[str]:
    """Return the options of sbatch that the user and the experiment ask for.

    Raises ExperimentError if one is none of the user's.
    """
    problems = [problem for key in options for problem in _find_problems(key, plan)]
    if problems:
        raise ExperimentError("\n".join(problems))
    words = ["--requeue"]
    if plan.trial_seconds is not None:
        words.append(f"--time={math.ceil(plan.trial_seconds / 60)}")
    if plan.gpus_per_trial and not any(key.startswith(("gres", "gpus")) for key in options):
        words.append(f"--gres=gpu:{plan.gpus_per_trial}")
    return words + [f"--{key}" if value is None else f"--{key}={value}" for key, value in options.items()]


def _find_problems(key: str, plan: TrialPlan) -> list[str]:
    if not re.fullmatch(r"[a-z][a-z-]+", key):
        return [f"--slurm {key}: wanted a long option of sbatch without dashes, such as partition=gpu"]
    if any(name.startswith(key) for name in _OURS):  # sbatch takes shortened ones as well
        return [f"--slurm {key}: nas run says that itself; wanted another option of sbatch, such as partition=gpu"]
    if key == "time" and plan.trial_seconds is not None:
        return ["--slurm time: maxTrialDuration says it already; leave one of them out"]
    return []
