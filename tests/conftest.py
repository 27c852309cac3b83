"""Holds for all tests."""

import signal

import pytest

# A shell lets what it starts in the background ignore Ctrl-C, and whatever that starts inherits it: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts NNI runs in one worker, one after the other: two at once could take each other's ports."""
    for item in items:
        if item.path.parent.name in ("experiments", "examples") or item.path.name == "test_readme.py":
            item.add_marker(pytest.mark.xdist_group("nni"))
