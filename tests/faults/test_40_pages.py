"""Once: pages promised what was not so, and their commands ended other people's experiments."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mutators import LayerChoice, apply_choices
from mutators.oneshot import OneShotError, evaluate, recalibrate_bn
from nas_tuners.commands import CommandError
from nas_tuners.commands import run as command

ROOT = Path(__file__).parents[2]
PLACES = ("mutators", "nas_tuners", "search_spaces", "examples")
SHIPPED = sorted(
    str(path.relative_to(ROOT))
    for path in [
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        *(path for place in PLACES for path in (ROOT / place).rglob("*")),
    ]
    if path.suffix in (".md", ".py", ".yml", "") and path.is_file()
)
CHOICES = {"1": {"_idx": 1}}


def supernet() -> nn.Module:
    return nn.Sequential(nn.Flatten(), LayerChoice([nn.Linear(4, 4), nn.Linear(4, 4)]), nn.BatchNorm1d(4))


def loader(images: int) -> DataLoader:
    data = TensorDataset(torch.rand(images, 4), torch.zeros(images, dtype=torch.long))
    return DataLoader(data, 4)


@pytest.mark.parametrize("batches", [1, 3, 19, 20, 25])
def test_evaluate_calibrates_with_as_many_batches_as_there_are(batches: int) -> None:
    """Any loader of fewer than 20 batches failed by default, after the training, without naming the argument."""
    score = evaluate(supernet(), CHOICES, loader(8), calibration_loader=loader(4 * batches))
    assert score["calibration_batches"] == min(batches, 20)
    model = supernet()
    apply_choices(model, CHOICES)
    assert recalibrate_bn(model, loader(4 * batches), 20) == min(batches, 20)


def test_a_calibration_without_batches_or_that_runs_out_is_refused_at_once() -> None:
    with pytest.raises(OneShotError, match="0 batches to calibrate with"):
        evaluate(supernet(), CHOICES, loader(8), calibration_loader=[])
    with pytest.raises(OneShotError, match="calibration_loader is an iterator"):
        evaluate(supernet(), CHOICES, loader(8), calibration_loader=iter(loader(8)))


def test_nothing_that_is_shipped_stops_all_experiments() -> None:
    assert [name for name in SHIPPED if "stop --all" in (ROOT / name).read_text()] == []


@pytest.mark.parametrize(
    "sentence", ["any model becomes elastic", "any model into a supernet", "none proposes", "no download"]
)
def test_sentences_that_are_not_true_as_they_stand_are_gone(sentence: str) -> None:
    for name in SHIPPED:
        assert sentence not in " ".join((ROOT / name).read_text().split()).lower(), name


def test_what_is_stopped_is_what_was_started() -> None:
    """In every block that stops an experiment, it is the one of the port that the block gave it."""
    stops = 0
    for name in SHIPPED:
        if name.endswith(".md"):
            for block in re.findall(r"^```bash\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL):
                for port in re.findall(r"^nnictl stop(.*)$", block, re.MULTILINE):
                    stops += 1
                    assert f"--port {port.split()[-1]}" in block.split("nnictl stop")[0], name
                assert block.count("nas resume latest\n") == 0 or "nnictl stop" not in block, name
    assert stops >= 4


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_of_fault_40", ROOT / "examples" / "quickstart" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_demo_that_was_stopped_from_elsewhere_does_not_go_on(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, goes_on: bool
) -> None:
    """It exported what there was, retrained it, and said "done"."""
    nas = tmp_path / "nas"
    nas.write_text(f"#!/bin/sh\necho experiment abc: http://localhost\nexit {int(not goes_on)}\n")
    nas.chmod(0o755)
    monkeypatch.setitem(demo.ENV, "PATH", str(tmp_path))
    if goes_on:
        assert demo.search(Path("config.yml")) == "abc"
    else:
        with pytest.raises(SystemExit) as caught:
            demo.search(Path("config.yml"))
        assert caught.value.code not in (None, 0)


@pytest.mark.parametrize(("status", "goes_on"), [("DONE", True), ("STOPPED", False), ("ERROR", False)])
def test_an_experiment_that_was_stopped_from_elsewhere_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str, goes_on: bool
) -> None:
    class Experiment:
        id, folder, is_running = "abc", tmp_path, False

        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Experiment:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(command, "Launched", Experiment)
    monkeypatch.setattr(command, "watch_experiment", lambda _: status)
    if goes_on:
        assert command._run_under_nni({}, None) == 0
    else:
        with pytest.raises(CommandError, match=rf"(?s)is {status}; .*then: nas resume abc"):
            command._run_under_nni({}, None)
