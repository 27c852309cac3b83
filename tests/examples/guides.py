"""What the commands of each example's guide have to print and leave behind; ``tests/test_pages.py`` runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.experiments.nni_experiment import BIN


def latest(home: Path) -> dict[str, Any]:
    """Return what ``nas show`` knows of the last experiment."""
    env = {**os.environ, "HOME": str(home)}
    command = [BIN / "nas", "show", "--json", "latest"]
    shown = json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    assert isinstance(shown, dict)
    return shown


def quickstart(said: str, folder: Path, home: Path) -> None:
    """Check the demo: one way to the search space, every trial paired, the saved network as good as the trained."""
    assert "the same file as by nas ss-gen" in said
    assert "4 asked: 4 told, 0 failed, 0 pending" in said
    (accuracy,) = re.findall(r"accuracy on 2000 held-out images: ([\d.]+)", said)
    assert float(accuracy) > 0.5  # one architecture, three epochs of 2000 images
    assert "largest difference of logits 0.0e+00" in said


def own_tuner(said: str, folder: Path, home: Path) -> None:
    """Check that the grid goes through its space in order, once, and ends."""
    assert "the experiment is DONE" in said
    last = latest(home)
    assert [trial["choices"]["conv"]["_idx"] for trial in last["trials"]] == [0, 0, 1, 1, 2, 2]
    assert last["best"]["metrics"]["default"] == 2.5


def one_shot(said: str, folder: Path, home: Path) -> None:
    """Check that the supernet learns and its best sub-network computes the same extracted."""
    (score,) = re.findall(r"best of 36 architectures: ([\d.]+)", said)
    assert float(score) > 0.5
    assert float(re.findall(r"largest difference of logits ([\d.e+-]+)", said)[0]) < 1e-5


def darts(said: str, folder: Path, home: Path) -> None:
    """Check both runs: two cells of two nodes with two edges each, none of them "none", and a network that learns."""
    cells = re.findall(r"  (\w+_n\d) = (\w+)\(n\d\) \+ (\w+)\(n\d\)", said)
    assert [name for name, *_ in cells] == 2 * ["normal_n2", "normal_n3", "reduce_n2", "reduce_n3"]
    assert not any("none" in operations for _, *operations in cells)
    accuracies = re.findall(r"trained from scratch: ([\d.]+)", said)
    assert len(accuracies) == 2
    assert all(float(accuracy) > 0.7 for accuracy in accuracies)


def spos(said: str, folder: Path, home: Path) -> None:
    """Check the steps and what they are compared with; then the experiment."""
    assert "exact on 200 random architectures" in said
    assert re.search(r"^score +-?[\d.]+ .*\nmacs +-?[\d.]+ .*\nparams ", said, re.M)
    assert re.search(r"The score ranks (better than|no better than) \w+", said)
    found = re.search(
        r"winner 0\.\d+ .*; mean of (\d+) random networks of its cost 0\.\d+ .* of which (\d+) are better", said
    )
    assert found is not None
    assert int(found[1]) >= 10
    assert (folder / "runs" / "spos" / "ranking.png").stat().st_size > 10_000
    assert "the experiment is DONE" in said
    last = latest(home)
    assert last["search"] == "Evolution"
    assert last["counts"]["told"] == 4
    assert last["counts"]["failed"] == 0


def sanas(said: str, folder: Path, home: Path) -> None:
    """Check the loop within its limit, and the experiment."""
    if "config.yml is fine: 20 choices" in said:
        assert "the experiment is DONE" in said
        return
    assert said.count("step ") == 3
    rows = {name: float(macs) for name, macs in re.findall(r"^(initial|start|found|2 random) +([\d.]+) ", said, re.M)}
    assert rows["found"] <= rows["initial"] / 2
    assert 0.9 * rows["found"] <= rows["2 random"] <= rows["found"]


def gmp(said: str, folder: Path, home: Path) -> None:
    """Check the table: what is left of the weights, how large the files are, how far gradual pruning leads."""
    table = {
        line[:30].strip(): [float(number.replace(",", "")) for number in line[30:].replace("+-", " ").split()]
        for line in said.splitlines()
        if re.search(r"\+- .* \+- ", line)
    }
    assert len(table) == 7
    for ratio in (75, 85):
        lead = float(table[f"gradual {ratio}%"][0]) - float(table[f"at once, then trained {ratio}%"][0])
        (points,) = re.findall(rf"gradual {ratio}% against at once, then trained {ratio}%: ([+-][\d.]+) points", said)
        assert float(points) == pytest.approx(100 * lead, abs=0.02)  # the table's numbers are rounded
    kept, large, small = zip(*(row[4:] for row in table.values()), strict=True)
    conv1x1 = 161_024  # weights of 1x1 convolutions, of 182,720
    for at, ratio in enumerate((0, 0.75, 0.85, 0.75, 0.85, 0.75, 0.85)):
        assert kept[at] == pytest.approx(182_720 - ratio * conv1x1, abs=20)
    assert max(small[1:]) < 0.5 * min(large)
    assert re.search(r"prune:score: 0\.\d+ before, 0\.\d+ after", said)
    assert (folder / "pruned" / "sparse").is_dir()


def ofa(said: str, folder: Path, home: Path) -> None:
    """Check the table of the three budgets, and that the exported networks are those of the table.

    Of the experiment: every trial of a phase before the search, and no other, trained the one supernet.
    """
    if "the experiment is DONE" in said:
        last = latest(home)
        assert last["counts"]["told"] == 12
        trained = sum(trial["phase"]["name"] != "search" for trial in last["trials"])
        assert trained >= 5  # one a phase; what was asked for before a phase ended belongs to it, too
        assert torch.load(home / "ofa-supernet.pt", weights_only=True)["trials"] == trained
        assert last["best"]["phase"]["name"] == "search"
        return
    rows = re.findall(
        r"^ +(small|medium|large) +([\d,]+) +([\d,]+) +([\d,]+) +(0\.\d+) +(0\.\d+) +(0\.\d+)", said, re.M
    )
    assert [row[0] for row in rows] == ["small", "medium", "large"]
    limits, macs = ([int(row[at].replace(",", "")) for row in rows] for at in (1, 2))
    assert limits == sorted(set(limits))
    assert all(cost <= limit for cost, limit in zip(macs, limits, strict=True))
    assert min(float(row[4]) for row in rows) > 0.4
    assert "points lost against the same networks trained alone" in said
    for name, *_, parameters, _, _, _ in rows:
        script = "import sys, mutators; print(sum(p.numel() for p in mutators.load_subnet(*sys.argv[1:]).parameters()))"
        command = [sys.executable, "-c", script, f"runs/ofa/{name}", "net:build"]
        counted = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
        assert f"{int(counted):,}" == parameters


CHECKS = {check.__name__: check for check in (quickstart, own_tuner, one_shot, darts, spos, sanas, gmp, ofa)}
"""By the example's folder."""
