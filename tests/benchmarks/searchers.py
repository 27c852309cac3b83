"""The searches that are compared: ours, and those of other libraries that are installed, as they come."""

from __future__ import annotations

import importlib.util
import logging
import random
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from nas_tuners.search import Annealing, Bayesian, Evolution, LocalSearch, RandomSearch, Search
from nas_tuners.testing.quality import try_architectures
from nas_tuners.testing.tasks import Evaluate, Task
from search_spaces import Tokens

Searcher = Callable[[Task, Evaluate, int, int, int], list[Tokens]]
"""Task, what is seen, trials, seed, how many trials are pending at once: the architectures in the order of results."""


def ours(make: Callable[..., Search], task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """A search of ours; the oldest pending trial ends first."""
    search = make(seed=seed, **task.limits)
    search.setup(task.space)
    return try_architectures(search, sees, trials, pending)


def optuna(sampler: str, task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """A sampler of Optuna as it comes; a failure fails."""
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=getattr(optuna.samplers, sampler)(seed=seed))
    space, done, waiting = task.space, [], deque[Any]()
    while len(done) < trials:
        while len(waiting) < pending:
            trial = study.ask()
            pairs = zip(space.keys, space.radices, strict=True)
            waiting.append((trial, tuple(trial.suggest_categorical(key, list(range(radix))) for key, radix in pairs)))
        trial, tokens = waiting.popleft()
        score = sees(space.decode(tokens))
        study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.FAIL)
        done.append(tokens)
    return done


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


def searchers(task: Task) -> dict[str, Searcher]:
    """What to compare, by name. Others' do not know limits of ours, and stay away from a task that has them."""
    found: dict[str, Searcher] = {
        "Bayesian": partial(ours, Bayesian),
        "LocalSearch": partial(ours, LocalSearch),
        "Evolution": partial(ours, Evolution),
        "Evolution, aging 30/10": partial(
            ours, partial(Evolution, regularized=True, candidate_pool_size=30, candidate_top_k=10)
        ),
        "Annealing": partial(ours, Annealing),
        "RandomSearch": partial(ours, RandomSearch),
    }
    if not task.limits:
        if importlib.util.find_spec("optuna"):
            found["Optuna TPE"] = partial(optuna, "TPESampler")
            found["Optuna GP"] = partial(optuna, "GPSampler")
        if importlib.util.find_spec("nevergrad"):
            found["nevergrad 1+1"] = partial(nevergrad, "DiscreteOnePlusOne")
        if importlib.util.find_spec("nni"):
            found["NNI evolution"] = nni_evolution
    return found
