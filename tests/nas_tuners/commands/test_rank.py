"""``nas rank``: Kendall's tau against closed forms, and the command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas_tuners.commands.rank import rank_correlation
from nas_tuners.runs.journal import read
from search_spaces import Space
from search_spaces.cost.table import CostTable
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


def without_progress(said: str) -> str:
    """Return what a command printed but for its progress, which a busy machine is shown after five seconds."""
    return "\n".join(line for line in said.splitlines() if not line.startswith("["))


def test_a_table_and_tau(nas: Nas, folder: Path) -> None:
    said = nas(*words("good", "worst", "-n", "8"), cwd=folder)
    table = [line.split()[:5] for line in said.splitlines() if line.endswith(tuple("abcd")) and "k0=" in line]
    assert len(table) == 8
    assert [row[0] for row in table] == list("12345678")
    assert all(float(row[2]) == -float(row[3]) for row in table)
    assert "Kendall's tau -1.000, 95 % interval -1.00 to -1.00 (8 architectures)" in said


def test_the_same_seed_draws_the_same_and_workers_change_nothing(nas: Nas, folder: Path) -> None:
    same = words("good", "with_costs", "-n", "5", "--seed", "4", "--rival", f"{HERE}:worst")
    one = without_progress(nas(*same, cwd=folder))
    (folder / "run" / "journal.jsonl").unlink()
    assert without_progress(nas(*same, "--workers", "2", cwd=folder)) == one
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


@pytest.fixture
def costs(folder: Path) -> Path:
    """The folder with a cost table: macs are 1000 and the number of the option of each key, params go down with it."""
    space = Space.from_json(SPACES["20 x 4"])
    options = {"macs": [0, 1, 2, 3], "params": [3, 2, 1, 0]}
    CostTable(
        space, {"macs": 1000, "params": 0}, {name: dict.fromkeys(space.keys, own) for name, own in options.items()}
    ).save(folder / "cost.json")
    return folder


def rivals(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--rival", f"{HERE}:{name}"))


def rows_of(said: str) -> dict[str, list[str]]:
    """Return the cells of the table of rivals, by name."""
    lines = said[said.index("ranked by") : said.index("The score ranks")].splitlines()[1:]
    return {name: re.split(r"\s{2,}", rest.strip()) for name, rest in (line.split(maxsplit=1) for line in lines)}


def test_costs_and_rivals_are_ranked_in_the_same_run(nas: Nas, costs: Path) -> None:
    said = nas(*words("good", "with_costs", "-n", "12", "--cost-table", "cost.json"), *rivals("worst"), cwd=costs)
    rows = rows_of(said)
    assert list(rows) == ["score", "macs", "params", f"{HERE}:worst"]
    assert rows["score"][:2] == ["1.000", "1.00 to 1.00"]
    assert rows[f"{HERE}:worst"][:3] == ["-1.000", "-1.00 to -1.00", "2.000 +- 0.000"]
    assert float(rows["macs"][0]) == -float(rows["params"][0]) != 0  # as it is, negative or not
    assert "tau at equal macs (66 pairs)" in said  # 1000 to 1060
    assert "The score ranks better than its best rival, " in said.splitlines()[-1]
    events, _ = read(costs / "run" / "journal.jsonl")
    told = [event["metrics"] for event in events if event["event"] == "tell"]
    assert all(m[f"{HERE}:worst"] == -m["score"] == -m["default"] for m in told)
    assert f"{HERE}:worst" in json.loads(nas("show", "run", "--json", cwd=costs))["trials"][0]["metrics"]


def test_a_rival_that_scores_the_same_makes_the_supernet_useless(nas: Nas, folder: Path) -> None:
    said = nas(*words("good", "with_costs", "-n", "6"), *rivals("good"), cwd=folder)
    assert rows_of(said)[f"{HERE}:good"][2] == "0.000 +- 0.000"
    assert f"The score ranks no better than {HERE}:good " in said and "train it longer" in said


def test_where_the_lowest_is_the_best_more_costs_still_are_better(nas: Nas, costs: Path) -> None:
    high = nas(*words("good", "good", "-n", "9", "--cost-table", "cost.json"), cwd=costs)
    (costs / "run" / "journal.jsonl").unlink()
    low = nas(*words("worst", "worst", "-n", "9", "--cost-table", "cost.json", "--minimize"), cwd=costs)
    assert rows_of(high) == rows_of(low)
    assert [line.split()[4] for line in low.splitlines()[1:10]] == [line.split()[4] for line in high.splitlines()[1:10]]
    assert without_progress(nas("resume", "run", cwd=costs)) == without_progress(low)


def test_interrupted_in_a_rival_it_is_resumed_as_if_unbroken(nas: Nas, costs: Path) -> None:
    more = ("-n", "8", "--cost-table", "cost.json", *rivals("interrupts", "worst"))
    assert "after 4 of 8 trials" in nas(*words("good", "with_costs", *more), cwd=costs, code=130)
    resumed = nas("resume", "run", cwd=costs)
    before = read(costs / "run" / "journal.jsonl")[0][1:]
    (costs / "run" / "journal.jsonl").unlink()
    assert without_progress(nas(*words("good", "with_costs", *more), cwd=costs)) == without_progress(resumed)
    assert read(costs / "run" / "journal.jsonl")[0][1:] == before


def test_a_resume_by_functions_of_ones_own_names_all_rivals_and_keeps_their_metrics(nas: Nas, folder: Path) -> None:
    nas(*words("good", "with_costs", "-n", "4"), *rivals("worst", "good"), cwd=folder)
    own = ("--score", f"{HERE}:good", "--retrain", f"{HERE}:with_costs")
    said = nas("resume", "run", *own, *rivals("worst"), cwd=folder, code=1)
    wanted = (
        f"wanted --score and --retrain and --rival and --rival, the rivals in the order of {HERE}:worst, {HERE}:good"
    )
    assert wanted in said
    said = nas("resume", "run", *own, *rivals("good", "worst"), "--trials", "6", cwd=folder)
    assert "goes on with other functions" in said and list(rows_of(said)) == ["score", f"{HERE}:worst", f"{HERE}:good"]
    assert "--rival are for runs of nas search" in nas("resume", "none", *rivals("good"), cwd=folder, code=1)


def test_a_trial_fails_with_a_rival_of_it(nas: Nas, folder: Path) -> None:
    said = nas(*words("good", "good", "-n", "20"), *rivals("fails_at_times"), cwd=folder)
    assert "failed: uid" in said and "three is too few" in said
    assert "7" not in {line.split()[2] for line in said.splitlines() if "k0=" in line}  # where it returned NaN
    assert "(15 architectures, 5 failed)" in said


def test_what_was_imported_without_a_rivals_number_is_left_out_and_said(nas: Nas, folder: Path) -> None:
    nas(*words("good", "good", "-n", "5", "--seed", "1"), cwd=folder)
    (folder / "run").rename(folder / "other")
    nas(*words("good", "good", "-n", "4"), *rivals("worst"), cwd=folder)
    assert "5 told" in nas("import", "other", "--into", "run", cwd=folder)
    assert "(4 architectures, 5 without all scores)" in nas("resume", "run", cwd=folder)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (rivals("god"), "did you mean"),
        (("--rival", "nowhere:f"), "nowhere:f cannot be imported"),
        (("--rival", "score"), "score"),
        (rivals("good", "good"), f"--rival {HERE}:good is given 2 times"),
        (("--cost-table", "other.json"), "the cost table is of another search space"),
    ],
)
def test_a_wrong_rival_is_said_before_anything_is_written(
    nas: Nas, folder: Path, more: tuple[str, ...], said: str
) -> None:
    space = Space.from_json(SPACES["one key"])
    CostTable(space, {"macs": 0}, {"macs": {"conv": [1, 2, 3]}}).save(folder / "other.json")
    assert said in nas(*words("good", "good", *more), cwd=folder, code=1)
    assert not (folder / "run").exists()
