"""Test that everything that is wrong with a space file is said at once, with its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Space, SpaceError
from tests.spaces import json_values, layer, space_files


def problems_of(obj: Any) -> str:
    with pytest.raises(SpaceError) as caught:
        Space.from_json(obj)
    return str(caught.value)


def entry(kind: str, value: Any) -> dict[str, Any]:
    return {"conv": {"_type": kind, "_value": value}}


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        ([], "got [], wanted an object"),
        (None, "got None, wanted an object"),
        ({}, "no key at all"),
        ({"": layer("x")}, "key ''"),
        ({"_seed": layer("x")}, "key '_seed': got a key that begins with _"),
        ({"conv": ["3x3"]}, "key 'conv': got ['3x3'], wanted an object"),
        ({"conv": {"_value": ["3x3"]}}, "key 'conv'._type: got None, wanted one of layer_choice"),
        ({"conv": {"_type": "layer_choice"}}, "key 'conv': got no _value, wanted a list of the candidates' names"),
        ({"conv": {**layer("x"), "_weight": 1}}, "key 'conv'._weight: got an unknown field"),
        (entry("layer_choise", ["x"]), "._type: got 'layer_choise', wanted one of layer_choice, input_choice"),
        (entry("normal", [0, 1]), "._type: got 'normal', wanted uniform over the range that matters"),
        (entry("qlognormal", [0, 1, 1]), "wanted qloguniform over the range that matters"),
        (entry("uniform", [1, 0]), "[low, high], two numbers with low <= high"),
        (entry("uniform", [0, 1, 1]), "[low, high], two numbers"),
        (entry("loguniform", [0, 1]), "two numbers with 0 < low <= high"),
        (entry("qloguniform", [1, 2, 0]), "a step q > 0 that is not too fine"),
        (entry("qloguniform", [1, 2, 1e-300]), "not too fine"),
        ({"lr": {**entry("uniform", [0, 1])["conv"], "_levels": 1}}, "key 'lr'._levels: got 1, wanted the number of"),
        ({"lr": {**entry("quniform", [0, 1, 1])["conv"], "_levels": 2.0}}, "from 2 to 4096"),
        ({"lr": {**entry("randint", [0, 1])["conv"], "_levels": 2}}, "only _type, _value, _when"),
        (entry("mutable_layer", {}), "wanted layer_choice and input_choice, one key each"),
        ({"conv": {"_type": ["layer_choice"], "_value": []}}, "._type: got ['layer_choice']"),
        (entry("layer_choice", []), "._value: got [], wanted a list of at least one"),
        (entry("layer_choice", "abc"), "._value: got 'abc'"),
        (entry("layer_choice", {"a": 1}), "._value: got {'a': 1}"),
        (entry("layer_choice", ["x", 3]), "._value[1]: got 3, wanted a name in quotes"),
        (entry("input_choice", ["x"]), "._value: got ['x'], wanted {\"candidates\""),
        (entry("input_choice", {"candidates": ["x"]}), "got no n_chosen"),
        (entry("input_choice", {"n_chosen": 1}), "got no candidates"),
        (entry("input_choice", {"candidates": [], "n_chosen": 0}), "._value.candidates: got []"),
        (entry("input_choice", {"candidates": ["x"], "n_chosen": 2}), ".n_chosen: got 2, wanted null (any number), or"),
        (entry("input_choice", {"candidates": ["x"], "n_chosen": -1}), ".n_chosen: got -1"),
        (entry("input_choice", {"candidates": ["x"], "n_chosen": True}), ".n_chosen: got True"),
        (entry("input_choice", {"candidates": ["x"], "n_chosen": 1.0}), ".n_chosen: got 1.0"),
        (entry("input_choice", {"candidates": ["x", "y"], "n_chosen": [2, 1]}), ".n_chosen: got [2, 1]"),
        (entry("input_choice", {"candidates": ["x"], "n_chosen": [0, 1, 1]}), ".n_chosen: got [0, 1, 1]"),
        (entry("input_choice", {"candidates": ["x"], "n_chosen": 1, "k": 2}), "._value.k: got an unknown field"),
        (entry("input_choice", {"candidates": ["x"] * 70, "n_chosen": None}), "at most 2^62 a key"),
        (entry("choice", []), "wanted a list of at least one value"),
        (entry("choice", [1, 2, 1]), "._value[2]: got 1 again, wanted each value once"),
        (entry("choice", [{"_name": "a"}, 1]), "a nested space (_name)"),
        (entry("choice", [{"_name": "a", "_b": 1}]), "key '_b': got a key that begins with _"),
        (entry("choice", [{"_name": "a", "b": 1}]), "/a/b': got 1, wanted an object"),
        (entry("choice", [{"_name": "a"}, {"_name": "a"}]), "got {'_name': 'a'} again"),
        (entry("choice", [float("nan")]), "without NaN or infinity"),
        (entry("randint", [3, 3]), "high itself is not drawn"),
        (entry("randint", [1.5, 3]), "two integers"),
        (entry("quniform", [0, 1]), "[low, high, q]"),
        (entry("quniform", [0, 1, 0]), "a step q > 0"),
        (entry("quniform", [0, float("inf"), 1]), "[low, high, q]"),
        (entry("quniform", [0, 1, 1e-300]), "not too fine"),
    ],
)
def test_each_mistake_is_named_with_its_place(obj: Any, said: str) -> None:
    assert said in problems_of(obj)


def test_all_mistakes_are_named_at_once() -> None:
    text = problems_of({"_a": 1, "b": layer(), "c": entry("normal", [])["conv"], "d": layer("fine")})
    assert "(3 wrong)" in text
    assert [line.split(":")[0] for line in text.splitlines()[1:]] == [
        "  key '_a'",
        "  key 'b'._value",
        "  key 'c'._type",
    ]


def load(tmp_path: Path, text: str | bytes) -> Space:
    path = tmp_path / "space.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Space.load(path)


def test_json5_is_read(tmp_path: Path) -> None:
    space = load(tmp_path, "// the stem\n{conv: {_type: 'layer_choice', _value: ['3x3', '5x5',],},}")
    assert space.radices == (2,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither JSON nor JSON5"),
        ("{", "neither JSON nor JSON5"),
        ('{"a": }', "line 1"),
        ("hello", "neither JSON nor JSON5"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        ("[" * 100_000, "nested too deeply"),
        (
            '{"a": {"_type": "layer_choice", "_value": ["x"]}, "a": {"_type": "layer_choice", "_value": ["y"]}}',
            "the key twice",
        ),
        ('{"a": {"_type": "layer_choice", "_type": "choice", "_value": ["x"]}}', "key 'a'._type: got the field twice"),
        ('{"a": {"_type": "choice", "_value": [NaN]}}', "without NaN"),
        ('{"a": {"_type": "choice", "_value": [' + "9" * 5000 + "]}}", "space.json"),
    ],
)
def test_a_bad_file_is_named_and_explained(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "space.json" in str(caught.value)


def test_a_missing_file_and_a_folder_are_explained(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"cannot read the search space .*nope\.json: No such file"):
        Space.load(tmp_path / "nope.json")
    with pytest.raises(SpaceError, match="Is a directory"):
        Space.load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "space.json").touch(mode=0o000)
    with pytest.raises(SpaceError, match="Permission denied"):
        Space.load(tmp_path / "space.json")


def no_traceback(obj: Any) -> None:
    try:
        space = Space.from_json(obj)
    except SpaceError as error:
        assert error.problems
    else:
        assert Space.from_json(space.to_json()) == space


KINDS = ["layer_choice", "input_choice", "choice", "randint", "quniform", "uniform", "loguniform", "qloguniform"]


@given(json_values)
def test_no_object_of_any_shape_gives_a_traceback(obj: Any) -> None:
    no_traceback(obj)


@given(st.sampled_from(KINDS), json_values)
def test_no_value_of_any_shape_gives_a_traceback(kind: str, value: Any) -> None:
    no_traceback(entry(kind, value))
    no_traceback(entry("input_choice", {"candidates": value, "n_chosen": 1}))
    no_traceback(entry("input_choice", {"candidates": ["a", "b"], "n_chosen": value}))


@given(space_files, st.data())
def test_one_wrong_entry_in_a_good_space_is_the_one_that_is_named(obj: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(obj)))
    text = problems_of({**obj, key: {"_type": "layer_choice", "_value": []}})
    assert "(1 wrong)" in text
    assert repr(key)[:20] in text


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_of_any_content_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(text)
    with pytest.raises(SpaceError):
        Space.load(path)


def test_a_value_that_cannot_be_printed_is_named_all_the_same() -> None:
    with pytest.raises(SpaceError, match="got an int without a repr"):
        Space.from_json({"a": {"_type": "layer_choice", "_value": [10**5000]}})
