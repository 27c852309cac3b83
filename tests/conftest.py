"""Set up all tests."""

from __future__ import annotations

import signal

import pytest

from tests.sampling import SEED

# A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts inherits it: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what must run alone or is for the night, so that ``-m "not slow"`` means neither."""
    for item in items:
        if item.get_closest_marker("alone") or item.get_closest_marker("nightly"):
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed of this run's samples, also with ``-q``."""
    terminalreporter.write_line(f"samples of this run: NAS_TEST_SEED={SEED}")
