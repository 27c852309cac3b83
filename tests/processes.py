"""Processes that tests start and kill, forked from one that has imported what takes long: torch alone takes seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import torch.multiprocessing

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("pytest", "torch.distributed", "torch._dynamo", "scipy.stats", "nas_tuners.search"),
        *("mutators.elastic.training.train", "mutators.oneshot.train", "mutators.subnet.folder"),
        *("nas_tuners.commands.prune", "nas_tuners.commands.search"),
    ]
)


def start(function: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Call ``function`` in a new process. Its exit code is what ``sys.exit`` would make of it."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def run(function: Callable[..., object], *arguments: Any) -> int | None:
    """Call ``function`` in a new process and wait for its end. Returns: the exit code, or minus the signal's number."""
    process = start(function, *arguments)
    process.join()
    return process.exitcode


def kill(process: BaseProcess, when: Callable[[], bool], later: float) -> bool:
    """Kill a process so many seconds after ``when()`` came true. Returns: True if it had not ended before."""
    while process.is_alive() and not when():
        process.join(0.001)
    process.join(later)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def run_ranks(work: Callable[..., None], *arguments: Any, ranks: int = 2) -> None:
    """Call ``work(rank, *arguments)`` in as many processes as there are ranks, and wait for all.

    Raises:
        ProcessRaisedException: one of them failed.
    """
    torch.multiprocessing.start_processes(work, arguments, nprocs=ranks, start_method="forkserver")


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the worker processes of a search that there are."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children()
        return [child for child in children if is_there(child) and "spawn_main" in " ".join(child.cmdline())]
    return []


def is_there(process: psutil.Process) -> bool:
    """Return whether a process has not ended."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and bool(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def run_nas(folder: Path, *words: str) -> None:
    """Be the command ``nas`` in ``folder``, where what it prints goes to printed.txt: to be called in a new process."""
    from nas_tuners.cli import main

    os.chdir(folder)
    with open("printed.txt", "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        sys.exit(main(words))
