"""What users might give ``--evaluate``: good, failing, deadly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

Choices = dict[str, Any]
not_callable = 3


def good(choices: Choices) -> float:
    return float(sum((i + 1) * choice["_idx"] for i, choice in enumerate(choices.values())) % 17)


def with_costs(choices: Choices) -> dict[str, Any]:
    score = np.float64(good(choices))
    return {"default": score, "accuracy": -score, "macs": np.int64(10 + score)}


def worst(choices: Choices) -> float:
    return -good(choices)


def fails_at_times(choices: Choices) -> float:
    score = good(choices)
    if score == 3:
        raise ValueError("three\nis too few")
    if score == 5:
        sys.exit(7)
    return float("nan") if score == 7 else score


def returns_text(choices: Choices) -> str:
    return "good"


def returns_an_object(choices: Choices) -> dict[str, Any]:
    return {"default": good(choices), "model": lambda: choices}


def dies_at_times(choices: Choices) -> float:
    if good(choices) in (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return good(choices)


def dies_at_one_call(choices: Choices) -> float:
    """Kills the process at the call whose number the file ``die_at`` holds; then the file is gone."""
    plan = Path("die_at")
    if plan.exists():
        left = int(plan.read_text()) - 1
        plan.write_text(str(left))
        if left == 0:
            plan.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    return good(choices)


def slow(choices: Choices) -> float:
    """Leaves the number of its process behind, and takes longer than any test waits."""
    Path(f"running.{os.getpid()}").touch()
    time.sleep(600)
    return 0.0


def hangs_at_times(choices: Choices) -> float:
    """Hangs for ten minutes with a process that it has started, and leaves the numbers of both behind."""
    if good(choices) in (2, 3):
        child = subprocess.Popen(["sleep", "600"])
        Path(f"hanging.{os.getpid()}").touch()
        Path(f"hanging.{child.pid}").touch()
        time.sleep(600)
    return good(choices)


def forks_and_waits(choices: Choices) -> float:
    """Leaves behind the numbers of this process and of a child that was forked, and waits for ten minutes."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    Path(f"forked.{child}").touch()
    return slow(choices)


def takes_its_time(choices: Choices) -> float:
    """Takes 5 ms, and 120 ms at times."""
    time.sleep(0.12 if good(choices) % 5 == 0 else 0.005)
    return good(choices)


def interrupts(choices: Choices) -> float:
    """As Ctrl-C in the middle of the fifth call."""
    with Path("calls").open("a") as calls:
        calls.write("x")
    if Path("calls").stat().st_size == 5:
        raise KeyboardInterrupt
    return good(choices)
