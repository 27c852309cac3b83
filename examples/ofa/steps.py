"""The steps of run.py: what is trained, what is searched, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from net import build, images, loader

from mutators import extract, save_subnet
from mutators.costs import count_macs, count_params
from mutators.costs.elastic_table import cost_table
from mutators.elastic import OFA, DistillConfig, RunConfig, train
from mutators.oneshot import TrainConfig, evaluate, train_supernet

SHAPE = (1, 28, 28)
LENGTHS = (1, 1, 1, 1, 3)
"""Of the phases, against each other."""

BUDGETS = {"small": 0.2, "medium": 0.45, "large": 0.7}
"""Of the way from the smallest sub-network's multiply-adds to the largest's."""


def config(epochs: int, schedule: str = "cosine") -> TrainConfig:
    return TrainConfig(epochs=epochs, lr=0.1, schedule=schedule, warmup_epochs=0.2, label_smoothing=0.1, clip_norm=5.0)


def shrunk(folder: Path, epochs: int, shrink: int, trials: int) -> Iterator[dict[str, Any]]:
    """Train the largest network, shrink it phase by phase, search at three budgets, export what is found."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data, net = images(), build()
    batches = loader(data.train, shuffle=True)
    train(OFA(net, train_full=True), batches, config(epochs), checkpoint=folder / "full")
    run_config = RunConfig(n_epochs=bounds(shrink), dynamic_batch_size=2, reduction="mean")
    ofa = OFA(net, run_config, DistillConfig(lambda_logits=1.0))  # its teacher is the network so far
    assert ofa.schedule is not None
    *before, last = [phase.name for phase in ofa.schedule.phases]
    # The learning rate falls once, at the end: what a phase would settle into, the next one stirs up again.
    configs = {**dict.fromkeys(before, config(shrink, "constant")), last: config(shrink)}
    train(ofa, batches, configs, checkpoint=folder / "shrink")
    table = cost_table(net, SHAPE)
    ends = table.bounds("macs")
    for name, share in BUDGETS.items():
        limit = int(ends.low + share * (ends.high - ends.low))
        best = ofa.search(
            {"macs": limit},
            loader(data.valid, shuffle=False),
            calibration=batches,
            cost_table=table,
            trials=trials,
            population=trials // 2,
            batches=10,
            checkpoint=folder / f"search-{name}.jsonl",
        )
        network = ofa.export(best, input_shapes=(1, *SHAPE), calibration=batches)
        save_subnet(folder / name, network, best.choices, factory="net:build")
        costs = {"macs": count_macs(network, SHAPE), "params": count_params(network)}
        yield {"name": name, "limit": limit, "choices": best.choices, **costs, "accuracy": tested(network)}


def largest(folder: Path, epochs: int) -> None:
    """Train the largest network only, for as many epochs as the supernet gets in all."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = build()
    train(
        OFA(net, train_full=True), loader(images().train, shuffle=True), config(epochs), checkpoint=folder / "largest"
    )
    torch.save(net.state_dict(), folder / "largest.pt")


def cropped(folder: Path, choices: dict[str, Any]) -> float:
    """Accuracy of a sub-network that is cut out of the largest network, its batch norms recalibrated."""
    net = build()
    net.load_state_dict(torch.load(folder / "largest.pt", weights_only=True))
    data = images()
    found = evaluate(net, choices, loader(data.test, shuffle=False), loader(data.train, shuffle=True), batches=None)
    return float(found["default"])


def alone(choices: dict[str, Any], epochs: int) -> float:
    """Accuracy of the same network, trained by itself from scratch, for as many epochs as the supernet."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = extract(build(), choices).to(memory_format=torch.channels_last)
    train_supernet(network, loader(images().train, shuffle=True), config(epochs), progress=False)
    return tested(network)


@torch.no_grad()
def tested(network: torch.nn.Module) -> float:
    network.eval()
    right = sum(int((network(x).argmax(1) == y).sum()) for x, y in loader(images().test, shuffle=False))
    return right / len(images().test)


def bounds(shrink: int) -> list[list[int]]:
    """The last epoch of each phase: one of kernels, two of widths, two of depths, the last three times as long."""
    ends = [end - 1 for end in accumulate(shrink * length for length in LENGTHS)]
    return [ends[:1], ends[1:3], ends[3:]]
