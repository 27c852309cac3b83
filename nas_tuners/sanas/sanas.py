"""PaddleSlim's SANAS for PyTorch: simulated annealing on lists of tokens, in a loop that is yours.

An ask/tell face on :class:`~nas_tuners.search.Annealing` and its journal. Differs: the initial tokens are evaluated
first; a negative score is a score; the end of the search is an exception or the end of a ``for`` loop, and not the end
of the process; a checkpoint brings back the temperature, the generator and what was handed out without a reward; there
is no socket: several machines share a search through NNI (``examples/sanas``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nas_tuners.runs.journal import JOURNAL, has_begun
from nas_tuners.runs.run import Run
from nas_tuners.sanas.checkpoint import resume_run, start_run
from nas_tuners.sanas.nets import Nets, SANASError
from nas_tuners.search.records import Trial
from search_spaces.checks import whole
from search_spaces.cost.limits import Constraints, Table, limits_of
from search_spaces.progress import Progress

if TYPE_CHECKING:
    from torch import nn

_QUIET = 5.0  # seconds before progress is shown
SKIPPED = "skipped: the next was asked for without a reward"

__all__ = ["SANAS", "SANASError", "SearchFinished"]


class SearchFinished(RuntimeError):
    """There is no further architecture: ``search_steps`` are done, or every architecture was handed out."""


class SANAS:
    """Search the tokens of one or several nets by simulated annealing.

    ::

        nets = [("MobileNetV2BlockSpace", {"input_size": 32, "output_size": 8, "block_num": 5})]
        sanas = SANAS(nets, search_steps=40)
        for archs in sanas:
            sanas.reward(train_and_test(archs[0]))
            print(sanas.steps, "of", sanas.search_steps, sanas.current_info())
        best = sanas.tokens2arch(sanas.current_info()["best_tokens"])[0]

    Args:
        configs: ``"Name"``, ``("Name", {...})`` with the arguments of ``search_spaces.build``, or a list of those.
            Several nets share one list of tokens, and their keys begin with ``net0.``, ``net1.``, ...
        server_addr: only ``("", port)`` or ``(None, port)``, which has no effect, since there is no server.
        init_temperature: in units of the score; None: 10.0, or 1.0 with ``init_tokens``.
        reduce_rate: each reward multiplies the temperature by it; in (0, 1].
        init_tokens: evaluated first. None: the net's own, or where these do not keep the constraints, random ones.
        search_steps: rewards until the search is finished, those before a resume included.
        save_checkpoint: folder for ``journal.jsonl``, which holds every step as soon as it is done; ``nas show`` and
            ``nas export`` read it. None saves nothing. It must not hold another search than the one to load.
        load_checkpoint: folder of the search to go on with: its temperature, numbers, generator, results, and the
            architecture without a reward come back. If ``save_checkpoint`` is another folder, it gets a copy.
        is_server: only True, which has no effect.
        seed: of this search alone; no global generator is touched.
        constraints: such as ``{"macs": 150e6}``; see :class:`~nas_tuners.search.Search`.
        cost_table: costs of the tokens; None: the exact ones of the nets, for images of ``input_shape``.
        input_shape: (C, H, W); None: (3, S, S) with the ``input_size`` S of each configuration.
        progress: whether to show the steps, the best reward and the time that is left on stderr, after five seconds.

    Raises:
        SANASError: an argument is malformed, or differs from the checkpoint's.
        NetError: there is no such net, or not with this configuration.
        SpaceError: ``init_tokens`` are not in the space.
        ConstraintError: nothing keeps the constraints, or ``init_tokens`` do not.
        JournalError: ``save_checkpoint`` holds another search, or the one to load cannot be read or is of other nets.
    """

    def __init__(
        self,
        configs: Any,
        *,
        server_addr: tuple[str | None, int] = ("", 8881),
        init_temperature: float | None = None,
        reduce_rate: float = 0.85,
        init_tokens: Sequence[int] | None = None,
        search_steps: int = 300,
        save_checkpoint: str | os.PathLike[str] | None = "./nas_checkpoint",
        load_checkpoint: str | os.PathLike[str] | None = None,
        is_server: bool = True,
        seed: int = 0,
        constraints: Constraints | None = None,
        cost_table: Table = None,
        input_shape: tuple[int, int, int] | None = None,
        progress: bool = True,
    ) -> None:
        _check_alone(server_addr, is_server)
        if problems := whole("search_steps", search_steps, 1):
            raise SANASError(problems[0] + ".")
        self.search_steps = search_steps
        self._nets = Nets(configs)
        numbers = {
            "init_temperature": init_temperature,
            "reduce_rate": reduce_rate,
            "init_choices": None if init_tokens is None else self._nets.space.decode(init_tokens),
            "seed": seed,
            "constraints": {limit.metric: limit.to_json() for limit in limits_of(constraints)} or None,
        }
        save, load = (None if at is None else Path(at) / JOURNAL for at in (save_checkpoint, load_checkpoint))
        was_killed_at_once = load is not None and load.exists() and not has_begun(load)
        if load is None or was_killed_at_once:
            self.run = start_run(self._nets, numbers, cost_table, input_shape, save)
        else:
            self.run = resume_run(self._nets, numbers, cost_table, load, save)
        self._repeats = bool(self.run.search.pending)  # the next is the one that had no reward when it was killed
        self._waiting = False  # for a reward
        self._progress = Progress(search_steps, done=self.steps, show=progress, quiet=_QUIET)
        self._progress.note = self._describe_best

    run: Run
    """The search behind it: ``run.search.temperature``, ``run.search.trials``, ``run.space``."""

    def next_archs(self) -> list[nn.Module]:
        """Return the next networks to train, one for each entry of ``configs``.

        Asking for the next without a reward for the last skips that: it costs no step and no temperature. What was
        handed out before a kill, and has no reward, is handed out again.

        Raises:
            SearchFinished: there is no further one; :attr:`finished` says so beforehand.
        """
        if self._waiting:
            self.run.fail(self._current.uid, SKIPPED, learn=False)
            self._waiting = False
        if self.finished or not (self._repeats or self.run.ask()):
            raise SearchFinished(self._how_it_ended())
        self._repeats, self._waiting = False, True
        return self.tokens2arch(self._current.tokens)

    def reward(self, score: Any) -> bool:
        """Report the score of the networks of the last :meth:`next_archs`; higher is better, any number is possible.

        Returns: whether it counts as a score. NaN and infinity count as a failure, and never become best.

        Raises:
            MetricError: it is not a number; nothing has changed.
            RuntimeError: there are no networks without a reward.
        """
        if not self._waiting:
            raise RuntimeError("reward() belongs to the networks of next_archs(), and there are none without one.")
        trial = self._current
        self.run.tell(trial.uid, score)
        self._waiting = False
        self._progress.at(self.steps)
        if self.finished:
            self._progress.close()
        return trial.state == "told"

    def tokens2arch(self, tokens: Sequence[int]) -> list[nn.Module]:
        """Build the networks of a list of tokens, with new weights.

        Raises:
            SpaceError: there are too few tokens or too many, or one is out of its range.
        """
        return self._nets.build(tokens)

    def current_info(self) -> dict[str, Any]:
        """Return ``best_tokens``, ``best_reward``, and the ``current_tokens`` of the last networks; None if none."""
        best = self.run.search.best
        return {
            "best_tokens": None if best is None else list(best.tokens),
            "best_reward": None if best is None else best.score,
            "current_tokens": list(self._current.tokens) if self.run.search.trials else None,
        }

    @property
    def steps(self) -> int:
        """Return the number of rewards so far, failures included."""
        trials = self.run.search.trials.values()
        return sum(trial.state in ("told", "failed") and trial.reason != SKIPPED for trial in trials)

    @property
    def finished(self) -> bool:
        """Return whether :meth:`next_archs` would raise."""
        return self.steps >= self.search_steps or (not self._repeats and self.run.search.finished)

    def __iter__(self) -> Iterator[list[nn.Module]]:
        """Return the next networks until the search is finished."""
        while not self.finished:
            yield self.next_archs()

    def close(self) -> None:
        """Close the checkpoint, so that another SANAS of this process can load it."""
        self._progress.close()
        self.run.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _current(self) -> Trial:
        """Return the trial of the last networks; it alone may be without a reward."""
        trials = self.run.search.trials
        return trials[len(trials) - 1]

    def _describe_best(self) -> str:
        best = self.run.search.best
        return "no reward yet" if best is None else f"best {best.score:.4g}"

    def _how_it_ended(self) -> str:
        best = self.run.search.best
        why = f"{self.steps} steps are done" if self.steps >= self.search_steps else "every architecture was handed out"
        return f"{why}; best reward {None if best is None else best.score}. Loop over the SANAS, or ask for .finished."


def _check_alone(server_addr: Any, is_server: Any) -> None:
    """Check that no other machine is asked for, since there is no server."""
    if not isinstance(server_addr, (tuple, list)) or len(server_addr) != 2:
        raise SANASError(f'server_addr is {server_addr!r}, wanted ("", port).')
    if server_addr[0] or is_server is not True:
        raise SANASError(
            f"server_addr is {tuple(server_addr)!r} and is_server {is_server!r}, wanted no host and True: there is no "
            "socket between processes here. Several machines share a search through NNI: see examples/sanas."
        )
