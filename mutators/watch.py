"""Tell the tuner when this trial fails. NNI does not say reliably which trial failed, so the trial itself does."""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

_logger = logging.getLogger(__name__)
_LONGEST_REASON = 200
_watching = False


def watch_this_trial(witness: Witness, send_final: Callable[[dict[str, Any]], None], uid: dict[str, Any]) -> None:
    """Report a failure by ``send_final``, with the ``uid`` entry, if the process ends without a final metric.

    A trial that NNI interrupts after it has reported intermediate results was stopped early, which is no failure: the
    last of them is reported, with their number as ``_stopped``. A second call changes nothing.
    """
    global _watching
    if _watching:
        return
    _watching, process, previous = True, os.getpid(), sys.excepthook

    def report(reason: str, stopped: bool = False) -> None:
        """Send the end, unless a final metric was sent, or this is a forked child. Never raises."""
        if witness.final_sent or os.getpid() != process:
            return
        end = {"_stopped": witness.intermediates} if stopped else {"_failed": reason}
        last = witness.last if stopped else math.nan
        try:
            send_final({**(last if isinstance(last, dict) else {"default": last}), **uid, **end})
        except Exception as error:
            _logger.warning("the failure of this trial could not be reported: %s: %s", type(error).__name__, error)

    def at_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            previous(kind, error, trace)  # first, so that nothing here can hide it
        finally:
            interrupted = issubclass(kind, KeyboardInterrupt)
            report("interrupted" if interrupted else _reason(kind, error), interrupted and witness.intermediates > 0)

    sys.excepthook = at_exception
    atexit.register(report, "the trial ended without a final metric")


class Witness:
    """NNI's channel to the manager. It also notes which metrics were sent, by us or by the script."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.final_sent = False
        self.intermediates = 0
        self.last: Any = None  # of the intermediate results

    def send_metric(self, type: str, parameter_id: int | None, trial_job_id: str, sequence: int, value: Any) -> None:
        self.channel.send_metric(type, parameter_id, trial_job_id, sequence, value)
        self.final_sent = self.final_sent or type == "FINAL"
        if type == "PERIODICAL":
            self.intermediates, self.last = self.intermediates + 1, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.channel, name)


def _reason(kind: type[BaseException], error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # a broken __str__ must not hide the failure
        text = ""
    reason = f"{kind.__name__}: {text}" if text else kind.__name__
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + "..."
