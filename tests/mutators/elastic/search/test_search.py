"""The search after training: it finds the best, keeps its limits, leaves no trace, and survives a kill."""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mutators.costs.elastic_table import cost_table
from mutators.elastic import OFA, ElasticError, RunConfig, train
from mutators.elastic.layers import ElasticDepth, ElasticLinear
from mutators.elastic.search.journal import digest_of
from mutators.elastic.search.predictor import AccuracyPredictor
from mutators.elastic.search.results import SearchResult
from mutators.oneshot import TrainConfig, evaluate
from mutators.oneshot.scoring import accuracy
from nas_tuners.cli import main
from nas_tuners.runs.run import load
from nas_tuners.search import ConstraintError
from search_spaces.cost import CostTable
from search_spaces.errors import CostError
from tests import processes
from tests.mutators.elastic.training import shrinking as toy

DATA, CALIBRATION = toy.batches(6), toy.batches(4)


class Two(toy.Net):
    """The toy of two blocks: 90 different sub-networks."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.stage = ElasticDepth([toy.Block(4, True) for _ in range(2)], (1, 2))


@functools.cache
def trained(small: bool = False) -> OFA:
    """A supernet that learnt a bit; nobody changes it."""
    ofa = OFA(Two() if small else toy.Net())
    train(ofa, toy.batches(16), TrainConfig(epochs=2, lr=0.1), progress=False)
    return ofa


@functools.cache
def table_of(small: bool = False) -> CostTable:
    return cost_table(trained(small).model, (1, 6, 6), checks=0)


def found(ofa: OFA, constraints: Any = None, **options: Any) -> SearchResult:
    return ofa.search(constraints, DATA, **{"calibration": CALIBRATION, "progress": False, **options})


def soft(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A score without ties."""
    return -nn.functional.cross_entropy(outputs.double(), targets)


def score(ofa: OFA, choices: Any) -> float:
    return evaluate(ofa.model, choices, DATA, CALIBRATION, batches=None, metric=soft)["default"]


@pytest.mark.slow
def test_it_finds_the_best_of_all() -> None:
    ofa, table = trained(True), table_of(True)
    limit = 10_000
    every = {
        tokens: score(ofa, ofa.space.decode(tokens))
        for tokens in itertools.product(*map(range, ofa.space.radices))
        if table.cost("macs", tokens) <= limit
        and ofa.space.canonical(tokens) == tokens  # a missing block's choices count once
    }
    assert len(every) > 20
    result = found(ofa, {"macs": limit}, cost_table=table, trials=len(every) // 2, population=8, metric=soft)
    assert result.best.score == result.score == max(every.values()) and result.costs == result.best.costs
    assert result.best.costs["macs"] == table.cost("macs", ofa.space.encode(result.choices)) <= limit
    everything = found(ofa, {"macs": limit}, cost_table=table, trials=10_000, population=8, metric=soft)
    assert {ofa.space.encode(s.choices): s.score for s in everything.measured} == every  # each once, and then it ends


@pytest.mark.slow
def test_it_beats_random_draws_at_equal_evaluations() -> None:
    ofa, table = trained(), table_of()
    rng, wins = np.random.default_rng(0), []
    for seed in range(4):
        result = found(ofa, {"macs": 20_000}, cost_table=table, trials=40, population=10, seed=seed, metric=soft)
        rows = ofa.space.sample_tokens(rng, 400).tolist()
        fit = [row for row in rows if table.cost("macs", row) <= 20_000][:40]
        drawn = max(score(ofa, ofa.space.decode(row)) for row in fit)
        wins.append(result.best.score - drawn)
        assert len(result.measured) == 40 and all(s.costs["macs"] <= 20_000 for s in result.measured)
    assert np.mean(wins) > 0 and min(wins) > -0.02


@pytest.mark.slow
def test_the_same_arguments_find_the_same_and_leave_no_trace() -> None:
    ofa, table = trained(), table_of()
    before = digest_of(ofa.model), ofa.current_config, [m.training for m in ofa.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # noqa: NPY002
    first = found(ofa, {"macs": [8_000, 20_000], "params": 900}, cost_table=table, trials=12, population=6)
    random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
    assert found(ofa, {"macs": [8_000, 20_000], "params": 900}, cost_table=table, trials=12, population=6) == first
    assert (digest_of(ofa.model), ofa.current_config, [m.training for m in ofa.modules()]) == before
    random.setstate(states[0])
    found(ofa, trials=3)
    assert random.getstate() == states[0]
    x = torch.randn(2, 1, 6, 6)
    plain = ofa.export(first, input_shapes=(1, 6, 6))
    assert torch.isfinite(plain(x)).all()
    for subnet in first.measured:
        assert 8_000 <= subnet.costs["macs"] <= 20_000 and subnet.costs["params"] <= 900


@pytest.mark.slow
def test_the_front_is_the_front() -> None:
    result = found(trained(), cost_table=table_of(), trials=60, population=20, pareto="macs")
    points = [(s.costs["macs"], s.score) for s in result.measured]
    front = [(s.costs["macs"], s.score) for s in result.front]
    beaten = {p for p in points for q in points if q != p and q[0] <= p[0] and q[1] >= p[1]}
    assert front == sorted(set(points) - beaten) and len(front) > 2
    assert found(trained(), trials=3).front == ()


def test_a_limit_may_be_a_multiple_of_the_largest_network() -> None:
    result = found(trained(), {"macs": "0.6x"}, cost_table=table_of(), trials=12, population=6)
    assert all(subnet.costs["macs"] <= 0.6 * table_of().bounds("macs").high for subnet in result.measured)
    absolute = {"macs": 0.6 * table_of().bounds("macs").high}
    assert found(trained(), absolute, cost_table=table_of(), trials=12, population=6) == result


@pytest.mark.slow
def test_a_table_is_made_where_none_is_given(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    options: dict[str, Any] = {"trials": 5, "population": 4, "checkpoint": file}
    result = found(trained(), {"latency_ms": 1e3, "macs": 20_000}, **options)
    assert set(result.best.costs) == {"latency_ms", "macs"}
    assert found(trained(), {"latency_ms": 1e3, "macs": 20_000}, **options) == result  # milliseconds were kept
    assert CostTable.load(f"{file}.costs.json").about["latency_ms"]["held_out"]["architectures"]


def told(ofa: OFA, file: Path) -> int:
    """Count the different sub-networks that have a result in a journal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a torn last line
        run, _ = load(file)
    return len({trial.tokens for trial in run.search.trials.values() if trial.metrics is not None})


class Killed(KeyboardInterrupt):
    """As Ctrl-C: whatever else an evaluation raises is a failed trial."""


def dying(after: int) -> Any:
    """The metric, until it has been called so often."""
    calls = itertools.count(1)

    def metric(outputs: Any, targets: Any) -> Any:
        if next(calls) > after:
            raise Killed
        return accuracy(outputs, targets)

    metric.__qualname__ = "accuracy"
    return metric


@pytest.mark.slow
@pytest.mark.parametrize("predictor", [None, 21])
def test_a_search_that_was_killed_goes_on_as_the_unbroken_one(tmp_path: Path, predictor: int | None) -> None:
    ofa, file = trained(), tmp_path / "scores.jsonl"
    options: dict[str, Any] = {"cost_table": table_of(), "trials": 25, "population": 8, "predictor": predictor}
    unbroken = found(ofa, {"macs": 20_000}, **options)
    before = digest_of(ofa.model)
    for evaluations in (3, 8, 0, 11):
        before_kill = told(ofa, file) if file.exists() else 0
        with pytest.raises(Killed):
            found(ofa, {"macs": 20_000}, checkpoint=file, metric=dying(evaluations * len(DATA)), **options)
        assert told(ofa, file) == before_kill + evaluations
        assert digest_of(ofa.model) == before
    with open(file, "a") as torn:
        torn.write('{"event": "tell", "uid": 2')
    with pytest.warns(RuntimeWarning, match="cut short"):
        resumed = found(ofa, {"macs": 20_000}, checkpoint=file, **options)
    assert resumed == unbroken
    assert found(ofa, {"macs": 20_000}, checkpoint=file, metric=dying(0), **options) == unbroken  # nothing to measure


def search_and_die(file: Path) -> None:
    """Be killed in the eighth evaluation."""
    torch.set_num_threads(1)
    metric = dying(7 * len(DATA))
    try:
        found(trained(), {"macs": 20_000}, cost_table=table_of(), trials=20, checkpoint=file, metric=metric)
    except Killed:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    assert processes.run(search_and_die, file) == -signal.SIGKILL
    assert told(trained(), file) == 7
    options: dict[str, Any] = {"cost_table": table_of(), "trials": 20}
    assert found(trained(), {"macs": 20_000}, checkpoint=file, **options) == found(
        trained(), {"macs": 20_000}, **options
    )


OLD = '{"format": 1, "space": "0f", "weights": "1a", "seed": 0}\n{"tokens": [0, 1], "score": 0.5}\n'


def test_a_file_of_another_search_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    found(trained(), trials=2, checkpoint=file)
    kept = file.read_text()
    for ofa, options, message in (
        (trained(), {"seed": 1}, "seed: 0 in the file, 1 now"),
        (trained(), {"valid_batches": 2}, "valid_batches: None in the file, 2 now"),
        (trained(), {"metric": soft}, "metric: 'accuracy' in the file, 'soft' now"),
        (trained(), {"population": 4}, "candidate_pool_size: 50 in the file, 4 now"),
        (trained(), {"predictor": 20}, "search: 'Evolution' in the file, 'RandomSearch' now"),
        (OFA(toy.Net()), {}, "weights: "),
        (trained(True), {}, "space: .*\n.*weights"),
    ):
        with pytest.raises(ElasticError, match=message):
            found(ofa, trials=2, checkpoint=file, **options)
        assert file.read_text() == kept
    for content, message in (
        (kept + "nonsense\n", "line 6 is damaged"),
        (kept + '{"tokens": "x", "score": 1}\n', "line 6 is damaged"),
        ("[]\n", "line 1: wanted the header .* is left as it is"),
        (OLD, "older format, .*give another file"),
        ('{"format": 1', "is not one of ours"),
    ):
        file.write_text(content)
        with pytest.raises(ElasticError, match=message):
            found(trained(), trials=2, checkpoint=file)
        assert file.read_text() == content
    with pytest.raises(ElasticError, match="is not a file"):
        found(trained(), trials=2, checkpoint=tmp_path)
    assert json.loads(kept.splitlines()[0])["format"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("predictor", [None, 20])
def test_nas_shows_the_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str], predictor: int | None) -> None:
    file, picture = tmp_path / "scores.jsonl", tmp_path / "search.png"
    options: dict[str, Any] = {"cost_table": table_of(), "trials": 25, "top_k": 3, "predictor": predictor}
    result = found(trained(), {"macs": 20_000}, checkpoint=file, **options)
    assert main(["show", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    space = trained().space
    assert space.encode(shown["best"]["choices"]) == space.encode(result.choices)
    assert shown["best"]["metrics"] == {"default": result.score, **result.costs}
    assert {space.encode(t["choices"]) for t in shown["trials"]} == {space.encode(s.choices) for s in result.measured}
    assert main(["show", str(file), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["resume", str(file)]) != 0
    said = capsys.readouterr().err
    assert "run the script that calls OFA.search again" in said and str(file) in said and said.count("\n") <= 2


def test_an_error_ends_the_search_and_leaves_its_sub_network_to_the_next(tmp_path: Path) -> None:
    def broken(outputs: Any, targets: Any) -> Any:
        raise RuntimeError("out of memory")

    broken.__qualname__ = "accuracy"
    file = tmp_path / "scores.jsonl"
    with pytest.raises(RuntimeError, match="out of memory"):
        found(trained(), trials=5, checkpoint=file, metric=broken)
    assert told(trained(), file) == 0 and '"fail"' not in file.read_text()
    assert found(trained(), trials=5, checkpoint=file) == found(trained(), trials=5)


@pytest.mark.slow
def test_a_predictor_ranks_and_the_supernet_decides(capsys: pytest.CaptureFixture[str]) -> None:
    ofa, table = trained(), table_of()
    options: dict[str, Any] = {"cost_table": table, "trials": 60, "top_k": 5, "metric": soft}
    result = found(ofa, {"macs": 20_000}, predictor=40, progress=True, **options)
    assert result.ranking is not None and result.ranking.spearman > 0
    assert f"Spearman {result.ranking.spearman:.3f}" in capsys.readouterr().err
    assert 40 <= len(result.measured) <= 45 and all(s.costs["macs"] <= 20_000 for s in result.measured)
    assert result.best.score == score(ofa, result.choices) == max(s.score for s in result.measured)
    fitted = AccuracyPredictor(ofa.model)
    fitted.fit([ofa.space.encode(s.choices) for s in result.measured], [s.score for s in result.measured])
    assert len(found(ofa, {"macs": 20_000}, predictor=fitted, **options).measured) == 5


class Exits(nn.Module):
    """Looks after its depth itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(36, 36) for _ in range(3))
        self.head = ElasticLinear(36, 3)

    def forward(self, x: torch.Tensor, depth: float) -> torch.Tensor:
        x = x.flatten(1)
        for layer in self.layers[: int(depth)]:
            x = torch.relu(layer(x))
        out: torch.Tensor = self.head(x)
        return out


def test_a_depth_that_forward_takes() -> None:
    ofa = OFA(Exits(), RunConfig(elastic_depth=(1, 2, 3)))
    result = found(ofa, {"macs": 3000}, calibration=None, trials=9, pareto="macs")
    assert {s.costs["macs"] for s in result.measured} == {36 * 36 + 108, 2 * 36 * 36 + 108}
    assert ofa.export(result, input_shapes=(1, 6, 6))(torch.zeros(2, 1, 6, 6)).shape == (2, 3)


class Positions(nn.Module):
    """Adds a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(36))
        self.up, self.down = ElasticLinear(36, (4, 8)), ElasticLinear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down(self.up(x.flatten(1) + self.position).relu())
        return out


def test_parameters_that_are_said_to_cost_nothing() -> None:
    ofa = OFA(Positions())
    with pytest.raises(CostError, match="ignore="):
        found(ofa, {"macs": 200}, calibration=None, trials=2)
    result = found(ofa, {"macs": 200}, calibration=None, trials=2, ignore=("",))
    assert result.costs["macs"] == 4 * 36 + 4 * 3


class Twice(toy.Net):
    """Of two outputs."""

    def forward(self, x: torch.Tensor) -> Any:
        out = super().forward(x)
        return out, out


def test_of_several_outputs_the_metric_has_to_be_given() -> None:
    ofa = OFA(Twice())
    with pytest.raises(ElasticError, match=r"outputs are a tuple, .*give metric="):
        found(ofa, trials=2)
    assert found(ofa, trials=2, metric=lambda out, y: accuracy(out[1], y)).best.score > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": [DATA[0][0][:2]]}, ElasticError, "a batch is a Tensor, wanted"),
        ({"data": [(*DATA[0], 1)]}, ElasticError, "a batch is a tuple, wanted"),
        ({"constraints": {"flops": 1}}, CostError, "flops"),
        ({"constraints": {"flops": 1}, "cost_table": "TABLE"}, CostError, r"no metric \['flops'\]"),
        ({"pareto": "flops", "cost_table": "TABLE"}, CostError, r"no metric \['flops'\]"),
        ({"constraints": {"macs": 10}, "cost_table": "TABLE"}, ConstraintError, "nearest .*macs is 2604"),
        ({"constraints": {"macs": "few"}}, ConstraintError, "constraints"),
        ({"constraints": {"macs": 20_000}, "input_shape": (3, 6, 6)}, CostError, "cannot be run"),
        ({"data": None}, ElasticError, "data is missing"),
        ({"data": iter(DATA)}, ElasticError, "data is an iterator"),
        ({"data": []}, ElasticError, "0 batches"),
        ({"data": [], "constraints": {"macs": 20_000}}, ElasticError, "no batches"),
        ({"calibration": []}, ElasticError, "0 batches"),
        ({"trials": 0, "population": -1, "top_k": 0.5}, ElasticError, "trials is 0.*\n.*population is -1.*\n.*top_k"),
        ({"predictor": "mlp"}, ElasticError, "predictor is 'mlp'"),
        ({"predictor": 5}, ElasticError, "at least 20"),
        ({"metric": lambda a, b: {"top1": 1.0}}, ElasticError, "gives .*top1"),
        ({"metric": lambda a, b: float("nan")}, ElasticError, "finite score"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"data": DATA, "calibration": CALIBRATION, "trials": 3, "progress": False, **options}
    if given.get("cost_table") == "TABLE":
        given["cost_table"] = table_of()
    with pytest.raises(error, match=message):
        trained().search(**given)
