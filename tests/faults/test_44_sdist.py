"""Once: the source distribution lacked examples, constraints, Makefile and nearly all tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE = ("PKG-INFO", "setup.cfg")  # by setuptools


def files_of_git(folder: Path) -> set[str]:
    return set(subprocess.check_output(["git", "ls-files"], cwd=folder, text=True).splitlines())


def pack(folder: Path) -> Path:
    """Returns: the archive."""
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", "../packed"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (archive,) = (folder.parent / "packed").iterdir()
    return archive


def files_in(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames() if tar.getmember(name).isfile()}
    return {name for name in names if name not in MADE and ".egg-info/" not in name}


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with git")
def test_the_source_distribution_is_what_a_clone_holds(tmp_path: Path) -> None:
    clone = tmp_path / "a" / "clone"
    for name in files_of_git(ROOT):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    wanted = files_of_git(clone)
    assert {"Makefile", "constraints.txt", "CHANGELOG.md", "examples/ofa/config.yml", "tests/conftest.py"} <= wanted
    (clone / "examples" / "ofa" / "runs").mkdir()
    (clone / "examples" / "ofa" / "runs" / "largest.pt").touch()  # what working in a clone leaves
    (clone / "notes.txt").touch()
    archive = pack(clone)
    assert files_in(archive) == wanted
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "b", filter="data")
    (unpacked,) = (tmp_path / "b").iterdir()
    (unpacked / "tests" / "__pycache__").mkdir()
    (unpacked / "tests" / "__pycache__" / "conftest.cpython-311.pyc").touch()
    assert files_in(pack(unpacked)) == wanted  # from an archive as well, where there is no git
