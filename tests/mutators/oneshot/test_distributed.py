"""Two real processes against one with the doubled batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler

from mutators.oneshot import OneShotError, TrainConfig, distributed, train_supernet
from mutators.oneshot.data import check_loader
from tests import processes
from tests.mutators.oneshot import nets
from tests.ports import free_port

STEPS, BATCH = 12, 8
CONFIG: dict[str, Any] = {"epochs": 2, "lr": 0.1, "weight_decay": 0.01, "seed": 5, "checkpoint_every": 1}


def shares(rank: int, processes: int, accumulate: int = 1) -> list[Any]:
    """Batches of which those of all processes together, so many of each, are the doubled batch."""
    x, y = nets.data(STEPS * BATCH * 2).tensors
    whole = zip(x.split(BATCH * 2), y.split(BATCH * 2), strict=True)
    mine = ((a.chunk(processes)[rank], b.chunk(processes)[rank]) for a, b in whole)
    return [batch for a, b in mine for batch in zip(a.chunk(accumulate), b.chunk(accumulate), strict=True)]


def work(rank: int, folder: Path, init: str, ours: bool, options: dict[str, Any], stop: int | None) -> None:
    import os

    torch.set_num_threads(1)
    port = init.rpartition(":")[2]
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    if not ours:
        dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    model = nets.supernet(norm=False, seed=rank)  # the first one's weights count
    config = TrainConfig(**CONFIG, **options)
    loader: Any = shares(rank, 2, config.accumulate)
    if stop is not None:
        loader = _Ending(loader, stop)
    try:
        train_supernet(model, loader, config, checkpoint=folder / "c.pt", progress=False)
    except OneShotError:
        assert stop is not None
    assert dist.is_initialized() != ours
    with distributed.process_group(torch.device("cpu")):  # another training in the same processes
        assert distributed.gather_bytes(bytes([rank]), torch.device("cpu")) == [b"\0", b"\1"]
    torch.save(model.state_dict(), folder / f"{rank}.pt")


class _Ending(list[Any]):
    """Ends early, the way a process ends that is killed: after its last checkpoint."""

    def __init__(self, content: list[Any], stop: int) -> None:
        super().__init__(content)
        self.stop = stop

    def __iter__(self) -> Any:
        return iter(list.__getitem__(self, slice(self.stop)))


def run_two(folder: Path, ours: bool = True, stop: int | None = None, **options: Any) -> list[Any]:
    processes.run_ranks(work, folder, f"tcp://127.0.0.1:{free_port()}", ours, options, stop)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "options"), [(True, {"accumulate": 2}), (False, {"strategy": "fair"})], ids=str)
def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path, ours: bool, options: dict[str, Any]) -> None:
    first, second = run_two(tmp_path, ours, **options)
    alone = nets.supernet(norm=False, seed=0)
    config = replace(TrainConfig(**CONFIG, **options), accumulate=1)
    train_supernet(alone, shares(0, 1), config, progress=False)
    assert nets.same(first, second)
    for name, tensor in alone.state_dict().items():
        assert (first[name] - tensor).abs().max() <= 1e-5, name


@pytest.mark.slow
def test_two_processes_go_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    (whole := tmp_path / "whole").mkdir()
    (part := tmp_path / "part").mkdir()
    unbroken = run_two(whole)
    run_two(part, stop=5)
    assert torch.load(part / "c.pt", weights_only=True)["step"] == 5
    assert nets.same(run_two(part), unbroken)


def test_processes_need_batches_of_their_own() -> None:
    with pytest.raises(OneShotError, match="DistributedSampler"):
        check_loader(DataLoader(nets.data()), processes=2)
    sampler: Any = DistributedSampler(nets.data(), num_replicas=2, rank=1)
    check_loader(DataLoader(nets.data(), sampler=sampler), processes=2)
