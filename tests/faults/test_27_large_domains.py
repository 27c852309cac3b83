"""Once: a long ``choice`` took seconds, an ``input_choice`` of many inputs a minute, a YAML alias bomb longer still.

The sizes are such that what was quadratic would take minutes: the tests need no clock to fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mutators.choices.errors import ChoiceError
from mutators.mmrazor import load_mutable_cfg
from search_spaces import Space, SpaceError
from search_spaces.validate import check_space, parse
from tests.nas_tuners.nas import Nas

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.mark.parametrize("kind", [lambda i: i, lambda i: i / 7, str, lambda i: [i, {"a": i}]])
def test_a_choice_of_many_values(kind: Any) -> None:
    values = [kind(i) for i in range(20_000)]
    space = Space.from_json({"x": {"_type": "choice", "_value": values}})
    assert space.encode({"x": values[-1]}) == (19_999,)
    problems = [str(problem) for problem in check_space({"x": {"_type": "choice", "_value": [*values, values[5]]}})[-1]]
    assert len(problems) == 1 and "_value[20000]: got" in problems[0] and "wanted each value once" in problems[0]


def test_a_choice_tells_true_from_1_and_takes_no_strange_values() -> None:
    values = [1, True, "1", None, [1], [True], {"a": 1, "b": 2}, 0.5]
    domain = Space.from_json({"x": {"_type": "choice", "_value": values}}).domains["x"]
    assert [domain.token(value) for value in values] == list(range(8))
    assert [domain.token(value) for value in (1.0, (1.0,), {"b": 2, "a": 1.0})] == [0, 4, 6]
    endless: list[Any] = []
    endless.append(endless)
    for strange in (2, "x", float("nan"), {1, 2}, [object()], endless):
        assert domain.problems(strange)


@pytest.mark.parametrize("n_chosen", [[0, 10_000], [1, 9_999], 5_000, None])
def test_many_inputs_are_refused_at_once(n_chosen: Any) -> None:
    value = {"candidates": ["x"] * 10_000, "n_chosen": n_chosen}
    with pytest.raises(SpaceError, match=r"key 'in': got 10\^30[01][08] options, wanted at most 2\^62 a key"):
        Space.from_json({"in": {"_type": "input_choice", "_value": value}})


def test_the_number_of_subsets_is_exact() -> None:
    for low, high, radix in ((0, 6, 64), (0, 0, 1), (1, 3, 41), (6, 6, 1), (2, 6, 57)):
        value = {"candidates": ["x"] * 6, "n_chosen": [low, high]}
        assert Space.from_json({"in": {"_type": "input_choice", "_value": value}}).size == radix


def test_a_file_with_many_keys_twice() -> None:
    text = "{" + ", ".join(f'"k{i // 2}": 1' for i in range(200_000)) + "}"
    assert len(parse(text).repeated) == 100_000


@pytest.mark.parametrize("bomb", [BOMB, "a: &a [1, *a]", "a: &a {b: *a}"])
def test_an_alias_bomb_is_refused(bomb: str, nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(bomb)
    assert "its aliases make more than 1000000 values" in nas("check", "config.yml", cwd=tmp_path, code=1)
    with pytest.raises(ChoiceError, match="its aliases make more than 1000000 values"):
        load_mutable_cfg(tmp_path / "config.yml")


def test_ordinary_aliases_are_read(tmp_path: Path) -> None:
    (tmp_path / "cfg.yml").write_text("a: &same {chosen: [x]}\nb: *same\nc:\n  <<: *same\n")
    assert load_mutable_cfg(tmp_path / "cfg.yml") == {key: {"chosen": ["x"]} for key in "abc"}
