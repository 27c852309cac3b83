"""What does a trial cost on top of its process? ``nas run --on local`` against starting the same processes by hand.

The trial does nothing but speak the protocol: it reads its parameters and reports a number. Plain processes are started
before and after, to see what two measurements of the same differ by. The command is measured whole, from its start.

python -m tests.benchmarks.run_overhead --trials 500 --at-once 8
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas_tuners.runs.run import load

TRIAL = """
import json, os
folder = os.environ["NNI_SYS_DIR"]
with open(os.path.join(folder, "parameter.cfg")) as file:
    json.load(file)
record = json.dumps({"parameter_id": 0, "trial_job_id": "", "type": "FINAL", "sequence": 0, "value": "0.5"}) + "\\n"
with open(os.path.join(folder, ".nni", "metrics"), "ab") as file:
    file.write(b"ME%06d%b" % (len(record), record.encode()))
"""
CONFIG = """
searchSpace: {{{space}}}
trialCommand: {command}
trialConcurrency: {at_once}
maxTrialNumber: {trials}
tuner: {{className: nas_tuners.RandomTuner, codeDirectory: ., classArgs: {{seed: 0}}}}
trainingService: {{platform: local}}
"""
SPACE = ", ".join(f"k{i}: {{_type: layer_choice, _value: [a, b, c, d]}}" for i in range(10))


def seconds_of_processes(folder: Path, command: str, trials: int, at_once: int) -> float:
    """Seconds to start the processes of so many trials, so many at once, and to see them end."""
    (folder / ".nni").mkdir(parents=True)
    (folder / "parameter.cfg").write_text("{}")
    environment = {**os.environ, "NNI_SYS_DIR": str(folder)}
    quiet, started, running = subprocess.DEVNULL, 0, dict[int, subprocess.Popen[bytes]]()
    began = time.perf_counter()
    while started < trials or running:
        while started < trials and len(running) < at_once:
            words = ["/bin/bash", "-c", command]
            process = subprocess.Popen(words, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
            running[process.pid] = process
            started += 1
        pid, status = os.wait()
        running.pop(pid).returncode = os.waitstatus_to_exitcode(status)
        assert status == 0
    return time.perf_counter() - began


def seconds_of_run(folder: Path, command: str, trials: int, at_once: int) -> float:
    """Seconds that the command takes for as many trials, all in all."""
    (folder / "config.yml").write_text(CONFIG.format(space=SPACE, command=command, trials=trials, at_once=at_once))
    words = [sys.executable, "-m", "nas_tuners.cli", "run", str(folder / "config.yml"), "--on", "local"]
    began = time.perf_counter()
    subprocess.run([*words, "-o", str(folder / "run")], capture_output=True, check=True)
    took = time.perf_counter() - began
    assert load(folder / "run/journal.jsonl")[0].search.counts.told == trials
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "trial.py").write_text(TRIAL)
        command = f"{sys.executable} -S {folder / 'trial.py'}"
        numbers = options.trials, options.at_once
        before = seconds_of_processes(folder / "before", command, *numbers)
        run = seconds_of_run(folder, command, *numbers)
        after = seconds_of_processes(folder / "after", command, *numbers)
    for what, took in (("processes alone", before), ("nas run", run), ("processes alone, again", after)):
        print(f"{what:24}{took:8.2f} s{1000 * took / options.trials:8.1f} ms a trial")
    plain = (before + after) / 2
    print(f"on top of its process: {1000 * (run - plain) / options.trials:.1f} ms a trial; ratio {run / plain:.2f}")


if __name__ == "__main__":
    main()
