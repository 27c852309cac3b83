"""Choose the half precision that a training computes in, by the device of the model."""

from __future__ import annotations

import torch

_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_half(amp: str | bool | None, device: torch.device) -> torch.dtype | None:
    """Return the type that ``TrainConfig.amp`` means on a device; None: computing is in the weights' own."""
    if isinstance(amp, str):
        return _HALVES[amp]
    return torch.float16 if amp and device.type == "cuda" else None


def check_half(amp: str | bool | None, device: torch.device) -> list[str]:
    """Return what is wrong with computing in ``TrainConfig.amp`` on a device."""
    if amp == "float16" and device.type != "cuda":
        return [f"amp is 'float16' and the model is on {device}: take 'bfloat16' there, or a GPU"]
    return []
