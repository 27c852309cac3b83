"""Once (fault 14): keys inside a branch that was not chosen counted: 85 networks were 16,384 architectures."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Space, SpaceError
from tests.spaces import inputs, layer, stage

FOUR = stage(3, "a", "b", "c", "d")
CHAIN = {f"k{i}": layer("x", "y", "z", when={f"k{i - 1}": ["x", "y"]} if i else None) for i in range(400)}


@st.composite
def conditional_files(draw: st.DrawFn) -> dict[str, Any]:
    """Spaces of up to 6 keys, each under any conditions on those before it, in any order of the file."""
    names = draw(st.permutations([f"k{i}" for i in range(draw(st.integers(1, 6)))]))
    made: dict[str, Any] = {}
    for i, name in enumerate(names):
        kinds = [
            layer(*"abcd"[: draw(st.integers(1, 3))]),
            {"_type": "randint", "_value": [5, 8]},
            inputs(None, "p", "q"),
        ]
        made[name] = dict(draw(st.sampled_from(kinds)))
        named = [other for other in names[:i] if made[other]["_type"] != "input_choice"]
        if named and draw(st.booleans()):
            options = {other: _options(made[other]) for other in named}
            literal = st.sampled_from(named).flatmap(
                lambda other, options=options: st.tuples(
                    st.just(other), st.lists(st.sampled_from(options[other]), min_size=1, unique=True)
                )
            )
            clause = st.lists(literal, min_size=1, max_size=2).map(dict)
            made[name]["_when"] = draw(st.one_of(clause, st.lists(clause, min_size=1, max_size=3)))
    return {name: made[name] for name in sorted(made)}


def _options(entry: dict[str, Any]) -> list[Any]:
    return entry["_value"] if entry["_type"] == "layer_choice" else list(range(*entry["_value"]))


def brute(space: Space, obj: dict[str, Any]) -> set[tuple[int, ...]]:
    """All canonical encodings, by the words of the documentation alone."""
    found = set()
    for tokens in itertools.product(*map(range, space.radices)):
        by_key = dict(zip(space.keys, tokens, strict=True))

        def active(key: str, by_key: dict[str, int] = by_key) -> bool:
            when = obj[key].get("_when")
            clauses = when if isinstance(when, list) else [when]
            return when is None or any(
                all(active(k) and _options(obj[k])[by_key[k]] in options for k, options in clause.items())
                for clause in clauses
            )

        found.add(tuple(token if active(key) else 0 for key, token in by_key.items()))
    return found


@given(conditional_files())
def test_size_canonical_and_every_are_those_of_a_count_by_hand(obj: dict[str, Any]) -> None:
    space = Space.from_json(obj)
    wanted = brute(space, obj)
    assert space.size == len(wanted)
    assert sorted(map(tuple, space.every().tolist())) == sorted(wanted)
    rows = np.array(list(itertools.product(*map(range, space.radices))), dtype=np.int64)
    canonical = space.canonical(rows)
    assert set(map(tuple, canonical.tolist())) == wanted
    assert (space.canonical(canonical) == canonical).all()
    for row, made in zip(rows.tolist()[:50], canonical.tolist(), strict=False):
        assert space.canonical(row) == tuple(made) == space.encode(space.decode(row))
        assert space.decode(row) == space.decode(made)
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space and again.digest == space.digest


@given(conditional_files(), st.integers(0, 99))
def test_draws_and_neighbours_are_canonical_and_on_offer(obj: dict[str, Any], seed: int) -> None:
    space, rng = Space.from_json(obj), np.random.default_rng(seed)
    wanted = set(map(tuple, space.every().tolist()))
    rows = space.sample_tokens(rng, 30)
    near = [space.neighbour(rows[0].tolist(), rng, steps=2), *map(tuple, space.neighbours(rows[1], rng, 20).tolist())]
    assert {*map(tuple, rows.tolist()), *near} <= wanted


def test_85_networks_are_85_and_equally_likely() -> None:
    space = Space.from_json(FOUR)
    assert space.size == 85
    rows = space.sample_tokens(np.random.default_rng(0), 85 * 400).tolist()
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    assert len(counts) == 85
    assert ((counts - 400) ** 2 / 400).sum() < 142  # chi-squared with 84 degrees of freedom: once in 10,000


def test_large_spaces_are_counted_exactly_and_at_once() -> None:
    began = time.process_time()
    assert Space.from_json(stage(200, "a", "b", "c")).size == sum(3**k for k in range(201))
    size = 3
    for _ in range(399):
        size = 2 * size + 1
    chain = Space.from_json(CHAIN)
    assert chain.size == size
    assert (chain.canonical(rows := chain.sample_tokens(np.random.default_rng(0), 50)) == rows).all()
    everywhere = {f"block{i}": layer("conv", "skip") for i in range(60)}
    shared = {"act": layer("relu", "gelu", when=[{key: ["conv"]} for key in everywhere])}
    assert Space.from_json(everywhere | shared).size == 2 * (2**60 - 1) + 1
    assert time.process_time() - began < 5


def test_what_cannot_be_counted_is_refused() -> None:
    """Two hundred keys, each under a random pair of forty others, cannot be taken apart."""
    rng = np.random.default_rng(0)
    outer = {f"o{i}": layer("a", "b") for i in range(40)}
    pairs = [rng.choice(40, size=2, replace=False) for _ in range(200)]
    inner = {f"i{n}": layer("a", "b", when={f"o{a}": ["a"], f"o{b}": ["b"]}) for n, (a, b) in enumerate(pairs)}
    with pytest.raises(SpaceError, match=r"200 keys hang together so much"):
        Space.from_json(outer | inner)


def test_everything_wrong_with_conditions_is_named_at_once() -> None:
    obj = {
        "a": layer("x", "x", "", when={"b": ["z", 3]}),
        "b": layer("p", when=[{"a": ["x"]}, {"c": []}, {"q": [1]}, {}]),
        "c": layer("p", when=[]),
        "d": inputs(1, "a", when={"d": ["a"]}),
        "e": {"_type": "nonsense", "_when": {"a": [1, 2, 3]}},
        "f": layer("p", when={"e": ["a"], "c": "p"}),
    }
    with pytest.raises(SpaceError) as caught:
        Space.from_json(obj)
    said = [str(problem) for problem in caught.value.problems]
    wanted = [
        "key 'e'._type: got 'nonsense'",
        "key 'a'._when['b'][0]: got 'z', wanted one of ['p']",
        "key 'a'._when['b'][1]: got 3, wanted one of ['p']",
        "key 'b'._when: got [{'a'",
        "key 'c'._when: got [], wanted an object {key: [options]}, or a list",
        "key 'd'._when['d']: got an input_choice, wanted a key of which one option is chosen",
        "key 'e'._when['a'][2]: got 3, wanted one of ['x', 'x', '']",
        "key 'f'._when['c']: got 'p', wanted a list of at least one of its options",
    ]
    assert len(said) == len(wanted)
    assert all(line.startswith(start) or start in line for line, start in zip(said, wanted, strict=True)), said


def test_conditions_that_go_in_a_circle_are_refused() -> None:
    obj = {key: layer("x", "y", when={other: ["x"]}) for key, other in ("ab", "bc", "ca")}
    with pytest.raises(SpaceError, match=r"a circle: '(.)' under '(.)' under '(.)' under '\1'"):
        Space.from_json(obj)
    with pytest.raises(SpaceError, match="circle"):
        Space(Space.from_json({"a": layer("x")}).domains, {"a": [{"a": [0]}]})


def test_only_what_matters_has_to_be_given_and_is_shown() -> None:
    space = Space.from_json(FOUR)
    assert space.decode((1, 2, 3, 3)) == {"length": {"_value": "1", "_idx": 1}, "block0": {"_value": "c", "_idx": 2}}
    assert space.encode({"length": {"_idx": 1}, "block0": {"_idx": 2}}) == (1, 2, 0, 0)
    assert space.encode({"length": {"_idx": 0}, "block2": {"_idx": 3}}) == (0, 0, 0, 0)
    assert space.problems({"length": {"_idx": 2}, "block0": {"_idx": 9}}) == [
        "missing 'block1'",
        "'block0': _idx 9 is out of range, wanted 0 to 3 for ['a', 'b', 'c', 'd']",
    ]
    assert space.problems({}) == ["missing 'length'"]


def test_options_may_be_indices_where_names_repeat() -> None:
    space = Space.from_json({"a": layer("x", "x", "y"), "b": layer("p", "q", when={"a": [1, "y"]})})
    assert space.size == 5
    assert space.to_json()["b"]["_when"] == {"a": [1, "y"]}


NESTED = {
    "layer": {
        "_type": "choice",
        "_value": [
            {"_name": "Empty"},
            {"_name": "Conv", "kernel": {"_type": "choice", "_value": [1, 3]}},
            {
                "_name": "Cell",
                "op": {
                    "_type": "choice",
                    "_value": [{"_name": "pool", "size": {"_type": "randint", "_value": [2, 5]}}, {"_name": "none"}],
                },
            },
        ],
    }
}


def test_nnis_nested_form_of_choice_is_read_and_its_trials_get_what_nni_gives_them() -> None:
    """Compared with what NNI's random search gives; of choices nested twice that one ends with a KeyError."""
    from nni.algorithms.hpo.random_tuner import suggest
    from nni.common.hpo_utils import deformat_parameters, format_search_space

    flat = {
        "layer": {"_type": "choice", "_value": NESTED["layer"]["_value"][:2]},
        "lr": {"_type": "choice", "_value": [0.1, 0.01]},
    }
    formatted, rng = format_search_space(flat), np.random.default_rng(0)
    theirs = [json.dumps(deformat_parameters(suggest(rng, formatted), formatted)) for _ in range(200)]
    ours = Space.from_json(flat)
    assert {json.dumps(choices) for choices in map(ours.decode, ours.every())} == set(theirs)
    assert ours.size == len(set(theirs)) == (1 + 2) * 2
    space = Space.from_json(NESTED)
    assert space.size == 1 + 2 + (3 + 1)
    for row in space.every().tolist():
        assert space.encode(json.loads(json.dumps(space.decode(row)))) == tuple(row)
    assert {"layer": {"_name": "Cell", "op": {"_name": "pool", "size": 3}}} in map(space.decode, space.every())
    assert "unknown 'layer/Conv/stride'" in space.problems({"layer": {"_name": "Conv", "kernel": 1, "stride": 2}})
    assert space.problems({"layer": {"_name": "Conv"}}) == ["missing 'layer/Conv/kernel'"]


def test_nnis_own_tuners_take_the_file_and_leave_the_condition_alone() -> None:
    from nni.algorithms.hpo.random_tuner import RandomTuner
    from nni.algorithms.hpo.tpe_tuner import TpeTuner
    from nni.common.hpo_utils import validate_search_space

    plain = {
        "opt": {"_type": "choice", "_value": ["sgd", "adam"]},
        "momentum": {"_type": "choice", "_value": [0.8, 0.9], "_when": {"opt": ["sgd"]}},
    }
    assert validate_search_space(plain)
    for tuner in (TpeTuner(), RandomTuner()):
        tuner.update_search_space(plain)
        for number in range(4):
            given = tuner.generate_parameters(number)
            assert given.keys() == plain.keys()
            assert Space.from_json(plain).problems(given) == []
