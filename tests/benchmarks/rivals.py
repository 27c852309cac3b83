"""Searches of other libraries, to compare ours with, each at the settings that its authors give for such spaces."""

from __future__ import annotations

import logging
import random
import warnings
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nas_tuners.testing.tasks import Evaluate, Task
from search_spaces import Space, Tokens


def optuna(sampler: str, task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """A sampler of Optuna as it comes; a failure fails. Keys that do not matter are not asked for."""
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=getattr(optuna.samplers, sampler)(seed=seed))
    space, done, waiting = task.space, [], deque[Any]()
    while len(done) < trials:
        while len(waiting) < pending:
            trial = study.ask()
            waiting.append((trial, _suggest(trial, space)))
        trial, tokens = waiting.popleft()
        score = sees(space.decode(tokens))
        study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.FAIL)
        done.append(tokens)
    return done


def _suggest(trial: Any, space: Space) -> Tokens:
    """Ask for one key after the other; those that decide about others come first."""
    tokens: dict[str, int] = {}
    for key, radix in zip(space.keys, space.radices, strict=True):
        if key in space.active_keys(tokens):
            tokens[key] = trial.suggest_categorical(key, list(range(radix)))
    return tuple(tokens.get(key, 0) for key in space.keys)


def nevergrad(name: str, task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """An optimizer of nevergrad as it comes; a failure is the worst score."""
    import nevergrad

    warnings.simplefilter("ignore")
    space, done, waiting = task.space, [], deque[Any]()
    choices = nevergrad.p.Tuple(*(nevergrad.p.Choice(list(range(radix))) for radix in space.radices))
    choices.random_state.seed(seed)
    optimizer = nevergrad.optimizers.registry[name](choices, budget=trials, num_workers=pending)
    while len(done) < trials:
        while len(waiting) < pending:
            waiting.append(optimizer.ask())
        asked = waiting.popleft()
        score = sees(space.decode(asked.value))
        optimizer.tell(asked, 1e3 if score is None else -score)
        done.append(tuple(asked.value))
    return done


def nni_evolution(task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """NNI's RegularizedEvolutionTuner as it comes; it draws from the global generator, which is seeded for it."""
    from nni.algorithms.hpo.regularized_evolution_tuner import RegularizedEvolutionTuner

    random.seed(seed)
    tuner, space, done, waiting = RegularizedEvolutionTuner(), task.space, [], deque[Any]()
    logging.getLogger("nni").setLevel(logging.ERROR)
    tuner.update_search_space(space.to_json())
    asked = 0
    while len(done) < trials:
        while len(waiting) < pending:
            waiting.append((asked, tuner.generate_parameters(asked)))
            asked += 1
        number, choices = waiting.popleft()
        score = sees(choices)
        if score is not None:
            tuner.receive_trial_result(number, choices, score)
        tuner.trial_end(number, score is not None)
        done.append(space.encode(choices))
    return done


def smac(facade: str, task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """SMAC3 with the model of a facade, told that results are exact; a failure is one.

    It begins with 16 trials, as ours: its own initial design would be a quarter of them all.
    """
    import smac
    from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace
    from smac.runhistory import StatusType, TrialValue

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    space, done, waiting = task.space, [], deque[Any]()
    keys = [CategoricalHyperparameter(key, list(range(r))) for key, r in zip(space.keys, space.radices, strict=True)]
    configurations = ConfigurationSpace(seed=seed)
    configurations.add(keys)
    made = getattr(smac, facade)
    with TemporaryDirectory() as folder:
        scenario = smac.Scenario(
            configurations, deterministic=True, n_trials=trials, seed=seed, output_directory=Path(folder)
        )
        design = made.get_initial_design(scenario, n_configs=16)
        optimizer = made(
            scenario, lambda configuration, seed: 0.0, initial_design=design, overwrite=True, logging_level=False
        )
        while len(done) < trials:
            while len(waiting) < pending:
                waiting.append(optimizer.ask())
            asked = waiting.popleft()
            tokens = tuple(int(asked.config[key]) for key in space.keys)
            score = sees(space.decode(tokens))
            failed = score is None
            status = StatusType.CRASHED if failed else StatusType.SUCCESS
            optimizer.tell(asked, TrialValue(1e3 if failed else -score, status=status), save=False)
            done.append(tokens)
    return done


def syne_tune(name: str, task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """A searcher of syne-tune as it comes; a failure is not told."""
    from syne_tune.config_space import choice
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - some of its draws are from there
    space, done, waiting = task.space, [], deque[Any]()
    options = {key: choice(list(range(radix))) for key, radix in zip(space.keys, space.radices, strict=True)}
    settings = {"population_size": 30, "sample_size": 10} if name == "REA" else {}
    scheduler = getattr(baselines, name)(options, metric="score", do_minimize=False, random_seed=seed, **settings)
    asked = AskTellScheduler(scheduler)
    while len(done) < trials:
        while len(waiting) < pending:
            waiting.append(asked.ask())
        trial = waiting.popleft()
        tokens = tuple(int(trial.config[key]) for key in space.keys)
        score = sees(space.decode(tokens))
        if score is not None:
            asked.tell(trial, {"score": score})
        done.append(tokens)
    return done
