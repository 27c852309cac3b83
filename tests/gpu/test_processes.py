"""Two processes with a GPU each, and one that is killed and goes on."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
import torch

from mutators.elastic import train
from mutators.oneshot import TrainConfig
from tests import processes
from tests.gpu import nets
from tests.gpu.device import DEVICE, IS_GPU, gpu_only, on_device
from tests.mutators.elastic.training import shrinking
from tests.ports import free_port

two_gpus = pytest.mark.skipif(IS_GPU and torch.cuda.device_count() < 2, reason="there is one GPU: two are needed")
pytestmark = on_device


@two_gpus
@pytest.mark.parametrize("sync", [False, pytest.param(True, marks=gpu_only)])
def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path, sync: bool) -> None:
    """Without batch norms, or with such as see the batches of both."""
    processes.run_ranks(nets.work, tmp_path, free_port(), sync)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = nets.supernet(norm=sync)
    nets.fit(alone, DEVICE)
    for name, tensor in alone.cpu().state_dict().items():
        torch.testing.assert_close(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, atol=1e-3, rtol=1e-2)
    if not sync:
        elastic = torch.load(tmp_path / "elastic0.pt", weights_only=True)
        ofa = shrinking.ofa(norm=False).to(DEVICE)
        train(ofa, shrinking.batches(), TrainConfig(epochs=1, lr=0.05), progress=False)
        for name, tensor in ofa.model.cpu().state_dict().items():
            torch.testing.assert_close(elastic[name], tensor, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("amp", [None, "float16" if IS_GPU else "bfloat16"])
def test_killed_and_resumed_it_is_the_unbroken_training(tmp_path: Path, amp: str | None) -> None:
    """A real SIGKILL. Generators of the device and the scale of gradients go on as well."""
    rng, part, whole, kills = random.Random(0), tmp_path / "part.pt", tmp_path / "whole.pt", 0
    assert processes.run(nets.train_long, whole, DEVICE, amp) == 0
    for _ in range(2):
        written, process = (
            partial(_has_changed, part, _stamp(part)),
            processes.start(nets.train_long, part, DEVICE, amp),
        )
        kills += processes.kill(process, written, rng.uniform(0.1, 0.3))
    assert processes.run(nets.train_long, part, DEVICE, amp) == 0
    assert kills, "it was never killed: the training is too short for this test"
    ours, theirs = (torch.load(path, weights_only=True) for path in (part, whole))
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert str(ours["scaler"]) == str(theirs["scaler"])
    for name, tensor in theirs["model"].items():
        torch.testing.assert_close(ours["model"][name], tensor, atol=1e-3, rtol=1e-2)


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _has_changed(path: Path, stamp: int) -> bool:
    return _stamp(path) != stamp
