"""Train one-shot supernets, one path a step, and score architectures without training each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.choices.errors import OneShotError as OneShotError
    from mutators.oneshot.batchnorm import recalibrate_bn as recalibrate_bn
    from mutators.oneshot.config import TrainConfig as TrainConfig
    from mutators.oneshot.paths import macs_bins as macs_bins
    from mutators.oneshot.scoring import evaluate as evaluate
    from mutators.oneshot.train import train_supernet as train_supernet

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "mutators.choices.errors": ("OneShotError",),
        ".batchnorm": ("recalibrate_bn",),
        ".config": ("TrainConfig",),
        ".paths": ("macs_bins",),
        ".scoring": ("evaluate",),
        ".train": ("train_supernet",),
    },
    moved={
        "accuracy": "mutators.oneshot.scoring.accuracy",
        "fair": "mutators.oneshot.paths.fair",
        "uniform": "mutators.oneshot.paths.uniform",
    },
)
