"""Suggest architectures to ``ray.tune``, from any search, whose journal is its memory."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_tuners.runs.journal import JournalError, has_begun
from nas_tuners.runs.run import Run
from nas_tuners.search.arguments import check_made
from nas_tuners.search.base import Search
from nas_tuners.search.records import MetricError
from search_spaces import Space
from search_spaces.checks import is_number, one_of, whole

try:
    from ray.tune.result import AUTO_RESULT_KEYS
    from ray.tune.search import Searcher
except ImportError as error:
    raise ImportError(f'RaySearcher needs ray.tune: pip install "nas-tuners[ray]" ({error})') from error

_MODES = {"max": "maximize", "min": "minimize"}
_log = logging.getLogger("nas_tuners")


class RaySearcher(Searcher):  # type: ignore[misc]
    """Suggest architectures to ``ray.tune``. Trials find theirs under one key of their config, and may fail.

    A trial without a result, or with NaN, is a failure, from which the search learns. The journal is written before a
    suggestion is given away; where it exists, the search goes on with it, trials without a result first.

    Args:
        search: any search that has no space yet. What stops trials early is a scheduler of ``ray.tune``.
        space: what to search, or the path of its file.
        path: of the journal, as ``nas show`` and ``nas export`` read it.
        metric: what trials report and the search optimizes.
        mode: ``max`` or ``min``.
        key: where a trial's config has its choices, for ``apply_choices`` and the like.
        iterations: that a complete trial reports; one that ends with fewer was stopped early, and is never the best.
            None: all that end are complete.

    Raises:
        ValueError: an argument is not one of those.
    """

    def __init__(
        self,
        search: Search,
        space: Space | str | Path,
        path: str | Path,
        metric: str,
        mode: str = "max",
        key: str = "choices",
        iterations: int | None = None,
    ) -> None:
        check_made(search)
        problems = one_of("mode", mode, tuple(_MODES)) + whole("iterations", iterations, 1, optional=True)
        if search.stopping is not None:
            problems.append("early_stopping is for hosts that stop trials: give ray.tune a scheduler instead")
        if problems:
            raise ValueError("; ".join(problems))
        super().__init__(metric=metric, mode=mode)
        self._search, self._space = search, space if isinstance(space, Space) else Space.load(space)
        self._path, self._key, self._iterations = Path(path).absolute(), key, iterations
        self._uids: dict[str, int] = {}  # by the id of a trial
        self._again: deque[int] = deque()  # uids to suggest once more
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """Return the search with its journal, which is opened when it is first needed."""
        if self._run is None:
            if has_begun(self._path):
                self._run = Run.resume(self._search.fresh(), self._path)
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._run = Run.start(self._search.fresh(), self._space, _MODES[self.mode], self._path)
            given = set(self._uids.values())
            self._again.extend(trial.uid for trial in self._run.search.pending if trial.uid not in given)
        return self._run

    def suggest(self, trial_id: str) -> Any:
        """Return the config of a trial, or that there are no more architectures."""
        run = self.run
        proposals = [run.search.trials[self._again.popleft()].proposal] if self._again else run.ask()
        if not proposals:
            return Searcher.FINISHED
        uid = self._uids[trial_id] = proposals[0].uid
        return {self._key: {**proposals[0].parameters, "_uid": uid, "_run": run.id}}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Take in the result of a trial, or that it has none."""
        uid = self._uids.get(trial_id)
        if uid is None:
            _log.warning("trial %s of ray.tune is not of this search: ignored.", trial_id)
            return
        if error or result is None or result.get(self.metric) is None:
            self.run.fail(uid, "its trial failed" if error else f"its trial ended without a result for {self.metric!r}")
            return
        resource = result.get("training_iteration")
        early = self._iterations is not None and resource is not None and resource < self._iterations
        try:
            self.run.tell(uid, self._read_metrics(result), trial_id, resource if early else None)
        except MetricError as problem:
            self.run.fail(uid, str(problem))

    def _read_metrics(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers that a trial reported itself, and its score."""
        own = {
            name: value
            for name, value in result.items()
            if is_number(value) and "/" not in name and name not in AUTO_RESULT_KEYS
        }
        return {**own, self.run.search.score_key: result[self.metric]}

    def save(self, checkpoint_path: str) -> None:
        """Save which trial has which architecture. All else stands in the journal."""
        state = {"journal": str(self._path), "run": self.run.id, "trials": self._uids}
        Path(checkpoint_path).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Restore which trial has which architecture, beside the journal that this searcher was given.

        Raises JournalError if it was saved beside another.
        """
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        self._uids.update(state["trials"])
        if self.run.id != state["run"]:
            raise JournalError(f"{checkpoint_path} is of the journal {state['journal']}, not of {self._path}.")
        self._again = deque(uid for uid in self._again if uid not in set(self._uids.values()))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open journal out: ray.tune copies its searcher, and whoever uses a copy opens it again."""
        return {**self.__dict__, "_run": None, "_again": deque()}
