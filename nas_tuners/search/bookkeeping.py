"""Keep what trials report: results, intermediate results, failures; tell a search of them, and what is best."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from nas_tuners.search.arguments import Recorded
from nas_tuners.search.noise import NONE as NO_NOISE
from nas_tuners.search.noise import Readings, check_noise
from nas_tuners.search.outcomes import Outcomes
from nas_tuners.search.records import Best, Proposal, SearchError, Trial, Trials, as_metrics, failure_in
from nas_tuners.search.stopping import Curves, Values, read_rule
from search_spaces import Tokens
from search_spaces.checks import whole
from search_spaces.cost.limits import Constraints


class Bookkeeping(metaclass=Recorded):
    """The trials of a search, and what is learnt from them; :class:`~nas_tuners.search.Search` says of the arguments.

    State of an algorithm's own is fine: ``_learn`` is called in the same order again when a journal is replayed.
    """

    arguments: dict[str, Any]  # those that it was made with, as JSON

    def __init__(
        self,
        score_key: str,
        early_stopping: str | Mapping[str, Any],
        outcome_constraints: Constraints | None,
        noise: str,
        repeats: int,
    ) -> None:
        problems = check_noise(noise, repeats)
        if not isinstance(score_key, str) or not score_key:
            problems.append(f"score_key is {score_key!r}, wanted the name of a metric")
        self._complain(problems)
        self.score_key = score_key
        self.outcomes = Outcomes(outcome_constraints)
        self.stopping, self.curves = read_rule(early_stopping), Curves()
        self.trials, self.readings = Trials(), Readings(noise, repeats)
        self.counts = self.trials.counts
        self._sign = 1.0  # of a score that is to be maximized

    def tell(self, uid: int, metrics: Any, job: str | None = None, resource: int | None = None) -> bool:
        """Report a result, of a whole trial or of one that was stopped early. NaN and infinity are a failure.

        A second result for a uid is only counted, but that of a whole trial replaces a failure or an early stop.

        Args:
            metrics: a number, or a dict with the number to optimize under ``score_key``; all of it is kept.
            job: the host's name for what ran the trial.
            resource: of a trial that was stopped early, how many intermediate results it reported; the metrics are the
                last of them. It never is the best, and :meth:`_learn_stopped` learns from it.

        Returns: whether it was the first result for this uid.

        Raises:
            MetricError: it is neither, and nothing has changed; or SearchError: the algorithm failed to learn from it.
        """
        trial, kept = self.trials.find(uid), as_metrics(metrics, self.score_key)
        if trial.state not in (("pending", "failed", "stopped") if resource is None else ("pending",)):
            self.counts.duplicate += 1
            return False
        if reason := self.unusable(trial.tokens, kept, resource):
            return self.fail(uid, reason)
        score = self._sign * float(kept[self.score_key])
        trial.violation = self.outcomes.measure_violation(kept) if resource is None else 0.0
        if resource is None:
            self.curves.whole.add(uid)
        self._resolve(trial, "told" if resource is None else "stopped", score)
        trial.metrics, trial.job, trial.reason, trial.resource = kept, job, None, resource
        self._teach(trial, score)
        return True

    def report(self, uid: int, metrics: Any, resource: int, job: str | None = None, stop: bool | None = None) -> bool:
        """Report an intermediate result. Returns: whether the trial should go on; if not, it counts as stopped.

        Args:
            metrics: as of :meth:`tell`; NaN and infinity are the worst.
            resource: how far the trial has come, such as the number of its epochs, from 1.
            job: the host's name for what runs the trial.
            stop: what was decided, as a journal says; None: decide.

        Raises:
            ValueError: ``resource`` is no whole number from 1 up, or there is no such uid.
            MetricError: the metrics are no number.
        """
        trial, kept = self.trials.find(uid), as_metrics(metrics, self.score_key)
        self._complain(whole("resource", resource, 1))
        if trial.state != "pending":
            return trial.state != "stopped"
        stop = self.stops(uid, kept, resource) if stop is None else stop
        if not trial.provisional:
            self.curves.add(uid, resource, self._worth(trial.tokens, kept))
        if stop:
            self.tell(uid, kept, job, resource)
        return not stop

    def stops(self, uid: int, metrics: Mapping[str, Any], resource: int) -> bool:
        """Return whether a trial that runs should stop at an intermediate result, of which nothing is kept."""
        trial = self.trials.find(uid)
        if self.stopping is None or trial.provisional or trial.state != "pending":
            return False
        return self.stopping.stops(self.curves, uid, resource, self._worth(trial.tokens, metrics))

    def unusable(self, tokens: Tokens, metrics: Mapping[str, Any], resource: int | None = None) -> str | None:
        """Return why a result counts as a failure; None if it does not. ``metrics`` and ``resource`` as of a tell."""
        return failure_in(metrics[self.score_key]) or (
            self.outcomes.find_missing(metrics) if resource is None else None
        )

    def fail(self, uid: int, reason: str = "", learn: bool = True) -> bool:
        """Report that there will be no result, and why. Should one come after all, it counts.

        ``learn``: whether the algorithm learns the worst score, or nothing. Returns: whether the trial was pending.
        """
        trial = self.trials.find(uid)
        if trial.state != "pending":
            return False
        self._resolve(trial, "failed", -math.inf)
        trial.reason = reason
        if learn:
            self._teach(trial, -math.inf)
        return True

    @property
    def best(self) -> Best | None:
        """Return the best result so far, the earliest among equals; None before the first.

        With ``noise`` it is the first result of the architecture of the highest posterior mean, which is its score.
        """
        if self.readings.mode != NO_NOISE and (leader := self.readings.leader) is not None:
            estimate, first = self.readings.estimate(leader), self._first_of(leader)
            return first.to_best(self._sign, estimate)
        return None if self.trials.best is None else self.trials.best.to_best(self._sign)

    @property
    def pending(self) -> list[Proposal]:
        """Return the proposals without a result, in the order of asking."""
        return [trial.proposal for trial in self.trials.values() if trial.state == "pending"]

    @abstractmethod
    def _learn(self, tokens: Tokens, score: float) -> None:
        """Take in one result; ``score`` is to be maximized, and ``-inf`` for a failure."""

    def _learn_again(self, tokens: Tokens, mean: float) -> None:
        """Take in the mean of an architecture's results, after a further one: do nothing, or override."""

    def _learn_infeasible(self, tokens: Tokens, score: float, violation: float) -> None:
        """Take in a result beyond the outcome constraints, as a failure; or override.

        ``violation``: how far beyond, above 0; see :meth:`Outcomes.measure_violation`.
        """
        self._learn(tokens, -math.inf)

    def _learn_stopped(self, tokens: Tokens, score: float, resource: int) -> None:
        """Learn nothing from an early stop, since scores at different resources cannot be compared; or override."""

    def _worth(self, tokens: Tokens, metrics: Mapping[str, Any]) -> Values:
        """Return what an intermediate result is worth in each objective, to be maximized."""
        score = self._sign * float(metrics[self.score_key])
        return (score if math.isfinite(score) else -math.inf,)

    def _first_of(self, tokens: Tokens) -> Trial:
        """Return the trial of the first result of an architecture. Raises ValueError if it has none."""
        told = (t for t in self.trials.values() if t.tokens == tokens and t.state == "told" and not t.provisional)
        return min(told, key=lambda trial: trial.resolved)

    def _teach(self, trial: Trial, score: float) -> None:
        if trial.provisional or (trial.tokens in self.readings and score == -math.inf):
            return
        if self.readings.mode != NO_NOISE and trial.state == "told" and trial.violation == 0:
            self.readings.add(trial.tokens, score)
        try:
            if self.readings.count(trial.tokens) > 1:
                self._learn_again(trial.tokens, self.readings.mean(trial.tokens))
                return
            if trial.resource is not None:
                self._learn_stopped(trial.tokens, score, trial.resource)
            elif trial.violation > 0 and score > -math.inf:
                self._learn_infeasible(trial.tokens, score, trial.violation)
            else:
                self._learn(trial.tokens, score)
        except Exception as error:
            raise SearchError(f"{type(self).__name__}._learn({trial.tokens}, {score}) failed: {error!r}") from error

    def _complain(self, problems: Sequence[str]) -> None:
        if problems:
            raise ValueError(f"{type(self).__name__}: {'; '.join(problems)}.")

    def _resolve(self, trial: Trial, state: str, score: float) -> None:
        self.trials.resolve(trial, state, score)
