"""The three modes of a trial, what it reports, and what it says when it fails."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import mutators.trial
from mutators import (
    ChoiceError,
    InputChoice,
    LayerChoice,
    apply_choices,
    get_and_apply_next_architecture,
    get_next_architecture,
    report_final,
    report_intermediate,
    search_space_of,
)
from mutators.trial import to_number
from search_spaces import Space, SpaceError
from tests.mutators import models, trials
from tests.mutators.trials import PARAMETERS, Outcome


@pytest.fixture(autouse=True)
def no_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NNI_PLATFORM", "NNI_GEN_SEARCH_SPACE", "NNI_TRIAL_COMMAND_CHANNEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(server: subprocess.Popen[str], tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a script as a trial of an experiment."""
    return partial(trials.run, server, tmp_path)


class TestDryRun:
    def test_writes_the_space_and_exits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "space.json"
        monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(file))
        monkeypatch.setenv("NNI_PLATFORM", "local")
        model = models.build("Mnist")
        assert get_and_apply_next_architecture(model)["skip"] == {"_value": [""], "_idx": [0]}
        with pytest.raises(SystemExit) as caught:
            model(models.input_of("Mnist"))
        assert caught.value.code == 0
        assert file.read_text() == json.dumps(models.MNIST_SPACE, indent=2) + "\n"
        assert list(json.loads(file.read_text())) == list(search_space_of(model))  # in the model's own order

    @pytest.mark.parametrize("report", [report_final, report_intermediate])
    def test_a_report_ends_it_too(
        self, report: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(tmp_path / "space.json"))
        get_and_apply_next_architecture(models.build("Mnist"))
        with pytest.raises(SystemExit):
            report(0.5)
        monkeypatch.delenv("NNI_GEN_SEARCH_SPACE")
        report(0.5)
        models.build("Mnist").conv1[0](models.input_of("Mnist"))

    @pytest.mark.slow
    def test_a_script_stops_there_without_nni(self, tmp_path: Path) -> None:
        body = (
            "import torch\nsys.modules.pop('nni')\nmodel = Mnist()\nget_and_apply_next_architecture(model)\n"
            "model(torch.zeros(1, 1, 28, 28))\nprint('trained')"
        )
        outcome = trials.run_alone(tmp_path, body, NNI_GEN_SEARCH_SPACE=str(tmp_path / "space.json"))
        assert outcome.code == 0 and outcome.out == "" and "Error" not in outcome.err
        assert Space.load(tmp_path / "space.json").size == 8

    def test_nothing_is_written_for_a_model_without_choices(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(tmp_path / "space.json"))
        for model, error in ((nn.ReLU(), SpaceError), (nn.Sequential(InputChoice(64)), SpaceError)):
            with pytest.raises(error):
                get_and_apply_next_architecture(model)
        with pytest.raises(ChoiceError):
            get_and_apply_next_architecture(LayerChoice([nn.ReLU()]))
        assert list(tmp_path.iterdir()) == []


class TestStandalone:
    def test_the_first_candidates(self, name: str, model: nn.Module) -> None:
        choices = get_and_apply_next_architecture(model)
        model(models.input_of(name))
        assert all(m.chosen == (0,) for m in model.modules() if isinstance(m, LayerChoice))
        apply_choices(models.build(name), choices)

    @pytest.mark.parametrize(
        "n_chosen, want", [(None, [0, 1, 2]), (0, []), (1, [0]), (2, [0, 1]), ((0, 2), [0, 1]), ((1, 1), [0])]
    )
    def test_inputs(self, n_chosen: Any, want: list[int]) -> None:
        model = nn.Sequential(InputChoice(3, n_chosen=n_chosen))
        assert get_and_apply_next_architecture(model) == {"0": {"_value": [""] * len(want), "_idx": want}}
        assert model[0].chosen == tuple(want)

    @pytest.mark.slow
    def test_a_script_runs_without_nni(self, tmp_path: Path) -> None:
        body = "print(get_and_apply_next_architecture(Mnist())['first_conv']['_value'])\nreport_final(0.5, macs=3)"
        outcome = trials.run_alone(tmp_path, body, NNI_TRIAL_COMMAND_CHANNEL="")
        assert outcome.code == 0 and outcome.out.startswith("conv5x5")

    @pytest.mark.parametrize("received", [None, {}, PARAMETERS])
    def test_unittest(self, received: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        import nni

        monkeypatch.setenv("NNI_PLATFORM", "unittest")
        monkeypatch.setattr(nni, "get_next_parameter", lambda: received)
        model = models.build("Mnist")
        assert get_and_apply_next_architecture(model)["lr" if received else "first_conv"]
        assert model.conv1.chosen == ((1,) if received else (0,))

    def test_unittest_with_nnis_own_channel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NNI_PLATFORM", "unittest")
        assert get_and_apply_next_architecture(models.build("Mnist"))["skip"] == {"_value": [""], "_idx": [0]}


class TestWithoutAModel:
    SPACE = Space.from_json(
        {"a": {"_type": "layer_choice", "_value": ["x", "y"]}, "lr": {"_type": "choice", "_value": [0.1, 1]}}
    )
    RECEIVED: ClassVar[dict[str, Any]] = {"a": {"_value": "y", "_idx": 1}, "lr": 1, "_uid": 4}

    def test_a_dry_run_writes_the_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(tmp_path / "space.json"))
        assert get_next_architecture(self.SPACE)["lr"] == 0.1
        nn.ReLU()(torch.ones(1))
        with pytest.raises(SystemExit):
            torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0).step()
        assert Space.load(tmp_path / "space.json") == self.SPACE

    def test_alone_it_is_the_first_or_what_is_said(self) -> None:
        assert get_next_architecture(self.SPACE) == {"a": {"_value": "x", "_idx": 0}, "lr": 0.1}
        assert get_next_architecture(self.SPACE, self.RECEIVED) == self.RECEIVED

    def test_what_was_received_is_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import nni

        monkeypatch.setenv("NNI_PLATFORM", "unittest")
        monkeypatch.setattr(nni, "get_next_parameter", lambda: self.RECEIVED)
        assert get_next_architecture(self.SPACE) == self.RECEIVED
        monkeypatch.setattr(nni, "get_next_parameter", lambda: {**self.RECEIVED, "lr": 7})
        with pytest.raises(SpaceError, match="7 is not on offer"):
            get_next_architecture(self.SPACE)
        monkeypatch.setattr(nni, "get_next_parameter", lambda: {**self.RECEIVED, "momentum": 0.9})
        assert get_next_architecture(self.SPACE)["momentum"] == 0.9
        monkeypatch.setattr(nni, "get_next_parameter", lambda: {**self.RECEIVED, "c": {"_idx": 0}})
        with pytest.raises(SpaceError, match="unknown 'c'"):
            get_next_architecture(self.SPACE)


class TestExperiment:
    @pytest.mark.slow
    def test_applies_and_returns_what_it_received(self, run: Callable[..., Outcome]) -> None:
        outcome = run("""
model = Mnist()
p = get_and_apply_next_architecture(model)
print(model.conv1.chosen, model.mid_conv.chosen, model.func_add.chosen, p['lr'], p['_uid'])
report_intermediate(0.25)
report_intermediate(0.5)
report_final(0.75, macs=12)
""")
        assert outcome.out == "(1,) (1,) (1,) 0.1 7\n" and outcome.code == 0 and outcome.err == ""
        assert [e["value"] for e in outcome.sent if e["type"] == "PERIODICAL"] == [0.25, 0.5]
        assert outcome.finals == [{"default": 0.75, "_uid": 7, "macs": 12}]
        assert all(e["parameter_id"] == 5 for e in outcome.sent if e["type"] != "ask")

    def test_asks_once(self, run: Callable[..., Outcome]) -> None:
        outcome = run("""
models = [Mnist(), Mnist()]
print(get_and_apply_next_architecture(models[0]) == get_and_apply_next_architecture(models[1]))
print(models[1].conv1.chosen)
report_final(1)
""")
        assert outcome.out == "True\n(1,)\n" and outcome.asked == 1 and len(outcome.finals) == 1

    def test_what_the_script_asked_for_itself_counts(self, run: Callable[..., Outcome]) -> None:
        outcome = run("lr = nni.get_next_parameter()['lr']\nget_and_apply_next_architecture(Mnist())\nreport_final(lr)")
        assert outcome.asked == 1 and outcome.finals == [{"default": 0.1, "_uid": 7}]

    def test_a_model_without_choices_may_have_hyper_parameters(self, run: Callable[..., Outcome]) -> None:
        body = "import torch\nreport_final(get_and_apply_next_architecture(torch.nn.ReLU())['lr'])"
        assert run(body, {"lr": 0.1, "_uid": 1}).finals == [{"default": 0.1, "_uid": 1}]

    def test_another_tuner_gives_no_uid(self, run: Callable[..., Outcome]) -> None:
        parameters = {key: value for key, value in PARAMETERS.items() if key != "_uid"}
        outcome = run("get_and_apply_next_architecture(Mnist())\nreport_final(1.0)", parameters)
        assert outcome.finals == [1.0]

    def test_no_parameters(self, run: Callable[..., Outcome]) -> None:
        outcome = run("get_and_apply_next_architecture(Mnist())", None)
        assert outcome.code == 1 and "RuntimeError: NNI has no parameters" in outcome.err and outcome.finals == []

    def test_a_child_process_does_not_ask(self, run: Callable[..., Outcome]) -> None:
        body = """
import multiprocessing
def ask():
    try:
        get_and_apply_next_architecture(Mnist())
    except RuntimeError as error:
        print(error)
    sys.stdout.flush()
child = multiprocessing.get_context('fork').Process(target=ask)
child.start()
child.join()
"""
        outcome = run(body)
        assert outcome.asked == 0 and 'if __name__ == "__main__":' in outcome.out
        outcome = run("get_and_apply_next_architecture(Mnist())" + body + "report_final(1)")
        assert outcome.asked == 1 and outcome.out == ""  # a fork knows the parameters already

    def test_metrics_before_parameters(self, run: Callable[..., Outcome]) -> None:
        for call in ("report_final(1)", "report_intermediate(1)"):
            outcome = run(call)
            assert outcome.code == 1 and "call get_and_apply_next_architecture(model) first" in outcome.err


class TestFailures:
    def failure(self, outcome: Outcome) -> str:
        (final,) = outcome.finals
        assert math.isnan(final["default"]) and final["_uid"] == 7 and set(final) == {"default", "_uid", "_failed"}
        return final["_failed"]

    @pytest.mark.slow
    def test_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        body = "get_and_apply_next_architecture(Mnist())\nraise ValueError('loss\\n is bad')"
        outcome = trials.run_alone(tmp_path, body, **trials.EXPERIMENT)
        assert outcome.code == 1 and outcome.err.rstrip().endswith("ValueError: loss\n is bad")
        assert "Traceback" in outcome.err and self.failure(outcome) == "ValueError: loss is bad"

    @pytest.mark.parametrize(
        "end, code, reason",
        [
            ("raise ValueError('bad')", 1, "ValueError: bad"),
            ("raise ValueError", 1, "ValueError"),
            ("raise ValueError('x' * 999)", 1, "ValueError: " + "x" * 185 + "..."),
            ("class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd", 1, "Odd"),
            ("import signal; os.kill(os.getpid(), signal.SIGINT)", -2, "interrupted"),
            ("report_intermediate(0.5)", 0, "the trial ended without a final metric"),
            ("sys.exit(0)", 0, "the trial ended without a final metric"),
            ("sys.exit(3)", 3, "the trial ended without a final metric"),
            ("sys.exit('no data')", 1, "the trial ended without a final metric"),
            ("report_final('best')", 1, "TypeError: the metric is a str"),
        ],
    )
    def test_each_end(self, end: str, code: int, reason: str, run: Callable[..., Outcome]) -> None:
        outcome = run("get_and_apply_next_architecture(Mnist())\n" + end)
        assert outcome.code == code
        assert self.failure(outcome).startswith(reason)
        assert len(self.failure(outcome)) <= 200
        assert ("Traceback" in outcome.err) is (not end.startswith(("sys", "report_int")))

    def test_choices_that_do_not_fit(self, run: Callable[..., Outcome]) -> None:
        outcome = run("get_and_apply_next_architecture(Mnist())", {"first_conv": {"_idx": 3}, "_uid": 7})
        assert outcome.code == 1 and self.failure(outcome).startswith(
            "ChoiceError: the architecture does not fit this model"
        )

    @pytest.mark.parametrize("report", ["report_final(0.5)", "nni.report_final_result({'default': 0.5, '_uid': 7})"])
    @pytest.mark.parametrize("end, code", [("", 0), ("\nraise ValueError('late')", 1), ("\nsys.exit(2)", 2)])
    def test_nothing_more_after_a_final(self, report: str, end: str, code: int, run: Callable[..., Outcome]) -> None:
        outcome = run("get_and_apply_next_architecture(Mnist())\n" + report + end)
        assert outcome.code == code and outcome.finals == [{"default": 0.5, "_uid": 7}]

    def test_a_nan_is_a_result_and_passed_on(self, run: Callable[..., Outcome]) -> None:
        (final,) = run("get_and_apply_next_architecture(Mnist())\nreport_final(float('nan'))").finals
        assert math.isnan(final["default"]) and "_failed" not in final

    def test_an_exception_that_was_caught_is_none(self, run: Callable[..., Outcome]) -> None:
        body = (
            "get_and_apply_next_architecture(Mnist())\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    report_final(0)"
        )
        assert run(body).finals == [{"default": 0, "_uid": 7}]

    def test_failing_to_report_hides_nothing(self, run: Callable[..., Outcome]) -> None:
        body = "get_and_apply_next_architecture(Mnist())\nraise ValueError('the real one')"
        outcome = run(body, BROKEN="FINAL")
        assert outcome.code == 1 and outcome.finals == []
        assert "ValueError: the real one" in outcome.err and "could not be reported: ConnectionError" in outcome.err

    def test_a_final_that_did_not_get_through_is_none(self, run: Callable[..., Outcome]) -> None:
        body = """
get_and_apply_next_architecture(Mnist())
try:
    report_final(0.5)
except ConnectionError:
    del os.environ['BROKEN']
"""
        assert self.failure(run(body, BROKEN="FINAL")) == "the trial ended without a final metric"

    def test_the_hook_that_was_there_still_runs(self, run: Callable[..., Outcome]) -> None:
        body = """
sys.excepthook = lambda *_: print('mine')
get_and_apply_next_architecture(Mnist())
get_and_apply_next_architecture(Mnist())
raise ValueError('bad')
"""
        outcome = run(body)
        assert outcome.out == "mine\n" and outcome.err == "" and self.failure(outcome) == "ValueError: bad"

    def test_a_forked_child_says_nothing(self, run: Callable[..., Outcome]) -> None:
        body = """
get_and_apply_next_architecture(Mnist())
child = os.fork()
if not child:
    raise ValueError('in the child')
os.waitpid(child, 0)
report_final(1)
"""
        assert run(body).finals == [{"default": 1, "_uid": 7}]


class TestMetrics:
    @pytest.mark.parametrize(
        "metric, number",
        [
            (1, 1),
            (0.5, 0.5),
            (torch.tensor(0.5), 0.5),
            (torch.tensor([[2]]), 2),
            (np.float64(0.5), 0.5),
            (np.int64(3), 3),
            (np.array([0.5]), 0.5),
            (torch.ones(1, requires_grad=True), 1.0),
            (math.inf, math.inf),
        ],
    )
    def test_numbers(self, metric: Any, number: float) -> None:
        assert to_number(metric) == number and type(to_number(metric)) in (int, float)

    @pytest.mark.parametrize(
        "metric",
        [
            "0.5",
            None,
            True,
            [0.5],
            {"default": 0.5},
            1j,
            torch.ones(2),
            torch.ones(0),
            np.array(["a"]),
            np.bool_(True),
            torch.tensor(True),
            np.ones(3),
        ],
    )
    @pytest.mark.parametrize("report", [report_final, report_intermediate])
    def test_no_numbers(self, metric: Any, report: Callable[[Any], None]) -> None:
        with pytest.raises(TypeError, match="wanted a number or a tensor of one element"):
            report(metric)

    def test_others(self) -> None:
        with pytest.raises(ValueError, match=r"\['default', '_uid'\]"):
            report_final(0.5, default=3, _uid=4, fine=1)
        with pytest.raises(TypeError, match=r"a \(object\), b \(Tensor\)"):
            report_final(0.5, a=object(), b=torch.ones(2), c=torch.ones(1), d={"e": [1, None]})

    def test_standalone_reports_plainly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import nni

        sent: list[Any] = []
        monkeypatch.setattr(nni, "report_final_result", sent.append)
        monkeypatch.setattr(nni, "report_intermediate_result", sent.append)
        report_intermediate(torch.tensor(0.25))
        report_final(0.5)
        report_final(0.5, macs=torch.tensor([3]))
        assert sent == [0.25, 0.5, {"default": 0.5, "macs": 3}]


def test_nni_is_imported_here_and_only_when_it_is_needed() -> None:
    folder = Path(mutators.trial.__file__).parent
    importing = [f.name for f in folder.rglob("*.py") if "import nni" in f.read_text() or "from nni" in f.read_text()]
    assert importing == ["trial.py"]
