"""Ask and tell, once for all algorithms: what is pending, known and best, and when a space is exhausted."""

from __future__ import annotations

import inspect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from nas_tuners.search.records import Best, Counts, Proposal, Trial, as_metrics
from search_spaces import Space, Tokens
from search_spaces.domains import is_int

_PATIENCE = 16  # proposals of an algorithm that are all known, before the base draws an unknown one itself


class SearchError(RuntimeError):
    """An algorithm failed, or proposed something outside of its space."""


class Search(ABC):
    """A search over a finite space: ``setup``, then any mix of ``ask``, ``tell`` and ``fail``, in any order.

    A new algorithm writes :meth:`_propose` and :meth:`_learn` and nothing else. Both are called in the same order
    again when a journal is replayed, so state of their own is fine as long as all randomness comes from ``self.rng``.

    Args:
        seed: of this search alone; no global generator is read or touched.

    Raises:
        ValueError: the seed is no whole number from 0 up.
    """

    space: Space

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

    def __init__(self, seed: int = 0) -> None:
        if not is_int(seed) or seed < 0:
            raise ValueError(f"{type(self).__name__}: seed is {seed!r}, wanted a whole number from 0 up.")
        self.seed = int(seed)
        self.rng = np.random.default_rng(self.seed)
        self.trials: dict[int, Trial] = {}
        self.counts = Counts()
        self._known: set[Tokens] = set()
        self._unknown: list[Tokens] | None = None
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
            RuntimeError: the search has a space already; make a fresh one.
        """
        if optimize_mode not in ("maximize", "minimize"):
            raise ValueError(f'optimize_mode is {optimize_mode!r}, wanted "maximize" or "minimize".')
        if hasattr(self, "space"):
            raise RuntimeError("this search has a space already: use search.fresh() for another.")
        self.space = space
        self._sign = 1.0 if optimize_mode == "maximize" else -1.0

    def fresh(self) -> Self:
        """Return a search with the same arguments that has seen nothing, for a changed space."""
        return type(self)(**self.arguments)

    def ask(self, n: int = 1) -> list[Proposal]:
        """Propose ``n`` architectures that were never proposed before; fewer, or none, once the space is exhausted.

        Never waits: any number of asks may come before the first result.

        Raises:
            SearchError: the algorithm failed, or proposed something outside of the space.
            RuntimeError: the search was not set up.
        """
        return [self._admit(tokens) for tokens in self._draw(n)]

    def suggest(self, tokens: Sequence[int]) -> Proposal:
        """Take in an architecture that somebody else proposes, as if it had been asked for.

        Raises:
            ValueError: it is known already, or not in the space.
        """
        self.space.decode(tokens)
        given = tuple(int(token) for token in tokens)
        if given in self._known:
            raise ValueError(f"tokens {given} were proposed before.")
        return self._admit(given)

    def readmit(self, asked: Sequence[Tokens], drawn: bool) -> bool:
        """Repeat an ask or a suggestion of a journal, which decides what was proposed.

        Args:
            asked: the architectures that were proposed.
            drawn: whether the algorithm drew them; it then draws once more, so that its own state moves on too.

        Returns: whether it drew the same.

        Raises:
            ValueError: one of them was proposed before, or is not in the space.
        """
        try:
            same = not drawn or self._draw(len(asked)) == list(asked)
        except SearchError:
            same = False
        for tokens in asked:
            if tokens in self._known or not self._fits(tokens):
                raise ValueError(f"tokens {tokens} were proposed before, or are not in the space")
            self._admit(tokens)
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
            metrics: a number, or a dict with the number to optimize under ``default``; all of it is kept.
            job: the host's name for whatever ran the trial.

        Returns: whether it was the first result for this uid.

        Raises:
            MetricError: it is neither; nothing has changed then.
            SearchError: the algorithm failed to learn from it; the result itself is kept.
            ValueError: no such uid was ever proposed.
        """
        trial, kept = self._trial(uid), as_metrics(metrics)
        if trial.state in ("told", "dropped"):
            self.counts.duplicate += 1
            return False
        value = float(kept["default"])
        score = self._sign * value if math.isfinite(value) else -math.inf
        self._resolve(trial, "told" if score > -math.inf else "failed", score)
        trial.metrics, trial.job = kept, job
        trial.reason = None if score > -math.inf else f"the metric is {value}"
        if score > -math.inf and (self._best is None or score > self._best.score):
            self._best = trial
        self._teach(trial.tokens, score)
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
            self._teach(trial.tokens, -math.inf)
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
    def exhausted(self) -> bool:
        """Whether every architecture of the space has been proposed."""
        return len(self._known) >= self.space.size

    @property
    def pending(self) -> list[Proposal]:
        """Proposals without a result, in the order of asking."""
        return [Proposal(t.uid, t.tokens, t.space) for t in self.trials.values() if t.state == "pending"]

    def known(self, tokens: Tokens) -> bool:
        """Whether an architecture was proposed before."""
        return tokens in self._known

    @abstractmethod
    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        """Return about ``n`` architectures, (n, keys). The base drops known ones and asks again, or helps out."""

    @abstractmethod
    def _learn(self, tokens: Tokens, score: float) -> None:
        """Take in one result; ``score`` is to be maximized, and ``-inf`` for a failure."""

    def _draw(self, n: int) -> list[Tokens]:
        """``n`` unknown architectures, as far as there are so many."""
        if not hasattr(self, "space"):
            raise RuntimeError("this search has no space yet: call setup(space) first.")
        wanted = min(n, self.space.size - len(self._known))
        found: dict[Tokens, None] = {}
        for _ in range(_PATIENCE):
            if len(found) >= wanted:
                return list(found)
            for tokens in self._proposed(wanted - len(found)):
                if tokens not in self._known and len(found) < wanted:
                    found[tokens] = None
        while len(found) < wanted:
            found.update(dict.fromkeys(self._draw_unknown(found, wanted - len(found))))
        return list(found)

    def _proposed(self, n: int) -> list[Tokens]:
        """What the algorithm proposes, checked."""
        try:
            rows = [tuple(row.tolist() if isinstance(row, np.ndarray) else row) for row in self._propose(n)]
        except Exception as error:
            raise SearchError(f"{type(self).__name__}._propose({n}) failed: {error!r}") from error
        for tokens in rows:
            if not self._fits(tokens):
                wrong = f"{type(self).__name__}._propose gave {tokens}"
                raise SearchError(f"{wrong}, wanted one token below each of {self.space.radices}.")
        return rows

    def _teach(self, tokens: Tokens, score: float) -> None:
        try:
            self._learn(tokens, score)
        except Exception as error:
            raise SearchError(f"{type(self).__name__}._learn({tokens}, {score}) failed: {error!r}") from error

    def _draw_unknown(self, taken: Mapping[Tokens, None], n: int) -> list[Tokens]:
        """Up to ``n`` unknown architectures, uniformly: by rejection while that is cheap, then from a list."""
        if self._unknown is None and self.space.size > 2 * (len(self._known) + len(taken)):
            rows = map(tuple, self.space.sample_tokens(self.rng, 2 * n + 8).tolist())
            return list(itertools.islice((t for t in rows if t not in self._known and t not in taken), n))
        if self._unknown is None:
            every = itertools.product(*map(range, self.space.radices))
            unknown = [tokens for tokens in every if tokens not in self._known]
            self._unknown = [unknown[i] for i in self.rng.permutation(len(unknown)).tolist()]
        drawn: list[Tokens] = []
        while len(drawn) < n and self._unknown:
            tokens = self._unknown.pop()
            if tokens not in self._known and tokens not in taken:
                drawn.append(tokens)
        return drawn

    def _fits(self, tokens: Tokens) -> bool:
        radices = self.space.radices
        return len(tokens) == len(radices) and all(0 <= t < r for t, r in zip(tokens, radices, strict=True))

    def _admit(self, tokens: Tokens) -> Proposal:
        uid = len(self.trials)
        self.trials[uid] = Trial(uid, tokens, self.space)
        self._known.add(tokens)
        self.counts.asked += 1
        self.counts.pending += 1
        return Proposal(uid, tokens, self.space)

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
