"""A study of Optuna proposes what the loop proposes, however many processes share it and whichever of them dies."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason='Optuna is missing: pip install "nas-tuners[optuna]"')

from optuna.distributions import distribution_to_json  # noqa: E402
from optuna.storages import RDBStorage  # noqa: E402
from optuna.study import Study  # noqa: E402
from optuna.trial import FixedTrial, TrialState  # noqa: E402

from nas_tuners import Run, run_search  # noqa: E402
from nas_tuners.hosts.optuna import OptunaSampler, suggest  # noqa: E402
from nas_tuners.search import NSGA2, Annealing, Bayesian, Evolution, RandomSearch, Search  # noqa: E402
from nas_tuners.search.algorithms import ALGORITHMS  # noqa: E402
from nas_tuners.testing.driving import score  # noqa: E402
from nas_tuners.testing.spaces import SPACES, inputs, layer, named_space  # noqa: E402
from search_spaces import Space, Tokens  # noqa: E402

TRIALS = 20
ELASTIC = {"a.kernel_size": layer("3", "5", "7"), "b.kernel_size": layer("3", "5", "7"), "s.depth": layer("1", "2")}
FEW = Space.from_json({key: layer(*"abcdefgh") for key in "xyz"})  # keys: each is a transaction of its own
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(before)


class Failed(Exception):
    """What an objective raises."""


def evaluate(space: Space, choices: Any) -> float:
    tokens = space.encode(choices)
    if sum(tokens) % 7 == 3:
        raise Failed
    return score(tokens)


def proposed_by_loop(search: Search, space: Space, mode: str = "maximize", trials: int = TRIALS) -> list[Tokens]:
    run = Run.start(search, space, mode)
    run_search(run, lambda choices: evaluate(space, choices), trials)
    return [trial.tokens for trial in run.search.trials.values()]


def proposed_by(study: Study, space: Space) -> list[Tokens]:
    return [space.encode(suggest(trial, space)) for trial in study.trials]


def optimize(study: Study, space: Space, trials: int = TRIALS, n_jobs: int = 1) -> None:
    objective = lambda trial: evaluate(space, suggest(trial, space))  # noqa: E731
    study.optimize(objective, n_trials=trials, catch=(Failed,), n_jobs=n_jobs)


def studied(search: Search | str, space: Space, mode: str = "maximize", **more: Any) -> Study:
    return optuna.create_study(direction=mode, sampler=OptunaSampler(search, space), **more)


@pytest.mark.parametrize("mode", ["maximize", "minimize"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_study_proposes_what_the_loop_proposes(name: str, mode: str) -> None:
    make, space = ALGORITHMS[name].search, Space.from_json(ELASTIC) if name == "shrinking" else named_space()
    study = studied(make(seed=1), space, mode)
    optimize(study, space)
    assert proposed_by(study, space) == proposed_by_loop(make(seed=1), space, mode)


@pytest.mark.parametrize("pruner", [None, optuna.pruners.HyperbandPruner(), optuna.pruners.MedianPruner()])
def test_what_leads_is_proposed_again(pruner: Any) -> None:
    """And in a study of brackets a search knows the trials of all of them."""
    search, space = Evolution(seed=1, candidate_pool_size=4, noise="repeats", repeats=2), FEW
    study = studied(search, space, pruner=pruner)
    optimize(study, space)
    assert proposed_by(study, space) == proposed_by_loop(search.fresh(), space)
    assert len(set(proposed_by(study, space))) < TRIALS


def test_trials_of_a_phase_say_so() -> None:
    space = Space.from_json(ELASTIC)
    study = studied("shrinking", space)
    assert suggest(study.ask(), space)["_phase"]["index"] == 0


@pytest.mark.parametrize("name", [name for name in SPACES if name != "one architecture"])
def test_every_kind_of_space_is_one_of_optuna(name: str) -> None:
    """Once it is exhausted, the study stops."""
    space = named_space(name)
    study = studied(Annealing(seed=2), space)
    optimize(study, space)
    assert proposed_by(study, space) == proposed_by_loop(Annealing(seed=2), space)
    written = [json.loads(distribution_to_json(d)) for trial in study.trials for d in trial.distributions.values()]
    options = [option for entry in written for option in entry["attributes"].get("choices", [])]
    assert all(option is None or isinstance(option, (str, int, float)) for option in options)
    again = FixedTrial(study.best_params)
    assert score(space.encode(suggest(again, space))) == study.best_value


def test_plain_objectives_suggest_names() -> None:
    """Keys that do not matter may be suggested, too; of those that are fixed all options are on offer."""
    entries = {
        "block": layer("conv", "skip"),
        "kernel": layer("3", "5", when={"block": ["conv"]}),
        "inputs": inputs([1, 2], "a", "b"),
        "lr": {"_type": "choice", "_value": [0.1, 0.01]},
        "units": {"_type": "randint", "_value": [16, 1024]},
    }
    space = Space.from_json(entries).fix({"lr": 0.01})

    def objective(trial: Any) -> float:
        block = trial.suggest_categorical("block", ["conv", "skip"])
        kernel = trial.suggest_categorical("kernel", ["3", "5"])
        chosen = trial.suggest_categorical("inputs", ["a", "b", "a, b"])
        lr = trial.suggest_categorical("lr", [0.1, 0.01])
        units = trial.suggest_int("units", 16, 1023)
        assert lr == 0.01
        return (block == "conv") * int(kernel) + len(chosen) + units / 1000

    study = studied(Evolution(seed=0), space)
    study.optimize(objective, n_trials=TRIALS)
    assert len(set(proposed_by(study, space))) == TRIALS
    assert OptunaSampler("random", space).distributions.keys() == set(space.keys)


def test_what_is_not_in_the_space_is_an_error_that_says_so() -> None:
    study = studied(RandomSearch(), Space.from_json({"conv": layer("3x3", "5x5")}))
    with pytest.raises(ValueError, match=r"suggests 'lr', but the keys of the space are conv: put it there"):
        study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=1)


def test_a_fresh_sampler_goes_on_as_the_first_would_have() -> None:
    """A copy, an unpickled one and a new one each rebuild the search from the trials of the study."""
    space = named_space()
    want = proposed_by_loop(Bayesian(seed=3, initial=5), space)
    study = studied(Bayesian(seed=3, initial=5), space)
    for again in (copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made)), lambda made: made):  # noqa: S301
        optimize(study, space, 5)
        study.sampler = again(study.sampler)
    study.sampler = OptunaSampler(Bayesian(seed=3, initial=5), space)
    optimize(study, space, 5)
    assert proposed_by(study, space) == want


def test_pruned_trials_were_stopped_at_their_last_step() -> None:
    space = named_space()
    study = studied(Bayesian(seed=1, initial=3), space)
    search = Bayesian(seed=1, initial=3)
    search.setup(space)
    for number in range(8):
        trial, (proposal,) = study.ask(), search.ask()
        assert space.encode(suggest(trial, space)) == proposal.tokens
        if number % 2:
            trial.report(0.3, step=0)
            trial.report(0.5 + number, step=1)
            study.tell(trial, state=TrialState.PRUNED)
            search.tell(proposal.uid, 0.5 + number, resource=2)
        else:
            study.tell(trial, score(proposal.tokens))
            search.tell(proposal.uid, score(proposal.tokens))


def test_constraints_are_outcome_constraints() -> None:
    """Those of Optuna, at most 0; and limits on what a trial sets as an attribute."""
    space = named_space()
    limits = {"latency_ms": 3.0}
    study = studied(Bayesian(seed=1, initial=3, outcome_constraints=limits), space)
    search = Bayesian(seed=1, initial=3, outcome_constraints={**limits, "memory": [None, 0.0]})
    search.setup(space)
    for _ in range(10):
        trial, (proposal,) = study.ask(), search.ask()
        assert space.encode(suggest(trial, space)) == proposal.tokens
        latency, memory = float(proposal.tokens[0] + proposal.tokens[1]), proposal.tokens[2] - 1.0
        trial.set_user_attr("latency_ms", latency)
        trial.set_user_attr("note", "a text is no metric")
        trial.set_constraint("memory", memory)
        study.tell(trial, score(proposal.tokens))
        search.tell(proposal.uid, {"default": score(proposal.tokens), "latency_ms": latency, "memory": memory})


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_several_objectives_have_names() -> None:
    objectives, space = {"default": "maximize", "size": "minimize"}, named_space()
    search = NSGA2(objectives, population_size=4, seed=1)
    search.setup(space)
    sampler = OptunaSampler(NSGA2(objectives, population_size=4, seed=1), space)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    with pytest.raises(ValueError, match="directions minimize, maximize of default, size"):
        suggest(study.ask(), space)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.set_metric_names(["size", "default"])
    for _ in range(12):
        trial, (proposal,) = study.ask(), search.ask()
        assert space.encode(suggest(trial, space)) == proposal.tokens
        study.tell(trial, [sum(proposal.tokens), score(proposal.tokens)])
        search.tell(proposal.uid, {"default": score(proposal.tokens), "size": sum(proposal.tokens)})


def test_a_search_of_one_objective_has_one_direction() -> None:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=OptunaSampler("evolution", named_space()))
    with pytest.raises(ValueError, match=r"directions minimize, minimize .*such as NSGA2"):
        suggest(study.ask(), named_space())


def test_early_stopping_is_left_to_the_pruner() -> None:
    with pytest.raises(ValueError, match=r"early_stopping is 'asha', .*create_study\(pruner="):
        OptunaSampler(RandomSearch(early_stopping="asha"), named_space())


def test_enqueued_trials_and_those_of_other_samplers_count() -> None:
    """What an enqueued trial leaves open is drawn; a search learns from all, and proposes none of them again."""
    space = named_space("two inputs of four")  # of 12 architectures
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    optimize(study, space, 3)
    study.sampler = OptunaSampler(RandomSearch(seed=1), space)
    study.enqueue_trial({"in": "b, c"})
    optimize(study, space, 40)
    assert study.trials[3].params["in"] == "b, c"
    assert set(proposed_by(study, space)) == {tuple(row) for row in space.every().tolist()}
    assert len(study.trials) <= 12 + 3  # Optuna's may have repeated itself; nobody else has
    before = len(study.trials)
    optimize(study, space, 9)
    (pruned,) = study.trials[before:]
    assert pruned.state == TrialState.PRUNED and not pruned.params


def test_what_does_not_fit_is_none_of_the_search() -> None:
    """Neither an enqueued option that is fixed to another, nor parameters of which one that matters is missing."""
    space = named_space("nested as in NNI").fix({"lr": 0.1})
    study = studied(RandomSearch(seed=1), space)
    options = {key: OptunaSampler("random", space).distributions[key] for key in ("layer", "lr")}
    study.add_trial(optuna.create_trial(params={"layer": "conv", "lr": 0.1}, distributions=options, value=99.0))
    study.enqueue_trial({"layer": "empty", "lr": 0.01})
    for _ in range(3):
        trial = study.ask()
        values = [trial.suggest_categorical(key, options[key].choices) for key in options]  # type: ignore[attr-defined]
        study.tell(trial, 50.0 if values == ["empty", 0.01] else 1.0)
    suggest(study.ask(), space)
    search = study.sampler._rebuilding.search  # type: ignore[attr-defined]
    assert [trial.score for trial in search.trials.values()][:2] == [1.0, 1.0]


def test_a_trial_that_is_tried_again_keeps_its_architecture() -> None:
    """As Optuna's callback for trials of dead processes does, by the parameters."""
    space = named_space()
    study, search = studied(Evolution(seed=1), space), Evolution(seed=1)
    search.setup(space)
    (proposal,) = search.ask()
    trial = study.ask()
    suggest(trial, space)
    study.tell(trial, state=TrialState.FAIL)
    study.enqueue_trial(study.trials[0].params)
    again = study.ask()
    assert space.encode(suggest(again, space)) == proposal.tokens
    study.tell(again, 5.0)
    search.fail(proposal.uid)
    search.tell(proposal.uid, 5.0)
    for _ in range(5):
        trial, (proposal,) = study.ask(), search.ask()
        assert space.encode(suggest(trial, space)) == proposal.tokens
        study.tell(trial, 1.0)
        search.tell(proposal.uid, 1.0)


def test_what_runs_is_pending() -> None:
    """So are trials that have begun elsewhere and have not asked yet: nobody else proposes what they will."""
    space = named_space()
    study, search = studied(RandomSearch(seed=1), space), RandomSearch(seed=1)
    search.setup(space)
    trials = [study.ask() for _ in range(4)]
    others = copy.copy(study)
    others.sampler = OptunaSampler(RandomSearch(seed=1), space)
    order = (2, 0, 3, 1)
    got = {n: suggest(trials[n], space) for n in order[:2]}
    for trial in trials:
        trial.study = others
    got |= {n: suggest(trials[n], space) for n in order[2:]}
    assert [got[n] for n in range(4)] == [proposal.choices for proposal in search.ask(4)]


def test_threads_share_a_sampler() -> None:
    space = named_space()
    study = studied(Evolution(seed=1, candidate_pool_size=4), space)
    optimize(study, space, n_jobs=2)
    assert len(set(proposed_by(study, space))) == len(study.trials) == TRIALS


PROCESS = """
import os, signal, sys
import optuna
from nas_tuners.hosts.optuna import OptunaSampler, suggest
from nas_tuners.search import Bayesian
from nas_tuners.testing.driving import score
from tests.nas_tuners.hosts.test_optuna import FEW

url, trials, deadly = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
space = FEW

def objective(trial):
    tokens = space.encode(suggest(trial, space))
    if trial.number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return score(tokens)

optuna.logging.set_verbosity(optuna.logging.CRITICAL)
sampler = OptunaSampler(Bayesian(seed=1, initial=4), space)
study = optuna.load_study(study_name="shared", storage=url, sampler=sampler)
study.optimize(objective, n_trials=trials)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[RDBStorage]:
    made = RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield made
    made.remove_session()
    made.engine.dispose()


@pytest.fixture
def start(storage: RDBStorage) -> Callable[..., subprocess.Popen[bytes]]:
    def starting(trials: int, deadly: int = -1) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", PROCESS, storage.url, str(trials), str(deadly)]
        return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)})

    return starting


@pytest.mark.slow
def test_processes_share_a_storage(storage: RDBStorage, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """None proposes what another has proposed, and whoever comes later knows all that they know."""
    space = FEW
    study = optuna.create_study(study_name="shared", storage=storage, direction="maximize")
    assert [process.wait() for process in [start(6), start(6)]] == [0, 0]
    assert len(set(proposed_by(study, space))) == len(study.trials) == 12
    found = []
    for _ in range(2):
        copied = optuna.create_study(direction="maximize", sampler=OptunaSampler(Bayesian(seed=1, initial=4), space))
        copied.add_trials(study.trials)
        found.append(suggest(copied.ask(), space))
        best = copied.sampler._rebuilding.search.best  # type: ignore[attr-defined]
        assert best.score == study.best_value
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_study_goes_on_after_a_kill(storage: RDBStorage, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """What the killed process ran stays pending, as in a study in which it never ends."""
    space = FEW
    study = optuna.create_study(study_name="shared", storage=storage, direction="maximize")
    assert start(8, deadly=5).wait() == -signal.SIGKILL
    assert start(3).wait() == 0
    unbroken = studied(Bayesian(seed=1, initial=4), space)
    for number in range(9):
        trial = unbroken.ask()
        tokens = space.encode(suggest(trial, space))
        if number != 5:
            unbroken.tell(trial, score(tokens))
    assert proposed_by(study, space) == proposed_by(unbroken, space)
    assert [trial.number for trial in study.get_trials(states=(TrialState.RUNNING,))] == [5]
