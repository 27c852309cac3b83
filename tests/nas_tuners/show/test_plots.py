"""Pictures: a file for every kind of run, and the numbers in them against closed forms."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_tuners.runs.front import pareto_front
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run, load
from nas_tuners.search import NSGA2, Annealing, Evolution, RandomSearch, Search
from nas_tuners.show.plotdata import (
    collect_costs,
    collect_points,
    count_shares,
    expected_best,
    running_best,
    visible_range,
)
from nas_tuners.show.plots import PlotError, plot
from search_spaces import Space
from search_spaces.cost.table import CostTable
from tests.nas_tuners import functions
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES, layer

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def journal(
    folder: Path,
    search: Search,
    space: dict[str, Any],
    evaluate: Callable[..., Any],
    trials: int = 12,
    mode: str = "maximize",
) -> Path:
    run = Run.start(search, Space.from_json(space), mode, folder / "journal.jsonl")
    run_search(run, evaluate, trials)
    run.ask()  # one that is still running
    run.close()
    return folder / "journal.jsonl"


def first(choices: dict[str, Any]) -> float:
    return float(len(str(choices)))


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", SPACES)
def test_a_run_on_every_kind_of_space(name: str, tmp_path: Path) -> None:
    path = journal(tmp_path, RandomSearch(seed=1), SPACES[name], first)
    assert plot(*load(path), tmp_path / "plots" / "run.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "mode"), [(".png", "maximize"), (".svg", "minimize"), (".pdf", "maximize")])
def test_every_format_with_costs_and_failures(suffix: str, mode: str, tmp_path: Path) -> None:
    def evaluate(choices: dict[str, Any]) -> dict[str, Any]:
        return {"default": functions.fails_at_times(choices), "latency_ms": len(str(choices))}

    search = Evolution(candidate_pool_size=6, candidate_top_k=2)
    path = journal(tmp_path, search, {f"k{i}": layer(*"abcd") for i in range(4)}, evaluate, 40, mode)
    file = plot(*load(path), tmp_path / f"run{suffix}")
    assert file.read_bytes().startswith(MAGIC[suffix])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["journal.jsonl", f"run{suffix}"]


@pytest.mark.slow
def test_a_picture_says_what_it_shows(tmp_path: Path) -> None:
    import matplotlib

    space = Space.from_json({f"stage.{i}": layer("conv", "pool", "skip") for i in range(42)})
    table = CostTable(space, {"macs": 1e6}, {"macs": {key: [1e6, 2e6, 3e6] for key in space.keys}})
    search = Annealing(0.02, constraints={"macs": [78e6, 120e6]}, cost_table=table)
    path = journal(tmp_path, search, space.to_json(), first, 30)
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        text = plot(*load(path), tmp_path / "run.svg").read_text()
    for said in ("Annealing, seed 0: 30 results", "best so far", "Pareto front (", "limit", "multiply-adds (millions)"):
        assert said in text
    assert "(40 of 42 keys: those that changed most)" in text
    assert "metric (higher is better)" in text
    assert text.count(">stage.") == 40
    assert all(f">{option}</text>" in text for option in ("conv", "pool", "skip"))


@pytest.mark.slow
def test_a_random_run_has_its_own_expectation_and_no_other_has(tmp_path: Path) -> None:
    import matplotlib

    for name, search in (("a", RandomSearch()), ("b", Annealing())):
        path = journal(tmp_path / name, search, SPACES["two inputs of four"], first)
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            text = plot(*load(path), tmp_path / f"{name}.svg").read_text()
        assert ("expected best of so many draws" in text) == (name == "a")


@pytest.mark.slow
def test_show_plot_is_a_command(nas: Nas, tmp_path: Path) -> None:
    def evaluate(choices: dict[str, Any]) -> dict[str, float]:
        return {"default": first(choices), "macs": 5, "accuracy": 1 / first(choices)}

    journal(tmp_path, RandomSearch(), SPACES["two inputs of four"], evaluate)
    assert nas("show", ".", "--plot", "run.png", cwd=tmp_path).strip() == "run.png"
    assert "cannot draw to run.jpg: wanted a file that ends in .png, .svg, .pdf" in nas(
        "show", ".", "--plot", "run.jpg", cwd=tmp_path, code=1
    )
    assert "cannot draw against 'flops': known are macs, accuracy" in nas(
        "show", ".", "--plot", "run.png", "--cost", "flops", cwd=tmp_path, code=1
    )
    assert nas("show", ".", "--plot", "run.svg", "--cost", "accuracy", cwd=tmp_path).strip() == "run.svg"


def test_without_matplotlib_the_extra_is_named(nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path, RandomSearch(), SPACES["20 x 4"], functions.good)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = nas("show", ".", "--plot", "run.png", cwd=tmp_path, code=1)
    assert 'drawing needs matplotlib: pip install "nas-tuners[plots]"' in said
    assert not (tmp_path / "run.png").exists()


def test_nothing_told_is_nothing_to_draw(tmp_path: Path) -> None:
    path = journal(tmp_path, RandomSearch(), SPACES["one key"], functions.returns_text)
    with pytest.raises(PlotError, match="no result: all 3 trials failed; nothing to draw"):
        plot(*load(path), tmp_path / "run.png")


@pytest.mark.parametrize("kind", ["same", "gone", "changed"])
def test_costs_come_from_the_table_of_the_header_if_it_is_still_that(kind: str, tmp_path: Path) -> None:
    space, file = Space.from_json(SPACES["20 x 4"]), tmp_path / "cost.json"
    CostTable(space, {"macs": 1}, {"macs": {key: [0, 1, 2, 3] for key in space.keys}}).save(file)
    path = journal(tmp_path, RandomSearch(constraints={"macs": 40}, cost_table=file), SPACES["20 x 4"], functions.good)
    if kind == "gone":
        file.unlink()
    elif kind == "changed":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"fixed": {"macs": 9}}))
    run, header = load(path)
    told = [trial for trial in run.search.trials.values() if trial.state == "told"]
    found = collect_costs(run, header, told)
    if kind == "same":
        assert found["macs"].values == [1 + sum(trial.tokens) for trial in told]
        assert found["macs"].limits == [40.0]
    else:
        assert found == {}


values = st.lists(st.integers(-9, 9), min_size=1, max_size=6)


@given(values, st.sampled_from([1.0, -1.0]))
def test_expected_best_is_the_mean_over_all_draws(given: list[int], sign: float) -> None:
    best = max if sign > 0 else min
    for k, expected in enumerate(expected_best(given, sign), 1):
        assert expected == pytest.approx(mean(best(draw) for draw in itertools.combinations(given, k)))


@given(values, st.sampled_from([1.0, -1.0]))
def test_running_best_is_the_best_of_each_beginning(given: list[int], sign: float) -> None:
    best = max if sign > 0 else min
    assert running_best(given, sign) == [best(given[: i + 1]) for i in range(len(given))]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12), st.sampled_from([1.0, -1.0]))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]], sign: float) -> None:
    def beaten(a: tuple[int, int]) -> bool:
        return any(b[0] <= a[0] and sign * b[1] >= sign * a[1] and b != a for b in points)

    ends = [points[i] for i in pareto_front([p[0] for p in points], [p[1] for p in points], sign)]
    assert ends == sorted({point for point in points if not beaten(point)})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from([1.0, -1.0]))
def test_the_best_is_always_in_view(given: list[float], sign: float) -> None:
    low, high = visible_range(given, sign)
    assert low < high
    assert low <= (max if sign > 0 else min)(given) <= high


def test_shares_of_a_quarter_sum_to_one_and_rare_options_are_put_together(tmp_path: Path) -> None:
    space = {"big": {"_type": "randint", "_value": [0, 30]}, "one": layer("x"), "op": layer("p", "q")}
    run, _ = load(journal(tmp_path, RandomSearch(), space, lambda choices: choices["big"], 40))
    told = [trial for trial in run.search.trials.values() if trial.state == "told"]
    big, op = count_shares(run.space, told)
    assert (big.key, op.key) == ("big", "op")
    assert (len(big.names), big.names[-1], op.names) == (8, "23 others", ["p", "q"])
    for shares in (big, op):
        assert len(shares.table[0]) == 4
        assert [sum(column) for column in zip(*shares.table, strict=True)] == pytest.approx([1] * 4)
    first_quarter = [trial.tokens[2] for trial in told[:10]]
    assert op.table[0][0] == first_quarter.count(0) / 10


def two(choices: dict[str, Any]) -> dict[str, float]:
    tokens = [choice["_idx"] for choice in choices.values()]
    return {"default": float(sum(tokens)), "latency_ms": 20.0 - sum(tokens) + 5 * (tokens[0] % 2)}


@pytest.mark.slow
def test_several_objectives_are_drawn_by_their_names_with_their_front(tmp_path: Path) -> None:
    search = NSGA2({"default": "maximize", "latency_ms": "maximize"}, outcome_constraints={"latency_ms": [4, None]})
    path = journal(tmp_path, search, SPACES["20 x 4"], two, trials=40)
    run, header = load(path)
    plot(run, header, tmp_path / "run.svg")
    points = collect_points(run, header, list(run.search.trials.values()))
    assert points is not None and points.across == "latency_ms (higher is better)"
    within = {t.uid for t in run.search.trials.values() if t.state == "told" and t.violation == 0}
    assert len(points.x) == len(within) and len(points.front) == len(search_front(run, within))
    plot(run, header, tmp_path / "cost.svg", cost="latency_ms")
    assert (tmp_path / "cost.svg").read_text() != (tmp_path / "run.svg").read_text()


def search_front(run: Run, within: set[int]) -> list[int]:
    """Those that nothing beats, by definition."""
    values = {uid: (m["default"], m["latency_ms"]) for uid in within if (m := run.search.trials[uid].metrics)}

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] >= other[0] and one[1] >= other[1]

    return [uid for uid in values if not any(beats(values[other], values[uid]) for other in values)]
