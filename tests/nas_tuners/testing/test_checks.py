"""The public checks find what they are for, pass what is right, and need nothing but numpy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_tuners import EvolutionTuner, SearchTuner
from nas_tuners.search import Evolution, RandomSearch, Search
from nas_tuners.testing import CHECKS, TUNER_CHECKS, check_search, check_tuner
from nas_tuners.testing.suite import describe_check
from tests.nas_tuners.testing import broken, broken_tuners

BY_NAME = {check.__name__.removeprefix("check_"): check for check in CHECKS}
TUNERS_BY_NAME = {check.__name__.removeprefix("check_"): check for check in TUNER_CHECKS}


def test_there_is_a_broken_search_for_every_check_and_a_broken_tuner() -> None:
    assert list(broken.SEARCHES) == list(BY_NAME)
    assert list(broken_tuners.TUNERS) == list(TUNERS_BY_NAME)


@pytest.mark.parametrize(
    ("name", "cls"),
    [(name, cls) for name, classes in broken.SEARCHES.items() for cls in classes],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_check_notices_a_search_that_breaks_its_promise(name: str, cls: type[Search]) -> None:
    with pytest.raises(AssertionError, match=r"got .*, wanted|it raised \w+") as raised:
        BY_NAME[name](cls)
    assert len(str(raised.value)) < 800


@pytest.mark.parametrize("name", broken_tuners.TUNERS)
def test_a_check_notices_a_tuner_that_breaks_its_promise(name: str) -> None:
    with pytest.raises(AssertionError, match=r"got .*, wanted|it raised \w+"):
        TUNERS_BY_NAME[name](broken_tuners.TUNERS[name])


@pytest.mark.slow
def test_a_good_search_and_a_good_tuner_pass() -> None:
    check_search(RandomSearch)
    check_tuner(broken_tuners.Tuner)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SearchTuner(RandomSearch(), on_failure="retry"),
        lambda: SearchTuner(RandomSearch(), on_failure="skip"),
        lambda: EvolutionTuner(candidate_pool_size=4, max_epoch=2),
    ],
    ids=["retries", "skips", "ends after eight trials"],
)
@pytest.mark.parametrize("check", TUNER_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_tuner_may_have_its_own_ways(check: Callable[..., None], make: Callable[[], SearchTuner]) -> None:
    check(make)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_search_may_end_early(check: Callable[..., None]) -> None:
    check(lambda: Evolution(candidate_pool_size=4, max_epoch=2))


@pytest.mark.slow
def test_all_that_is_broken_is_said_at_once() -> None:
    with pytest.raises(AssertionError) as raised:
        check_search(broken.TakesNaN)
    first, *others = str(raised.value).splitlines()
    assert first.startswith(f"{describe_check(BY_NAME['unusable'])}: best of 3, -4, NaN, infinities and a failure: got")
    with pytest.raises(AssertionError, match=r"Keep limits on costs.*wanted"):
        check_tuner(lambda: SearchTuner(broken.Unlimited()))
    assert all("got" in other for other in others)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandomSearch, r"the search is the class RandomSearch, wanted an object"),
        (lambda: "random", r"the search is 'random', wanted an object"),
        (RandomSearch(), r"'RandomSearch' object is not callable"),
        (lambda: 1 / 0, r"it raised ZeroDivisionError: division by zero \(test_checks.py"),
    ],
)
def test_what_makes_no_search_is_said(make: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        BY_NAME["seed"](make)


def test_a_class_within_a_function_cannot_be_resumed_elsewhere() -> None:
    class Local(RandomSearch): ...

    with pytest.raises(AssertionError, match=r"Local is defined in a function: no other process, so no resume"):
        BY_NAME["fresh_process"](Local)


SCRIPT = """
from nas_tuners.search import RandomSearch
from nas_tuners.testing import CHECKS, check_search

class Mine(RandomSearch): ...

if __name__ == "__main__":
    check_search(Mine)
    import sys
    print(len(CHECKS), [name for name in ("torch", "nni", "pytest", "hypothesis") if name in sys.modules])
"""


@pytest.mark.slow
def test_a_script_checks_its_own_search_without_pytest_or_nni(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"{len(CHECKS)} []"], done.stderr


@pytest.mark.slow
def test_a_script_that_checks_when_it_is_imported_starts_no_endless_row_of_processes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT.partition("if __name__")[0] + "check_search(Mine)\n")
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'checks when it is imported: put that under if __name__ == "__main__":' in done.stderr


@pytest.mark.slow
def test_pytest_runs_the_checks_over_a_search_in_two_lines(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\nfrom nas_tuners.search import RandomSearch\nfrom nas_tuners.testing import CHECKS\n\n"
        "class Mine(RandomSearch):\n    def unusable(self, *_):\n        return None\n\n"
        '@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)\n'
        "def test_mine(check):\n    check(Mine)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    failed = [line.partition("::")[2].partition(" ")[0] for line in done.stdout.splitlines() if "FAILED" in line]
    assert failed[0] == "test_mine[check_unusable]", done.stdout


def names(checks: tuple[Callable[..., None], ...]) -> list[str]:
    return [check.__name__ for check in checks]


def test_every_check_has_a_name_and_a_line_of_its_own() -> None:
    for checks in (CHECKS, TUNER_CHECKS):
        assert len(set(names(checks))) == len({describe_check(check) for check in checks}) == len(checks)
        assert all(len(describe_check(check)) <= 74 for check in checks)
