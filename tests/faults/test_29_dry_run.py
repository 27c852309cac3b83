"""Once: a dry run found the first of two models only, and a trial that swallowed its end went on, with exit code 0."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import Popen

import pytest

from search_spaces import Space
from tests.mutators import trials
from tests.mutators.trials import Outcome

pytestmark = pytest.mark.slow

HEADER = """
import torch
from torch import nn
from mutators import LayerChoice, ValueChoice, hyperparameter
from mutators.elastic import convert
def net(key, *names):
    return nn.Sequential(LayerChoice({name: nn.Linear(2, 2) for name in names}, key=key))
"""


@pytest.fixture
def dry(server: Popen[str], tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a script as a dry run that is to write ``space.json``."""
    return partial(_run, server, tmp_path)


def _run(server: Popen[str], folder: Path, body: str) -> Outcome:
    return trials.run(server, folder, HEADER + body, NNI_GEN_SEARCH_SPACE=str(folder / "space.json"), NNI_PLATFORM="")


BOTH = "a, b = net('a', 'x', 'y'), net('b', 'p', 'q', 'r')\n"


def test_all_models_of_a_trial_and_its_hyper_parameters_wherever_they_stand(
    dry: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = dry(
        "lr = hyperparameter('lr', low=1e-4, high=1e-1, log=True)\n"
        + BOTH
        + "convert(nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 2)), expand_ratio=(0.5, 1))\n"  # runs a forward
        + "get_and_apply_next_architecture(a)\nnn.Linear(2, 2)(torch.ones(1, 2))\n"
        + "c = nn.Sequential(net('a', 'x', 'y'), ValueChoice([0.1, 0.5], key='drop'))\n"
        + "get_and_apply_next_architecture(b)\nget_and_apply_next_architecture(c)\n"
        + "print(hyperparameter('batch', [32, 64]), lr)\n"
        + "a(torch.ones(1, 2))\nprint('trained')"
    )
    assert outcome.code == 0 and outcome.out == "32 0.00316227766017\n" and outcome.err == ""
    assert json.loads((tmp_path / "space.json").read_text()) == {
        "lr": {"_type": "loguniform", "_value": [1e-4, 1e-1]},
        "a": {"_type": "layer_choice", "_value": ["x", "y"]},
        "b": {"_type": "layer_choice", "_value": ["p", "q", "r"]},
        "drop": {"_type": "layer_choice", "_value": ["0.1", "0.5"]},
        "batch": {"_type": "choice", "_value": [32, 64]},
    }
    assert Space.load(tmp_path / "space.json").keys == ("lr", "a", "b", "drop", "batch")


@pytest.mark.parametrize(
    "second",
    [
        "get_and_apply_next_architecture(net('a', 'x'))",
        "hyperparameter('a', [1, 2])",
        "hyperparameter('lr', [1, 2])",
    ],
)
def test_other_candidates_under_one_key_are_an_error(dry: Callable[..., Outcome], second: str) -> None:
    outcome = dry("hyperparameter('lr', [1, 2, 3])\n" + BOTH + "get_and_apply_next_architecture(a)\n" + second)
    assert outcome.code == 1 and "one key is one decision" in outcome.err


@pytest.mark.parametrize("work", ["a(torch.ones(1, 2))", "report_intermediate(0.1)", "report_final(0.1)"])
@pytest.mark.parametrize("catch", ["except SystemExit", "except BaseException", "except"])
def test_a_trial_that_swallows_the_end_and_goes_on_is_told_so(
    dry: Callable[..., Outcome], work: str, catch: str
) -> None:
    body = (
        f"{BOTH}get_and_apply_next_architecture(a)\nwhile True:\n    try:\n        {work}\n    {catch}:\n        pass"
    )
    outcome = dry(body)
    assert outcome.code == 1
    assert outcome.err.startswith("this trial catches SystemExit") and "Traceback" not in outcome.err


def test_swallowing_around_the_declaration_does_not_let_it_train(dry: Callable[..., Outcome], tmp_path: Path) -> None:
    body = (
        BOTH + "try:\n    get_and_apply_next_architecture(a)\nexcept SystemExit:\n    pass\nreport_final(1)\nprint(1)"
    )
    assert dry(body).out == "" and Space.load(tmp_path / "space.json").keys == ("a",)


def test_a_trial_that_cannot_go_on_without_its_data_says_where_its_dry_run_ended(
    dry: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = dry(BOTH + "p = get_and_apply_next_architecture(a)\nlr = p['lr']\nget_and_apply_next_architecture(b)")
    assert outcome.code == 0 and "Traceback" not in outcome.err
    assert outcome.err.startswith("the dry run ended by KeyError: 'lr' (trial.py:")
    assert outcome.err.endswith("; what the trial would declare after that is not in its space.\n")
    assert Space.load(tmp_path / "space.json").keys == ("a",)


@pytest.mark.parametrize("first", ["", "hyperparameter('lr', [1, 2])\n"])
def test_a_trial_that_fails_before_its_architecture_fails(dry: Callable[..., Outcome], first: str) -> None:
    outcome = dry(first + "raise ValueError('no data')")
    assert outcome.code == 1 and "ValueError: no data" in outcome.err


def test_what_is_no_search_space_is_not_replaced_by_the_trial_itself(
    dry: Callable[..., Outcome], tmp_path: Path
) -> None:
    """``nnictl ss_gen -f trial.py`` names the file to the trial."""
    (tmp_path / "space.json").write_text("precious = 1")
    outcome = dry(BOTH + "get_and_apply_next_architecture(a)")
    assert outcome.code == 1 and "is left as it is" in outcome.err
    assert (tmp_path / "space.json").read_text() == "precious = 1"
    by_hand = {"old": {"_type": "layer_choice", "_value": ["x"]}, "lr": {"_type": "choice", "_value": [0.1, 0.2]}}
    (tmp_path / "space.json").write_text(json.dumps(by_hand))
    assert dry(BOTH + "get_and_apply_next_architecture(a)\nget_and_apply_next_architecture(b)").code == 0
    assert Space.load(tmp_path / "space.json").keys == ("a", "b", "lr")


def test_hyper_parameters_alone_are_a_space_and_nothing_is_trained(dry: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = dry(
        "net, lr = nn.Linear(2, 2), hyperparameter('lr', [0.1, 0.2])\nnet(torch.ones(1, 2)).sum().backward()\n"
        "optimizer = torch.optim.SGD(net.parameters(), lr, momentum=hyperparameter('momentum', low=0, high=1))\n"
        "optimizer.step()\nprint('trained')"
    )
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert Space.load(tmp_path / "space.json").keys == ("lr", "momentum")
