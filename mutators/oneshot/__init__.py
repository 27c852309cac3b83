"""Train one-shot supernets, one path a step, and score architectures without training each."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    moved={
        "accuracy": "mutators.oneshot.scoring.accuracy",
        "fair": "mutators.oneshot.paths.fair",
        "uniform": "mutators.oneshot.paths.uniform",
    },
)
