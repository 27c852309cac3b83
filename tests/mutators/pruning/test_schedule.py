"""When how much is pruned: PaddleSlim's reference run to the digit, and ours as it was asked for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutators.pruning import GMPUnstructuredPruner, PruningError, iterations, sparsity_report
from mutators.pruning.schedule import check_configs, read_schedule
from tests.mutators.pruning import nets

CONFIGS = {
    "stable_iterations": 20,
    "pruning_iterations": 60,
    "tunning_iterations": 20,
    "pruning_steps": 5,
    "initial_ratio": 0.1,
}
RATIOS = [0.0, 0.1, 0.4172, 0.6096, 0.7084, 0.7448, 0.75]
STARTS = {"exact": [0, 20, 32, 44, 56, 68, 80], "paddle": [0, 12, 24, 36, 48, 60, 72]}
SHARES = {  # of zeros, in PaddleSlim's own run
    "global": [0, 0.0997, 0.4170, 0.6093, 0.7080, 0.7443, 0.7496],
    "local": [0, 0.0979, 0.4156, 0.6075, 0.7067, 0.7430, 0.7483],
}
COUNTS = {  # of 2288 weights
    ("exact", "global"): [0, 229, 955, 1395, 1621, 1704, 1716],
    ("exact", "local"): [0, 228, 955, 1394, 1621, 1704, 1716],
    ("paddle", "global"): [0, 228, 954, 1394, 1620, 1703, 1715],
    ("paddle", "local"): [0, 224, 951, 1390, 1617, 1700, 1712],
}


@pytest.mark.parametrize(("rounding", "scope"), COUNTS)
def test_the_reference_run(rounding: str, scope: str) -> None:
    model = nets.reference()
    pruner = GMPUnstructuredPruner(
        model,
        ratio=0.75,
        local_sparsity=scope == "local",
        configs=CONFIGS,
        paddle_compatible=rounding == "paddle",
    )
    for iteration in range(100):
        pruner.step()
        place = sum(start <= iteration for start in STARTS[rounding]) - 1
        assert pruner.ratio == pytest.approx(RATIOS[place], abs=1e-12), iteration
        assert nets.count(pruner) == COUNTS[rounding, scope][place], iteration
        if rounding == "paddle":
            assert sparsity_report(model).share == pytest.approx(SHARES[scope][place], abs=5e-5), iteration


def test_not_exact_is_paddle_compatible() -> None:
    pruners = [GMPUnstructuredPruner(nets.small(), 0.75, configs=CONFIGS, **how) for how in ({"exact": False}, {})]
    assert [pruner.schedule.compatible for pruner in pruners] == [True, False]


def test_defaults() -> None:
    schedule = GMPUnstructuredPruner(nets.small()).schedule
    assert (schedule.pruning_iterations, schedule.tunning_iterations, schedule.stable_iterations) == (1000, 1000, 0)
    assert (schedule.pruning_steps, schedule.initial_ratio, schedule.ratio) == (100, 0.15, 0.55)
    assert schedule.total_iterations == 2000
    short = read_schedule({"pruning_iterations": 7}, 0.1, compatible=False)
    assert (short.pruning_steps, short.initial_ratio) == (7, 0.1)


def test_base_prunes_all_at_once_after_the_stable_phase() -> None:
    schedule = read_schedule({**CONFIGS, "pruning_strategy": "base"}, 0.75, compatible=False)
    assert [schedule.ratio_at(i) for i in (0, 19, 20, 99)] == [0, 0, 0.75, 0.75]


@given(st.data())
def test_the_schedule_rises_to_the_target_at_the_time_asked_for(data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 30))
    length, stable = data.draw(st.integers(steps, 100)), data.draw(st.integers(0, 50))
    ratio = data.draw(st.floats(0, 0.999))
    configs = {"stable_iterations": stable, "pruning_iterations": length, "pruning_steps": steps}
    initial = data.draw(st.floats(0, ratio))
    schedule = read_schedule({**configs, "initial_ratio": initial}, ratio, compatible=False)
    ratios = [schedule.ratio_at(i) for i in range(stable + length + 10)]
    assert all(a <= b for a, b in pairwise(ratios))
    assert ratios[:stable] == [0] * stable
    assert ratios[stable] == pytest.approx(initial, abs=1e-12)
    assert ratios[stable + length :] == [ratio] * 10
    assert len(set(ratios[stable : stable + length])) <= steps


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ({"tuning_iterations": 5}, "did you mean 'tunning_iterations'"),
        ({"qqq": 5}, "wanted some of pruning_strategy"),
        ({"pruning_steps": 0}, "pruning_steps is 0, wanted a whole number from 1 up"),
        ({"stable_iterations": -1}, "stable_iterations is -1"),
        ({"resume_iteration": None}, "resume_iteration is None"),
        ({"pruning_iterations": 2.5}, "pruning_iterations is 2.5"),
        ({"pruning_iterations": 9, "pruning_steps": 10}, "at least 10 iterations, or at most 9 steps"),
        ({"initial_ratio": 0.8}, "initial_ratio is 0.8, wanted a number from 0 to 0.75"),
        ({"pruning_strategy": "all"}, "wanted one of 'base', 'gmp'"),
        ([("pruning_steps", 3)], "configs is a list, wanted a dict"),
        ({"stable_epochs": 3}, r"wanted iterations: .*iterations\(steps_per_epoch, stable_epochs=\.\.\.\)"),
        ({"tunning_epochs": 3}, r"wanted iterations: .*iterations\(steps_per_epoch, tunning_epochs=\.\.\.\)"),
    ],
)
def test_bad_configs(configs: Any, words: str) -> None:
    model = nets.small()
    with pytest.raises(PruningError, match=words) as raised:
        GMPUnstructuredPruner(model, 0.75, configs=configs)
    assert len(raised.value.problems) == 1
    assert raised.value.problems == check_configs(configs, 0.75)
    assert not model._forward_pre_hooks


def test_numbers_of_numpy_count_and_become_plain() -> None:
    configs = {"pruning_iterations": np.int64(10), "initial_ratio": np.float32(0.25), "resume_iteration": np.int32(4)}
    pruner = GMPUnstructuredPruner(nets.small(), np.float32(0.75), configs=configs)  # type: ignore[arg-type]
    schedule = pruner.schedule
    assert (schedule.ratio, schedule.initial_ratio, schedule.pruning_iterations) == (0.75, 0.25, 10)
    assert {type(value) for value in (schedule.ratio, pruner.ratio)} == {float}
    assert type(pruner.iteration) is int


def test_epochs_become_iterations() -> None:
    configs = iterations(50, stable_epochs=1, pruning_epochs=2, tunning_epochs=3)
    assert configs == {"stable_iterations": 50, "pruning_iterations": 100, "tunning_iterations": 150}
    assert iterations(10) == {"stable_iterations": 0, "pruning_iterations": 600, "tunning_iterations": 600}
    assert GMPUnstructuredPruner(nets.small(), configs=configs).schedule.total_iterations == 300


def test_bad_epochs() -> None:
    with pytest.raises(PruningError, match="steps_per_epoch is 0") as raised:
        iterations(0, stable_epochs=-1, pruning_epochs=0, tunning_epochs=1.5)  # type: ignore[arg-type]
    assert len(raised.value.problems) == 4
