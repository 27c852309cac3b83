"""Load batches in an order that depends on seed and epoch only, from any loader, from any place in an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from mutators.choices.errors import OneShotError
from mutators.oneshot.config import TrainConfig
from mutators.oneshot.rng import mix_seed, seeded_rng

_ORDER = 2**32 - 1  # in the place of a batch's number: seeds the order


def walk_batches(loader: Any, seed: int, epoch: int = 0, skip: int = 0, rank: int = 0) -> Iterator[Any]:
    """Walk once over ``loader``, from batch ``skip`` on.

    While the loader draws anything (the order, augmentation), the global generators of torch, NumPy and Python are
    seeded from (seed, epoch, rank, batch), and restored afterwards. Generators that a ``DataLoader`` and its sampler
    hold are seeded at the start. So the same numbers give the same batches, whatever else the process draws. A loader
    of the user's own must draw from these generators, or from some that it makes anew each epoch.

    Skipped batches are loaded and dropped, which takes as long: otherwise random numbers of workers would differ.
    """
    for generator in find_generators(loader):
        generator.manual_seed(mix_seed(seed, epoch, rank, _ORDER))
    with seeded_rng(seed, epoch, rank, _ORDER):
        iterator = iter(loader)
    index = 0
    while True:
        with seeded_rng(seed, epoch, rank, index):
            try:
                batch = next(iterator)
            except StopIteration:
                return
        if index >= skip:
            yield batch
        index += 1


def find_generators(loader: Any) -> list[torch.Generator]:
    """Return the generators that a ``DataLoader`` and its samplers hold, each once."""
    sampler = getattr(loader, "sampler", None)
    holders = (loader, sampler, getattr(loader, "batch_sampler", None))
    held = (getattr(holder, "generator", None) for holder in holders)
    return list(dict.fromkeys(generator for generator in held if isinstance(generator, torch.Generator)))


def check_loader(loader: Any, processes: int = 1, resumable: bool = False, name: str = "the loader") -> None:
    """Refuse, with a OneShotError, a loader that cannot repeat its batches or gives all processes the same ones.

    If the training is to be ``resumable``, also one whose workers outlive an epoch.
    """
    if isinstance(loader, Iterator):
        raise OneShotError(f"{name} is an iterator ({type(loader).__name__}), wanted one that can start again.")
    if not isinstance(loader, DataLoader):
        return
    if resumable and loader.persistent_workers:
        raise OneShotError(
            f"{name} has persistent_workers=True, whose random states outlive an epoch and cannot be restored after "
            "a kill: turn it off, or train without a checkpoint."
        )
    sharded = hasattr(loader.sampler, "set_epoch") or hasattr(loader.batch_sampler, "set_epoch")
    if processes > 1 and not sharded and not isinstance(loader.dataset, IterableDataset):
        raise OneShotError(
            f"{processes} processes would train on the same batches: give the DataLoader a DistributedSampler."
        )


def count_batches(loader: Any, config: TrainConfig) -> int:
    """Return the number of batches in an epoch. Raises OneShotError if there are none, or nothing says how many."""
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch * config.accumulate
    try:
        length = len(loader)
    except TypeError:
        raise OneShotError("the loader has no length: set steps_per_epoch in the TrainConfig.") from None
    if length < 1:
        raise OneShotError("the loader has no batch. Is the data set smaller than a batch, with drop_last=True?")
    return length


def to_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a batch, in tuples, named tuples, lists and dicts of any depth, to a device."""
    if isinstance(batch, torch.Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(item, device) for item in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(item, device) for item in batch)
    if isinstance(batch, Mapping):
        return {key: to_device(item, device) for key, item in batch.items()}
    return batch


def set_epoch(loader: Any, epoch: int) -> None:
    """Call ``set_epoch`` of the loader and of its samplers where they have it, such as ``DistributedSampler``."""
    holders: list[Any] = [loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)]
    for holder in holders:
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)
