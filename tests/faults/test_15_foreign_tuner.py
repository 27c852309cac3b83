"""Fault 15: a tuner that is none of ours gets from our trial side exactly what plain NNI sends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.mutators import trials
from tests.mutators.trials import PARAMETERS

pytestmark = pytest.mark.slow

FOREIGN = {key: value for key, value in PARAMETERS.items() if key != "_uid"}
OURS = "get_and_apply_next_architecture(Mnist())\n"
PLAIN = "nni.get_next_parameter()\n"


def sent(server: subprocess.Popen[str], folder: Path, body: str) -> list[dict[str, Any]]:
    folder.mkdir()
    return [event for event in trials.run(server, folder, body, FOREIGN).sent if event["type"] != "ask"]


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        ("report_final(0.5)", "nni.report_final_result(0.5)"),
        ("report_final(0.5, macs=3)", "nni.report_final_result({'default': 0.5, 'macs': 3})"),
        (
            "report_intermediate(0.1)\nreport_final(1)",
            "nni.report_intermediate_result(0.1)\nnni.report_final_result(1)",
        ),
        ("raise RuntimeError('out of memory')", "raise RuntimeError('out of memory')"),
        ("report_intermediate(0.1)\nsys.exit(3)", "nni.report_intermediate_result(0.1)\nsys.exit(3)"),
        ("report_intermediate(0.1)\nraise KeyboardInterrupt", "nni.report_intermediate_result(0.1)"),
        ("pass", "pass"),
    ],
)
def test_fault_15_without_a_uid_a_trial_sends_what_plain_nni_sends(
    server: subprocess.Popen[str], tmp_path: Path, ours: str, plain: str
) -> None:
    assert sent(server, tmp_path / "ours", OURS + ours) == sent(server, tmp_path / "plain", PLAIN + plain)


def test_fault_15_choices_that_do_not_fit_are_no_result_either(server: subprocess.Popen[str], tmp_path: Path) -> None:
    got = trials.run(server, tmp_path, OURS, {**FOREIGN, "first_conv": {"_value": "no such", "_idx": 9}})
    assert got.code == 1 and got.finals == []
