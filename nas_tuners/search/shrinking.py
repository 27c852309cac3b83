"""Progressive shrinking (Cai et al., ICLR 2020, arXiv:1908.09791) as a search: it opens the space phase by phase.

Trials train one shared network meanwhile, so that a phase draws at random, the same sub-network more than once too, and
its scores neither win nor teach. The last phase is a search of another kind, over the whole space.

Differs: a phase ends after so many results, not epochs, however late they come and in whatever order.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, Unpack

from nas_tuners.search.algorithms import ALGORITHMS, SHARED
from nas_tuners.search.arguments import Shared
from nas_tuners.search.base import Search
from nas_tuners.search.feasible.constraints import Feasible
from nas_tuners.search.records import InPhase, Trial
from search_spaces import Space, Tokens
from search_spaces.checks import one_of, whole
from search_spaces.errors import PhaseError
from search_spaces.phases.phase import Phase, check_tasks, phases_from_json
from search_spaces.phases.schedule import Schedule
from search_spaces.phases.shrinking import progressive

_log = logging.getLogger(__name__)
_BUDGET = 10  # results a phase, where nothing is said


class Shrinking(Search):
    """Progressive shrinking: draws in one phase after the other, then hands over to ``inner`` on the whole space.

    Every trial that has ended counts towards the budget of the phase that it was asked for in, and of no other: a
    result or a failure, once. So a phase whose trials all fail ends too. Constraints are for ``inner`` alone: to train
    the largest sub-network is part of the method, whatever it costs.

    A trial gets its choices and ``_phase``: ``{"index": 0, "of": 7, "name": "kernel_size 0"}``; the last phase of all
    is ``search``, in which it should evaluate the shared network, not train it.

    Args:
        elastic_order: tasks in their order; see :func:`~search_spaces.phases.progressive`. None: kernel_size, width
            and depth, as far as the space has them; a space with none of them is searched by ``inner`` at once.
        phase_budgets: results that each phase lasts: one number for all, or by task and phase. None: 10.
        phases: instead of both, the phases as data; see :class:`~search_spaces.phases.Phase`. Each needs a budget.
        inner: another algorithm, such as ``evolution``, ``annealing`` or ``random``.
        inner_arguments: of that search.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.

    Raises:
        ValueError: an argument is none of these, or one that ``inner`` does not take.
        PhaseError: the phases or their budgets are malformed, or, at the set-up, do not fit the space.
    """

    warm_up_option = "phase_budgets"

    def __init__(
        self,
        elastic_order: Sequence[str] | None = None,
        phase_budgets: int | Sequence[Sequence[int]] | None = None,
        phases: Sequence[Phase | Mapping[str, Any]] | None = None,
        inner: str = "evolution",
        inner_arguments: Mapping[str, Any] | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        if phases is not None and (elastic_order is not None or phase_budgets is not None):
            raise ValueError("Shrinking: phases were given, which stand instead of elastic_order and phase_budgets.")
        problems = [] if elastic_order is None else check_tasks(elastic_order)
        if problems:
            raise PhaseError("Shrinking: elastic_order is wrong:", problems)
        _check_budgets(phase_budgets)
        self._given = None if phases is None else phases_from_json(phases)
        _check_lasting(self._given or ())
        self._order, self._budgets = elastic_order, _BUDGET if phase_budgets is None else phase_budgets
        limited = {"constraints": shared.get("constraints"), "cost_table": self.cost_table}
        given = {} if inner_arguments is None else inner_arguments
        self.inner = _make_inner(inner, given, {"seed": self.seed, **limited})
        self._open = 0
        self._ended: Counter[str] = Counter()  # trials, by the name of their phase
        self._uids: dict[Tokens, int] = {}  # of the inner search

    def fresh(self) -> Self:
        """Return a search with the same arguments that has seen nothing."""
        arguments = {key: value for key, value in self.inner.fresh().arguments.items() if key not in SHARED}
        return type(self)(**{**self.arguments, "inner_arguments": arguments})

    def _feasible_part(self, space: Space) -> Feasible:
        """Plan the phases, and share with the inner search what is feasible."""
        phases = progressive(space, self._order, budgets=self._budgets) if self._given is None else self._given
        self.schedule = Schedule(space, phases)
        if not phases:
            _log.warning("no key of this space is elastic: there is nothing to shrink, and the search begins at once.")
        self.warm_up = sum(phase.budget or 0 for phase in phases)
        self.inner.setup(space)
        return self.inner._remaining.feasible

    def _phase(self) -> InPhase | None:
        """Return the phase that is open; None where there is none but the search."""
        phases = self.schedule.phases
        while self._open < len(phases) and self._ended[phases[self._open].name] >= (phases[self._open].budget or 0):
            self._open += 1
        name = phases[self._open].name if self._open < len(phases) else "search"
        return InPhase(self._open, len(phases) + 1, name) if phases else None

    @property
    def _searching(self) -> bool:
        phase = self._phase()
        return phase is None or phase.last

    def _draw(self, n: int) -> list[Tokens]:
        if not hasattr(self, "space") or self._searching:
            return super()._draw(n)
        drawn = self.schedule.region(self._open).draws(self.rng, n)
        return list(map(tuple, self.space.canonical(drawn).tolist()))

    def _left(self) -> int | float:
        return min(super()._left(), self.inner._left()) if self._searching else math.inf

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        proposals = self.inner.ask(n)
        self._uids.update((proposal.tokens, proposal.uid) for proposal in proposals)
        return [proposal.tokens for proposal in proposals]

    def _learn(self, tokens: Tokens, score: float) -> None:
        uid = self._inner_uid(tokens)
        if score > -math.inf:
            self.inner.tell(uid, score)
        elif not self.inner.fail(uid):  # _resolve has said so, when it was not known yet whether to learn from it
            self.inner._teach(self.inner.trials[uid], score)

    def _learn_again(self, tokens: Tokens, mean: float) -> None:
        self.inner._learn_again(tokens, mean)

    def _learn_stopped(self, tokens: Tokens, score: float, resource: int) -> None:
        self.inner.tell(self._inner_uid(tokens), score, resource=resource)

    def _inner_uid(self, tokens: Tokens) -> int:
        if tokens not in self._uids:  # suggested from elsewhere
            self._uids[tokens] = self.inner.suggest(tokens).uid
        return self._uids[tokens]

    def _resolve(self, trial: Trial, state: str, score: float) -> None:
        if trial.state == "pending" and trial.phase is not None:
            self._ended[trial.phase.name] += 1
        if state == "failed" and not trial.provisional and trial.tokens in self._uids:
            self.inner.fail(self._uids[trial.tokens], learn=False)  # _learn tells it, where it is to learn from that
        super()._resolve(trial, state, score)


def _check_lasting(phases: tuple[Phase, ...]) -> None:
    problems = [f"phase {phase.name!r} has no budget: it would never end" for phase in phases if not phase.budget]
    problems += ["'search' is the name of the last phase, which comes by itself"] * any(
        p.name == "search" for p in phases
    )
    if problems:
        raise PhaseError("Shrinking: these phases cannot be searched by:", problems)


def _check_budgets(budgets: Any) -> None:
    """Check the numbers; how many lists there have to be, the space says."""
    if isinstance(budgets, (list, tuple)) and all(isinstance(own, (list, tuple)) and own for own in budgets):
        problems = [problem for own in budgets for number in own for problem in whole("phase_budgets", number, 1)]
    else:
        problems = whole("phase_budgets", budgets, 1, optional=True)
    if problems:
        wanted = "a whole number from 1 up, or a list of them a task"
        raise PhaseError(f"Shrinking: phase_budgets is {budgets!r}, wanted {wanted}.")


def _make_inner(name: str, arguments: Mapping[str, Any], shared: Mapping[str, Any]) -> Search:
    problems = one_of("inner", name, ALGORITHMS.keys() - {"shrinking"})
    if not isinstance(arguments, Mapping):
        problems.append(f"inner_arguments is {arguments!r}, wanted an object {{name: value}}")
    elif own := [name for name in SHARED if name in arguments]:
        problems.append(f"inner_arguments has {', '.join(own)}: give that to the shrinking itself")
    if problems:
        raise ValueError(f"Shrinking: {'; '.join(problems)}.")
    try:
        return ALGORITHMS[name].search(**arguments, **shared)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Shrinking: inner_arguments do not fit: {error}") from None
