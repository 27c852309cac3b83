"""Set up all tests."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.faults.manager import FakeManager, fake_manager
from tests.mutators import trials
from tests.sampling import SEED, sampled

# A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts inherits it: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as nohup does

# Journals are signed with a key of the tests' own, in all processes that they start too.
_CONFIG = tempfile.TemporaryDirectory(prefix="nas-tests-config-")
os.environ["XDG_CONFIG_HOME"] = _CONFIG.name

_TESTS = itertools.count()

# A machine that is busy with other work fails no test: neither a slow example nor slow drawing of examples is an error.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

EXPERIMENTS = "tests/experiments/"
"""Begin first and stay in one process: NNI gives up on a tuner that does not start within ten seconds."""
COMMANDS = ("tests/examples/", "tests/test_pages.py")
"""Come last and share nothing, so that all processes take some until the end."""


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the night what no sample takes; mark as slow what is for the night or must run alone."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for test in cases.values():
        (n,) = test[0].get_closest_marker("sampled").args
        taken = sampled([item.nodeid for item in test], n)
        for item in test:
            if item.nodeid not in taken:
                item.add_marker("nightly")
    for item in items:
        if item.get_closest_marker("alone") or item.get_closest_marker("nightly"):
            item.add_marker("slow")
    items.sort(key=lambda item: item.nodeid.startswith(COMMANDS) - item.nodeid.startswith(EXPERIMENTS))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives until the end: modules, tests and their parameters."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide slow tests among processes: experiments together, commands one by one, all else by file."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByRoom(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return EXPERIMENTS if file.startswith(EXPERIMENTS) else nodeid if file.startswith(COMMANDS) else file

    return ByRoom(config, log)


@pytest.fixture(autouse=True)
def each_test_is_a_trial_of_its_own() -> Iterator[None]:
    """A process remembers what it declared, as it is one trial; a user, which run was the latest."""
    os.environ["XDG_STATE_HOME"] = os.path.join(_CONFIG.name, f"state-{next(_TESTS)}")
    yield
    if "mutators.declarations" in sys.modules:
        sys.modules["mutators.declarations"].forget()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed of this run's samples, also with ``-q``."""
    terminalreporter.write_line(f"samples of this run: NAS_TEST_SEED={SEED}")


@pytest.fixture(scope="session")
def server() -> Iterator[Popen[str]]:
    """A process that has imported what takes long, and runs trial scripts; see ``tests/mutators/trials.py``."""
    process = trials.start()
    yield process
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as under NNI: a tuner keeps its journal there."""
    folder = tmp_path / "abc123" / "checkpoint"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(folder))
    return folder


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    """What stands for NNI's manager."""
    with fake_manager(monkeypatch) as fake:
        yield fake
