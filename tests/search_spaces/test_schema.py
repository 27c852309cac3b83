"""Test spaces: tokens and choices are two spellings of one architecture."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Space, SpaceError
from tests.spaces import SPACES, inputs, json_values, layer, space_files


@pytest.fixture(params=SPACES, ids=str)
def space(request: pytest.FixtureRequest) -> Space:
    return Space.from_json(SPACES[request.param])


def test_every_architecture_survives_the_round_trip(space: Space) -> None:
    seen = set()
    for tokens in itertools.islice(itertools.product(*map(range, space.radices)), 2000):
        choices = json.loads(json.dumps(space.decode(tokens)))  # as it comes back from NNI
        assert space.encode(choices) == space.canonical(tokens)
        seen.add(json.dumps(choices))
    assert len(seen) == min(space.size, 2000)


def test_size_is_the_product_of_the_radices(space: Space) -> None:
    assert space.size == math.prod(space.radices) if not space.when else space.size < math.prod(space.radices)
    assert len(space.radices) == len(space.keys) == len(space)


def test_the_file_survives_the_round_trip(space: Space) -> None:
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.digest == space.digest
    assert again.radices == space.radices


def test_samples_and_neighbours_are_in_the_space(space: Space) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens = space.sample(rng)
        near = space.neighbour(tokens, rng)
        assert space.encode(space.decode(near)) == near
        assert near in _around(space, tokens)
    assert space.sample_tokens(rng, 7).shape == (7, len(space))
    assert all(tuple(row) in _around(space, tokens) for row in space.neighbours(tokens, rng, 20).tolist())


def _around(space: Space, tokens: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Return what differs in one key, and in those that matter only then."""
    if space.size == 1:
        return {tokens}
    if space.when:
        every = [np.array(space.canonical(row), dtype=np.int64) for row in space.every()]
        rows = np.array(every)
        both = space.active(rows) & space.active(np.array([tokens]))
        return {tuple(row) for row in rows[((rows != tokens) & both).sum(axis=1) == 1].tolist()}
    pairs = ((at, other) for at, radix in enumerate(space.radices) for other in range(radix) if other != tokens[at])
    return {(*tokens[:at], other, *tokens[at + 1 :]) for at, other in pairs}


def test_a_neighbour_is_uniform_over_the_other_options() -> None:
    space = Space.from_json({"a": layer("0", "1", "2"), "b": layer("0", "1", "2")})
    rng, counts = np.random.default_rng(1), dict.fromkeys(_around(space, (0, 0)), 0)
    for _ in range(4000):
        counts[space.neighbour((0, 0), rng)] += 1
    assert all(900 < count < 1100 for count in counts.values())  # 1000 each, standard deviation 27


@pytest.mark.parametrize(
    ("n_chosen", "radix"), [(0, 1), (1, 4), (2, 6), (4, 1), (None, 16), ([1, 3], 14), ([0, 4], 16), ([2, 2], 6)]
)
def test_the_radix_of_inputs_is_their_number_of_subsets(n_chosen: Any, radix: int) -> None:
    assert Space.from_json({"in": inputs(n_chosen, "a", "b", "c", "d")}).radices == (radix,)


def test_subsets_are_numbered_lexicographically_and_masks_by_their_bits() -> None:
    pairs = Space.from_json({"in": inputs(2, "a", "b", "c", "d")})
    chosen = [pairs.decode((token,))["in"]["_idx"] for token in range(6)]
    assert chosen == [list(pair) for pair in itertools.combinations(range(4), 2)]
    anything = Space.from_json({"in": inputs(None, "a", "b", "c")})
    assert anything.decode((0b101,)) == {"in": {"_value": ["a", "c"], "_idx": [0, 2]}}
    assert anything.decode((0,)) == {"in": {"_value": [], "_idx": []}}


def test_hyper_parameters_come_as_bare_values_like_nnis() -> None:
    space = Space.from_json(SPACES["with hyper-parameters"])
    assert space.decode((1, 2, 4, 0)) == {"op": {"_value": "q", "_idx": 1}, "lr": 0.001, "batch": 8, "dropout": 0.05}
    grid = [space.decode((0, 0, 0, token))["dropout"] for token in range(space.radices[3])]
    assert grid == pytest.approx([0.05, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_quniform_is_the_set_that_nni_draws_from() -> None:
    space = Space.from_json({"x": {"_type": "quniform", "_value": [0.03, 0.97, 0.1]}})
    drawn = np.clip(np.round(np.random.default_rng(0).uniform(0.03, 0.97, 5000) / 0.1) * 0.1, 0.03, 0.97)
    ours = [space.decode((token,))["x"] for token in range(space.radices[0])]
    assert np.allclose(sorted(set(np.round(drawn, 9))), ours)


def test_encode_takes_what_decode_gives_in_any_order_and_ignores_our_own_keys() -> None:
    space = Space.from_json({"a": layer("x", "y"), "b": inputs(2, "p", "q", "r")})
    assert space.encode({"_uid": 7, "b": {"_value": ["r", "p"], "_idx": [2, 0]}, "a": {"_idx": 1}}) == (1, 1)


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ({}, "missing 'a'; missing 'in'"),
        ({"c": 1}, "unknown 'c'"),
        ({"a": "x"}, """got 'x', wanted {"_value": name, "_idx": index}"""),
        ({"a": {"_value": "x"}}, "without _idx"),
        ({"a": {"_value": "x", "_idx": 2}}, "_idx 2 is out of range, wanted 0 to 1"),
        ({"a": {"_value": "x", "_idx": -1}}, "_idx -1 is out of range"),
        ({"a": {"_value": "x", "_idx": True}}, "_idx is True, wanted an integer"),
        ({"a": {"_value": "x", "_idx": 1.0}}, "_idx is 1.0, wanted an integer"),
        ({"a": {"_value": "x", "_idx": 1}}, "_value 'x' does not belong to _idx 1, which is 'y'"),
        ({"in": {"_value": ["p", "p"], "_idx": [0, 0]}}, "an input may be chosen only once"),
        ({"in": {"_value": ["p"], "_idx": [0]}}, "1 inputs chosen, wanted exactly 2"),
        ({"in": {"_value": ["p", "q"], "_idx": 0}}, "_idx is 0, wanted a list of indices"),
        ({"in": {"_value": ["p"], "_idx": [0, 1]}}, "wanted a list of 2 names"),
        ({"in": {"_value": ["p", "r"], "_idx": [0, 1]}}, "_value 'r' does not belong to _idx 1, which is 'q'"),
        ({"in": {"_value": ["p", "r"], "_idx": [0, [1]]}}, "_idx is [1], wanted an integer"),
    ],
)
def test_bad_choices_are_named(choices: dict[str, Any], problem: str) -> None:
    space = Space.from_json({"a": layer("x", "y"), "in": inputs(2, "p", "q", "r")})
    with pytest.raises(SpaceError) as caught:
        space.encode(choices)
    assert problem in str(caught.value)


def test_all_bad_choices_are_named_at_once() -> None:
    space = Space.from_json({"a": layer("x"), "b": layer("x"), "c": layer("x")})
    with pytest.raises(SpaceError, match=r"missing 'b'.*unknown 'z'.*'a'.*'c'"):
        space.encode({"z": 1, "a": 1, "c": {"_idx": 4}})


@pytest.mark.parametrize("tokens", [(), (0,), (0, 0, 0), (2, 0), (0, -1), (0, True), (0, 0.0), ("0", 0)])
def test_bad_tokens_are_refused(tokens: Any) -> None:
    with pytest.raises(SpaceError, match=r"token"):
        Space.from_json({"a": layer("x", "y"), "b": layer("x", "y")}).decode(tokens)


def test_the_digest_is_of_the_canonical_json() -> None:
    obj = {"b": layer("x"), "a": inputs(None, "é")}
    space = Space.from_json(obj)
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert space.unordered_digest == hashlib.sha256(text.encode()).hexdigest()
    turned = Space.from_json(dict(reversed(obj.items())))
    assert turned.digest == turned.unordered_digest == space.unordered_digest  # its keys are in alphabetical order
    assert space.digest != turned.digest
    assert Space.from_json({**obj, "a": inputs(None, "e")}).digest != space.digest


def test_sampling_reads_no_global_generator() -> None:
    space = Space.from_json(SPACES["20 x 4"])
    first = space.sample(np.random.default_rng(3))
    np.random.seed(0)  # noqa: NPY002
    assert space.sample(np.random.default_rng(3)) == first


@given(space_files, st.integers(0, 2**32))
def test_any_space_round_trips_any_architecture(obj: dict[str, Any], seed: int) -> None:
    space = Space.from_json(obj)
    tokens = space.sample(np.random.default_rng(seed))
    assert space.encode(json.loads(json.dumps(space.decode(tokens)))) == tokens


@given(space_files, json_values)
def test_no_choices_of_any_shape_give_a_traceback(obj: dict[str, Any], garbage: Any) -> None:
    space = Space.from_json(obj)
    assert isinstance(space.problems(garbage), list)
    assert isinstance(space.problems(dict.fromkeys(space.keys, garbage)), list)
    assert isinstance(space.problems({key: {"_idx": garbage, "_value": garbage} for key in space.keys}), list)
