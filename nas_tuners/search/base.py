"""Ask and tell, once for all algorithms: nothing twice, nothing infeasible, failures, stops, the best, the end."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from nas_tuners.search.bookkeeping import Bookkeeping
from nas_tuners.search.feasible.constraints import Feasible
from nas_tuners.search.feasible.remaining import OutsideError, Remaining
from nas_tuners.search.noise import NONE as NO_NOISE
from nas_tuners.search.records import InPhase, Proposal, SearchError
from search_spaces import Space, Tokens
from search_spaces.checks import one_of, whole
from search_spaces.cost.limits import Constraints, Table, limits_of, resolve_limits, table_of
from search_spaces.errors import ConstraintError

_log = logging.getLogger(__name__)
_FIRST = 4  # results, before any architecture is evaluated again


class Search(Bookkeeping):
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
        early_stopping: str | Mapping[str, Any] = "none",
        outcome_constraints: Constraints | None = None,
        noise: str = "none",
        repeats: int = 3,
    ) -> None:
        super().__init__(score_key, early_stopping, outcome_constraints, noise, repeats)
        self._complain(whole("seed", seed, 0))
        self.cost_table = table_of(cost_table)
        self.constraints = resolve_limits(limits_of(constraints), self.cost_table)
        self.seed = int(seed)
        self.rng = np.random.default_rng(self.seed)

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
        own = [trial for trial in self.trials.values() if trial.tokens == due and not trial.provisional]
        if not own or len(own) >= self.readings.most or any(trial.state == "pending" for trial in own):
            return []  # those that failed or were stopped count here: else it might never end
        return [self._first_of(own[0].tokens).uid]

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

    def _admit(self, tokens: Tokens, phase: InPhase | None) -> Proposal:
        trial = self.trials.admit(tokens, self.space, phase)
        if not trial.provisional:
            self._remaining.known.add(tokens)
        return trial.proposal
