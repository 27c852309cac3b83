"""Progressive shrinking: through all phases, killed and resumed, in two processes."""

from __future__ import annotations

import os
import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutators.elastic import OFA, ElasticError, RunConfig, train
from mutators.elastic.training.train import sort_for_phase
from mutators.oneshot import OneShotError, TrainConfig
from tests import processes
from tests.mutators.elastic.training import shrinking as nets
from tests.mutators.oneshot.test_train import Interrupted, interrupted_at
from tests.ports import free_port

CONFIG = TrainConfig(epochs=1, lr=0.05, checkpoint_every=2, seed=1)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    tensors = [(x, b[name]) for name, x in a.items() if isinstance(x, torch.Tensor)]
    return a.keys() == b.keys() and all(torch.equal(x, y) for x, y in tensors)


@pytest.mark.slow
def test_every_phase_is_trained_and_the_loss_falls() -> None:
    ofa = nets.ofa()
    losses = train(ofa, nets.batches(20), CONFIG, progress=False)
    assert list(losses) == ["kernel_size 0", "width 0", "width 1", "depth 0", "depth 1"]
    assert [len(of_phase) for of_phase in losses.values()] == [1] * 5
    assert (ofa.step, ofa.epoch) == (100, 4)
    again = train(OFA(nets.Net(), RunConfig()), nets.batches(20), replace(CONFIG, epochs=12), progress=False)
    assert list(again) == ["all"]
    assert again["all"][-1] < 0.7 * again["all"][0]


def test_a_config_for_each_task() -> None:
    ofa = nets.ofa()
    configs = {"kernel_size": CONFIG, "width": replace(CONFIG, lr=0.01), "depth 0": CONFIG, "depth 1": CONFIG}
    assert len(train(ofa, nets.batches(2), configs, progress=False)) == 5
    with pytest.raises(ElasticError, match="no config for phase 'width 0' or task 'width'"):
        train(nets.ofa(), nets.batches(2), {"kernel_size": CONFIG, "depth": CONFIG}, progress=False)


def test_sorting_comes_before_phases_that_open_widths_and_keeps_what_is_trained() -> None:
    ofa = nets.ofa()
    ofa.eval()
    x, _ = nets.batches(1)[0]
    assert ofa.schedule is not None
    generator = torch.Generator().manual_seed(2)
    for phase in range(5):
        with torch.no_grad():  # as if it had been trained
            for parameter in ofa.model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        weights = {name: t.clone() for name, t in ofa.model.state_dict().items()}
        before = {}
        drawn = [] if phase == 0 else ofa.schedule.region(phase - 1).draws(np.random.default_rng(0), 20).tolist()
        for tokens in drawn:
            ofa.set(tuple(tokens))
            before[tuple(tokens)] = ofa.run(x)
        sort_for_phase(ofa, phase)
        moved = not same(weights, ofa.model.state_dict())
        assert moved == (phase in (1, 2))
        for tokens_before, out in before.items():
            ofa.set(tokens_before)
            torch.testing.assert_close(ofa.run(x), out, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("stop", [3, 6, 9, 13, 20, 27])  # in every phase, and at the end of one
def test_stopped_anywhere_and_resumed_it_is_the_unbroken_one(tmp_path: Path, stop: int) -> None:
    whole, part = nets.ofa(), nets.ofa()
    expected = train(whole, nets.batches(), CONFIG, checkpoint=tmp_path / "whole", progress=False)
    with interrupted_at(stop), pytest.raises(Interrupted):
        train(part, nets.batches(), CONFIG, checkpoint=tmp_path / "part", progress=False)
    resumed = nets.ofa(seed=8)
    assert train(resumed, nets.batches(), CONFIG, checkpoint=tmp_path / "part", progress=False) == expected
    assert same(whole.state_dict(), resumed.state_dict())
    assert whole.get_extra_state() == resumed.get_extra_state()


def test_a_folder_that_holds_a_training_is_refused_where_that_is_wanted(tmp_path: Path) -> None:
    train(nets.ofa(), nets.batches(2), CONFIG, checkpoint=tmp_path, progress=False)
    with pytest.raises(OneShotError, match="there is a checkpoint"):
        train(nets.ofa(), nets.batches(2), CONFIG, checkpoint=tmp_path, resume=False, progress=False)
    with pytest.raises(OneShotError):
        train(nets.ofa(seed=1, dynamic_batch_size=1), nets.batches(2), CONFIG, checkpoint=tmp_path, progress=False)


@pytest.mark.parametrize("repeated", [False, True])
def test_batches_add_up_to_a_large_one(repeated: bool) -> None:
    """In a sandwich too, whose largest teaches the others on each batch; also where the same tensors come again."""
    large = nets.batches(2)
    halves = [half for x, y in large for half in zip(x.chunk(2), y.chunk(2), strict=True)]
    several, one = (nets.ofa(norm=False, dynamic_batch_size=2, sandwich=True) for _ in range(2))
    loader = [batch for batch in large for _ in range(2)] if repeated else halves
    losses = train(several, loader, replace(CONFIG, accumulate=2), progress=False)
    expected = train(one, large, CONFIG, progress=False)
    assert several.step == one.step == 10
    for phase, of_phase in expected.items():
        assert losses[phase] == pytest.approx(of_phase, rel=1e-4)
    for ours, theirs in zip(several.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_progress_names_the_phases(capsys: pytest.CaptureFixture[str]) -> None:
    train(nets.ofa(), nets.batches(1), CONFIG)
    shown = capsys.readouterr().err
    assert "phase 1/5, kernel_size 0: 1 epochs" in shown
    assert "phase 5/5, depth 1: 1 epochs" in shown


@pytest.mark.slow
def test_killed_in_every_phase_and_resumed(tmp_path: Path) -> None:
    """Real processes, a real SIGKILL in each phase; the last checkpoint is the unbroken one's, bit for bit."""
    assert processes.run(nets.train_in_steps, tmp_path / "whole") == 0
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(files) == 5
    rng, part = random.Random(5), tmp_path / "part"
    for name in files:
        processes.kill(processes.start(nets.train_in_steps, part), (part / name).exists, rng.uniform(0, 0.05))
    assert processes.run(nets.train_in_steps, part) == 0
    for name in files:
        a, b = (torch.load(folder / name, weights_only=True) for folder in (part, tmp_path / "whole"))
        assert same(a["model"], b["model"]), name
        assert a["losses"] == b["losses"]


def work(rank: int, folder: Path, port: int, stop: int | None = None) -> None:
    """Train on halves of batches, which are in halves themselves."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    ofa = nets.ofa(norm=False, seed=rank)  # the first one's weights count
    mine = ((x.chunk(2)[rank], y.chunk(2)[rank]) for x, y in nets.batches())
    shares = [batch for x, y in mine for batch in zip(x.chunk(2), y.chunk(2), strict=True)]
    with interrupted_at(stop or 10**6), nullcontext() if stop is None else pytest.raises(Interrupted):
        train(ofa, shares, replace(CONFIG, accumulate=2), checkpoint=folder / "checkpoint", progress=False)
    torch.save({k: v for k, v in ofa.state_dict().items() if k != "_extra_state"}, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch_and_can_be_resumed(tmp_path: Path) -> None:
    (whole := tmp_path / "whole").mkdir()
    (part := tmp_path / "part").mkdir()
    for folder, stop in ((whole, None), (part, 9), (part, None)):
        processes.run_ranks(work, folder, free_port(), stop)
    first, second = (torch.load(whole / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert same(first, torch.load(part / "0.pt", weights_only=True))
    alone = nets.ofa(norm=False)
    train(alone, nets.batches(), CONFIG, progress=False)
    assert same(first, second)
    for name, tensor in alone.state_dict().items():
        if name != "_extra_state":
            assert (first[name] - tensor).abs().max() <= 1e-5, name
