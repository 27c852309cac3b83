"""Trials as processes: what they report, how they fail, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from nas_tuners.hosts.trials import pool, process
from nas_tuners.hosts.trials.plan import ExperimentError, TrialPlan
from nas_tuners.hosts.trials.process import TrialError
from nas_tuners.hosts.trials.protocol import ProtocolError, Reader
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run
from nas_tuners.runs.warden import end_marked, find_marked
from tests.nas_tuners.hosts.trials import experiments
from tests.nas_tuners.hosts.trials.experiments import run_here


def reasons(run: Run) -> list[str | None]:
    return [trial.reason for trial in run.search.trials.values()]


def processes_of(run: Run) -> list[int]:
    return find_marked(f"NAS_TRIAL_OF={run.id}.")


def test_one_at_a_time_it_proposes_what_a_search_in_this_process_does(tmp_path: Path) -> None:
    run, plain = run_here(tmp_path, trials=10), experiments.make_tuner().run
    run_search(plain, experiments.good, 10)
    assert [t.tokens for t in run.search.trials.values()] == [t.tokens for t in plain.search.trials.values()]
    assert [t.metrics for t in run.search.trials.values()] == [t.metrics for t in plain.search.trials.values()]


def test_side_by_side_each_result_is_of_its_own_architecture(tmp_path: Path) -> None:
    run = run_here(tmp_path, "time.sleep(0.01 * (good % 3))\nreport(good)\n", trials=12, concurrency=4)
    assert run.search.counts.told == run.search.counts.asked == 12
    assert all(t.score == experiments.good(run.space.decode(t.tokens)) for t in run.search.trials.values())


def test_a_trial_has_its_own_folder_environment_and_logs(tmp_path: Path) -> None:
    names = ["NNI_PLATFORM", "NNI_TRIAL_SEQ_ID", "NNI_OUTPUT_DIR", "NNI_CODE_DIR", "CUDA_VISIBLE_DEVICES"]
    body = (
        f"print([os.environ.get(name) for name in {names}])\nprint('so', file=sys.stderr)\nbetween(0.25)\nreport(good)"
    )
    run_here(tmp_path, body, trials=2)
    place = tmp_path / "trials" / "1"
    assert (place / "trial.stdout").read_text() == f"{['local', '1', str(place), str(tmp_path), None]}\n"
    assert (place / "trial.stderr").read_text() == "so\n"
    between, final = (place / "reports.jsonl").read_text().splitlines()
    assert between == '{"final": false, "sequence": 0, "value": 0.25}' and '"final": true' in final
    assert not (place / ".nni/metrics").exists()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(0)", "its trial ended without a result"),
        ("raise ValueError('no such layer')", "ValueError: no such layer"),
        ("print('out of luck', file=sys.stderr)\nsys.exit(3)", "out of luck"),
        ("sys.exit(3)", "exit code 3, without a word on stderr"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("report(float('nan'))", "the metric is nan"),
        ("report({'default': 1, '_failed': 'too large'})", "too large"),
        (
            "open(os.path.join(folder, '.nni', 'metrics'), 'ab').write(b'accuracy 0.9')\ntime.sleep(60)",
            "cannot be read",
        ),
        (
            "between(0.5)\nopen(os.path.join(folder, '.nni', 'metrics'), 'ab').write(b'x' * 9)\nreport(1)",
            "cannot be read",
        ),
        ("report('good')", "the metric is 'good', wanted a number"),
    ],
)
def test_why_a_trial_failed(body: str, reason: str, tmp_path: Path) -> None:
    run = run_here(tmp_path, body, trials=1)
    assert run.search.counts.failed == 1 and reason in str(reasons(run)[0])


def test_a_final_result_counts_whatever_comes_after_it(tmp_path: Path) -> None:
    run = run_here(tmp_path, "report(good)\nreport(99)\nsys.exit(1)", trials=2)
    assert run.search.counts.told == 2 and run.search.best is not None and run.search.best.score < 99


def test_what_a_failure_means_is_up_to_the_tuner(tmp_path: Path) -> None:
    body = "open(f'{uid}', 'a').write('x')\nif uid == 1 and os.path.getsize('1') < 3: sys.exit(1)\nreport(good)"
    tuner = experiments.make_tuner(on_failure="retry", retries=2)
    run = run_here(tmp_path, body, tuner=tuner, trials=4, concurrency=2)
    assert run.search.counts.told == run.search.counts.asked == 4
    assert (tmp_path / "1").read_text() == "xxx"


def test_a_trial_that_takes_too_long(tmp_path: Path) -> None:
    run = run_here(tmp_path, "time.sleep(60)", trials=1, trial_seconds=0.1)
    assert reasons(run) == ["it took longer than maxTrialDuration, 0.1 s"]


def test_one_that_will_not_be_interrupted_is_killed_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.05)
    body = (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True)\nbetween(0.5)\nbetween(0.75, 1)\ntime.sleep(60)"
    )
    run = run_here(tmp_path, body, trials=1, trial_seconds=0.3)
    (trial,) = run.search.trials.values()
    assert (trial.state, trial.resource, trial.metrics) == ("stopped", 2, {"default": 0.75})
    assert processes_of(run) == []


def test_a_trial_may_be_stopped_by_what_it_reports_on_the_way(tmp_path: Path) -> None:
    heard = []

    def listen(uid: int, value: object, sequence: int) -> bool:
        heard.append((uid, value, sequence))
        return uid != 1

    run = run_here(tmp_path, "between(good)\nif uid == 1: time.sleep(60)\nreport(good)", listen, trials=3)
    assert [trial.state for trial in run.search.trials.values()] == ["told", "stopped", "told"]
    assert [(uid, sequence) for uid, _, sequence in heard] == [(0, 0), (1, 0), (2, 0)]


def test_gpus_by_slot(tmp_path: Path) -> None:
    body = "print(os.environ['CUDA_VISIBLE_DEVICES'])\nreport(good)"
    run_here(tmp_path, body, trials=6, concurrency=6, gpus_per_trial=1, gpus=("1", "3"), trials_per_gpu=1)
    seen = [(tmp_path / "trials" / str(uid) / "trial.stdout").read_text().strip() for uid in range(6)]
    assert seen[:2] == ["1", "3"] and set(seen) == {"1", "3"}


def test_the_end_of_the_time_leaves_trials_pending(tmp_path: Path) -> None:
    run = run_here(tmp_path, "time.sleep(60)", trials=4, concurrency=2, seconds=0.2)
    assert (run.search.counts.pending, run.search.counts.ended) == (2, 0)
    assert processes_of(run) == []


def test_a_command_that_the_shell_cannot_run_ends_the_run(tmp_path: Path) -> None:
    tuner = experiments.make_tuner()
    with pytest.raises(TrialError, match=r"trialCommand cannot be run: .*no_such_command: command not found\nlog: "):
        run_here(tmp_path, tuner=tuner, command="cd . && no_such_command")
    assert tuner.run.search.counts.failed == 0  # nothing is wrong with the architecture


def test_what_ends_by_itself_is_left_to_itself_and_what_stays_behind_in_its_group_ends(tmp_path: Path) -> None:
    run = run_here(tmp_path, "subprocess.Popen(['sleep', '60'])\nreport(good)", trials=2)
    assert run.search.counts.told == 2 and processes_of(run) == []


def test_a_warden_that_was_killed_is_replaced(tmp_path: Path) -> None:
    settings = TrialPlan("true", str(tmp_path), 1)
    with pool.Pool(settings, tmp_path, "run") as trials:
        first = trials._warden
        first.kill()
        first.wait()
        trials.start(0, {"_run": "run"})
        assert trials._warden.pid != first.pid
        while not any(isinstance(event, process.Ended) for _, event in trials.wait()):
            pass


def test_what_an_earlier_process_of_a_run_has_left_is_ended_first(tmp_path: Path) -> None:
    environment = {**os.environ, "NAS_TRIAL_OF": "this.1234.0."}
    left = subprocess.Popen(["sleep", "60"], env=environment)
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, "NAS_TRIAL_OF": "this2.1234.0."})
    with pool.Pool(TrialPlan("true", str(tmp_path), 1), tmp_path, "this"):
        assert left.wait() == -signal.SIGKILL
        assert other.poll() is None
    assert end_marked("NAS_TRIAL_OF=this2.") == 1
    assert other.wait() == -signal.SIGKILL


def test_an_idle_run_waits_for_events(tmp_path: Path) -> None:
    began = time.process_time(), psutil.Process().num_ctx_switches().voluntary
    run_here(tmp_path, "time.sleep(1)\nreport(good)", trials=1)
    switches = psutil.Process().num_ctx_switches().voluntary - began[1]
    assert time.process_time() - began[0] < 0.5 and switches < 500


def test_reports_in_any_pieces() -> None:
    record = b'{"type": "FINAL", "sequence": 0, "value": "{\\"default\\": NaN}"}\n'
    other = b'{"type": "REQUEST_PARAMETER", "sequence": 0}\n'
    stream = b"".join(b"ME%06d%b" % (len(line), line) for line in (other, record, record))
    for size in (1, 7, 64, len(stream)):
        reader = Reader()
        reports = [report for at in range(0, len(stream), size) for report in reader.feed(stream[at : at + size])]
        assert [(report.final, str(report.value)) for report in reports] == [(True, "{'default': nan}")] * 2
    deep = json.dumps({"type": "FINAL", "sequence": 0, "value": "[" * 90_000}).encode()
    for line in (b"[]", b"{}", b'{"type": "FINAL", "sequence": Infinity, "value": "1"}', deep, b"\xff"):
        with pytest.raises(ProtocolError, match="cannot be read"):
            [*Reader().feed(b"ME%06d%b" % (len(line), line))]
    with pytest.raises(ProtocolError, match="cannot be read, at b'ME00000x"):
        [*Reader().feed(b"ME00000x{}")]


def test_what_an_experiment_cannot_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-12ab")
    config = {"trialCommand": "true", "trialCodeDirectory": str(tmp_path), "trialConcurrency": 2, "trialGpuNumber": 2}
    assert TrialPlan.of(config).gpus == ("4", "GPU-12ab")
    assert TrialPlan.of({**config, "maxTrialDuration": "2m", "maxExperimentDuration": 90}).trial_seconds == 120
    with pytest.raises(ExperimentError, match="trialGpuNumber is 3, but the GPUs that trials may use are: 4, GPU-12ab"):
        TrialPlan.of({**config, "trialGpuNumber": 3})
    with pytest.raises(ExperimentError, match="gone is not a folder"):
        TrialPlan.of({**config, "trialCodeDirectory": str(tmp_path / "gone")})
