"""Ask and tell, once for all algorithms: what is pending, what failed and what is best."""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self

from nas_tuners.search.constraints import ConstraintError, Constraints, check_limits, limits_of, table_of
from nas_tuners.search.draws import Draws, SearchError
from nas_tuners.search.records import Best, InPhase, Proposal, Trial, as_metrics
from search_spaces import Space, Tokens
from search_spaces.checks import is_int
from search_spaces.cost.table import CostTable

__all__ = ["Search", "SearchError", "Table"]

Table = CostTable | Mapping[str, Any] | str | PathLike[str] | None
"""A cost table, as a constructor takes it: itself, its JSON, or its path."""


class Search(Draws):
    """A search over a finite space: ``setup``, then any mix of ``ask``, ``tell`` and ``fail``, in any order.

    A new algorithm writes :meth:`_propose` and :meth:`_learn` and nothing else. Both are called in the same order
    again when a journal is replayed, so state of their own is fine as long as all randomness comes from ``self.rng``.
    First architectures come from :meth:`_sample`, which draws within the constraints.

    Args:
        seed: of this search alone; no global generator is read or touched.
        constraints: by metric of the cost table, the highest cost allowed, or ``[lowest, highest]`` with None for an
            open end, in the units of the table; inclusive. All of them hold at once.
        cost_table: what the options cost: a :class:`~search_spaces.cost.CostTable`, its path, or its JSON.
        score_key: which entry counts where a trial reports several metrics.

    Raises:
        ValueError: the seed is no whole number from 0 up, or ``score_key`` no text.
        ConstraintError: a constraint is malformed, or the table does not have its metric.
        CostError: the table cannot be read.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments, for the journal's header and for :meth:`fresh`."""
        self = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}. It takes {_signature(cls)}.") from None
        bound.apply_defaults()
        self.arguments = {name: value for name, value in list(bound.arguments.items())[1:]}
        return self

    arguments: dict[str, Any]

    def __init__(
        self,
        seed: int = 0,
        constraints: Constraints | None = None,
        cost_table: Table = None,
        score_key: str = "default",
    ) -> None:
        if not is_int(seed) or seed < 0:
            raise ValueError(f"{type(self).__name__}: seed is {seed!r}, wanted a whole number from 0 up.")
        if not isinstance(score_key, str) or not score_key:
            raise ValueError(f"{type(self).__name__}: score_key is {score_key!r}, wanted the name of a metric.")
        limits, table = limits_of(constraints), table_of(cost_table)
        check_limits(limits, table)
        super().__init__(int(seed), limits, table)
        self._keep_arguments(cost_table)
        self.score_key = score_key
        self.trials: dict[int, Trial] = {}
        self._best: Trial | None = None
        self._sign = 1.0
        self._resolved = 0

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search.

        Args:
            space: what can be chosen.
            optimize_mode: ``maximize`` or ``minimize``; the algorithm itself always sees scores to maximize.

        Raises:
            ValueError: ``optimize_mode`` is another word.
            ConstraintError: no architecture keeps the constraints; the nearest reachable cost is named.
            CostError: the cost table is of another space.
            RuntimeError: the search has a space already; make a fresh one.
        """
        if optimize_mode not in ("maximize", "minimize"):
            raise ValueError(f'optimize_mode is {optimize_mode!r}, wanted "maximize" or "minimize".')
        if hasattr(self, "space"):
            raise RuntimeError("this search has a space already: use search.fresh() for another.")
        self._enter(space)
        self._sign = 1.0 if optimize_mode == "maximize" else -1.0

    def fresh(self) -> Self:
        """Return a search with the same arguments that has seen nothing, for a changed space."""
        return type(self)(**self.arguments)

    def ask(self, n: int = 1) -> list[Proposal]:
        """Propose ``n`` architectures that were never proposed before; fewer, or none, once the search is finished.

        Never waits: any number of asks may come before the first result. Before the last phase of a search that has
        phases, architectures may repeat.

        Raises:
            SearchError: the algorithm failed, or proposed something outside of the space.
            RuntimeError: the search was not set up.
        """
        drawn, phase = self._draw(n), self._phase()
        return [self._admit(tokens, phase) for tokens in drawn]

    def suggest(self, tokens: Sequence[int], phase: InPhase | None = None) -> Proposal:
        """Take in an architecture that somebody else proposes, as if it had been asked for in ``phase``.

        Without a phase its score counts like those of the last one.

        Raises:
            ConstraintError: it does not keep the constraints.
            ValueError: it is known already, or not in the space.
        """
        self.space.decode(tokens)
        given = tuple(int(token) for token in tokens)
        if not self.feasible(given):
            raise ConstraintError(f"tokens {given} do not keep {', '.join(map(str, self.constraints))}.")
        if given in self._known and (phase is None or phase.last):
            raise ValueError(f"tokens {given} were proposed before.")
        return self._admit(given, phase)

    def readmit(self, asked: Sequence[Tokens], drawn: bool, phase: InPhase | None = None) -> bool:
        """Repeat an ask or a suggestion of a journal, which decides what was proposed.

        Args:
            asked: the architectures that were proposed.
            drawn: whether the algorithm drew them; it then draws once more, so that its own state moves on too.
            phase: that they were proposed in.

        Returns: whether it drew the same.

        Raises:
            ValueError: one of them was proposed before, or is not in the space.
        """
        try:
            same = not drawn or (self._draw(len(asked)) == list(asked) and self._phase() == phase)
        except SearchError:
            same = False
        for tokens in asked:
            if (tokens in self._known and (phase is None or phase.last)) or not self._fits(tokens):
                raise ValueError(f"tokens {tokens} were proposed before, or are not in the space")
            self._admit(tokens, phase)
        return same

    def adopt_dropped(self, trial: Trial) -> None:
        """Take in a trial of another space that has no place in this one, so that its uid stays its own."""
        self.trials[trial.uid] = replace(trial, state="dropped")
        self.counts.asked += 1
        self.counts.dropped += 1

    def tell(self, uid: int, metrics: Any, job: str | None = None) -> bool:
        """Report a result. NaN and infinity count as a failure; a second result for a uid is only counted.

        Args:
            uid: of the proposal.
            metrics: a number, or a dict with the number to optimize under ``score_key``; all of it is kept.
            job: the host's name for whatever ran the trial.

        Returns: whether it was the first result for this uid.

        Raises:
            MetricError: it is neither; nothing has changed then.
            SearchError: the algorithm failed to learn from it; the result itself is kept.
            ValueError: no such uid was ever proposed.
        """
        trial, kept = self._trial(uid), as_metrics(metrics, self.score_key)
        if trial.state in ("told", "dropped"):
            self.counts.duplicate += 1
            return False
        value = float(kept[self.score_key])
        score = self._sign * value if math.isfinite(value) else -math.inf
        self._resolve(trial, "told" if score > -math.inf else "failed", score)
        trial.metrics, trial.job = kept, job
        trial.reason = None if score > -math.inf else f"the metric is {value}"
        if score > -math.inf and not trial.provisional and (self._best is None or score > self._best.score):
            self._best = trial
        self._teach(trial, score)
        return True

    def fail(self, uid: int, reason: str = "", learn: bool = True) -> bool:
        """Report that there will be no result. Should one come after all, it counts.

        Args:
            uid: of the proposal.
            reason: for the reader of the journal.
            learn: whether the algorithm is told the worst score, or nothing.

        Returns: whether the proposal was still pending.

        Raises:
            ValueError: no such uid was ever proposed.
        """
        trial = self._trial(uid)
        if trial.state != "pending":
            return False
        self._resolve(trial, "failed", -math.inf)
        trial.reason = reason
        if learn:
            self._teach(trial, -math.inf)
        return True

    @property
    def best(self) -> Best | None:
        """The best result so far, the earliest among equals; None before the first."""
        if self._best is None:
            return None
        trial = self._best
        assert trial.metrics is not None
        return Best(
            trial.uid, trial.tokens, self.space.decode(trial.tokens), self._sign * trial.score + 0.0, trial.metrics
        )

    @property
    def pending(self) -> list[Proposal]:
        """Proposals without a result, in the order of asking."""
        return [trial.proposal for trial in self.trials.values() if trial.state == "pending"]

    @abstractmethod
    def _learn(self, tokens: Tokens, score: float) -> None:
        """Take in one result; ``score`` is to be maximized, and ``-inf`` for a failure."""

    def _phase(self) -> InPhase | None:
        """The phase that is open now, for a search that has phases."""
        return None

    def _teach(self, trial: Trial, score: float) -> None:
        if trial.provisional:
            return
        try:
            self._learn(trial.tokens, score)
        except Exception as error:
            raise SearchError(f"{type(self).__name__}._learn({trial.tokens}, {score}) failed: {error!r}") from error

    def _keep_arguments(self, cost_table: object) -> None:
        """Make the arguments plain JSON, for the journal: with a table's path, or else the table itself."""
        plain: dict[str, Any] = {"constraints": {limit.metric: limit.to_json() for limit in self.constraints} or None}
        if isinstance(cost_table, (str, PathLike)):
            plain["cost_table"] = str(Path(fspath(cost_table)).resolve())
        else:
            plain["cost_table"] = None if self.cost_table is None else self.cost_table.to_json()
        self.arguments.update({name: value for name, value in plain.items() if name in self.arguments})

    def _admit(self, tokens: Tokens, phase: InPhase | None) -> Proposal:
        uid = len(self.trials)
        trial = self.trials[uid] = Trial(uid, tokens, self.space, phase)
        if not trial.provisional:
            self._known.add(tokens)
        self.counts.asked += 1
        self.counts.pending += 1
        return trial.proposal

    def _resolve(self, trial: Trial, state: str, score: float) -> None:
        before, counts = trial.state, self.counts
        setattr(counts, before, getattr(counts, before) - 1)
        setattr(counts, state, getattr(counts, state) + 1)
        self._resolved += 1
        trial.state, trial.score, trial.resolved = state, score, self._resolved

    def _trial(self, uid: int) -> Trial:
        trial = self.trials.get(uid) if is_int(uid) else None
        if trial is None:
            raise ValueError(f"uid {uid!r} was never proposed here; {len(self.trials)} were, from 0 up.")
        return trial


def _signature(cls: type) -> str:
    names = [str(p) for name, p in inspect.signature(cls.__init__).parameters.items() if name != "self"]  # type: ignore[misc]
    return ", ".join(names) or "no arguments"
