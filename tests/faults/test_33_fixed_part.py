"""Fault 33: a part of a space is fixed, and the rest is searched."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas_tuners
from nas_tuners.cli import main
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run, load
from nas_tuners.search import Annealing, Search
from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces import Space, SpaceError
from search_spaces.cost import CostTable
from search_spaces.errors import ConstraintError
from search_spaces.phases.schedule import Schedule
from tests.spaces import inputs, layer

SPACE = {
    "conv": layer("3x3", "5x5"),
    "op": layer("a", "b", "c"),
    "skip": inputs(None, "x", "y", "z"),
    "s.depth": layer("2", "3", "4"),
    "lr": {"_type": "choice", "_value": [0.1, 0.01]},
    "drop": {"_type": "quniform", "_value": [0, 0.5, 0.25]},
}
FIXED = {"conv": "5x5", "skip": ["x", "z"], "s.depth": 3, "lr": 0.01}
TEXTS = {"conv": "5x5", "skip": "x, z", "s.depth": "3", "lr": "0.01"}
WANTED = {
    "conv": {"_value": "5x5", "_idx": 1},
    "skip": {"_value": ["x", "z"], "_idx": [0, 2]},
    "s.depth": {"_value": "3", "_idx": 1},
    "lr": 0.01,
}


@pytest.fixture(params=ALGORITHMS, ids=str)
def algorithm(request: pytest.FixtureRequest) -> type[Search]:
    return ALGORITHMS[request.param].search


def score(choices: dict[str, Any]) -> float:
    return float(choices["op"]["_idx"])


def costs(space: Space) -> CostTable:
    rng = np.random.default_rng(0)
    options = {
        key: rng.integers(1, 50, size=radix).tolist() for key, radix in zip(space.keys, space.radices, strict=True)
    }
    return CostTable(
        space, {"macs": 7}, {"macs": options}, joint={"macs": [(("s.depth", "op"), rng.integers(9, size=(3, 3)))]}
    )


@pytest.mark.parametrize("given", [FIXED, TEXTS, WANTED], ids=["python", "text", "choices"])
def test_the_fixed_keys_stay_and_the_size_counts_the_rest(given: dict[str, Any]) -> None:
    space = Space.from_json(SPACE)
    narrow = space.fix(given)
    assert (space.size, narrow.size, narrow.keys) == (2 * 3 * 8 * 3 * 2 * 3, 3 * 3, space.keys)
    for tokens in itertools.product(*map(range, narrow.radices)):
        choices = narrow.decode(tokens)
        assert {key: choices[key] for key in WANTED} == WANTED and not space.problems(choices)
        assert narrow.encode(choices) == tokens
    assert narrow.problems({**choices, "conv": {"_idx": 0}}) != [] and narrow.whole == space
    assert Space.from_json(json.loads(json.dumps(narrow.to_json()))) == narrow
    assert narrow.digest != space.digest and narrow.fix(given) is narrow and "_fixed" not in json.dumps(space.to_json())


@pytest.mark.parametrize(
    ("fixed", "said"),
    [
        ({"conw": "5x5"}, "'conw' is no key of the space; did you mean 'conv'?"),
        ({"conv": "5x6"}, "'conv': '5x6' is not on offer; did you mean '5x5'?"),
        ({"s.depth": 9}, "'s.depth': 9 is not on offer; did you mean '4'?"),
        ({"lr": "0.02"}, "'lr': '0.02' is not on offer; did you mean '0.01'?"),
        ({"drop": 0.3}, "'drop': 0.3 is not on offer; did you mean '0.25'?"),
        ({"skip": "x,w"}, "'skip': 'w' is not on offer, wanted one of 'x', 'y', 'z'"),
        ({"conv": {"_idx": 5}}, "out of range"),
        (["conv"], "wanted an object"),
    ],
)
def test_what_cannot_be_fixed_is_named_with_the_nearest(fixed: Any, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Space.from_json(SPACE).fix(fixed)
    assert said in str(caught.value)


def test_all_of_it_at_once_and_never_two_options() -> None:
    with pytest.raises(SpaceError, match="2 wrong"):
        Space.from_json(SPACE).fix({"conw": "5x5", "op": "d"})
    with pytest.raises(SpaceError, match=r"fixed to .*5x5.* already"):
        Space.from_json(SPACE).fix({"conv": "5x5"}).fix({"conv": "3x3"})


def test_a_name_goes_before_an_index_and_repeated_names_need_one() -> None:
    space = Space.from_json({"depth": layer("2", "3", "4"), "x": layer("a", "", "a"), "in": inputs(1, "", "")})
    assert space.fix({"depth": 2, "x": 2, "in": [1]}).fixed == {"depth": 0, "x": 2, "in": 1}
    assert space.fix({"x": "2", "in": "1"}).fixed == {"x": 2, "in": 1}
    with pytest.raises(SpaceError, match=r"several times.*index"):
        space.fix({"x": "a"})


def test_every_search_goes_through_the_rest_and_resumes(algorithm: type[Search], tmp_path: Path) -> None:
    space, path = Space.from_json(SPACE), tmp_path / "journal.jsonl"
    run = Run.start(algorithm(), space.fix(TEXTS), path=path)
    first = [run.ask(1)[0] for _ in range(5)]
    for proposal in first:
        run.tell(proposal.uid, float(proposal.tokens[1]))
    run.close()
    assert load(path)[0].space.size == 9
    run = Run.resume(algorithm(), path)
    seen, searched = list(first), 0
    while not run.search.finished and len(seen) < 60:
        seen += run.ask(1)
        run.tell(seen[-1].uid, float(seen[-1].tokens[1]))
    for proposal in seen:
        choices = {key: value for key, value in proposal.parameters.items() if not key.startswith("_")}
        assert {key: choices[key] for key in WANTED} == WANTED and not space.problems(choices)
        searched += proposal.phase is None or proposal.phase.last
    assert searched == 9 and run.search.exhausted and run.search.best is not None
    run.close()


def test_limits_count_the_fixed_keys(algorithm: type[Search]) -> None:
    space = Space.from_json(SPACE)
    table, narrow = costs(space), space.fix(FIXED)
    every = {tokens: table.cost("macs", space.encode(narrow.decode(tokens))) for tokens in np.ndindex(narrow.radices)}
    assert table.arranged(narrow).costs("macs", list(every)).tolist() == list(every.values())
    limit = sorted(every.values())[4]
    search = algorithm(constraints={"macs": limit}, cost_table=table)
    search.setup(narrow)
    assert search.feasible_share == sum(cost <= limit for cost in every.values()) / 9
    with pytest.raises(ConstraintError, match=f"nearest reachable macs is {min(every.values()):g}"):
        algorithm(constraints={"macs": min(every.values()) - 1}, cost_table=table).setup(narrow)


NESTED = {
    "block": layer("conv", "pool", "skip"),
    "kernel": {**layer("3", "5", "7"), "_when": {"block": ["conv", "pool"]}},
    "groups": {**layer("1", "2"), "_when": [{"block": ["conv"], "kernel": ["5", "7"]}, {"block": ["pool"]}]},
    "end": layer("a", "b"),
}


@pytest.mark.parametrize(
    ("fixed", "size"),
    [
        ({}, 2 * (1 + 2 * 2 + 3 * 2 + 1)),
        ({"block": "skip"}, 2),
        ({"block": "conv"}, 2 * (1 + 2 * 2)),
        ({"kernel": 3}, 2 * (1 + 2 + 1)),
        ({"kernel": "7", "groups": 2, "end": "b"}, 3),
        ({"block": "conv", "kernel": 3}, 2),
    ],
)
def test_fixed_keys_beside_conditions(fixed: dict[str, Any], size: int, algorithm: type[Search]) -> None:
    whole = Space.from_json(NESTED)
    space = whole.fix(fixed)
    assert space.size == size and Space.from_json(space.to_json()) == space and space.whole == whole
    options = {key: list(range(1, radix + 1)) for key, radix in zip(whole.keys, whole.radices, strict=True)}
    table = CostTable(whole, {"macs": 0}, {"macs": options})
    search = algorithm(constraints={"macs": 8}, cost_table=table)
    search.setup(space)
    found = [space.decode(tokens) for tokens in space.every().tolist()]
    costs = [table.cost("macs", whole.encode(choices)) for choices in found]
    assert table.arranged(space).costs("macs", space.every()).tolist() == costs
    for choices in found:
        assert all(choices.get(key, {"_value": str(name)})["_value"] == str(name) for key, name in fixed.items())
    assert len({json.dumps(choices) for choices in found}) == size
    assert search.feasible_share == pytest.approx(sum(cost <= 8 for cost in costs) / size)
    seen = [search.ask(1) for _ in range(200)]
    searched = [p for asked in seen for p in asked if p.phase is None or p.phase.last]
    assert len(searched) == sum(cost <= 8 for cost in costs)


def test_first_choices_of_annealing_have_to_have_the_fixed_options() -> None:
    space = Space.from_json(SPACE)
    start = space.decode((1, 2, 5, 1, 1, 0))
    search = Annealing(init_choices=start)
    search.setup(space.fix(FIXED))
    (proposal,) = search.ask(1)
    assert proposal.parameters == start
    with pytest.raises(SpaceError, match="fixed"):
        Annealing(init_choices={**start, "conv": {"_idx": 0}}).setup(space.fix(FIXED))


def test_a_schedule_leaves_a_fixed_key_alone() -> None:
    space = Space.from_json(SPACE).fix({"s.depth": "3"})
    schedule = Schedule(
        space, [{"name": "a", "open": {"depth": 2}, "budget": 1}, {"name": "b", "open": {"depth": ["4"]}}]
    )
    assert schedule.allowed(0)[3] == schedule.allowed(1)[3] == range(1)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_class_args(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = getattr(nas_tuners, ALGORITHMS[name].tuner)
    checkpoint = tmp_path / "id" / "checkpoint"
    checkpoint.mkdir(parents=True)
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(checkpoint))
    tuner = make(fixed=FIXED)
    tuner.update_search_space(SPACE)
    for i in range(3):
        assert WANTED.items() <= tuner.generate_parameters(i).items()
    tuner.update_search_space(SPACE)  # the same space: nothing changes
    wider = {**SPACE, "op": layer("c", "a", "b", "d"), "conv": layer("7x7", "3x3", "5x5")}
    tuner.update_search_space(wider)
    assert tuner.run.space.size == 4 * 3 and tuner.run.search.counts.dropped == 0
    assert tuner.generate_parameters(4)["conv"] == {"_value": "5x5", "_idx": 2}
    tuner.update_search_space({"op": layer("a", "b")})  # without the fixed keys: refused, and the search goes on
    assert tuner.run.space.size == 4 * 3
    tuner._on_exit()
    again = make(fixed=FIXED)
    again.update_search_space(wider)
    assert again.run.space.size == 4 * 3
    again._on_exit()
    other = make(fixed={"conv": "3x3"})
    with pytest.raises(JournalError):
        other.update_search_space(wider)
    with pytest.raises(SpaceError, match="did you mean 'conv'"):
        make(fixed={"conw": "5x5"}).update_search_space(SPACE)
    with pytest.raises(SpaceError, match="fixed is 3"):
        make(fixed=3).update_search_space(SPACE)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "space.json", tmp_path / "run"
    layers = {key: entry for key, entry in SPACE.items() if "choice" in entry["_type"] and key != "lr"}
    file.write_text(json.dumps(layers))
    evaluate = ["--evaluate", f"{__name__}:score"]
    arguments = ["search", str(file), *evaluate, "--trials", "50", "-o", str(out)]
    assert main([*arguments, "--fix", "conv=5x5", "--fix", "skip=x,z"]) == 0
    run, _ = load(out / "journal.jsonl")
    assert run.space.size == 9 == run.search.counts.told
    for trial in run.search.trials.values():
        assert trial.space.decode(trial.tokens)["skip"] == WANTED["skip"]
    assert main(["show", str(out)]) == 0
    assert "4 choices, 2 of them fixed, 9 architectures" in capsys.readouterr().out
    assert main(["resume", str(out), "--trials", "60"]) == 0
    for wrong, said in [
        (["--fix", "conw=5x5"], "did you mean 'conv'"),
        (["--fix", "conv"], "wanted KEY=VALUE"),
        (["--fix", "conv=5x5", "--fix", "conv=3x3"], "given twice"),
    ]:
        capsys.readouterr()
        assert main([*arguments[:-1], str(tmp_path / "other"), *wrong]) == 1
        assert said in capsys.readouterr().err and not (tmp_path / "other" / "journal.jsonl").exists()
