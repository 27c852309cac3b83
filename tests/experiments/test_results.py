"""Results belong to the architecture that earned them, whatever NNI's own tables say, and however a trial ends.

One experiment of a registered tuner shows it all: it tries every architecture of a space whose trials end in every way
there is. Beside it runs one whose tuner fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.nni_experiment import SPACE, TRIAL, Experiment
from tests.spaces import layer

pytestmark = pytest.mark.slow

ENDINGS = ("good", "raises", "says nothing", "is killed", "reports twice", "raises late", "nan", "text")
PLAIN = tuple(f"plain {number}" for number in range(10))
ENDING_SPACE = {"ending": layer(*PLAIN, *ENDINGS), "score": layer("0", "1")}
RIGHT = 2 * len(PLAIN)
TOLD, FAILED = RIGHT + 2 * 3, 2 * 5

# What a plain trial, which knows nothing of us, reports is a pure function of its choices, and tells them all apart.
ENDING_TRIAL = f"""
import os, signal, sys
import nni

received = nni.get_next_parameter()
if received["ending"]["_value"].startswith("plain"):
    nni.report_final_result(2 * received["ending"]["_idx"] + received["score"]["_idx"])
    sys.exit(0)

from torch import nn
from mutators import LayerChoice, get_and_apply_next_architecture, report_final

model = nn.ModuleDict({{
    "ending": LayerChoice({{name: nn.Identity() for name in {PLAIN + ENDINGS!r}}}),
    "score": LayerChoice([nn.Identity(), nn.Identity()]),
}})
choices = get_and_apply_next_architecture(model)
ending, score = choices["ending"]["_value"], choices["score"]["_idx"]
if ending == "raises":
    raise RuntimeError("out of memory")
if ending == "says nothing":
    sys.exit(0)
if ending == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
if ending == "text":
    nni.report_final_result("good")
    sys.exit(0)
report_final(float("nan") if ending == "nan" else score, macs=7)
if ending == "reports twice":
    report_final(99)
if ending == "raises late":
    raise RuntimeError("after the result")
"""

OWN = """
from nas_tuners import SearchTuner
from nas_tuners.search import RandomSearch

class Buggy(RandomSearch):
    def _propose(self, n):
        if len(self.trials) == 4:
            raise ZeroDivisionError("a bug of the user's own")
        return super()._propose(n)

class Tuner(SearchTuner):
    def __init__(self):
        super().__init__(Buggy())
"""


@dataclass(frozen=True)
class Ended:
    """What is known of an experiment that came to its end."""

    status: str
    shown: dict[str, Any]
    log: str
    manager_log: str
    registered: str = ""
    exported: tuple[dict[str, Any], ...] = ()
    printed: str = ""

    def trials(self, *endings: str) -> list[dict[str, Any]]:
        return [trial for trial in self.shown["trials"] if trial["choices"]["ending"]["_value"] in endings]


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Future[Ended], Future[Ended]]]:
    """The experiment with all endings, and the one whose tuner fails. They mostly wait, so they run side by side."""
    with ThreadPoolExecutor(2) as pool:
        yield tuple(pool.submit(run, tmp_path_factory.mktemp(run.__name__)) for run in (all_endings, failing_tuner))


@pytest.fixture(scope="module")
def ended(experiments: tuple[Future[Ended], Future[Ended]]) -> Ended:
    return experiments[0].result()


def all_endings(folder: Path) -> Ended:
    tuner = {"name": "NasAnnealing", "classArgs": {"init_temperature": 1.0}}
    named = Experiment(folder / "home", ENDING_SPACE, ENDING_TRIAL, tuner, trialConcurrency=4, maxTrialNumber=200)
    named.env["NNI_CONFIG_DIR"] = str(folder / "config")
    registered = named.call("nas", "register")
    with named as experiment:
        experiment.manager.add_trial(
            {"ending": {"_value": "good", "_idx": len(PLAIN)}, "score": {"_value": "1", "_idx": 1}}
        )
        experiment.wait_until_done(900)
        experiment.call("nnictl", "experiment", "export", experiment.id, "--filename", "nni.json", "--type", "json")
        exported = json.loads((experiment.code / "nni.json").read_text())
        return Ended(
            *(experiment.status(), experiment.show(), experiment.log(), experiment.log("nnimanager")),
            *(registered, tuple(exported)),
        )


def failing_tuner(folder: Path) -> Ended:
    experiment = Experiment(folder / "home", SPACE, f"{TRIAL}\nimport no_such_module", {"className": "own.Tuner"})
    (experiment.code / "own.py").write_text(OWN)
    with experiment:
        experiment.wait_until_done()
        watched = experiment.call("nas", "show", "--watch", experiment.id)
        return Ended(
            *(experiment.status(), experiment.show(), experiment.log(), experiment.log("nnimanager")),
            printed=experiment.call("nas", "show", experiment.id) + watched,
        )


def reported(choices: dict[str, Any]) -> float:
    """What a plain trial reports for ``choices``."""
    return float(2 * choices["ending"]["_idx"] + choices["score"]["_idx"])


def is_nnis_pair_right(row: dict[str, Any]) -> bool:
    """Return True if a row of ``nnictl experiment export`` has the result of the parameters beside it."""
    value, parameter = json.loads(row["value"]), row["parameter"]
    if isinstance(value, dict):
        return bool(value.get("_uid") == parameter.get("_uid"))
    return parameter["ending"]["_value"] in PLAIN and value == reported(parameter)


def test_results_at_concurrency_four_are_all_paired_right(ended: Ended) -> None:
    told = [trial for trial in ended.trials(*PLAIN) if trial["state"] == "told"]
    ours = sum(trial["metrics"]["default"] == reported(trial["choices"]) for trial in told)
    nnis = sum(is_nnis_pair_right(row) for row in ended.exported)
    print(f"paired right: nas show {ours} of {len(told)}, nnictl experiment export {nnis} of {len(ended.exported)}")
    assert (ours, len(told)) == (RIGHT, RIGHT)
    assert sorted(trial["metrics"]["default"] for trial in told) == [float(value) for value in range(RIGHT)]
    assert len({trial["trial_job_id"] for trial in ended.shown["trials"] if trial["state"] == "told"}) == TOLD
    assert ended.shown["best"]["metrics"]["default"] == RIGHT - 1
    assert nnis < len(ended.exported), "NNI pairs rightly now: the adapter's own pairing could go"


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_way_to_end_is_counted_for_the_right_trial(ended: Ended, ending: str) -> None:
    reasons = {
        "raises": "RuntimeError: out of memory",
        "says nothing": "the trial ended without a final metric",
        "is killed": "its trial ended without a result",
    }
    trials = ended.trials(ending)
    good = ending in ("good", "reports twice", "raises late")
    assert [trial["state"] for trial in trials] == ["told" if good else "failed"] * 2
    for trial in trials:
        if good:
            assert trial["metrics"] == {"default": float(trial["choices"]["score"]["_idx"]), "macs": 7}
        if ending in reasons:
            assert trial["reason"] == reasons[ending]


def test_an_exhausted_space_ends_the_experiment_of_a_registered_tuner(ended: Ended) -> None:
    assert "NasAnnealing" in ended.registered
    assert ended.status == "DONE"
    assert ended.shown["search"] == "Annealing"
    counts = dict(asked=TOLD + FAILED, told=TOLD, failed=FAILED, pending=0, dropped=0)
    assert ended.shown["counts"].items() >= counts.items()
    assert ended.shown["counts"]["duplicate"] >= 2
    assert len({json.dumps(trial["choices"]) for trial in ended.shown["trials"]}) == TOLD + FAILED


def test_a_tuner_that_cannot_go_on_ends_the_experiment_with_an_error_and_not_in_silence(
    experiments: tuple[Future[Ended], Future[Ended]],
) -> None:
    ended = experiments[1].result()
    assert ended.status == "ERROR"
    assert "Tuner cannot go on: Buggy._propose(1) failed: ZeroDivisionError" in ended.log
    assert "Tuner cannot go on" in ended.manager_log
    assert ended.shown["counts"]["asked"] == 4
    for told in (
        'the tuner failed: SearchError: Buggy._propose(1) failed: ZeroDivisionError("a bug of the user\'s own")',
        "own.py, line 8, in _propose: raise ZeroDivisionError",
        "log/dispatcher.log",
        "ModuleNotFoundError: No module named 'no_such_module'",
    ):
        assert ended.printed.count(told) >= 2, f"{told!r} is not in both of\n{ended.printed}"
