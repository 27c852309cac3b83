"""The device of the checks in this folder: a GPU; or what NAS_TEST_DEVICE names, such as cpu where there is none."""

from __future__ import annotations

import os

import pytest
import torch

NAME = os.environ.get("NAS_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "")
DEVICE = torch.device(NAME or "cpu")
IS_GPU = DEVICE.type == "cuda"

on_device = [
    pytest.mark.slow,
    pytest.mark.skipif(not NAME, reason="there is no GPU; NAS_TEST_DEVICE=cpu runs these checks without"),
]
gpu_only = pytest.mark.skipif(not IS_GPU, reason="a CPU does not have it")


def device_of(rank: int) -> torch.device:
    """Return the device of one of several processes."""
    return torch.device("cuda", rank) if IS_GPU else DEVICE


def wait() -> None:
    """Wait for what the device has been given to do."""
    if IS_GPU:
        torch.cuda.synchronize()
