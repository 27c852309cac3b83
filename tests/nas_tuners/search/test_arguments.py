"""The arguments of a search: kept as plain JSON whatever was given, or refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners import SearchTuner
from nas_tuners.runs.run import Run
from nas_tuners.search import Evolution, RandomSearch, Search, Shrinking
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.testing.driving import pickled
from search_spaces import Space, Tokens
from tests.nas_tuners.search.feasible.test_constraints import BINARY
from tests.spaces import SPACES

WIDE = Space.from_json(SPACES["20 x 4"])


class Weighted(Search):
    """Has arguments of its own, one of them required."""

    def __init__(self, weights: Any, *, offset: Any = 0, seed: int = 0, **more: Any) -> None:
        super().__init__(seed, **more)
        self.weights = weights

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return self._sample(n)

    def _learn(self, tokens: Tokens, score: float) -> None:
        """Nothing to learn."""


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
@pytest.mark.parametrize("begun", [False, True])
def test_a_search_with_required_arguments_can_be_copied(how: Any, begun: bool) -> None:
    search = Weighted([1, 2], offset=3, seed=4)
    if begun:
        search.setup(WIDE)
        search.ask(5)
    copied = how(search)
    assert copied.arguments == {"weights": [1, 2], "offset": 3, "seed": 4}
    if not begun:
        search.setup(WIDE)
        copied.setup(WIDE)
    assert [p.tokens for p in copied.ask(9)] == [p.tokens for p in search.ask(9)]
    assert copied.fresh().weights == [1, 2]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((1, "a", None, True), [1, "a", None, True]),
        (np.float64(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ({"a": (np.int64(1),)}, {"a": [1]}),
        (Path("costs.json"), str(Path.cwd() / "costs.json")),
        (BINARY, BINARY.to_json()),
        (10**400, 10**400),
    ],
)
def test_arguments_are_kept_as_json(given: Any, kept: Any) -> None:
    search = Weighted(given, score_key="acc")
    assert search.arguments == {"weights": kept, "offset": 0, "seed": 0, "score_key": "acc"}
    assert json.loads(json.dumps(search.arguments)) == search.arguments == search.fresh().arguments


@pytest.mark.parametrize("given", [sum, {1, 2}, object(), float("inf"), {1: "one"}, b"bytes", Weighted, 1j])
def test_what_is_no_json_is_refused_by_name(given: Any) -> None:
    with pytest.raises(ValueError, match=r"Weighted: offset is .*, wanted a number, a text, a list or an object"):
        Weighted(1, offset=given)
    with pytest.raises(ValueError, match=r"Weighted: weights\[1\]\['a'\] is "):
        Weighted([0, {"a": given}])


def test_a_table_and_its_limits_are_kept_as_the_journal_always_kept_them(tmp_path: Path) -> None:
    BINARY.save(tmp_path / "costs.json")
    for path in (tmp_path / "costs.json", str(tmp_path / "costs.json")):
        kept = RandomSearch(constraints={"macs": "330e6"}, cost_table=path).arguments  # type: ignore[dict-item]
        assert kept["constraints"] == {"macs": [None, 330e6]} and kept["cost_table"] == str(tmp_path / "costs.json")
    for table in (BINARY, BINARY.to_json()):
        assert RandomSearch(cost_table=table).arguments["cost_table"] == BINARY.to_json()
    phases = ({"name": "a", "open": {}, "budget": 2},)
    assert Shrinking(phases=phases).fresh().arguments["phases"] == list(phases)


def test_wrong_arguments_are_answered_with_the_right_ones() -> None:
    with pytest.raises(TypeError, match=r"Weighted: missing .*'weights'. It takes weights: .*, offset: 'Any' = 0"):
        Weighted()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="RandomSearch: got an unexpected keyword argument 'sed'"):
        RandomSearch(sed=1)  # type: ignore[call-arg]


def test_a_search_that_forgets_its_base_class_is_told_so() -> None:
    class Forgetful(Weighted):
        def __init__(self) -> None:
            self.weights = []

    with pytest.raises(TypeError, match=r"Forgetful.__init__ never calls super\(\).__init__\(seed\)"):
        Forgetful()


@pytest.mark.parametrize("given", [RandomSearch, "random", None])
def test_a_class_instead_of_an_object_is_told_so(given: Any, tmp_path: Path) -> None:
    said = (
        r"the search is the class RandomSearch, .* write RandomSearch\("
        if given is RandomSearch
        else "is derived|derived"
    )
    for use in (SearchTuner, lambda it: Run.start(it, WIDE), lambda it: Run.resume(it, tmp_path / "journal.jsonl")):
        with pytest.raises(TypeError, match=said):
            use(given)


def test_a_journal_of_before_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """The file was written before the algorithms stood in a table; what follows it is what followed then."""
    text = (Path(__file__).parent / "evolution_of_before.jsonl").read_text()
    (tmp_path / "journal.jsonl").write_text(text)
    header = json.loads(text.partition("\n")[0])["search"]
    assert header["module"] == "nas_tuners.search.evolution"
    run = Run.resume(ALGORITHMS["evolution"].search(**header["arguments"]), tmp_path / "journal.jsonl")
    assert isinstance(run.search, Evolution) and header["arguments"].items() <= run.search.arguments.items()
    asked = []
    for _ in range(4):
        for proposal in run.ask(2):
            asked.append("".join(map(str, proposal.tokens)))
            run.tell(proposal.uid, float(sum(proposal.tokens)))
    assert asked == ["21221210", "21222210", "20222210", "20121211", "21221102", "21022211", "21221011", "01222210"]
    run.close()
