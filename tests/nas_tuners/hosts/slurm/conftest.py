"""Give tests a Slurm that is there at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nas_tuners.hosts.slurm import pool
from tests.nas_tuners.hosts.slurm import fake


@pytest.fixture
def fake_slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put commands that stand in for Slurm's on the PATH. Returns: the folder of what they know."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "jobs").mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{Path(fake.__file__).read_text()}")
        (folder / name).chmod(0o700)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(pool, "_TICK", 0.02)
    return folder
