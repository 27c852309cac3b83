"""Let any search drive an Optuna study: ``pip install "nas-tuners[optuna]"``. The only file that imports optuna.

Differs from a sampler of Optuna's: its whole state follows from the trials of the study. So it needs no seed on a
resume, no pickle and no journal, and the processes that share a storage each propose what the others do not.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from optuna import Study, TrialPruned
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState
except ImportError:
    raise ImportError('nas_tuners.hosts.optuna needs Optuna: pip install "nas-tuners[optuna]"') from None

from nas_tuners.hosts.rebuilding import Begun, Finished, Given, Rebuilding, Setting, match_objectives
from nas_tuners.search.algorithms import make_search
from nas_tuners.search.noise import NONE as NO_NOISE
from search_spaces import Space, Tokens
from search_spaces.checks import is_number
from search_spaces.simple import Options

if TYPE_CHECKING:
    from nas_tuners.search.base import Search

__all__ = ["OptunaSampler", "suggest"]

_MARK = "nas_tuners"  # the system attribute of a trial that says what it was given


def suggest(trial: BaseTrial, space: Space) -> dict[str, Any]:
    """Return the choices of a trial, as ``apply_choices`` and the functions of ``nas search`` take them.

    Only keys that matter become parameters of the trial. ``suggest(study.best_trial, space)`` gives its best choices.

    Args:
        trial: of any study, whatever its sampler.
        space: what is searched.

    Raises:
        ValueError: a key is fixed to another option than the trial has.
        SpaceError: a key has more options than Optuna can tell apart.
    """
    tokens: dict[str, int] = {}
    while new := [key for key in space.active_keys(tokens) if key not in tokens]:
        tokens |= {key: _suggest(trial, Options(key, space.domains[key])) for key in new}
    mark = _attributes(trial).get(_MARK) or {}
    phase = {"_phase": mark["phase"]} if mark.get("phase") else {}
    return {**space.decode([tokens.get(key, 0) for key in space.keys]), **phase}


def _suggest(trial: BaseTrial, options: Options) -> int:
    """Let a trial suggest a value. Returns: its token."""
    if options.values is None:
        return options.token(trial.suggest_int(options.key, options.first, options.last))
    return options.token(trial.suggest_categorical(options.key, options.values))


def _describe(options: Options) -> BaseDistribution:
    """Return a key as Optuna describes a parameter."""
    if options.values is None:
        return IntDistribution(options.first, options.last)
    return CategoricalDistribution(options.values)


class OptunaSampler(BaseSampler):
    """Propose what a search of ours proposes; its objective suggests the keys of the space, or calls :func:`suggest`.

    Trials that run are pending, pruned ones were stopped early at the last step that they reported, failed ones have
    failed. Constraints of trials, ``trial.set_constraint(name, value)``, are outcome constraints of the search: at most
    0. Numbers among a trial's user attributes are metrics, for ``outcome_constraints`` in their own units. Enqueued
    trials, and those of another sampler, are learnt from. The study stops when there is nothing left to propose.

    Args:
        search: such as ``Bayesian(seed=1)``, or the name of an algorithm. If the study has several directions, it needs
            ``objectives``: they are the study's metric names, or else come in the order of its directions.
        space: what is searched.

    Raises:
        TypeError: it is no search; ValueError: it stops trials itself, which is the pruner's business here.
        SpaceError: a key has more options than Optuna can tell apart.
    """

    def __init__(self, search: Search | str, space: Space) -> None:
        search = make_search(search)
        if search.stopping is not None:
            raise ValueError(
                f"early_stopping is {search.arguments['early_stopping']!r}, but a study's pruner stops trials: leave "
                "it out, and write optuna.create_study(pruner=...)."
            )
        self.space, self._search = space, search
        self._options = {key: Options(key, domain) for key, domain in space.domains.items()}
        self._lock = threading.Lock()
        self._setting: Setting | None = None
        self._rebuilding: Rebuilding | None = None

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the parameters of the space, by key: what an objective has to suggest."""
        return {key: _describe(options) for key, options in self._options.items()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are sampled together: all."""
        return self.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose the parameters of a trial. Raises TrialPruned if there is nothing left; SearchError if it fails."""
        with self._lock:
            given = self._propose(study, trial.number)
        tokens = zip(self.space.keys, given.tokens, strict=True)
        return {key: self._options[key].value(token) for key, token in tokens}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refuse a parameter that is not in the space."""
        raise ValueError(
            f"the objective suggests {param_name!r}, but the keys of the space are {', '.join(self.space.keys)}: put "
            f'it there, such as "{param_name}": {{"_type": "choice", "_value": [0.1, 0.01]}}, or leave it out.'
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._search, self.space)  # the rest follows from the study

    def _propose(self, study: Study, number: int) -> Given:
        """Return what a trial is given, which is in the storage when this returns.

        Trials that others begin at the same moment may be given the same, if they know of other results. So each looks
        what others have written, before it writes what it was given and after that: then the later one gives way.
        """
        trials = _list_trials(study)
        if self._read_begin(trials[number]) is None:  # enqueued, and none of the search's
            return Given(self.space.sample(np.random.default_rng(number)), drawn=False)
        rebuilding = self._catch_up(study, trials, number)
        given, taken = rebuilding.given, self._list_taken(trials, number)
        while True:
            while given is not None and given.is_new and given.tokens in taken:
                given = rebuilding.pass_over()
            if given is None or (rebuilding.search.finished and rebuilding.search.readings.mode == NO_NOISE):
                with contextlib.suppress(RuntimeError):  # outside of study.optimize there is nothing to stop
                    study.stop()
            if given is None:
                raise TrialPruned("there is nothing left to propose.")
            mark = {**asdict(given), "space": self.space.digest}
            study._storage.set_trial_system_attr(trials[number]._trial_id, _MARK, mark)
            taken = self._list_taken(_list_trials(study), number, begun_later=False)
            if not given.is_new or given.tokens not in taken:
                return given

    def _catch_up(self, study: Study, trials: Sequence[FrozenTrial], number: int) -> Rebuilding:
        """Let the search know all that happened before a trial was begun, and propose something for it."""
        setting, happened = _read_setting(study, self._search, trials), _sort(trials, trials[number])
        read = (self._read_end(trial, setting) if ended else self._read_begin(trial) for trial, ended in happened)
        events = [event for event in read if event is not None]
        if self._setting != setting or self._rebuilding is None or not self._rebuilding.continues(events):
            self._setting, self._rebuilding = setting, Rebuilding(setting.set_up(self._search, self.space))
        self._rebuilding.follow(events)
        return self._rebuilding

    def _list_taken(self, trials: Sequence[FrozenTrial], number: int, begun_later: bool = True) -> set[Tokens]:
        """Return what other trials were given. ``begun_later``: also to those later ones that have not used it yet."""
        others = (t for t in trials if t.number < number or (t.number > number and (begun_later or t.params)))
        marks = (self._read_mark(trial) for trial in others)
        return {given.tokens for given in marks if given is not None}

    def _read_mark(self, trial: FrozenTrial) -> Given | None:
        """Return what a sampler like this has given a trial; None if there was none, or its space was another."""
        mark = trial.system_attrs.get(_MARK) or {}
        return Given.from_json(mark) if mark.get("space") == self.space.digest else None

    def _read_begin(self, trial: FrozenTrial) -> Begun | None:
        """Return what a trial was given; None if it does not have what is in the space."""
        if given := self._read_mark(trial):
            return Begun(trial.number, given)
        enqueued = trial.system_attrs.get("fixed_params") or {}
        if not (trial.state.is_finished() or enqueued):
            return Begun(trial.number)
        params = trial.params if trial.state.is_finished() else enqueued
        given = self._complete(params, trial.number)
        if given is not None and trial.state.is_finished():
            active = self.space.active_keys(dict(zip(self.space.keys, given.tokens, strict=True)))
            given = given if set(active) <= params.keys() else None
        return None if given is None else Begun(trial.number, given)

    def _complete(self, params: Mapping[str, Any], number: int) -> Given | None:
        """Return the architecture of parameters from elsewhere, what is open drawn; None if it is not in the space."""
        drawn = zip(self.space.keys, self.space.sample(np.random.default_rng(number)), strict=True)
        try:
            given = {key: own.token(params[key]) for key, own in self._options.items() if key in params}
        except ValueError:
            return None
        return Given(self.space.canonical([given.get(key, token) for key, token in drawn]), drawn=False)

    def _read_end(self, trial: FrozenTrial, setting: Setting) -> Finished:
        """Return the result of a trial."""
        if trial.state == TrialState.COMPLETE:
            values = dict(zip(setting.names, trial.values, strict=True))
            numbers = {name: value for name, value in trial.user_attrs.items() if is_number(value)}
            kept = dict.fromkeys(setting.constraints, 0.0)  # a trial without one keeps it, as Optuna has it
            return Finished(trial.number, {**numbers, **kept, **trial.constraints, **values})
        reports = trial.intermediate_values
        if trial.state == TrialState.FAIL or not reports:
            return Finished(
                trial.number, reason="pruned without a report" if trial.state == TrialState.PRUNED else "failed"
            )
        last = max(reports)
        resource = last + (min(reports) == 0)  # how many, where steps are counted from 0
        return Finished(trial.number, {self._search.score_key: reports[last]}, resource)


def _read_setting(study: Study, search: Search, trials: Sequence[FrozenTrial]) -> Setting:
    """Return what a search has to know of its study. Raises ValueError if the directions are not its objectives."""
    modes = [direction.name.lower() for direction in study.directions]
    names = study.metric_names if len(modes) > 1 else None  # a study of a Hyperband's bracket has none
    found = {name for trial in trials if trial.state.is_finished() for name in trial.constraints}
    return Setting(study.study_name, *match_objectives(search, modes, names), tuple(sorted(found)))


def _list_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials of a study by their numbers, those of other brackets of a pruner, too."""
    found: list[FrozenTrial] = study._storage.get_all_trials(study._study_id, deepcopy=False)
    return found


def _sort(trials: Sequence[FrozenTrial], last: FrozenTrial) -> list[tuple[FrozenTrial, bool]]:
    """Return what happened up to the start of ``last``, in order: each trial that was begun, and that has ended."""
    begun = [(_time_start(trial), trial, False) for trial in trials if trial.state != TrialState.WAITING]
    ended = [(_time_end(trial), trial, True) for trial in trials if trial.state.is_finished()]
    happened = sorted(begun + ended, key=lambda event: event[0])
    return [(trial, over) for time, trial, over in happened if time <= _time_start(last)]


def _time_start(trial: FrozenTrial) -> tuple[datetime, int, int, int]:
    """Return when a trial was begun; of the same moment, other trials end first, and begin in their order."""
    return trial.datetime_start or datetime.min, 1, trial.number, 0


def _time_end(trial: FrozenTrial) -> tuple[datetime, int, int, int]:
    """Return when a trial ended: never before it was begun."""
    start, end = _time_start(trial)[0], trial.datetime_complete or datetime.min
    return (end, 0, trial.number, 1) if end > start else (start, 1, trial.number, 1)


def _attributes(trial: BaseTrial) -> Mapping[str, Any]:
    """Return what a sampler has written beside a trial."""
    if isinstance(trial, Trial):
        found: Mapping[str, Any] = trial.storage.get_trial_system_attrs(trial._trial_id)
        return found
    return trial.system_attrs if isinstance(trial, FrozenTrial) else {}
