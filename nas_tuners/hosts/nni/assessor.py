"""Stop an experiment's trials early by the rule of its tuner, as an NNI assessor in the same process.

Differs from NNI's own assessors: the decision, and what it was made of, stand in the tuner's journal, so that a resumed
experiment goes on with them; what is stopped counts for the architecture that the trial really ran.
"""

from __future__ import annotations

from typing import Any

from nni.assessor import Assessor, AssessResult

from nas_tuners.hosts.nni.tuner import SearchTuner


class SearchAssessor(Assessor):  # type: ignore[misc]
    """Stop trials by the ``early_stopping`` of the experiment's tuner. It has no arguments.

    Raises:
        ValueError: the experiment's tuner is none of ours, or has no ``early_stopping``.
    """

    def __init__(self) -> None:
        super().__init__()
        tuner = SearchTuner.latest()
        if tuner is None:
            raise ValueError("SearchAssessor wants a tuner of nas_tuners beside it, such as nas_tuners.BayesianTuner.")
        if not tuner.stops_early:
            raise ValueError(
                "SearchAssessor stops nothing: the tuner's early_stopping is none. Write classArgs: {early_stopping: "
                "asha} for the tuner, or leave the assessor out."
            )
        self._tuner = tuner

    def assess_trial(self, trial_job_id: str, trial_history: list[Any]) -> AssessResult:
        """Return whether a trial should go on, by its results so far."""
        goes_on = self._tuner.assess(trial_job_id, trial_history)
        return AssessResult.Good if goes_on else AssessResult.Bad

    def load_checkpoint(self) -> None:
        """Do nothing: the tuner's journal has all results."""

    def save_checkpoint(self) -> None:
        """Do nothing: the tuner's journal is always up to date."""
