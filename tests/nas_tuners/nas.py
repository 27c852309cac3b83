"""The command line, run in the process of the test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas_tuners.cli import main

_OWN = ("own", "trial", "functions")  # modules of a test: another test's of the same name is another one


class Nas:
    """Runs ``nas`` in this process. What it prints holds no traceback, and a failure is its exit code."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capfd, self.monkeypatch = capfd, monkeypatch

    def __call__(self, *words: str, cwd: Path, code: int = 0) -> str:
        """Returns: all that it printed."""
        self.capfd.readouterr()
        with self.monkeypatch.context() as context:
            context.chdir(cwd)
            context.setattr(sys, "path", [*sys.path])
            before = set(sys.modules)
            exited = main(words)
            for name in set(sys.modules) - before:
                if name in _OWN:
                    del sys.modules[name]
        out, err = self.capfd.readouterr()
        assert exited == code, out + err
        assert "Traceback" not in out + err
        return out + err
