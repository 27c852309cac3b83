"""Measured milliseconds: how they are taken, and that the fit finds what was put in."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from mutators import LayerChoice
from mutators.costs import measure_cost, measure_latency
from mutators.costs.about import compare_latency
from mutators.costs.latency import latency_of
from mutators.costs.latency_table import _design, fit_options
from search_spaces import Space
from search_spaces.errors import CostError
from tests.search_spaces.nets.models import small


class _Sleeps(nn.Module):
    """Takes this many milliseconds."""

    def __init__(self, ms: float) -> None:
        super().__init__()
        self.ms, self.calls, self.weight = ms, 0, nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls += 1
        time.sleep(self.ms / 1000)
        return x


def test_the_latency_of_a_module() -> None:
    model = _Sleeps(3)
    threads = torch.get_num_threads()
    found = latency_of(model, (4,), repeats=7, warmup=2, threads=1)
    assert 3 <= found.low_ms <= found.median_ms <= found.high_ms
    assert found.median_ms < 30
    assert (found.repeats, found.threads, found.device) == (7, 1, "cpu")
    assert model.calls == 1 + 2 + 7
    assert model.training
    assert torch.get_num_threads() == threads


def test_batch_norm_is_untouched() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    latency_of(model, (3, 4, 4), repeats=2, warmup=1)
    assert model[1].num_batches_tracked == 0
    assert model[1].running_mean.abs().sum() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"repeats": 0}, "repeats is 0"), ({"warmup": -1}, "warmup is -1"), ({"threads": 0}, "threads is 0")],
)
def test_wrong_numbers(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(CostError, match=message):
        latency_of(nn.Linear(3, 4), (3,), **wrong)


def test_a_model_that_cannot_run() -> None:
    with pytest.raises(CostError, match="Linear cannot be run on 1x5"):
        latency_of(nn.Linear(3, 4), (5,))


@pytest.mark.alone
def test_options_are_told_apart() -> None:
    model = nn.Sequential(
        LayerChoice({"slow": _Sleeps(6), "fast": _Sleeps(1)}, key="a"),
        LayerChoice({"fast": _Sleeps(1), "middle": _Sleeps(3), "slow": _Sleeps(9)}, key="b"),
    )
    before = measure_cost(model, (4,), ["params"], checks=2)
    seen: list[tuple[int, int]] = []
    table = measure_latency(
        model,
        (4,),
        before,
        rounds=6,
        held_out=4,
        repeats=3,
        threads=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert table.metrics == ("params", "latency_ms")
    assert table.about["model"] == "Sequential"
    slow, fast = table.options["latency_ms"]["a"]
    assert fast == 0
    assert slow == pytest.approx(5, abs=1.5)
    assert table.options["latency_ms"]["b"] == pytest.approx((0, 2, 8), abs=1.5)
    assert table.fixed["latency_ms"] == pytest.approx(2.2, abs=1.5)
    about = table.about["latency_ms"]
    assert (about["device"], about["threads"], about["rounds"], about["repeats"]) == ("cpu", 1, 6, 3)
    assert about["held_out"]["architectures"] == 4
    assert about["held_out"]["mean_absolute_error_percent"] < 30
    assert seen[-1] == (6 * 3 + 4 * 3, 6 * 3 + 4 * 3)
    assert model[0]["slow"].calls == 0  # a copy was measured
    assert model.training


def test_the_fit_bears_drift_and_outliers() -> None:
    space = Space.from_json(
        {f"k{i}": {"_type": "layer_choice", "_value": list("abcd"[: 2 + i % 3])} for i in range(12)}
    )
    rng = np.random.default_rng(0)
    true = [np.sort(rng.random(radix)) for radix in space.radices]
    true = [column - column.min() for column in true]
    visits = _design(space, 100, rng)
    times = 5 + sum(column[visits[:, :, i]] for i, column in enumerate(true))
    times = times + rng.normal(0, 0.1, times.shape) + np.cumsum(rng.normal(0, 0.2, 100))[:, None]
    times[rng.random(times.shape) < 0.05] += 10
    _, options = fit_options(space, visits, times)
    for column, key in zip(true, space.keys, strict=True):
        assert options[key] == pytest.approx(column, abs=0.1)


def test_every_option_stands_once_a_round() -> None:
    space = Space.from_json(
        {"a": {"_type": "choice", "_value": [1, 2]}, "b": {"_type": "choice", "_value": [1, 2, 3, 4]}}
    )
    visits = _design(space, 5, np.random.default_rng(0))
    assert visits.shape == (5, 4, 2)
    assert (np.sort(visits, axis=1) == np.array([[0, 0], [0, 1], [1, 2], [1, 3]])).all()


def test_predictions_are_compared() -> None:
    found = compare_latency(np.array([1.0, 2.2, 2.7]), np.array([1.0, 2.0, 3.0]))
    assert found["mean_absolute_error_percent"] == pytest.approx(100 * (0 + 0.1 + 0.1) / 3)
    assert found["rank_correlation"] == pytest.approx(1)
    against = compare_latency(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    assert against["rank_correlation"] == pytest.approx(-1)
    assert compare_latency(np.array([1.0, 1.0]), np.array([1.0, 2.0]))["rank_correlation"] is None


def test_errors_come_before_measuring() -> None:
    model = small()
    with pytest.raises(CostError, match="rounds is 0"):
        measure_latency(model, (3, 8, 8), rounds=0)
    other = measure_cost(nn.Sequential(LayerChoice([nn.Conv2d(3, 4, 1)], key="x")), (3, 8, 8))
    with pytest.raises(CostError, match="another search space"):
        measure_latency(model, (3, 8, 8), other)
    with pytest.raises(CostError, match="threads is 0"):
        measure_latency(model, (3, 8, 8), threads=0)


def test_a_model_without_choices() -> None:
    with pytest.raises(CostError, match="Linear has no choices"):
        measure_latency(nn.Linear(3, 4), (3,))
