"""``hyperparameter`` in its places: by itself, in a dry run, in an experiment, in a function that a search calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mutators import LayerChoice, ValueChoice, get_and_apply_next_architecture, hyperparameter
from mutators.declarations import forget
from nas_tuners import Run, run_search
from nas_tuners.search import RandomSearch
from search_spaces import Space, SpaceError
from tests.mutators import trials
from tests.mutators.trials import PARAMETERS, Outcome


@pytest.fixture(autouse=True)
def no_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NNI_PLATFORM", "NNI_GEN_SEARCH_SPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(server: Popen[str], tmp_path: Path) -> Callable[..., Outcome]:
    return partial(trials.run, server, tmp_path)


@pytest.mark.parametrize(
    ("options", "value", "entry"),
    [
        ({"values": [0.1, 0.01]}, 0.1, {"_type": "choice", "_value": [0.1, 0.01]}),
        ({"values": ["sgd", None, [1, 2]]}, "sgd", {"_type": "choice", "_value": ["sgd", None, [1, 2]]}),
        ({"values": np.array([3, 4]), "default": 4}, 4, {"_type": "choice", "_value": [3, 4]}),
        ({"low": 0, "high": 1}, 0.5, {"_type": "uniform", "_value": [0.0, 1.0]}),
        ({"low": 1e-4, "high": 1e-2, "log": True}, 1e-3, {"_type": "loguniform", "_value": [1e-4, 1e-2]}),
        ({"low": 0, "high": 1, "q": 0.25}, 0.5, {"_type": "quniform", "_value": [0.0, 1.0, 0.25]}),
        ({"low": 8, "high": 64, "q": 8, "log": True}, 24, {"_type": "qloguniform", "_value": [8.0, 64.0, 8.0]}),
        ({"low": 0, "high": 1, "levels": 3}, 0.5, {"_type": "uniform", "_value": [0.0, 1.0], "_levels": 3}),
        ({"low": 0, "high": 1, "default": 0.3}, 0.3, {"_type": "uniform", "_value": [0.0, 1.0]}),
    ],
)
def test_each_kind(
    options: dict[str, Any], value: Any, entry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hyperparameter("h", **options) == value
    monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(tmp_path / "space.json"))
    assert hyperparameter("h", **options) == value
    assert json.loads((tmp_path / "space.json").read_text()) == {"h": entry}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either a list of values, or low and high"),
        ({"values": [1], "low": 0, "high": 1}, "either a list of values, or low and high"),
        ({"low": 1}, "either a list of values, or low and high"),
        ({"values": [1], "log": True}, "only then log and q"),
        ({"values": []}, "key 'h'._value: got [], wanted a list of at least one value"),
        ({"values": [1, 1]}, "each value once"),
        ({"values": [1], "levels": 3}, "key 'h'._levels: got an unknown field"),
        ({"values": [1, 2], "default": 3}, "the default 3 is not on offer"),
        ({"low": 0, "high": 1, "log": True}, "two numbers with 0 < low <= high"),
        ({"low": 0, "high": 1, "levels": 1}, "key 'h'._levels: got 1"),
        ({"low": 0, "high": 1, "default": 2}, "the default 2 is not on offer"),
        ({"low": 0, "high": 1, "default": "x"}, "the default 'x' is not on offer"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        hyperparameter("h", **options)
    assert said in str(caught.value)


def test_by_itself_a_trial_finds_all_in_its_params() -> None:
    model = nn.Sequential(LayerChoice([nn.ReLU(), nn.Tanh()], key="op"), ValueChoice([0.1, 0.5], key="drop"))
    lr = hyperparameter("lr", low=1e-4, high=1e-1, log=True)
    assert get_and_apply_next_architecture(model) == {
        "lr": lr,
        "op": {"_value": "0", "_idx": 0},
        "drop": {"_value": "0.1", "_idx": 0},
    }
    assert model[1].value == 0.1


@pytest.mark.slow
@pytest.mark.parametrize("order", ["lr, p = hyperparameter('lr', [1, 2]), {}", "p, lr = {}, hyperparameter('lr', [1])"])
def test_in_an_experiment_it_is_the_trials_own(run: Callable[..., Outcome], order: str) -> None:
    first, second = order.split(" = ")[0].split(", ")
    calls = {"p": "get_and_apply_next_architecture(Mnist())", "lr": "hyperparameter('lr', [1, 2])"}
    body = f"from mutators import hyperparameter\n{first} = {calls[first]}\n{second} = {calls[second]}\n"
    outcome = run(body + "print(lr, p['lr'])\nreport_final(lr)")
    assert outcome.out == "0.1 0.1\n" and outcome.asked == 1
    assert outcome.finals == [{"default": 0.1, "_uid": 7}]


def test_a_space_without_it_is_an_error_and_the_trial_says_so(run: Callable[..., Outcome]) -> None:
    parameters = {key: value for key, value in PARAMETERS.items() if key != "lr"}
    outcome = run("from mutators import hyperparameter\nhyperparameter('lr', [1, 2])", parameters)
    assert outcome.code == 1 and "write that anew by nas ss-gen" in outcome.err
    assert "hyper-parameter 'lr' is not in this trial's parameters" in outcome.finals[0]["_failed"]


def evaluate(choices: Any) -> float:
    model = nn.Sequential(LayerChoice([nn.ReLU(), nn.Tanh()], key="op"))
    assert get_and_apply_next_architecture(model)["op"] == choices["op"]
    assert model[0].chosen == (choices["op"]["_idx"],)
    value = hyperparameter("lr", [0.1, 0.2, 0.3])
    assert value == choices["lr"]
    return float(value)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_function_that_a_search_calls_gets_the_value_of_its_trial(workers: int) -> None:
    space = Space.from_json(
        {"op": {"_type": "layer_choice", "_value": ["0", "1"]}, "lr": {"_type": "choice", "_value": [0.1, 0.2, 0.3]}}
    )
    searched = Run.start(RandomSearch(), space)
    run_search(searched, evaluate if workers == 1 else f"{__name__}:evaluate", trials=6, workers=workers)
    assert searched.search.counts.told == 6 and searched.search.best.score == 0.3
    assert hyperparameter("lr", [0.1, 0.2, 0.3]) == 0.1  # it is over


def test_after_forgetting_the_process_is_another_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.excepthook
    monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(tmp_path / "space.json"))
    model = nn.Sequential(LayerChoice([nn.ReLU(), nn.Tanh()], key="op"))
    get_and_apply_next_architecture(model)
    assert sys.excepthook is not before
    forget()
    assert sys.excepthook is before
    model(torch.ones(1))  # ends nothing
    hyperparameter("op", [1, 2])
    assert Space.load(tmp_path / "space.json").keys == ("op",)
