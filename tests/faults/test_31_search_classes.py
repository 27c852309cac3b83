"""Fault 31: a user's own search class is copied, pickled and resumed, or refused with the reason."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nas_tuners import SearchTuner
from nas_tuners.runs.journal import read
from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch, Search
from search_spaces import Space, Tokens
from tests.spaces import SPACES

SPACE = Space.from_json(SPACES["20 x 4"])


class Own(Search):
    """With an argument that has no default."""

    def __init__(self, width: Any, seed: int = 0) -> None:
        super().__init__(seed)
        self.width = width

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return self._sample(n)

    def _learn(self, tokens: Tokens, score: float) -> None: ...


class Rootless(Own):
    """Does not call the constructor that it should."""

    def __init__(self, width: int = 3) -> None:
        self.width = width


def test_a_required_argument_is_copied_pickled_and_resumed(tmp_path: Path) -> None:
    run = Run.start(Own(4, seed=2), SPACE, path=tmp_path / "journal.jsonl")
    asked = run.ask(3)
    for twin in (copy.copy(run.search), copy.deepcopy(run.search), pickle.loads(pickle.dumps(run.search))):  # noqa: S301
        assert twin.width == 4
        assert twin.arguments == run.search.arguments
    run.close()
    header = read(tmp_path / "journal.jsonl")[0][0]
    again = Run.resume(Own(**header["search"]["arguments"]), tmp_path / "journal.jsonl")
    assert again.search.pending == asked


@pytest.mark.parametrize("value", [object(), lambda: 1, {1: 2}, {"a": {3}}, float("nan"), b"bytes", RandomSearch])
def test_an_argument_that_is_no_json_is_refused_where_it_is_given(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Own: width.* wanted a number, a text, a list or an object"):
        Own(value)


def test_a_search_that_leaves_out_its_base_says_so() -> None:
    with pytest.raises(TypeError, match=r"Rootless.__init__ never calls super\(\).__init__\(seed\): let it begin"):
        Rootless()


@pytest.mark.parametrize("given", [Own, RandomSearch, "random", None, 3, lambda: RandomSearch()])
def test_what_is_no_search_is_refused(given: Any, tmp_path: Path) -> None:
    for call in (
        lambda: Run.start(given, SPACE, path=tmp_path / "journal.jsonl"),
        lambda: Run.resume(given, tmp_path / "journal.jsonl"),
        lambda: SearchTuner(given),
    ):
        with pytest.raises(TypeError, match=r"wanted an object"):
            call()
    assert not list(tmp_path.iterdir())
