"""One-shot supernets: train all architectures of a model at once, by one path a step, and score each without training.

Loads lazily, as its parent does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutators.oneshot.batchnorm import recalibrate_bn
    from mutators.oneshot.config import TrainConfig
    from mutators.oneshot.errors import OneShotError
    from mutators.oneshot.paths import fair, macs_bins, uniform
    from mutators.oneshot.scoring import accuracy, evaluate
    from mutators.oneshot.train import train_supernet

__all__ = [
    "OneShotError",
    "TrainConfig",
    "accuracy",
    "evaluate",
    "fair",
    "macs_bins",
    "recalibrate_bn",
    "train_supernet",
    "uniform",
]

# ``evaluate`` lives in scoring.py: a file of the same name would take its place here once imported.
_HOME = {
    "OneShotError": "errors",
    "TrainConfig": "config",
    "accuracy": "scoring",
    "evaluate": "scoring",
    "fair": "paths",
    "macs_bins": "paths",
    "recalibrate_bn": "batchnorm",
    "train_supernet": "train",
    "uniform": "paths",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
