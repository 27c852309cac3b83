"""Connect to a Ray cluster: the one that RAY_ADDRESS names, or one of this machine that ends with the run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nas_tuners.hosts.trials.plan import TrialPlan
from nas_tuners.hosts.trials.process import TrialError
from search_spaces.checks import whole

_ADDRESS, _OWN = "RAY_ADDRESS", "local"  # without the variable: a cluster of this machine
_PATIENCE = 5.0  # seconds for a cluster to answer


class ClusterError(TrialError):
    """Ray is not installed, there is no cluster where RAY_ADDRESS says, or it cannot be started."""


def check(cpus: int) -> None:
    """Check that there is Ray, the cluster that is named, and a sensible number of CPUs for a trial.

    Raises ClusterError if not.
    """
    if problems := whole("--cpus", cpus, 1):
        raise ClusterError(problems[0])
    _import_ray()
    if (address := _find_address()) != _OWN:
        _check_address(address)


@contextmanager
def connect(plan: TrialPlan, cpus: int) -> Iterator[None]:
    """Connect to the cluster, for trials of so many CPUs. What was started for it is stopped at the end.

    Raises ClusterError if that cannot be done.
    """
    ray, address = _import_ray(), _find_address()
    own: dict[str, Any] = {}
    if address == _OWN:  # with room for all trials, as on local
        own = {"num_cpus": max(os.cpu_count() or 1, cpus * plan.concurrency), "include_dashboard": False}
    try:
        with _keeping_signals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what later releases will do
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except (RuntimeError, ValueError, OSError) as error:
                raise ClusterError(_describe(address, str(error).partition("\n")[0])) from None
        _check_resources(ray.nodes(), plan)
        yield
    finally:
        ray.shutdown()


def _find_address() -> str:
    return os.environ.get(_ADDRESS) or _OWN


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f'--on ray needs Ray, here and on each node: pip install "nas-tuners[ray]"\n{error}'
        ) from None
    return ray


def _check_address(address: str) -> None:
    """Check that something listens at an address: Ray itself would try for a minute, then end this process."""
    if address == "auto":  # the cluster that runs on this machine, which Ray looks up in a file
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise ClusterError(
            f"{_ADDRESS} is {address!r}, wanted HOST:PORT of the cluster's head, such as 10.0.0.1:6379, or auto\n"
            "run nas on a machine of the cluster; without the variable it starts a cluster of this machine alone"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(_describe(address, str(error))) from None


def _describe(address: str, why: str) -> str:
    if address == _OWN:
        return f"no Ray cluster can be started on this machine: {why}"
    return (
        f"no Ray cluster answers at {address}, which {_ADDRESS} names: {why}\n"
        "is it up? `ray status` tells; `ray start --head` starts one\n"
        f"without {_ADDRESS}, nas starts a cluster of this machine alone"
    )


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Keep what SIGTERM does: Ray has it exit."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_resources(nodes: list[dict[str, Any]], plan: TrialPlan) -> None:
    """Say so if no node has the GPUs of a trial: its trials would wait in silence, for ever if none joins."""
    wanted = plan.gpus_per_trial or 0
    most = max((node["Resources"].get("GPU", 0) for node in nodes if node["Alive"]), default=0)
    if wanted > most:
        sys.stderr.write(
            f"nas: warning: trialGpuNumber is {wanted}, but no node of the cluster has more than {most:g} GPUs: "
            "trials wait until one joins.\n"
        )
