"""What does a trial cost on top of its process? ``nas run --on local`` against starting the same processes by hand.

The trial does nothing but speak the protocol: it reads its parameters and reports a number. Plain processes are started
before and after, to see what two measurements of the same differ by. The command is measured whole, from its start.
With ``--nni`` so many trials of plain NNI run as well, which import it: alone, on local, and under NNI.

python -m tests.benchmarks.run_overhead --trials 500 --at-once 8 --nni 24
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas_tuners.runs.run import load
from tests.ports import free_port

TRIAL = """
import json, os
folder = os.environ["NNI_SYS_DIR"]
with open(os.path.join(folder, "parameter.cfg")) as file:
    json.load(file)
record = json.dumps({"parameter_id": 0, "trial_job_id": "", "type": "FINAL", "sequence": 0, "value": "0.5"}) + "\\n"
with open(os.path.join(folder, ".nni", "metrics"), "ab") as file:
    file.write(b"ME%06d%b" % (len(record), record.encode()))
"""
PLAIN = "import nni\nnni.get_next_parameter()\nnni.report_final_result(0.5)\n"
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
    (folder / "parameter.cfg").write_text('{"parameter_id": 0, "parameters": {}}')
    place = str(folder)
    environment = {**os.environ, "NNI_PLATFORM": "local", "NNI_SYS_DIR": place, "NNI_OUTPUT_DIR": place}
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


def seconds_of_run(folder: Path, command: str, trials: int, at_once: int, *host: str) -> float:
    """Seconds that the command takes for as many trials, all in all."""
    config = folder / "config.yml"
    config.write_text(CONFIG.format(space=SPACE, command=command, trials=trials, at_once=at_once))
    words = [sys.executable, "-m", "nas_tuners.cli", "run", str(config), *host]
    began = time.perf_counter()
    said = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
    took = time.perf_counter() - began
    (journal,) = re.findall(r"^journal (.*)$", said, re.MULTILINE)
    assert load(folder / journal)[0].search.counts.told >= trials
    return took


def compare(script: str, python: str, trials: int, at_once: int, under_nni: bool) -> None:
    """Measure a trial's script in all ways, and print what each takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "trial.py").write_text(script)
        command = f"{python} {folder / 'trial.py'}"
        took = {"processes alone": seconds_of_processes(folder / "before", command, trials, at_once)}
        took["nas run --on local"] = seconds_of_run(folder, command, trials, at_once, "--on", "local")
        if under_nni:
            took["nas run --on nni"] = seconds_of_run(folder, command, trials, at_once, "--port", str(free_port()))
        took["processes alone, again"] = seconds_of_processes(folder / "after", command, trials, at_once)
    plain = (took["processes alone"] + took["processes alone, again"]) / 2
    print(f"{trials} trials, {at_once} at once{'s':>12}{'ms a trial':>14}{'on top, ms':>14}{'ratio':>8}")
    for what, seconds in took.items():
        each, more = 1000 * seconds / trials, 1000 * (seconds - plain) / trials
        print(f"{what:24}{seconds:12.2f}{each:14.1f}{more:14.1f}{seconds / plain:8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--nni", type=int, default=0, metavar="N", help="trials of plain NNI (0)")
    options = parser.parse_args()
    compare(TRIAL, f"{sys.executable} -S", options.trials, options.at_once, under_nni=False)
    if options.nni:
        compare(PLAIN, sys.executable, options.nni, min(options.at_once, 2), under_nni=True)


if __name__ == "__main__":
    main()
