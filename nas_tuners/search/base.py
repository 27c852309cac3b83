"""Ask and tell, once for all algorithms: nothing twice, nothing infeasible, failures, stops, the best, the end."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from nas_tuners.search.arguments import Recorded
from nas_tuners.search.constraints import Feasible
from nas_tuners.search.noise import NONE as NO_NOISE
from nas_tuners.search.noise import Readings, check_noise
from nas_tuners.search.outcomes import Outcomes
from nas_tuners.search.records import Best, InPhase, Proposal, SearchError, Trial, Trials, as_metrics, failure_in
from nas_tuners.search.remaining import OutsideError, Remaining
from nas_tuners.search.stopping import NONE, Curves, Values, read_rule
from search_spaces import Space, Tokens
from search_spaces.checks import one_of, whole
from search_spaces.cost.limits import Constraints, Table, limits_of, resolve_limits, table_of
from search_spaces.errors import ConstraintError

_log = logging.getLogger(__name__)
_FIRST = 4  # results, before any architecture is evaluated again


class Search(metaclass=Recorded):
    """A search over a finite space: ``setup``, then any mix of ``ask``, ``report``, ``tell`` and ``fail``.

    A new algorithm writes :meth:`_propose` and :meth:`_learn` and nothing else. Both are called in the same order
    again when a journal is replayed, so state of their own is fine as long as all randomness comes from ``self.rng``.
    First architectures come from :meth:`_sample`, which draws within the constraints.

    Args:
        seed: of this search alone; no global generator is read or touched.
        constraints: by metric of the cost table, the highest cost allowed, or ``[lowest, highest]`` with None for an
            open end, in the units of the table or as ``"0.6x"`` of the largest network; inclusive. All hold at once.
        cost_table: what the options cost: a :class:`~search_spaces.cost.CostTable`, its path, or its JSON.
        score_key: which entry counts where a trial reports several metrics.
        early_stopping: what stops trials by their intermediate results: ``none``, ``asha``, ``median``, or one with its
            numbers, such as ``{"rule": "asha", "min_resource": 1, "reduction_factor": 3}`` or
            ``{"rule": "median", "min_resource": 1, "startup": 5}``.
        outcome_constraints: limits, as ``constraints``, on metrics that trials report, such as a measured latency. A
            result beyond them is kept, and never the best; one without such a metric is a failure.
        noise: whether results are noisy: ``none``; ``repeats``, what leads is evaluated again until it has ``repeats``
            results, and the best is by posterior mean; or ``auto``, the same unless its lead is beyond its error.
        repeats: results that an architecture needs to be trusted.

    Raises:
        ValueError: the seed is no whole number from 0 up, ``score_key`` no text, ``early_stopping`` something else, or
            an argument cannot be JSON.
        ConstraintError: a constraint is malformed, or the table does not have its metric; an outcome constraint is a
            multiple of the largest network's, which nobody knows.
        CostError: the table cannot be read.
    """

    arguments: dict[str, Any]  # those that it was made with, as JSON
    space: Space
    warm_up: int = 0  # trials that are drawn at random before it chooses any
    warm_up_option: ClassVar[str] = ""  # the argument that sets their number
    budget: int | None = None  # how many architectures may be asked for; None: as many as there are

    def __init__(
        self,
        seed: int = 0,
        constraints: Constraints | None = None,
        cost_table: Table = None,
        score_key: str = "default",
        early_stopping: str | Mapping[str, Any] = NONE,
        outcome_constraints: Constraints | None = None,
        noise: str = "none",
        repeats: int = 3,
    ) -> None:
        problems = whole("seed", seed, 0) + check_noise(noise, repeats)
        if not isinstance(score_key, str) or not score_key:
            problems.append(f"score_key is {score_key!r}, wanted the name of a metric")
        self._complain(problems)
        self.cost_table = table_of(cost_table)
        self.constraints = resolve_limits(limits_of(constraints), self.cost_table)
        self.outcomes = Outcomes(outcome_constraints)
        self.seed, self.score_key = int(seed), score_key
        self.stopping, self.curves = read_rule(early_stopping), Curves()
        self.rng = np.random.default_rng(self.seed)
        self.trials, self.readings = Trials(), Readings(noise, repeats)
        self.counts = self.trials.counts
        self._sign = 1.0

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search, to ``maximize`` or ``minimize`` in; ``_learn`` always sees scores to maximize.

        Raises:
            ValueError: ``optimize_mode`` is another word.
            ConstraintError: no architecture keeps the constraints; the nearest reachable cost is named.
            CostError: the cost table is of another space.
            RuntimeError: the search has a space already.
        """
        self._complain(one_of("optimize_mode", optimize_mode, ("maximize", "minimize")))
        if hasattr(self, "space"):
            raise RuntimeError("this search has a space already: use search.fresh() for another.")
        self._remaining = Remaining(self._feasible_part(space), space)
        self.space = space
        self._sign = 1.0 if optimize_mode == "maximize" else -1.0

    def fresh(self) -> Self:
        """Return a search with the same arguments that has seen nothing, for a changed space."""
        made: Self = type(self)(**self.arguments)
        return made

    def ask(self, n: int = 1) -> list[Proposal]:
        """Propose ``n`` architectures that were never proposed before; fewer, or none, once the search is finished.

        Any number of asks may come before the first result. Before the last phase, architectures may repeat, and with
        ``noise`` the leader does: the first of the proposals may be of one that has results already.

        Raises:
            SearchError: the algorithm failed, or proposed something outside of the space.
            RuntimeError: the search was not set up.
        """
        again = self._draw_again(n)
        drawn, phase = self._draw(n - len(again)), self._phase()
        return [*map(self.repeat, again), *(self._admit(tokens, phase) for tokens in drawn)]

    def suggest(self, tokens: Sequence[int], phase: InPhase | None = None) -> Proposal:
        """Take in an architecture from elsewhere, as if it had been asked for in ``phase``, or in the last one.

        Raises ConstraintError if it breaks the constraints, ValueError if it is known already or not in the space.
        """
        self.space.decode(tokens)
        given = self.space.canonical(tuple(int(token) for token in tokens))
        if not self.feasible(given):
            raise ConstraintError(f"tokens {given} do not keep {', '.join(map(str, self.constraints))}.")
        if self.known(given) and (phase is None or phase.last):
            raise ValueError(f"tokens {given} were proposed before.")
        return self._admit(given, phase)

    def readmit(self, asked: Sequence[Tokens], drawn: bool, phase: InPhase | None = None, again: int = 0) -> bool:
        """Repeat an ask or a suggestion of a journal, which decides what was proposed.

        Args:
            asked: the architectures that were proposed.
            drawn: whether the algorithm drew them; it then draws once more, so that its own state moves on too.
            phase: the phase in which they were asked for.
            again: how many of them, the first, had results already and were to be evaluated again.

        Returns: whether it drew the same. Raises ValueError if one was proposed before, or is not in the space.
        """
        try:
            due = self._draw_again(len(asked)) if drawn else []
            found = [*(self.trials[uid].tokens for uid in due), *(self._draw(len(asked) - len(due)) if drawn else [])]
            same = not drawn or (found == list(asked) and self._phase() == phase)
        except SearchError:
            same = False
        for tokens in asked[:again]:
            self.repeat(self._first_of(tokens).uid)
        for tokens in asked[again:]:
            fits = self._remaining.fits(tokens) and self.space.canonical(tokens) == tokens
            if (self.known(tokens) and (phase is None or phase.last)) or not fits:
                raise ValueError(f"tokens {tokens} were proposed before, or are not in the space")
            self._admit(tokens, phase)
        return same

    def repeat(self, uid: int) -> Proposal:
        """Take in a further trial of the architecture of ``uid``, whose result will count beside its own."""
        first = self.trials.find(uid)
        trial = self.trials.admit(first.tokens, self.space, first.phase)
        trial.again = uid
        return trial.proposal

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

    @property
    def exhausted(self) -> bool:
        """Return whether every architecture that keeps the constraints has been proposed."""
        return self._remaining.count <= 0

    @property
    def finished(self) -> bool:
        """Return whether nothing more can be asked for: the space is exhausted, or the budget spent."""
        return self._left() <= 0 and not self._draw_again(1)

    @property
    def feasible_share(self) -> float:
        """Return the part of all architectures that keeps the constraints, from the set-up on."""
        return self._remaining.feasible.share

    @property
    def feasible_share_exact(self) -> bool:
        """Return whether :attr:`feasible_share` is counted, not estimated."""
        return self._remaining.feasible.exact

    def feasible(self, tokens: Tokens) -> bool:
        """Return whether an architecture keeps the constraints."""
        return self._remaining.feasible.holds(self._same(tokens))

    def known(self, tokens: Tokens) -> bool:
        """Return whether an architecture was proposed before."""
        return self._same(tokens) in self._remaining.known

    def _same(self, tokens: Tokens) -> Tokens:
        """Return the canonical encoding; at no cost where every one is."""
        return tokens if self.space.conditions is None else self.space.canonical(tokens)

    @abstractmethod
    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        """Return about ``n`` architectures, (n, keys), as an array where that is at hand.

        The base sets keys that do not matter to 0, drops those that are known or infeasible and asks again, or helps.
        """

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

    def _sample(self, n: int) -> npt.NDArray[np.int64]:
        """Draw ``n`` feasible architectures, uniformly, known ones too. Returns: (n, keys)."""
        return self._remaining.feasible.sample(self.rng, n)

    def _phase(self) -> InPhase | None:
        """Return the phase that is open now, for a search that has phases."""
        return None

    def _feasible_part(self, space: Space) -> Feasible:
        """Count what is feasible in ``space``."""
        feasible = Feasible(space, self.cost_table, self.constraints)
        if self.constraints:
            _log.info("%s: %s.", type(self).__name__, feasible)
        return feasible

    def _left(self) -> int | float:
        """Count the architectures that can still be asked for."""
        left = self._remaining.count
        return left if self.budget is None else min(left, self.budget - self.counts.asked)

    def _draw(self, n: int) -> list[Tokens]:
        """Draw ``n`` unknown architectures, as far as there are so many."""
        if not hasattr(self, "space"):
            raise RuntimeError("this search has no space yet: call setup(space) first.")
        wanted = int(min(n, self._left()))
        drawn = self._remaining.draw(self.rng, wanted, self._propose_feasible)
        if len(drawn) < wanted:
            _log.warning("%s: no unknown architecture was found: the space counts as exhausted.", type(self).__name__)
        return drawn

    def _draw_again(self, n: int) -> list[int]:
        """Return the uid of the architecture that is due to be evaluated again, in at most one of two proposals."""
        if self.readings.mode == NO_NOISE or n < 1 or self.counts.told < max(self.warm_up, _FIRST):
            return []
        if self.trials[len(self.trials) - 1].again is not None and self._left() > 0:
            return []
        due = self.readings.due
        if due is None or any(trial.tokens == due for trial in self.pending):
            return []
        return [self._first_of(due).uid]

    def _first_of(self, tokens: Tokens) -> Trial:
        """Return the trial of the first result of an architecture. Raises ValueError if it has none."""
        told = (t for t in self.trials.values() if t.tokens == tokens and t.state == "told" and not t.provisional)
        return min(told, key=lambda trial: trial.resolved)

    def _propose_feasible(self, n: int) -> list[Tokens]:
        """Return what the algorithm proposes: checked, and without what is infeasible."""
        try:
            kept, infeasible = self._remaining.read(self._propose(n))
        except SearchError:
            raise
        except OutsideError as error:
            raise SearchError(f"{type(self).__name__}._propose gave {error}") from None
        except Exception as error:
            raise SearchError(f"{type(self).__name__}._propose({n}) failed: {error!r}") from error
        if infeasible:
            self.counts.infeasible += infeasible
        return kept

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

    def _admit(self, tokens: Tokens, phase: InPhase | None) -> Proposal:
        trial = self.trials.admit(tokens, self.space, phase)
        if not trial.provisional:
            self._remaining.known.add(tokens)
        return trial.proposal

    def _resolve(self, trial: Trial, state: str, score: float) -> None:
        self.trials.resolve(trial, state, score)
