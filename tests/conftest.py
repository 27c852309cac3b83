"""Set up all tests."""

from __future__ import annotations

import signal

import pytest

# A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts inherits it: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

EXPERIMENTS = pytest.mark.xdist_group("experiments").mark
"""Of every test that starts NNI."""


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what must run alone or is for the night, so that ``-m "not slow"`` means neither.

    Divide the slow ones among processes: experiments begin first and stay in one process, one after the other, since
    NNI gives up on a tuner that does not start within ten seconds; all else goes by file, for what its tests share.
    """
    for item in items:
        if item.get_closest_marker("alone") or item.get_closest_marker("nightly"):
            item.add_marker("slow")
        if item.get_closest_marker("slow") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: EXPERIMENTS not in item.iter_markers())
