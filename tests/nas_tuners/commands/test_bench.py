"""``nas bench``: what it prints and draws of a good search and of a bad one, and what it refuses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from nas_tuners.commands import bench
from nas_tuners.testing import CHECKS, TUNER_CHECKS
from nas_tuners.testing.suite import describe_check
from nas_tuners.testing.tasks import landscapes
from tests.nas_tuners.nas import Nas

OWN = """
from nas_tuners import SearchTuner
from nas_tuners.search import RandomSearch, Search

class Good(RandomSearch):
    def __init__(self, width: int = 3, seed: int = 0):
        super().__init__(seed)
        self.width = int(width)

class GoodTuner(SearchTuner):
    def __init__(self, optimize_mode="maximize"):
        super().__init__(Good(), optimize_mode)

class Nan(RandomSearch):
    def unusable(self, *_):
        return None

class Fails(RandomSearch):
    def _propose(self, n):
        raise LookupError("no idea")

class Silent(RandomSearch):
    def ask(self, n=1):
        return []

class Half(Search):
    def _propose(self, n): ...

class Exits(RandomSearch):
    def __init__(self):
        raise SystemExit("bye")

def function(): ...

value = 3
"""
QUICK = ("--trials", "12", "--seeds", "2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few checks, and one landscape: the other tests run them all."""
    named = {check.__name__: check for check in CHECKS}
    monkeypatch.setattr(bench, "CHECKS", (named["check_unusable"], named["check_metrics"]))
    monkeypatch.setattr(bench, "landscapes", lambda: landscapes()[:1])


@pytest.mark.slow
def test_all_checks_of_a_search_and_its_tuner_pass(nas: Nas, folder: Path) -> None:
    said = nas("bench", "--tuner", "own:GoodTuner", *QUICK, cwd=folder)
    passed = [line.removeprefix("pass  ") for line in said.splitlines() if line.startswith("pass  ")]
    assert passed == [describe_check(check).replace("``", "") for check in (*CHECKS, *TUNER_CHECKS)]
    assert f"{len(passed)} of {len(passed)} checks passed\n" in said
    assert re.findall(r"\n\n(.*)\nafter", said) == [task.name for task in landscapes()]
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.usefixtures("few")
def test_a_table_compares_it_with_ours(nas: Nas, folder: Path) -> None:
    said = nas("bench", "--tuner", "own:Good", "--set", "width=4", *QUICK, cwd=folder)
    assert said.startswith("pass  Count NaN, infinities and failures as failed trials, never as the best\n")
    assert "2 of 2 checks passed\n\nRegret in standard deviations: mean of 2 seeds +- its standard error.\n" in said
    table = said.partition("\nlandscape, 2 keys meet\n")[2].splitlines()
    assert re.fullmatch(r"after +12 +ms", table[0])
    names = ["own:Good", "random", "annealing", "evolution", "bayesian", "local"]
    assert [row.split()[0] for row in table[1:]] == names
    assert all(re.fullmatch(r"[\w:]+ +\d\.\d\d \+- \d\.\d\d +\d+\.\d", row) for row in table[1:])
    mine, random = (row.split()[1:4] for row in table[1:3])
    assert mine == random  # the same search, with the same seeds


@pytest.mark.usefixtures("few")
def test_budgets_are_those_below_the_trials_and_one_seed_has_no_error(nas: Nas, folder: Path) -> None:
    said = nas("bench", "--tuner", "own:Good", "--trials", "26", "--seeds", "1", cwd=folder)
    assert said.count(f"{'after':16}{25:>14}{26:>14}      ms\n") == 1
    assert "Regret in standard deviations: of one seed.\n" in said
    assert "+-" not in said


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_curves_are_drawn(nas: Nas, folder: Path, suffix: str) -> None:
    said = nas("bench", "--tuner", "own:Good", *QUICK, "-o", f"curves{suffix}", cwd=folder)
    assert said.endswith(f"\ncurves{suffix}\n")
    drawn = (folder / f"curves{suffix}").read_bytes()
    assert b"atplotlib" in drawn
    if suffix == ".svg":
        assert b"own:Good" in drawn and b"2 keys meet" in drawn and b"mathdefault" not in drawn


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Nan", r"FAIL  Count NaN, infinities and failures as failed trials, .*\n      best of 3, -4, NaN"),
        ("Fails", r"own:Fails         failed: LookupError: no idea \(own.py:\d+ in _propose\)"),
        ("Silent", "own:Silent        failed: it has no result"),
    ],
)
def test_a_check_that_fails_fails_the_command(nas: Nas, folder: Path, name: str, said: str) -> None:
    printed = nas("bench", "--tuner", f"own:{name}", *QUICK, cwd=folder, code=1)
    assert re.search(said, printed)
    assert re.search(r"^[01] of 2 checks passed$", printed, re.MULTILINE)
    assert "\nbayesian " in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["own"], r"--tuner is 'own', wanted module:Class, such as my_tuner:MySearch"),
        (["nowhere:Good"], r"nowhere:Good cannot be imported: ModuleNotFoundError"),
        (["own:Goood"], r"own:Goood cannot be found: own has no Goood; did you mean own:Good\?"),
        (["own:value"], r"own:value is of type int"),
        (["own:function"], r"own:function is a function, wanted a class derived from nas_tuners.search.Search or"),
        (["pathlib:Path"], r"pathlib:Path is the class Path, wanted a class derived from"),
        (["own:Half"], r"own:Half cannot be made: Can't instantiate abstract class Half"),
        (["own:Exits"], r"own:Exits cannot be made: SystemExit: bye"),
        (["own:Good", "--set", "widht=4"], r"wanted one of 'seed', 'width'; did you mean 'width'\?"),
        (["own:Good", "--set", "width"], r"--set is 'width', wanted name=value"),
        (["own:Good", "--set", "width=wide"], r"own:Good cannot be made: invalid literal for int\(\)"),
        (["own:Good", "--set", "seed=1"], r"--set seed is not for this: nas bench sets it itself"),
        (["own:GoodTuner", "--set", "optimize_mode=minimize"], r"--set optimize_mode is not for this"),
        (["own:Good", "--trials", "0", "--seeds", "-1"], r"--trials is 0, .*\n--seeds is -1, wanted a whole number"),
        (["own:Good", "-o", "curves.gif"], r"cannot draw to curves.gif: wanted a file that ends in .png, .svg, .pdf"),
        (["own:Good", "-o", "notes.png"], r"notes.png exists and is no picture of matplotlib's"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_said_at_once(nas: Nas, folder: Path, words: list[str], said: str) -> None:
    (folder / "notes.png").write_text("precious")
    printed = nas("bench", "--tuner", *words, cwd=folder, code=1)
    assert re.search(said, printed)
    assert 1 <= len(printed.splitlines()) <= 3
    assert "pass" not in printed


def test_without_matplotlib_it_says_so_before_it_runs(nas: Nas, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = nas("bench", "--tuner", "own:Good", "-o", "curves.png", cwd=folder, code=1)
    assert 'drawing needs matplotlib: pip install "nas-tuners[plots]"' in said
    assert "pass" not in said
