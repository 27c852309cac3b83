"""What a training shows: a line with the time that is left on stderr, and scalars for TensorBoard."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from os import PathLike
from typing import Any

from tqdm import tqdm


class Progress:
    """Shows steps, loss and learning rate; a context manager.

    Args:
        done: steps that were made before.
        total: steps of the whole training.
        show: whether to write to stderr.
        log_dir: of TensorBoard's scalars ``loss`` and ``lr``; None: none. Without the package ``tensorboard`` a
            warning says that there are none.
    """

    def __init__(self, done: int, total: int, show: bool, log_dir: str | PathLike[str] | None) -> None:
        interval = 0.5 if sys.stderr.isatty() else 30.0
        self.bar = tqdm(initial=done, total=total, disable=not show, unit="step", mininterval=interval, smoothing=0.05)
        self.writer = _writer(log_dir, done)

    def step(self) -> None:
        """Count one."""
        self.bar.update()

    def report(self, step: int, loss: float, lr: float) -> None:
        """Show the mean loss of the epoch so far, and the learning rate."""
        self.bar.set_postfix(loss=f"{loss:.4f}", lr=f"{lr:.2g}", refresh=False)
        if self.writer is not None:
            self.writer.add_scalar("loss", loss, step)
            self.writer.add_scalar("lr", lr, step)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.writer is not None:
            self.writer.close()


def _writer(log_dir: str | PathLike[str] | None, done: int) -> Any:
    if log_dir is None:
        return None
    if importlib.util.find_spec("tensorboard") is None:
        warnings.warn("log_dir is given, but tensorboard is not installed: no scalars are written.", stacklevel=4)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(log_dir), purge_step=done)
