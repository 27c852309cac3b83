"""Read what an experiment's configuration says of its trials: the command, how many, how long, on which GPUs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from search_spaces.checks import whole

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ExperimentError(ValueError):
    """A configuration says of its trials what this machine cannot do; the message lists all that is wrong."""


@dataclass(frozen=True)
class TrialPlan:
    """What the trials of a search need beside the search. Times are in seconds."""

    command: str  # for a shell
    folder: str  # where it runs
    concurrency: int
    trials: int | None = None  # results in total
    seconds: float | None = None  # for the whole experiment
    trial_seconds: float | None = None  # for a trial
    gpus_per_trial: int | None = None  # None: GPUs are not the experiment's business
    gpus: tuple[str, ...] = ()  # that trials may use, as CUDA_VISIBLE_DEVICES names them
    trials_per_gpu: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any], here: bool = True) -> Self:
        """Read a configuration as NNI writes it out: names in camelCase, paths absolute.

        ``here``: whether trials run on this machine; else its GPUs are none of theirs.

        Raises ExperimentError if the folder of the trials is gone, or there are fewer GPUs than a trial wants.
        """
        service = config.get("trainingService") or {}
        wanted = config.get("trialGpuNumber")
        made = cls(
            command=config["trialCommand"],
            folder=config["trialCodeDirectory"],
            concurrency=config["trialConcurrency"],
            trials=config.get("maxTrialNumber"),
            seconds=_read_seconds(config.get("maxExperimentDuration")),
            trial_seconds=_read_seconds(config.get("maxTrialDuration")),
            gpus_per_trial=wanted,
            gpus=_read_gpus(service.get("gpuIndices")) if wanted and here else (),
            trials_per_gpu=service.get("maxTrialNumberPerGpu") or 1,
        )
        problems = whole("trialConcurrency", made.concurrency, 1)
        problems += whole("maxTrialNumber", made.trials, 1, optional=True)
        problems += whole("trialGpuNumber", wanted, 0, optional=True)
        if not Path(made.folder).is_dir():
            problems.append(f"trialCodeDirectory: {made.folder} is not a folder")
        if not problems and here and wanted and wanted > len(made.gpus):
            there = ", ".join(made.gpus) or "none"
            problems.append(f"trialGpuNumber is {wanted}, but the GPUs that trials may use are: {there}")
        if problems:
            raise ExperimentError("\n".join(problems))
        return made


def check_command(command: str, folder: str, name: str = "trialCommand") -> None:
    """Check that there is such a command, before anything is begun. Raises ExperimentError if there is none."""
    word = (command.split() or [""])[0]
    if set(word) & set("=(){}[]<>|&;$`'\"\\*?#!~"):  # the shell alone knows what it means
        return
    done = subprocess.run(["/bin/bash", "-c", f"type -- {word}"], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise ExperimentError(
            f"{name} is {command!r}, but there is no command {word!r}, on the PATH or in "
            f"{folder}: wanted one such as python3 trial.py"
        )


def _read_seconds(duration: str | int | None) -> float | None:
    """Return a duration such as ``90``, ``30m`` or ``1.5h`` in seconds.

    >>> _read_seconds("1.5h")
    5400.0
    """
    if duration is None:
        return None
    match = re.fullmatch(r"([\d.]+)([smhd]?)", str(duration).strip())
    if match is None:
        raise ExperimentError(f"a duration is {duration!r}, wanted seconds, or a number with s, m, h or d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _read_gpus(indices: list[int] | None) -> tuple[str, ...]:
    """Return the GPUs that are named, or else those that this process may use."""
    if indices is not None:
        return tuple(map(str, indices))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip())
    there = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return tuple(sorted(there, key=int))
