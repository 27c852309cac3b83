"""Every tuner of the table keeps its promises to NNI."""

from __future__ import annotations

import http.server
import inspect
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import nni
import pytest

import nas_tuners
from nas_tuners import SearchTuner
from nas_tuners.commands.register import TUNERS as REGISTERED
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import load
from nas_tuners.search import RandomSearch, SearchError
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.show.text import summarize
from nas_tuners.testing import TUNER_CHECKS
from nas_tuners.testing.tuners import ORDERS, SMALL, compare_threads
from search_spaces import Space, SpaceError
from tests.spaces import SPACES, layer

TUNERS: dict[str, Callable[..., SearchTuner]] = {
    name: getattr(nas_tuners, algorithm.tuner) for name, algorithm in ALGORITHMS.items()
}

WIDE = SPACES["20 x 4"]


@pytest.fixture(params=TUNERS, ids=str)
def make(request: pytest.FixtureRequest) -> Callable[..., SearchTuner]:
    return TUNERS[request.param]


def started(tuner: SearchTuner, space: Any = None) -> SearchTuner:
    tuner.update_search_space(space or WIDE)
    return tuner


def metric(parameters: dict[str, Any]) -> float:
    return float(sum(choice["_idx"] for key, choice in parameters.items() if key[0] != "_"))


def shown(checkpoint: Path) -> dict[str, Any]:
    return summarize(*load(checkpoint / "journal.jsonl"))


def tokens_of(tuner: SearchTuner) -> list[tuple[int, ...]]:
    return [trial.tokens for trial in tuner.run.search.trials.values()]


def test_every_tuner_is_registered_and_public() -> None:
    names = {name.rpartition(".")[2] for name in REGISTERED.values()}
    assert names == {make.__name__ for make in TUNERS.values()}
    assert names <= set(nas_tuners.__all__)


def test_every_argument_has_a_default_and_a_place_in_the_journal(make: Any, checkpoint: Path) -> None:
    parameters = inspect.signature(make).parameters
    assert all(parameter.default is not parameter.empty for parameter in parameters.values())
    assert {"optimize_mode", "seed", "on_failure", "retries"} <= parameters.keys()
    started(make(seed=11))
    assert shown(checkpoint)["seed"] == 11


@pytest.mark.parametrize("check", TUNER_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_it_keeps_its_promises_to_nni(make: Any, check: Callable[..., None]) -> None:
    check(make)


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("order", ORDERS)
def test_two_threads_that_run_long_give_the_history_of_one(make: Any, order: str) -> None:
    """NNI calls trial_end from another thread, before or after the result of the same trial."""
    trials = 300 if make is nas_tuners.BayesianTuner else 2000  # which thinks longer
    compare_threads(lambda: make(seed=1), [order], trials)


def test_metrics_are_kept_whole_and_ours_are_taken_out(make: Any, checkpoint: Path) -> None:
    tuner = started(make())
    parameters = tuner.generate_parameters(0)
    tuner.receive_trial_result(0, parameters, {"default": 0.5, "macs": 7, "_uid": 0}, trial_job_id="x1")
    (trial,) = shown(checkpoint)["trials"]
    assert trial["metrics"] == {"default": 0.5, "macs": 7}
    assert (trial["trial_job_id"], trial["state"], trial["uid"]) == ("x1", "told", 0)


def test_a_second_result_and_a_strangers_are_notes(make: Any, checkpoint: Path) -> None:
    tuner = started(make())
    parameters = tuner.generate_parameters(0)
    tuner.receive_trial_result(0, parameters, 1.0, trial_job_id="j")
    tuner.receive_trial_result(0, parameters, 9.0, trial_job_id="j")
    tuner.receive_trial_result(99, {"_uid": 99}, 9.0, trial_job_id="j")
    tuner.receive_trial_result(99, {}, 9.0, trial_job_id="j")
    tuner.trial_end(None, True)
    tuner.trial_end(0, True)
    assert shown(checkpoint)["best"]["metrics"]["default"] == 1.0
    assert shown(checkpoint)["counts"] == dict(asked=1, told=1, failed=0, duplicate=1, pending=0, dropped=0) | {
        key: 0 for key in ("stopped", "infeasible")
    }


UNUSABLE = ["0.9", [0.9], None, {"accuracy": 0.9}, {"default": "good"}, float("nan"), {"default": float("inf")}]
UNUSABLE.append({"default": float("nan"), "_uid": 0, "_failed": "RuntimeError: out of memory"})


@pytest.mark.parametrize("value", UNUSABLE, ids=repr)
def test_an_unusable_metric_is_a_failure_and_the_search_goes_on(make: Any, checkpoint: Path, value: Any) -> None:
    tuner = started(make())
    tuner.receive_trial_result(0, tuner.generate_parameters(0), value, trial_job_id="j")
    assert shown(checkpoint)["counts"]["failed"] == 1
    assert shown(checkpoint)["trials"][0]["metrics"]["default"] is None
    assert shown(checkpoint)["trials"][0]["reason"]
    assert shown(checkpoint)["best"] is None
    assert tuner.generate_parameters(1)["_uid"] == 1


def failing(tuner: SearchTuner, parameter_id: int) -> dict[str, Any]:
    parameters = tuner.generate_parameters(parameter_id)
    report = {"default": float("nan"), "_uid": parameters["_uid"], "_failed": "RuntimeError: out of memory"}
    tuner.receive_trial_result(parameter_id, parameters, report, trial_job_id="j")
    tuner.trial_end(parameter_id, False)
    return parameters


def test_on_failure_retry_hands_out_the_same_again_and_then_gives_up(make: Any, checkpoint: Path) -> None:
    tuner = started(make(on_failure="retry", retries=2))
    sent = [failing(tuner, i) for i in range(4)]
    assert sent[0] == sent[1] == sent[2] != sent[3]
    assert shown(checkpoint)["counts"]["failed"] == 1
    assert shown(checkpoint)["trials"][0]["reason"] == "RuntimeError: out of memory"


def test_on_failure_retry_counts_a_later_success(make: Any, checkpoint: Path) -> None:
    tuner = started(make(on_failure="retry"))
    failing(tuner, 0)
    parameters = tuner.generate_parameters(1)
    tuner.receive_trial_result(1, parameters, 0.7, trial_job_id="j")
    assert shown(checkpoint)["counts"]["told"] == 1
    assert shown(checkpoint)["counts"]["failed"] == 0


class Listening(RandomSearch):
    """Remembers what it learnt."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.learnt: list[float] = []

    def _learn(self, tokens: tuple[int, ...], score: float) -> None:
        self.learnt.append(score)


@pytest.mark.parametrize(("policy", "learnt"), [("worst", [float("-inf")]), ("skip", [])])
def test_on_failure_worst_is_learnt_and_skip_is_not(policy: str, learnt: list[float]) -> None:
    search = Listening()
    failing(started(SearchTuner(search, on_failure=policy)), 0)
    assert search.learnt == learnt
    assert search.counts.failed == 1


def test_a_trial_that_ends_without_a_word_fails_once_nothing_is_left_that_could_run_it(make: Any) -> None:
    tuner = started(make())
    first, second = tuner.generate_multiple_parameters([0, 1])
    tuner.trial_end(0, True)
    tuner.generate_parameters(2)  # one trial is still running: it may be either
    assert tuner.run.search.counts.failed == 0
    tuner.receive_trial_result(1, second, 1.0, trial_job_id="j")
    tuner.trial_end(1, True)
    tuner.trial_end(2, False)
    tuner.generate_parameters(3)
    assert [trial.state for trial in tuner.run.search.trials.values()] == ["failed", "told", "failed", "pending"]
    tuner.receive_trial_result(0, first, 2.0, trial_job_id="late")  # it had only waited in NNI's queue
    assert tuner.run.search.trials[0].state == "told"


def test_the_end_of_the_experiment_settles_what_is_left(make: Any, checkpoint: Path) -> None:
    tuner = started(make())
    tuner.generate_parameters(0)
    tuner.trial_end(0, False)
    tuner._on_exit()
    assert shown(checkpoint)["counts"]["failed"] == 1


def resumed(make: Any, space: Any = None) -> SearchTuner:
    tuner = make()
    tuner.load_checkpoint()
    return started(tuner, space)


def test_mispaired_import_data_after_a_resume_changes_nothing(make: Any, checkpoint: Path) -> None:
    tuner = started(make())
    sent = tuner.generate_multiple_parameters(list(range(4)))
    for i, parameters in enumerate(sent):
        tuner.receive_trial_result(i, parameters, metric(parameters), trial_job_id=f"j{i}")
    tuner._on_exit()
    before = shown(checkpoint)
    tuner = resumed(make)
    wrong = [
        {"parameter": parameters, "value": metric(sent[i - 1]), "trialJobId": f"j{i - 1}"}
        for i, parameters in enumerate(sent)
    ]
    tuner.import_data(wrong)
    tuner.import_data([{"parameter": parameters, "value": 99.0} for parameters in sent])
    assert shown(checkpoint) == before


def test_the_result_of_a_trial_run_again_keeps_its_uid(make: Any, checkpoint: Path) -> None:
    tuner = started(make())
    told, pending = tuner.generate_multiple_parameters([0, 1])
    tuner.receive_trial_result(0, told, 1.0, trial_job_id="j0")
    tuner._on_exit()
    tuner = resumed(make)
    tuner.import_data([{"parameter": told, "value": 1.0, "trialJobId": "j0"}])
    tuner.import_data([{"parameter": pending, "value": 5.0}])
    tuner.import_data([{"parameter": pending, "value": 6.0}])
    assert [trial["metrics"]["default"] for trial in shown(checkpoint)["trials"]] == [1.0, 5.0]
    assert shown(checkpoint)["counts"]["asked"] == 2


def test_a_result_that_only_nni_has_seen_is_taken_for_a_pending_trial(make: Any, checkpoint: Path) -> None:
    tuner = started(make())
    first, second = tuner.generate_multiple_parameters([0, 1])
    tuner._on_exit()
    tuner = resumed(make)
    # NNI's form names the second, the metric itself the first: the metric is right.
    tuner.import_data([{"parameter": second, "value": {"default": 3.0, "_uid": first["_uid"]}, "trialJobId": "j0"}])
    assert [trial["state"] for trial in shown(checkpoint)["trials"]] == ["told", "pending"]


def test_results_from_elsewhere_are_learnt_once(make: Any, checkpoint: Path) -> None:
    tuner, space = started(make(), SMALL), Space.from_json(SMALL)
    entry = {"parameter": space.decode((2, 1)), "value": 0.5}
    tuner.import_data([entry, entry, {"parameter": {"a": 1}, "value": 1.0}, "nonsense"])
    assert shown(checkpoint)["counts"]["told"] == 1
    assert shown(checkpoint)["best"]["choices"] == space.decode((2, 1))
    rest = tuner.generate_multiple_parameters(list(range(9)))
    assert len(rest) == 5
    tuner._on_exit()
    assert tokens_of(resumed(make, SMALL)) == tokens_of(tuner)


def test_another_space_keeps_what_fits_and_says_what_does_not(
    make: Any, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuner = started(make(), SMALL)
    for i, parameters in enumerate(tuner.generate_multiple_parameters(list(range(6)))):
        tuner.receive_trial_result(i, parameters, metric(parameters), trial_job_id="j")
    tuner.update_search_space({"a": layer("y", "z", "w"), "b": SMALL["b"]})
    assert "Of 6 trials so far 4 are part of it; 2 are of other architectures" in caplog.text
    counts = shown(checkpoint)["counts"]
    assert (counts["told"], counts["dropped"]) == (4, 2)
    rest = tuner.generate_multiple_parameters([6, 7, 8])
    assert [parameters["a"]["_value"] for parameters in rest] == ["w", "w"]


def test_a_broken_update_leaves_the_old_space_in_force(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    tuner = started(make())
    tuner.update_search_space({"a": {"_type": "normal", "_value": [0, 1]}})
    assert "the search goes on in the old space" in caplog.text
    assert len(tuner.generate_parameters(0)) == 22


def test_a_broken_space_at_the_start_is_an_error(make: Any) -> None:
    with pytest.raises(SpaceError, match="wanted uniform over the range"):
        make().update_search_space({"a": {"_type": "normal", "_value": [0, 1]}})


def test_a_journal_of_another_space_or_direction_is_refused(make: Any, checkpoint: Path) -> None:
    started(make())._on_exit()
    with pytest.raises(JournalError, match="is of another search space"):
        make().update_search_space(SMALL)
    with pytest.raises(JournalError, match="has optimize_mode maximize, wanted minimize"):
        make(optimize_mode="minimize").update_search_space(WIDE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"optimize_mode": "max"}, "optimize_mode is 'max', wanted one of 'maximize', 'minimize'"),
        ({"on_failure": "ignore"}, "on_failure is 'ignore'"),
        ({"retries": -1}, "retries is -1"),
        ({"seed": "bad"}, "seed is 'bad'"),
    ],
)
def test_bad_arguments_are_refused_at_once(make: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**arguments)


def test_minimize_finds_the_smallest(make: Any, checkpoint: Path) -> None:
    tuner = started(make(optimize_mode="minimize"), SMALL)
    for i, parameters in enumerate(tuner.generate_multiple_parameters(list(range(6)))):
        tuner.receive_trial_result(i, parameters, metric(parameters), trial_job_id="j")
    assert shown(checkpoint)["best"]["metrics"]["default"] == 0.0


class Manager(http.server.BaseHTTPRequestHandler):
    """Answers as NNI's manager does, and remembers what it was asked to do."""

    jobs: ClassVar[list[dict[str, Any]]] = []
    puts: ClassVar[list[tuple[str, Any]]] = []

    def do_GET(self) -> None:
        self._answer(self.jobs)

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.puts.append((self.path, body))
        self._answer({})

    def _answer(self, body: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Manager]]:
    Manager.jobs, Manager.puts = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Manager) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", f"ws://localhost:{server.server_port}/prefix/tuner")
        yield Manager
        server.shutdown()
        thread.join()


def test_when_the_space_is_exhausted_the_manager_is_told_after_the_last_trial(
    make: Any, manager: type[Manager]
) -> None:
    tuner = started(make(), SMALL)
    sent = tuner.generate_multiple_parameters(list(range(8)))
    assert len(sent) == 6
    manager.jobs = [{"status": "SUCCEEDED"}] * 6
    for i, parameters in enumerate(sent):
        assert not manager.puts
        tuner.receive_trial_result(i, parameters, 1.0, trial_job_id="j")
        tuner.trial_end(i, True)
    assert manager.puts == [
        ("/prefix/api/v1/nni/experiment?update_type=MAX_TRIAL_NUM", {"params": {"maxTrialNumber": 6}})
    ]
    with pytest.raises(nni.NoMoreTrialError):
        tuner.generate_parameters(9)
    assert len(manager.puts) == 1


def test_what_a_resume_would_lose_is_handed_out_again(make: Any, manager: type[Manager], checkpoint: Path) -> None:
    """Pending were 0 to 3; NNI re-runs the jobs whose forms name 1 and 3, and an earlier resume has left one behind."""
    tuner = started(make())
    sent = tuner.generate_multiple_parameters(list(range(4)))
    tuner._on_exit()
    form = [json.dumps({"parameter_id": i, "parameters": parameters}) for i, parameters in enumerate(sent)]
    manager.jobs = [
        {"status": "ADD_RESUMED", "hyperParameters": [form[1]]},
        {"status": "RUNNING", "hyperParameters": [form[3]]},
        {"status": "SUCCEEDED", "hyperParameters": [form[0]]},
    ]
    tuner = resumed(make)
    again = [tuner.generate_parameters(i) for i in (4, 5)]
    assert [parameters["_uid"] for parameters in again] == [0, 2]
    started_now = json.dumps({"parameter_id": 4, "parameters": again[0]})
    manager.jobs.append({"status": "RUNNING", "hyperParameters": [started_now]})
    assert tuner.generate_parameters(6)["_uid"] == 1  # still ADD_RESUMED after a later one: nobody runs it
    assert tuner.generate_parameters(7)["_uid"] == 4
    tuner.import_data([{"parameter": sent[3], "value": 1.0}])
    assert shown(checkpoint)["trials"][3]["state"] == "told"


def test_without_a_manager_a_resume_still_goes_on(make: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = started(make())
    tuner.generate_parameters(0)
    tuner._on_exit()
    tuner = resumed(make)
    monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", "ws://localhost:9/tuner")
    assert tuner.generate_parameters(1)["_uid"] == 1


class Broken(RandomSearch):
    """An algorithm with bugs."""

    def _learn(self, tokens: tuple[int, ...], score: float) -> None:
        raise ZeroDivisionError


def test_an_algorithm_that_cannot_learn_does_not_stop_the_experiment(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuner = started(SearchTuner(Broken()))
    for i in range(3):
        parameters = tuner.generate_parameters(i)
        tuner.receive_trial_result(i, parameters, "bad" if i == 1 else 1.0, trial_job_id="j")
    assert "goes on without having learnt from uid 0" in caplog.text
    assert shown(checkpoint)["counts"]["told"] == 2
    tuner._on_exit()
    resumed_tuner = started(SearchTuner(Broken()))
    assert resumed_tuner.run.search.counts.told == 2


def test_an_algorithm_that_cannot_propose_is_an_error_with_its_name() -> None:
    class Worse(Broken):
        def _propose(self, n: int) -> Any:
            return itertools.repeat("x", n)

    with pytest.raises(SearchError, match=r"Worse\._propose"):
        started(SearchTuner(Worse())).generate_parameters(0)
