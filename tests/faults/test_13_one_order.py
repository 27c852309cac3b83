"""Fault 13: one digest, one order of keys, one meaning of tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mutators import LayerChoice, get_and_apply_next_architecture, search_space_of
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run, load
from nas_tuners.search import RandomSearch
from search_spaces import Space
from search_spaces.cost import CostTable
from tests.spaces import layer

SPACE = {"b": layer("p", "q"), "a": layer("x", "y", "z"), "c": layer("m", "n")}
TURNED = dict(sorted(SPACE.items()))


class Deep(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*(LayerChoice([nn.Identity(), nn.ReLU()]) for _ in range(12)))


def test_fault_13_spaces_of_one_digest_give_tokens_one_meaning() -> None:
    space, turned = Space.from_json(SPACE), Space.from_json(TURNED)
    assert space.decode((1, 2, 0)) != turned.decode((2, 0, 1))
    assert space.digest != turned.digest
    again = Space.from_json(json.loads(json.dumps(SPACE, indent=3)))
    assert again.digest == space.digest and again.decode((1, 2, 0)) == space.decode((1, 2, 0))


def test_fault_13_a_dry_run_writes_keys_in_the_order_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(tmp_path / "space.json"))
    model = Deep()
    get_and_apply_next_architecture(model)
    with pytest.raises(SystemExit):
        model(torch.ones(1))
    written = Space.load(tmp_path / "space.json")
    assert written == Space.from_json(search_space_of(Deep()))
    assert written.keys == tuple(map(str, range(12)))


def test_fault_13_what_is_kept_by_key_does_not_ask_for_the_order(tmp_path: Path) -> None:
    costs = {key: [float(i) for i, _ in enumerate(entry["_value"])] for key, entry in SPACE.items()}
    CostTable(Space.from_json(SPACE), {"macs": 0.0}, {"macs": costs}).save(tmp_path / "costs.json")
    turned = CostTable.load(tmp_path / "costs.json").arranged(Space.from_json(TURNED))
    assert turned.cost("macs", (2, 0, 1)) == 3


def test_fault_13_journals_with_the_digest_of_before_still_open(tmp_path: Path) -> None:
    space, path = Space.from_json(SPACE), tmp_path / "journal.jsonl"
    run = Run.start(RandomSearch(), space, path=path)
    (proposal,) = run.ask()
    run.tell(proposal.uid, 1.0)
    run.close()
    path.write_text(path.read_text().replace(space.digest, space.unordered_digest))
    assert load(path)[0].search.trials[0].tokens == proposal.tokens


def test_fault_13_a_journal_of_another_order_is_not_of_this_digest(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Run.start(RandomSearch(), Space.from_json(SPACE), path=path).close()
    header = json.loads(path.read_text())
    path.write_text(json.dumps({**header, "space": dict(reversed(header["space"].items()))}) + "\n")
    with pytest.raises(JournalError, match="line 1"):
        load(path)
