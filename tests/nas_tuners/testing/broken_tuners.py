"""Tuners that each break a promise to NNI, by the name of the check that has to notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nni

from nas_tuners import SearchTuner
from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch, Search
from search_spaces import Space


class Tuner(SearchTuner):
    """Keeps all promises."""

    def __init__(self, search: Callable[[], Search] = RandomSearch) -> None:
        super().__init__(search())


class WrongUid(Tuner):
    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        parameters = super().generate_parameters(parameter_id, **kwargs)
        return {**parameters, "_uid": max(parameters["_uid"] - 1, 0)}


class ByNumber(Tuner):
    """Believes NNI's numbers of trials."""

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        super().receive_trial_result(parameter_id, {}, value, **kwargs)


class ByHand(Tuner):
    """Knows no trials that were added by hand."""

    def trial_end(self, parameter_id: int | None, success: bool, **kwargs: Any) -> None:
        super().trial_end(int(parameter_id), success, **kwargs)  # type: ignore[arg-type]


class ResultsFirst(Tuner):
    """Expects the result of a trial before its end."""

    def trial_end(self, parameter_id: int | None, success: bool, **kwargs: Any) -> None:
        if parameter_id is not None and self.run.search.trials[parameter_id].state == "pending":
            raise KeyError(parameter_id)
        super().trial_end(parameter_id, success, **kwargs)


class Floats(Tuner):
    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        super().receive_trial_result(parameter_id, parameters, float(value), **kwargs)


class Endless(Tuner):
    """Sees no trial end."""

    def trial_end(self, parameter_id: int | None, success: bool, **kwargs: Any) -> None: ...


class Anyway(Tuner):
    """Sends something when there is nothing left."""

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        try:
            return super().generate_parameters(parameter_id, **kwargs)
        except nni.NoMoreTrialError:
            return {"_uid": 0}


class Anew(Tuner):
    """Begins anew in a changed space."""

    def update_search_space(self, search_space: Any) -> None:
        self._results, self._search = None, self._search.fresh()
        super().update_search_space(search_space)


class Memoryless(Tuner):
    """Keeps no journal."""

    def _open(self, space: Space) -> Run:
        return Run.start(self._search, space)


TUNERS: dict[str, type[SearchTuner]] = {
    "parameters": WrongUid,
    "pairing": ByNumber,
    "order": ByHand,
    "threads": ResultsFirst,
    "unusable_metrics": Floats,
    "silent_ends": Endless,
    "end": Anyway,
    "changed_space": Anew,
    "restart": Memoryless,
}
