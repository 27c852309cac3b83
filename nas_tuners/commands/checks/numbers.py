"""Check the numbers of a configuration, alone and against what its tuner needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_tuners.hosts.nni.tuner import SearchTuner
from search_spaces.checks import is_int, whole


def check_numbers(config: Mapping[str, object]) -> list[str]:
    """Return what is wrong with the command and the numbers of trials; NNI would say AssertionError."""
    problems = whole("trialConcurrency", config.get("trialConcurrency"), 1)
    problems += whole("maxTrialNumber", config.get("maxTrialNumber"), 1, optional=True)
    command = config.get("trialCommand")
    if not isinstance(command, str) or not command.strip():
        problems.append(f"trialCommand is {command!r}, wanted a command such as python3 trial.py")
    return problems


def check_budget(config: Mapping[str, Any], tuner: Any) -> list[str]:
    """Return where a tuner cannot do its work with so many trials, of which so many run at once."""
    if not isinstance(tuner, SearchTuner):
        return []
    search, limit, at_once = tuner.run.search, config.get("maxTrialNumber"), config["trialConcurrency"]
    name, problems = type(search).__name__, []
    if is_int(limit) and 0 < search.warm_up >= limit:
        problems.append(
            f"maxTrialNumber is {limit}, but {name} only begins to choose after {search.warm_up} trials: wanted more"
            + f", or a smaller {search.warm_up_option}" * bool(search.warm_up_option)
        )
    if getattr(search, "mode", "") == "generation" and at_once > search.warm_up:
        problems.append(
            f"trialConcurrency is {at_once}, but an epoch has {search.warm_up} trials: wanted no more than those at "
            "once, or mode: steady"
        )
    return problems
