"""Let an assessor of NNI's stop trials that are not worth going on with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from nas_tuners.hosts.trials.protocol import name_job
from nas_tuners.runs.run import Run
from search_spaces.checks import is_number

_log = logging.getLogger("nas_tuners")


class Assessing:
    """Asks an assessor about what trials report on the way, and tells it of their ends, as NNI does.

    Args:
        assessor: an ``nni.assessor.Assessor``.
        run: whose trials they are. What was reported before a resume the assessor does not know.
    """

    def __init__(self, assessor: Any, run: Run) -> None:
        self._assessor, self._run = assessor, run
        self._histories: dict[int, list[float]] = {}  # by uid, of trials without a result

    def hear(self, uid: int, value: object, sequence: int) -> bool:
        """Take in a result on the way. Returns: False if the trial is to be stopped."""
        number = value.get("default") if isinstance(value, Mapping) else value
        if not is_number(number):
            return True
        history = self._histories.setdefault(uid, [])
        history.append(number)
        try:
            return bool(self._assessor.assess_trial(name_job(self._run.id, uid), list(history)).value)
        except Exception:  # whatever an assessor raises; it is asked again
            _log.exception("the assessor failed on trial %d, which goes on.", uid)
            return True

    def settle(self, run: Run) -> None:
        """Tell the assessor which trials have ended, and whether with a full result."""
        ended = [uid for uid in self._histories if run.search.trials[uid].state != "pending"]
        for uid in ended:
            del self._histories[uid]
            try:
                self._assessor.trial_end(name_job(run.id, uid), run.search.trials[uid].state == "told")
            except Exception:
                _log.exception("the assessor failed on the end of trial %d.", uid)
