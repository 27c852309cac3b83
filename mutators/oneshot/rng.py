"""Read, restore and seed the global random generators that networks and data pipelines draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

State = dict[str, Any]
"""Tensors and plain data only, so that ``torch.load(weights_only=True)`` reads it."""


def get_rng_state() -> State:
    """Return the states of torch's generators (the CPU's and the GPUs'), Python's and NumPy's."""
    version, numbers, gauss = random.getstate()
    numpy_state: Any = np.random.get_state()  # noqa: NPY002  # the global one is meant
    _, keys, position, has_gauss, cached = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(numbers), gauss],
        "numpy": [keys.tolist(), int(position), int(has_gauss), float(cached)],
    }


def set_rng_state(state: State) -> None:
    """Restore the states that :func:`get_rng_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002


@contextmanager
def kept_rng() -> Iterator[None]:
    """Restore the global generators afterwards, also after an exception."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


@contextmanager
def seeded_rng(*entropy: int) -> Iterator[None]:
    """Seed the global generators of the CPU from ``entropy``, for a data pipeline, and restore them afterwards."""
    state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        seed = mix_seed(*entropy)
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which seeds the GPUs too
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def mix_seed(*entropy: int) -> int:
    """Mix numbers of at least 0 into one of 63 bits."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
