"""Run a script in this process, as ``python FILE`` would; for tests that start a process for it."""

from __future__ import annotations

import runpy
import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


def run(path: Path, log: Path) -> None:
    """Run ``path``; what it prints and how it fails goes to ``log``. A deprecated name is an error."""
    sys.path.insert(0, str(path.parent))
    warnings.simplefilter("error", DeprecationWarning)
    with log.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except BaseException:
            traceback.print_exc()
            raise
