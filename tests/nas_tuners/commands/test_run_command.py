"""``nas run``: what it checks, prints and leaves, how it fails, and how it goes on."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas_tuners.runs.journal import read
from nas_tuners.runs.run import load
from nas_tuners.runs.warden import find_marked
from tests.nas_tuners.hosts.trials.experiments import REPORT, SPACE, good, write_config, write_trial
from tests.nas_tuners.nas import Nas

RUN = ("run", "config.yml", "--on", "local")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_trial(tmp_path, REPORT)
    write_config(tmp_path)
    return tmp_path


def start(folder: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    command = [sys.executable, "-m", "nas_tuners.cli", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def check_failed(printed: str, *wanted: str) -> None:
    assert len(printed.splitlines()) <= 3, printed
    for text in wanted:
        assert text in printed


def test_it_runs_shows_exports_and_is_the_latest(nas: Nas, folder: Path) -> None:
    printed = nas(*RUN, cwd=folder)
    assert "of 6 trials" in printed and "runs/1/journal.jsonl" in printed
    assert "6 told, 0 failed, 0 pending" in nas("show", "latest", cwd=folder)
    nas("export", "latest", "-o", "best", cwd=folder)
    run, header = load(folder / "runs/1/journal.jsonl")
    best = json.loads((folder / "best/choices.json").read_text())
    assert run.search.best is not None and good(best) == run.search.best.score
    assert header["tuner"] == "EvolutionTuner" and header["command"]["name"] == "run"
    nas(*RUN, cwd=folder)
    assert (folder / "runs/2/journal.jsonl").is_file()


def test_it_takes_what_nni_takes(nas: Nas, folder: Path) -> None:
    (folder / "space.json").write_text(json.dumps(SPACE))
    (folder / "code").mkdir()
    (folder / "trial.py").rename(folder / "code/trial.py")
    durations = {"maxTrialDuration": "1m", "maxExperimentDuration": 3600}
    more = {"trialCodeDirectory": "code", "trialConcurrency": 3, "trialGpuNumber": 0, **durations}
    write_config(folder, searchSpace=None, searchSpaceFile="space.json", **more)
    assert "of 6 trials" in nas(*RUN, "-o", "out", cwd=folder)
    assert (folder / "out/trials/5/reports.jsonl").is_file()


def test_a_tuner_of_the_users_own(nas: Nas, folder: Path) -> None:
    own = "from nas_tuners import SearchTuner\nfrom nas_tuners.search import RandomSearch\n\n\n"
    own += "class Own(SearchTuner):\n    def __init__(self, seed=0):\n        super().__init__(RandomSearch(seed))\n"
    (folder / "own.py").write_text(own)
    write_config(folder, tuner={"className": "own.Own", "codeDirectory": ".", "classArgs": {"seed": 3}})
    nas(*RUN, "-o", "out", cwd=folder)
    assert read(folder / "out/journal.jsonl")[0][0]["tuner"] == "Own"


ASSESSOR = """
from nni.assessor import AssessResult, Assessor


def say(*words):
    with open("said", "a") as file:
        print(*words, file=file)


class Strict(Assessor):
    def assess_trial(self, trial_job_id, trial_history):
        say(trial_history)
        if trial_history[-1] == 0.25:
            raise ValueError("never at a quarter")
        return AssessResult.Bad if trial_history == [0.25, 0.5] else AssessResult.Good

    def trial_end(self, trial_job_id, success):
        say(trial_job_id.partition("-")[2], success)
"""


def test_an_assessor_stops_trials(nas: Nas, folder: Path) -> None:
    write_trial(
        folder, "if uid == 1:\n    between(0.25)\n    between(0.5)\n    time.sleep(60)\nbetween(1.5)\nreport(good)"
    )
    (folder / "strict.py").write_text(ASSESSOR)
    write_config(folder, assessor={"className": "strict.Strict", "codeDirectory": "."}, maxTrialNumber=3)
    nas(*RUN, "-o", "out", cwd=folder)
    run, _ = load(folder / "out/journal.jsonl")
    assert [trial.state for trial in run.search.trials.values()] == ["told", "stopped", "told"]
    assert (run.search.trials[1].resource, run.search.trials[1].score) == (2, 0.5)
    said = "[1.5]\n0 True\n[0.25]\n[0.25, 0.5]\n1 False\n[1.5]\n2 True\n"
    assert (folder / "said").read_text() == said
    assert "never at a quarter" in (folder / "out/nas.log").read_text()


def test_an_assessor_of_nni(nas: Nas, folder: Path) -> None:
    write_trial(folder, "between(uid if uid < 3 else -uid)\nif uid > 2: time.sleep(60)\nreport(good)")
    write_config(folder, assessor={"name": "Medianstop", "classArgs": {"start_step": 1}})
    nas(*RUN, "-o", "out", cwd=folder)
    run, _ = load(folder / "out/journal.jsonl")
    assert [trial.state for trial in run.search.trials.values()] == 3 * ["told"] + 3 * ["stopped"]


def test_the_tuners_own_rule_stops_trials(nas: Nas, folder: Path) -> None:
    """Of trials that report 3, 1, 2, 4, ... the best third goes on; what is stopped waits for its end."""
    values = (3, 1, 2, 4, 0, 5)
    write_trial(folder, f"value = {values}[uid]\nbetween(value)\nif value < 3: time.sleep(60)\nreport(value)")
    tuner = {"className": "nas_tuners.RandomTuner", "codeDirectory": ".", "classArgs": {"early_stopping": "asha"}}
    write_config(folder, tuner=tuner, assessor={"className": "nas_tuners.SearchAssessor", "codeDirectory": "."})
    said = nas(*RUN, "-o", "out", cwd=folder)
    run, _ = load(folder / "out/journal.jsonl")
    assert [t.state for t in run.search.trials.values()] == ["told", "stopped", "stopped", "told", "stopped", "told"]
    assert [t.resource for t in run.search.trials.values()] == [None, 1, 1, None, 1, None]
    assert "best 5 (uid 5)" in said and "second result" not in (folder / "out/journal.jsonl").read_text()


FOREIGN = """
import json
import random

import nni
from nni.tuner import Tuner


def say(*words):
    with open("said", "a") as file:
        print(json.dumps(words), file=file)


class Foreign(Tuner):
    def __init__(self, optimize_mode="maximize", seed=0):
        self.rng, self.asked = random.Random(seed), 0

    def update_search_space(self, search_space):
        self.space = search_space

    def generate_parameters(self, parameter_id, **kwargs):
        self.asked += 1
        if self.asked == 3:
            raise nni.NoMoreTrialError("wait")
        names = {key: self.rng.choice(entry["_value"][:2]) for key, entry in self.space.items()}
        return {key: {"_value": name, "_idx": "abcd".index(name)} for key, name in names.items()}

    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        say(parameter_id, sum(choice["_idx"] for choice in parameters.values()), value)

    def trial_end(self, parameter_id, success, **kwargs):
        say(parameter_id, success)
"""


def test_a_tuner_that_knows_nothing_of_ours(nas: Nas, folder: Path) -> None:
    write_trial(folder, "if uid == 2: sys.exit(1)\nreport(good)")
    (folder / "foreign.py").write_text(FOREIGN)
    tuner = {"className": "foreign.Foreign", "codeDirectory": ".", "classArgs": {"optimize_mode": "minimize"}}
    write_config(folder, tuner=tuner, maxTrialNumber=4)
    nas(*RUN, "-o", "out", cwd=folder)
    said = [json.loads(line) for line in (folder / "said").read_text().splitlines()]
    results = [words for words in said if len(words) == 3]
    assert [number for number, *_ in results] == [0, 1, 4]  # of 2 it had nothing to propose, 3 failed
    assert all(value == wanted for _, wanted, value in results)
    assert [words for words in said if len(words) == 2] == [[0, True], [1, True], [3, False], [4, True]]
    journal = folder / "out/journal.jsonl"
    whole = journal.read_text()
    journal.write_text(whole[: whole.rindex('{"event": "tell"')])
    nas("resume", "out", cwd=folder)
    assert journal.read_text() == whole
    assert load(journal)[0].optimize_mode == "minimize"


def test_nnis_own_tuner(nas: Nas, folder: Path) -> None:
    write_config(folder, tuner={"name": "RegularizedEvolutionTuner", "classArgs": {"population_size": 3}})
    assert "of 6 trials" in nas(*RUN, "-o", "out", cwd=folder)


def test_failed_trials_are_told_and_the_log_is_kept(nas: Nas, folder: Path) -> None:
    write_trial(folder, "if uid % 2: raise ValueError('too deep')\nreport(good)")
    assert "6 trials, 3 of them failed" in nas(*RUN, "-o", "out", cwd=folder)
    assert "ValueError: too deep" in nas("show", "out", cwd=folder)
    assert "uid 1 failed: ValueError: too deep" in (folder / "out/nas.log").read_text()


def test_no_trial_has_a_result(nas: Nas, folder: Path) -> None:
    write_trial(folder, "raise ValueError('too deep')")
    printed = nas(*RUN, "-o", "out", cwd=folder, code=1)
    check_failed(printed, "6 trials, 6 of them failed; no result", "ValueError: too deep", "out/journal.jsonl")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"trialCommand": "no_such_python trial.py"}, "there is no command 'no_such_python', on the PATH or in "),
        ({"trialCommand": ""}, "trialCommand is ''"),
        ({"trialCodeDirectory": "gone"}, "gone"),
        ({"trialConcurrency": 0}, "trialConcurrency is 0, wanted a whole number from 1 up"),
        ({"tuner": {"name": "TPE"}}, "tuner.name: NNI's TPE cannot search architectures"),
        ({"authorName": "me", "maxTrialNum": 9}, "is a configuration of NNI 1"),
        ({"maxTrialDuration": "soon"}, "soon"),
        ({"assessor": {"name": "Medianstep"}}, "assessor.name is 'Medianstep', wanted one of"),
    ],
)
def test_what_cannot_be_run(changes: dict[str, Any], wanted: str, nas: Nas, folder: Path) -> None:
    write_config(folder, **changes)
    check_failed(nas(*RUN, "-o", "out", cwd=folder, code=1), wanted)
    assert not (folder / "out/journal.jsonl").exists()


def test_one_that_nni_refuses_spoils_no_other(nas: Nas, folder: Path) -> None:
    """NNI keeps the folder of a file that it could not read, and then refuses all others in the same process."""
    write_config(folder, trialColour="red")
    assert "trialcolour" in nas("check", "config.yml", cwd=folder, code=1)
    write_config(folder)
    nas("check", "config.yml", cwd=folder)


def test_under_nni_it_checks_as_well(nas: Nas, folder: Path) -> None:
    check_failed(nas("run", "config.yml", "-o", "out", cwd=folder, code=1), "-o is for --on local")
    check_failed(nas(*RUN, "--port", "8080", cwd=folder, code=1), "--port is for --on nni")
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        check_failed(nas("run", "config.yml", "--port", port, cwd=folder, code=1), f"--port is {port}, where something")
    write_config(folder, trialCommand="no_such_python trial.py")
    check_failed(nas("run", "config.yml", cwd=folder, code=1), "there is no command 'no_such_python'")


@pytest.mark.parametrize("words", [("run", "config.yml", "--on", "mars"), ("run", "--on", "local")])
def test_words_that_make_no_command(words: tuple[str, ...], nas: Nas, folder: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        nas(*words, cwd=folder)


def test_no_configuration_and_a_folder_that_is_taken(nas: Nas, folder: Path) -> None:
    check_failed(nas("run", "gone.yml", "--on", "local", cwd=folder, code=1), "cannot read gone.yml")
    nas(*RUN, "-o", "out", cwd=folder)
    before = (folder / "out/journal.jsonl").read_bytes()
    check_failed(nas(*RUN, "-o", "out", cwd=folder, code=1), "out has a run already", "nas resume out")
    assert (folder / "out/journal.jsonl").read_bytes() == before
    check_failed(nas(*RUN, "-o", "trial.py", cwd=folder, code=1), "trial.py")


def test_a_command_that_only_the_shell_finds_missing_ends_the_run(nas: Nas, folder: Path) -> None:
    write_config(folder, trialCommand="cd . && no_such_command")
    printed = nas(*RUN, "-o", "out", cwd=folder, code=1)
    check_failed(printed, "no_such_command: command not found", "log: ", "out/trials/0/trial.stderr", "nas resume")


def test_a_journal_of_another_decides_nothing(nas: Nas, folder: Path) -> None:
    write_config(folder, maxTrialNumber=2)
    nas(*RUN, "-o", "out", cwd=folder)
    journal = folder / "out/journal.jsonl"
    header, *rest = journal.read_text().splitlines(keepends=True)
    journal.write_text(header.replace('"trialCommand": "', '"trialCommand": "touch taken; ') + "".join(rest))
    printed = nas("resume", "out", cwd=folder, code=1)
    assert "'touch taken; " in printed and "not as you have begun it" in printed and "--trust-code" in printed
    assert not (folder / "taken").exists()
    journal.write_text(header.replace('"command": {', '"command": {"more": 1, ') + rest[0])
    nas("resume", "out", "--trust-code", cwd=folder)
    assert load(journal)[0].search.counts.told == 2


def test_a_resume_may_go_further(nas: Nas, folder: Path) -> None:
    nas(*RUN, "-o", "out", cwd=folder)
    assert "of 9 trials" in nas("resume", "latest", "--trials", "9", "--workers", "2", cwd=folder)
    printed = nas("resume", "out", "--evaluate", "own:score", cwd=folder, code=1)
    check_failed(printed, "--evaluate: out/journal.jsonl is of nas run, which calls no functions")
    check_failed(nas("resume", "out", "--trials", "0", cwd=folder, code=1), "maxTrialNumber is 0, wanted")


def test_the_end_of_the_time_is_told(nas: Nas, folder: Path) -> None:
    write_trial(folder, "if uid: time.sleep(60)\nreport(good)")
    write_config(folder, maxExperimentDuration="1s")
    printed = nas(*RUN, "-o", "out", cwd=folder)
    assert "time, 1 s, is over; trials without a result: 1" in printed and "of 1 trials" in printed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(number: signal.Signals, nas: Nas, folder: Path) -> None:
    write_trial(folder, "if uid == 2 and not os.path.exists('go'): time.sleep(60)\nreport(good)")
    process = start(folder, *RUN, "-o", "out")
    reports = folder / "out/trials/2/parameter.cfg"
    while not reports.exists():
        time.sleep(0.01)
    process.send_signal(number)
    printed, _ = process.communicate()
    assert process.returncode == 128 + number
    assert printed.splitlines()[-1] == (
        f"nas: interrupted after 2 of 6 trials; nothing is lost. Go on with: nas resume {folder / 'out'}"
    )
    assert not find_marked(f"NAS_TRIAL_OF={load(folder / 'out/journal.jsonl')[0].id}.")
    (folder / "go").touch()
    assert "of 6 trials" in nas("resume", "out", cwd=folder)


PLAIN = """
import nni

choices = nni.get_next_parameter()
for epoch in range(2):
    nni.report_intermediate_result(epoch / 10)
nni.report_final_result({"default": choices["k0"]["_idx"], "trial": nni.get_trial_id()})
"""


@pytest.mark.slow
def test_a_plain_trial_of_nni(nas: Nas, folder: Path) -> None:
    (folder / "trial.py").write_text(PLAIN)
    write_config(folder, trialCommand=f"{sys.executable} trial.py", maxTrialNumber=4, trialConcurrency=2)
    nas(*RUN, "-o", "out", cwd=folder)
    run, _ = load(folder / "out/journal.jsonl")
    for trial in run.search.trials.values():
        choices, metrics = run.space.decode(trial.tokens), dict(trial.metrics or {})
        assert metrics == {"default": choices["k0"]["_idx"], "trial": f"{run.id}-{trial.uid}"}
        assert (folder / "out/trials" / str(trial.uid) / "reports.jsonl").read_text().count("false") == 2


OURS = """
import torch
from torch import nn

from mutators import LayerChoice, get_and_apply_next_architecture, report_final, report_intermediate

convs = [nn.Sequential(LayerChoice([nn.Identity(), nn.ReLU(), nn.Tanh(), nn.GELU()], key=f"k{i}")) for i in range(6)]
choices = get_and_apply_next_architecture(nn.Sequential(*convs))
report_intermediate(0.5)
if choices["_uid"] == 1:
    raise RuntimeError("out of memory")
report_final(torch.tensor(float(choices["k0"]["_idx"])), uid=choices["_uid"])
"""


@pytest.mark.slow
def test_a_trial_of_ours(nas: Nas, folder: Path) -> None:
    (folder / "trial.py").write_text(OURS)
    space = {key: {"_type": "layer_choice", "_value": list("0123")} for key in SPACE}
    command = f"{sys.executable} trial.py"
    write_config(folder, searchSpace=space, trialCommand=command, maxTrialNumber=3, trialConcurrency=3)
    nas(*RUN, "-o", "out", cwd=folder)
    run, _ = load(folder / "out/journal.jsonl")
    assert [trial.state for trial in run.search.trials.values()] == ["told", "failed", "told"]
    assert run.search.trials[1].reason == "RuntimeError: out of memory"
    assert (run.search.trials[2].metrics or {})["uid"] == 2


@pytest.mark.slow
def test_the_quickstart_as_it_is(nas: Nas, tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    shutil.copytree(Path(__file__).parents[3] / "examples" / "quickstart", folder)
    nas("ss-gen", "-o", "search_space.json", "--", sys.executable, "trial.py", cwd=folder)
    config = (folder / "config.yml").read_text().replace("maxTrialNumber: 24", "maxTrialNumber: 2")
    (folder / "config.yml").write_text(config.replace("trial.py", "trial.py --epochs 1 --limit 300"))
    nas(*RUN, "-o", "out", cwd=folder)
    run, _ = load(folder / "out/journal.jsonl")
    assert run.search.counts.told == 2
    assert run.search.best is not None and 0 < run.search.best.score <= 1


@pytest.mark.slow
def test_processes_die_with_a_run_that_is_killed(folder: Path) -> None:
    """With its trials goes whatever they have started, also in sessions of their own."""
    write_trial(folder, "subprocess.Popen(['sleep', '60'], start_new_session=True)\nbetween(0.5)\ntime.sleep(60)")
    write_config(folder, trialConcurrency=2)
    process = start(folder, *RUN, "-o", "out")
    reports = [folder / f"out/trials/{uid}/reports.jsonl" for uid in range(2)]
    while not all(path.exists() for path in reports):
        time.sleep(0.01)
    mark = f"NAS_TRIAL_OF={load(folder / 'out/journal.jsonl')[0].id}."
    there = [psutil.Process(pid) for pid in find_marked(mark)]
    assert len(there) == 4
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(there, timeout=30)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
