"""``nas rank``: Kendall's tau against closed forms, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas_tuners.commands.rank import rank_correlation
from nas_tuners.runs.journal import read
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES

HERE = "tests.nas_tuners.functions"


@pytest.mark.parametrize("n", [3, 5, 12])
def test_the_same_and_the_opposite_order(n: int) -> None:
    assert rank_correlation(range(n), range(10, 10 + n)) == (1, 1, 1)
    assert rank_correlation(range(n), range(n, 0, -1)) == (-1, -1, -1)


@pytest.mark.parametrize("n", [4, 7, 20])
def test_one_swap_of_neighbours_costs_two_of_all_pairs(n: int) -> None:
    swapped = [1, 0, *range(2, n)]
    tau, low, high = rank_correlation(range(n), swapped)
    assert tau == pytest.approx(1 - 4 / (n * (n - 1)))
    assert -1 <= low <= tau <= high <= 1


def test_ties_are_taken_out_of_both() -> None:
    """Tau-b: of 6 pairs 5 are untied in the one and 3 in the other, and 2 in both, which agree."""
    tau, _, _ = rank_correlation([1, 1, 2, 3], [1, 2, 2, 2])
    assert tau == pytest.approx(2 / math.sqrt(5 * 3))


@pytest.mark.parametrize("n", [3, 10, 50])
def test_it_is_what_scipy_says(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        a, b = rng.integers(0, 6, size=(2, n)).tolist()
        assert rank_correlation(a, b)[0] == pytest.approx(kendalltau(a, b).statistic, nan_ok=True)


def test_the_interval_is_of_its_own_seed_alone() -> None:
    rng = np.random.default_rng(3)
    scores, truths = rng.normal(size=(2, 15)).tolist()
    first = rank_correlation(scores, truths, seed=1)
    np.random.seed(0)  # noqa: NPY002  the global generator is nobody's here
    assert rank_correlation(scores, truths, seed=1) == first
    assert rank_correlation(scores, truths, seed=2)[1:] != first[1:]


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    """Bivariate normal of correlation r: the true tau is 2 / pi * asin(r). Percentile intervals run a little short."""
    r, hits, rounds = 0.7, 0, 200
    truth, rng = 2 / math.pi * math.asin(r), np.random.default_rng(0)
    for seed in range(rounds):
        a, b = rng.normal(size=(2, 20))
        _, low, high = rank_correlation(a.tolist(), (r * a + math.sqrt(1 - r * r) * b).tolist(), seed)
        hits += low <= truth <= high
    assert 0.85 * rounds <= hits <= rounds


def test_what_has_no_order_is_undefined() -> None:
    assert all(map(math.isnan, rank_correlation([1, 1, 1], [1, 2, 3])))
    assert all(map(math.isnan, rank_correlation([1, 2, 3], [5, 5, 5])))


@pytest.mark.parametrize(("scores", "truths"), [([], []), ([1, 2], [1, 2]), ([1, 2, 3], [1, 2])])
def test_too_few_pairs_are_refused(scores: list[float], truths: list[float]) -> None:
    with pytest.raises(ValueError, match="wanted as many of both, and 3 or more"):
        rank_correlation(scores, truths)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "space.json").write_text(json.dumps(SPACES["20 x 4"]))
    return tmp_path


def words(score: str, retrain: str, *more: str) -> tuple[str, ...]:
    return ("rank", "space.json", "--score", f"{HERE}:{score}", "--retrain", f"{HERE}:{retrain}", "-o", "run", *more)


def test_a_table_and_tau(nas: Nas, folder: Path) -> None:
    said = nas(*words("good", "worst", "-n", "8"), cwd=folder)
    table = [line.split()[:5] for line in said.splitlines() if line.endswith(tuple("abcd")) and "k0=" in line]
    assert len(table) == 8
    assert [row[0] for row in table] == list("12345678")
    assert all(float(row[2]) == -float(row[3]) for row in table)
    assert "Kendall's tau -1.000, 95 % interval -1.00 to -1.00 (8 architectures)" in said


def test_the_same_seed_draws_the_same_and_workers_change_nothing(nas: Nas, folder: Path) -> None:
    one = nas(*words("good", "with_costs", "-n", "5", "--seed", "4"), cwd=folder)
    (folder / "run" / "journal.jsonl").unlink()
    assert nas(*words("good", "with_costs", "-n", "5", "--seed", "4", "--workers", "2"), cwd=folder) == one
    assert "tau 1.000" in one


def test_interrupted_it_is_resumed(nas: Nas, folder: Path) -> None:
    said = nas(*words("good", "interrupts", "-n", "8"), cwd=folder, code=130)
    assert "interrupted after 4 of 8 trials" in said
    assert "(8 architectures)" in nas("resume", "run", cwd=folder)
    events = [event["event"] for event in read(folder / "run" / "journal.jsonl")[0]]
    assert (events.count("ask"), events.count("tell")) == (8, 8)


def test_failures_are_left_out_and_said(nas: Nas, folder: Path) -> None:
    said = nas(*words("good", "fails_at_times", "-n", "20"), cwd=folder)
    assert "failed: uid" in said
    assert "failed)" in said.splitlines()[-1]
    assert "tau 1.000" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (words("good", "good", "-n", "2"), "-n is 2, wanted at least 3"),
        (words("god", "good"), "did you mean"),
        (words("good", "not_callable"), "not_callable is of type int, wanted a function"),
        (words("good", "good", "--constraint", "macs<=3"), "needs cost_table="),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    nas: Nas, folder: Path, given: tuple[str, ...], said: str
) -> None:
    assert said in nas(*given, cwd=folder, code=1)
    assert not (folder / "run").exists()


def test_nothing_but_failures(nas: Nas, folder: Path) -> None:
    said = nas(*words("good", "returns_text", "-n", "4"), cwd=folder, code=1)
    assert "0 architectures have both scores, wanted at least 3" in said
    assert "the metric is 'good'" in said
