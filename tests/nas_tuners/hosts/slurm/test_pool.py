"""Trials as jobs of a Slurm that is none: what they report, how they end, and what becomes of those left behind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nas_tuners.hosts.slurm import commands, job
from nas_tuners.hosts.slurm.commands import SlurmError
from nas_tuners.hosts.slurm.job import TrialJob
from nas_tuners.hosts.slurm.options import make_words, read_options
from nas_tuners.hosts.slurm.pool import SlurmPool
from nas_tuners.hosts.trials.plan import ExperimentError, TrialPlan
from nas_tuners.hosts.trials.process import Ended, Restarted, TrialError
from nas_tuners.hosts.trials.protocol import Report
from nas_tuners.runs.run import Run
from tests.nas_tuners.hosts.trials import experiments
from tests.nas_tuners.hosts.trials.experiments import run_here

pytestmark = pytest.mark.slow  # processes that run beside others take half a second each

BY_ITSELF = """
def say(state):
    with open(os.path.join(os.environ["FAKE_SLURM"], "jobs", os.environ["SLURM_JOB_ID"], "state"), "w") as file:
        file.write(state)
    os.killpg(0, signal.SIGKILL)
"""
FOREVER = "time.sleep(60)"


def run_jobs(folder: Path, body: str = experiments.REPORT, *arguments: Any, **more: Any) -> Run:
    return run_here(folder, BY_ITSELF + body, *arguments, make_pool=SlurmPool, **more)


def states(run: Run) -> list[str]:
    return [trial.state for trial in run.search.trials.values()]


def jobs(slurm: Path) -> dict[str, str]:
    """Return the states of all jobs, by their names."""
    return {known.name: known.state for known in commands.list_jobs()}


def make_pool(folder: Path, body: str, **more: Any) -> SlurmPool:
    experiments.write_trial(folder, body)
    return SlurmPool(TrialPlan(experiments.COMMAND, str(folder), 4, **more), folder, "run")


def give(uid: int) -> dict[str, Any]:
    return {**{f"k{i}": {"_value": "b", "_idx": 1} for i in range(6)}, "_uid": uid, "_run": "run"}


def collect(trials: SlurmPool) -> list[tuple[int, Any]]:
    events: list[tuple[int, Any]] = []
    while trials.running:
        events += trials.wait()
    return events


def test_it_proposes_what_the_local_host_does(fake_slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    here, run = run_here(tmp_path / "local", trials=3), run_jobs(tmp_path, trials=3)
    assert [t.tokens for t in run.search.trials.values()] == [t.tokens for t in here.search.trials.values()]
    assert [t.metrics for t in run.search.trials.values()] == [t.metrics for t in here.search.trials.values()]
    assert set(jobs(fake_slurm)) == {f"nas-{run.id}-{uid}" for uid in range(3)}


def test_side_by_side_each_result_is_of_its_own_architecture(fake_slurm: Path, tmp_path: Path) -> None:
    run = run_jobs(tmp_path, "between(good)\nreport(good)\n", trials=6, concurrency=6)
    assert run.search.counts.told == run.search.counts.asked == 6
    assert all(t.score == experiments.good(run.space.decode(t.tokens)) for t in run.search.trials.values())
    assert (tmp_path / "trials/5/reports.jsonl").read_text().count("\n") == 2
    assert (fake_slurm / "calls").read_text().count("squeue") < 30


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(0)", "its trial ended without a result"),
        ("raise ValueError('no such layer')", "ValueError: no such layer"),
        ("sys.exit(3)", "exit code 3, without a word on stderr"),
        ("sys.exit(-1)", "exit code 255, without a word on stderr"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("report('good')", "the metric is 'good', wanted a number"),
        (
            "open(os.path.join(folder, '.nni', 'metrics'), 'ab').write(b'accuracy 0.9')\ntime.sleep(60)",
            "cannot be read",
        ),
        ("between(1)\nsay('CANCELLED')", "Slurm has ended its job 1: CANCELLED"),
        ("between(1)\nsay('NODE_FAIL')", "Slurm has ended its job 1: NODE_FAIL"),
        ("between(1)\nsay('FORGOTTEN')", "Slurm has ended its job 1: it is gone"),
        ("say('TIMEOUT')", "Slurm has ended its job 1: TIMEOUT"),
    ],
)
def test_why_a_trial_failed(body: str, reason: str, fake_slurm: Path, tmp_path: Path) -> None:
    run = run_jobs(tmp_path, body, trials=1)
    assert states(run) == ["failed"] and reason in str(run.search.trials[0].reason)


def test_a_trial_that_takes_too_long(fake_slurm: Path, tmp_path: Path) -> None:
    """As on the local host, it counts as stopped if it has reported anything."""
    run = run_jobs(tmp_path, "if uid: between(0.5)\nsay('TIMEOUT')", trials=2, trial_seconds=90)
    assert states(run) == ["failed", "stopped"] and run.search.trials[1].metrics == {"default": 0.5}
    assert run.search.trials[0].reason == "it took longer than maxTrialDuration, 90 s"


def test_a_result_counts_whatever_slurm_says_later(fake_slurm: Path, tmp_path: Path) -> None:
    assert states(run_jobs(tmp_path, "report(good)\nsay('NODE_FAIL')", trials=1)) == ["told"]


def test_what_a_failure_means_is_up_to_the_tuner(fake_slurm: Path, tmp_path: Path) -> None:
    tuner = experiments.make_tuner(on_failure="retry", retries=2)
    body = "open(f'{uid}', 'a').write('x')\nif os.path.getsize('0') < 3: between(1); say('NODE_FAIL')\nreport(good)"
    run = run_jobs(tmp_path, body, tuner=tuner, trials=1)
    assert states(run) == ["told"] and (tmp_path / "0").read_text() == "xxx"


def test_a_trial_may_be_stopped_by_what_it_reports_on_the_way(fake_slurm: Path, tmp_path: Path) -> None:
    body = "between(good)\nif uid == 1: time.sleep(60)\nreport(good)"
    run = run_jobs(tmp_path, body, lambda uid, value, sequence: uid != 1, trials=3)
    assert states(run) == ["told", "stopped", "told"]
    assert "scancel --full --signal=INT 2" in (fake_slurm / "calls").read_text()


def test_one_that_will_not_be_interrupted_is_cancelled(
    fake_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_GRACE", 0.05)
    body = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nbetween(0.5)\ntime.sleep(60)"
    assert states(run_jobs(tmp_path, body, lambda *_: False, trials=1)) == ["stopped"]


def test_the_end_of_the_time_cancels_jobs_and_leaves_trials_pending(fake_slurm: Path, tmp_path: Path) -> None:
    run = run_jobs(tmp_path, FOREVER, trials=4, concurrency=2, seconds=0.3)
    assert (run.search.counts.pending, run.search.counts.ended) == (2, 0)
    assert [*jobs(fake_slurm).values()] == ["CANCELLED"] * 2


def test_a_command_that_the_shell_cannot_run_ends_the_run(fake_slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"trialCommand cannot be run: .*no_such_command: command not found\nlog: "):
        run_jobs(tmp_path, command="no_such_command")


def test_what_is_left_of_a_process_that_was_killed(fake_slurm: Path, tmp_path: Path) -> None:
    body = "between(0.5)\nwhile uid < 5 and not os.path.exists('go'): time.sleep(0.01)\nreport(uid)"
    killed = make_pool(tmp_path, body)
    for uid in range(6):
        killed.start(uid, give(uid))
    while jobs(fake_slurm)["nas-run-5"] != "COMPLETED":
        time.sleep(0.01)
    (tmp_path / "trials/1/job").unlink()  # it was killed before it wrote that
    (fake_slurm / "jobs/3/state").write_text("COMPLETING")  # cancelled a moment ago, and given up
    (tmp_path / "trials/2/job").unlink()
    (fake_slurm / "jobs/6/state").write_text("FORGOTTEN")
    with make_pool(tmp_path, body) as trials:
        assert trials.take_over([0, 1, 2, 3, 5, 7]) == [0, 1, 3, 5]  # 4 has its result
        assert jobs(fake_slurm)["nas-run-4"] == "CANCELLED"
        trials.start(2, give(2))
        assert "--dependency=afterany:3" in (fake_slurm / "calls").read_text()
        (fake_slurm / "jobs/3/state").write_text("CANCELLED")
        (tmp_path / "go").touch()
        events = collect(trials)
    finals = {uid: event.value for uid, event in events if isinstance(event, Report) and event.final}
    assert finals == {uid: uid for uid in (0, 1, 2, 3, 5)}
    assert all((tmp_path / f"trials/{uid}/reports.jsonl").read_text().count("\n") == 2 for uid in (0, 1, 3, 5))
    ends = [event for _, event in events if isinstance(event, Ended)]
    assert [(end.code, end.broken) for end in ends] == [(0, None)] * 5


def test_after_an_interrupt_nothing_is_left_to_take_over(fake_slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), make_pool(tmp_path, FOREVER) as trials:
        trials.start(0, give(0))
        trials.start(1, give(1))
        trials._trials.pop(1)  # it came before that was noted
        raise KeyboardInterrupt
    assert [*jobs(fake_slurm).values()] == ["CANCELLED"] * 2
    (tmp_path / "trials/1/job").unlink()
    with make_pool(tmp_path, FOREVER) as trials:
        assert trials.take_over([0, 1]) == []


def test_what_is_known_of_a_trial_that_is_taken_over_is_heard_once(fake_slurm: Path, tmp_path: Path) -> None:
    tuner, heard = experiments.make_tuner(), list[tuple[int, int]]()
    (proposal,) = tuner.run.ask()
    experiments.write_trial(tmp_path, body := "between(1)\nbetween(2, 1)\nreport(3)")
    first = SlurmPool(TrialPlan(experiments.COMMAND, str(tmp_path), 1), tmp_path, tuner.run.id)
    first.start(proposal.uid, {**proposal.parameters, "_uid": proposal.uid, "_run": tuner.run.id})
    tuner.results.hear(proposal.uid, 1, 1)

    def listen(uid: int, value: object, sequence: int) -> bool:
        heard.append((uid, sequence))
        return True

    run = run_here(tmp_path, body, listen, tuner, SlurmPool, trials=1)
    assert heard == [(0, 1)] and run.search.trials[0].score == 3


def test_a_requeued_job_begins_its_reports_anew(tmp_path: Path) -> None:
    (tmp_path / ".nni").mkdir()
    metrics, trial = tmp_path / ".nni/metrics", TrialJob(0, tmp_path, 7)

    def record(**entries: Any) -> bytes:
        line = (str(entries).replace("'", '"') + "\n").encode()
        return b"ME%06d%b" % (len(line), line)

    half = record(type="PERIODICAL", sequence=0, value="0.5")
    assert trial.read() == []  # no such file yet
    metrics.write_bytes(record(type="BEGUN", restart="0") + half + half[:9])
    assert [type(event) for event in trial.read()] == [Report]
    assert trial.read() == []
    metrics.write_bytes(b"")
    assert trial.read() == []
    metrics.write_bytes(record(type="BEGUN", restart="1") + half + half)
    assert [type(event) for event in trial.read()] == [Restarted, Report, Report]


def test_a_controller_that_is_away_for_a_while(
    fake_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_PAUSES", (0, 0))
    away = "Unable to contact slurm controller (connect failure)\n"
    (fake_slurm / "broken-sbatch").write_text(2 * away)
    (fake_slurm / "broken-squeue").write_text(away)
    with pytest.raises(SlurmError, match="has become of the trials: squeue: error: Unable to contact"):
        run_jobs(tmp_path, trials=2)
    with make_pool(tmp_path, experiments.REPORT) as trials:
        trials.start(0, give(0))
        (fake_slurm / "broken-squeue").write_text(2 * away)
        assert [type(event) for _, event in collect(trials)] == [Report, Ended]
        (fake_slurm / "broken-sbatch").write_text(3 * away)
        with pytest.raises(SlurmError, match="a trial cannot be submitted: sbatch: error: Unable to contact"):
            trials.start(1, give(1))
        (fake_slurm / "broken-sbatch").write_text("Job violates accounting/QOS policy\n")
        with pytest.raises(SlurmError, match="QOS policy"):
            trials.start(1, give(1))


def test_options_of_sbatch(tmp_path: Path) -> None:
    plain = TrialPlan("true", str(tmp_path), 1)
    given = read_options(["partition=gpu", "mem=8G", "exclusive", "comment=a=b"])
    words = ["--requeue", "--partition=gpu", "--mem=8G", "--exclusive", "--comment=a=b"]
    assert make_words(given, plain) == words
    more = TrialPlan("true", str(tmp_path), 1, trial_seconds=90, gpus_per_trial=2)
    assert make_words({}, more) == ["--requeue", "--time=2", "--gres=gpu:2"]
    assert "--gres=gpu:2" not in make_words({"gres": "gpu:a100:1"}, more)
    with pytest.raises(ExperimentError) as caught:
        make_words({"-p": "gpu", "wrap": "true", "outp": "x", "time": "1", "x;y": None}, more)
    assert len(str(caught.value).splitlines()) == 5


def test_a_run_inside_a_job_passes_nothing_of_it_on(
    fake_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    monkeypatch.setenv("SLURM_CONF", "kept")
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    run_jobs(
        tmp_path,
        "print(*sorted(name for name in os.environ if name.startswith(('SLURM', 'SQUEUE'))))\nreport(1)",
        trials=1,
    )
    assert (tmp_path / "trials/0/trial.stdout").read_text() == "SLURM_CONF SLURM_JOB_ID\n"
