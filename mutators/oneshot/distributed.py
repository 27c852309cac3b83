"""Keep several processes in step: all train the same path on their own batches, and average its gradients.

Only the gradients that exist are reduced. ``DistributedDataParallel`` wants every parameter in every step, or searches
for the unused ones each time; but the path is the same in all processes, so there is nothing to search.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mutators.choices.errors import OneShotError

_groups = itertools.count()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the group that ``torchrun`` describes in the environment, and leave it; keep a group that exists."""
    ours = dist.is_available() and not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if ours:
        store, rank, size = _open_store()
        # Each group by a name of its own: it would wait for ever for addresses that an earlier one left in the store.
        store = dist.PrefixStore(f"training {next(_groups)}", store)  # type: ignore[attr-defined]  # documented there
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=size)
    try:
        yield
    finally:
        if ours:
            dist.destroy_process_group()


@functools.cache  # the first process may hold it for all, and must not close it between two groups
def _open_store() -> tuple[Any, int, int]:
    """Return the store that ``torchrun`` describes, in which processes find each other, the rank, and their number."""
    from torch.distributed.rendezvous import rendezvous  # not in a torch that is built without torch.distributed

    store, rank, size = next(rendezvous("env://"))
    return store, rank, size


def get_rank() -> int:
    """Return the rank of this process; 0 without a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count_processes() -> int:
    """Return the number of processes in the group; 1 without."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def average_gradients(gradients: Sequence[torch.Tensor]) -> None:
    """Replace gradients by their mean over the processes, in one reduction a type. All must have the same ones."""
    if count_processes() == 1:
        return
    for dtype in sorted({gradient.dtype for gradient in gradients}, key=str):
        same = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.reshape(-1) for gradient in same])
        dist.all_reduce(flat)
        flat /= count_processes()
        for gradient, mean in zip(same, torch.split(flat, [gradient.numel() for gradient in same]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def broadcast_weights(model: nn.Module) -> None:
    """Give all processes the parameters and buffers of the first."""
    if count_processes() > 1:
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor.data, src=0)


def gather_bytes(content: bytes, device: torch.device) -> list[bytes]:
    """Return the content of every process, in the order of ranks."""
    if count_processes() == 1:
        return [content]
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(count_processes())]
    dist.all_gather(sizes, torch.tensor([len(content)], device=device))
    ours = torch.zeros(int(max(sizes)), dtype=torch.uint8, device=device)
    ours[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device)
    gathered = [torch.empty_like(ours) for _ in sizes]
    dist.all_gather(gathered, ours)
    return [bytes(padded[: int(size)].tolist()) for padded, size in zip(gathered, sizes, strict=True)]


def check_agreement(description: str, device: torch.device) -> None:
    """Raise a OneShotError in every process if descriptions differ: they would wait for each other for ever."""
    texts = [content.decode() for content in gather_bytes(description.encode(), device)]
    different = [f"process {i}: {text}" for i, text in enumerate(texts) if text != texts[0]]
    if different:
        raise OneShotError(
            "the processes do not train alike: give all the same config, model, and as many batches.",
            [f"process 0: {texts[0]}", *different],
        )
