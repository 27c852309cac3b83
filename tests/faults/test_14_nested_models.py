"""Once (fault 14): choices inside a candidate that was not chosen counted, had to be given, and cost something."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import search_spaces
from mutators import (
    InputChoice,
    LayerChoice,
    apply_choices,
    apply_fixed_architecture,
    extract,
    get_and_apply_next_architecture,
    load_subnet,
    save_subnet,
    search_space_of,
)
from mutators.costs import count_macs, count_params, measure_cost, measure_latency
from mutators.elastic.layers import ElasticDepth, ElasticLinear
from mutators.elastic.mit_config import choices_to_config
from nas_tuners.search import RandomSearch
from search_spaces import Space

SHAPE = (4, 6, 6)


def conv(kernel: int) -> nn.Module:
    return nn.Conv2d(4, 4, kernel, padding=kernel // 2)


class Block(nn.Module):
    """The natural one: its kernel is a choice."""

    def __init__(self, kernels: tuple[int, ...] = (1, 3, 5)) -> None:
        super().__init__()
        self.kernel = LayerChoice({str(k): conv(k) for k in kernels})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.kernel(x))


def natural(blocks: int = 3) -> nn.Module:
    return nn.Sequential(*(LayerChoice({"block": Block(), "skip": nn.Identity()}) for _ in range(blocks)))


def test_the_natural_model_has_as_many_architectures_as_networks() -> None:
    """On each of 400 proposals one in eight repeated a network."""
    model = natural()
    emitted = search_space_of(model)
    assert emitted["1.block.kernel"]["_when"] == {"1": ["block"]} and "_when" not in emitted["1"]
    search = RandomSearch()
    search.setup(Space.from_json(json.loads(json.dumps(emitted))))
    networks = {str(extract(model, proposal.choices)) for proposal in search.ask(400)}
    assert len(networks) == search.space.size == search.counts.asked == 4**3


def test_what_does_not_matter_need_not_be_given(tmp_path: Path) -> None:
    model, x = natural(), torch.randn(1, *SHAPE)
    choices = {"0": {"_idx": 1}, "1": {"_idx": 0}, "1.block.kernel": {"_idx": 2}, "2": {"_idx": 1}}
    apply_choices(model, choices)
    wanted = model(x)
    network = extract(model, choices)
    assert torch.equal(network(x), wanted) and count_params(network) == 4 * 4 * 25 + 4
    save_subnet(tmp_path, model, choices)
    assert torch.equal(load_subnet(tmp_path, natural())(x), wanted)
    arch = json.loads((tmp_path / "arch.json").read_text())
    arch["space_digest"] = Space(Space.from_json(search_space_of(model)).domains).digest  # saved before conditions
    (tmp_path / "arch.json").write_text(json.dumps(arch))
    assert torch.equal(load_subnet(tmp_path, natural())(x), wanted)
    fixed = apply_fixed_architecture(model, {"0": "skip", "1": "block", "1.block.kernel": 2, "2": "skip"})
    assert fixed.keys() == choices.keys() and torch.equal(model(x), wanted)


def test_what_matters_has_to_be_given() -> None:
    with pytest.raises(ValueError, match=r"\(2 wrong\):\n  missing '0.block.kernel'\n  missing '2'"):
        apply_choices(natural(), {"0": {"_idx": 0}, "1": {"_idx": 1}})


def test_choices_with_all_keys_of_before_are_taken_as_well() -> None:
    model = natural(1)
    apply_choices(model, {"0": {"_idx": 1}, "0.block.kernel": {"_idx": 2}, "lr": 0.1})
    with pytest.raises(ValueError, match="_idx 7 is out of range"):
        apply_choices(model, {"0": {"_idx": 1}, "0.block.kernel": {"_idx": 7}})


def test_a_standalone_trial_gets_what_matters() -> None:
    model = nn.Sequential(LayerChoice({"skip": nn.Identity(), "block": Block()}), LayerChoice({"block": Block()}))
    assert get_and_apply_next_architecture(model) == {
        "0": {"_value": "skip", "_idx": 0},
        "1": {"_value": "block", "_idx": 0},
        "1.block.kernel": {"_value": "1", "_idx": 0},
    }


class Twice(nn.Module):
    """An activation that both branches share, and one more place."""

    def __init__(self, outside: bool) -> None:
        super().__init__()
        act = LayerChoice({"relu": nn.ReLU(), "tanh": nn.Tanh()}, key="act")
        first, second = nn.Sequential(conv(1), act), nn.Sequential(conv(3), act)
        self.first = LayerChoice({"a": first, "b": nn.Identity()})
        self.second = LayerChoice({"a": second, "b": nn.Identity(), "c": nn.Sequential(Block(), second)})
        self.last = act if outside else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(x)))


def test_a_key_in_several_places_matters_where_any_of_them_runs() -> None:
    emitted = search_space_of(Twice(outside=False))
    assert emitted["act"]["_when"] == [{"first": ["a"]}, {"second": ["a", "c"]}]
    assert emitted["second.c.0.kernel"]["_when"] == {"second": ["c"]}
    assert Space.from_json(emitted).size == sum(
        (2 if first == "a" or second != "b" else 1) * (3 if second == "c" else 1)
        for first, second in itertools.product("ab", "abc")
    )
    assert "_when" not in search_space_of(Twice(outside=True))["act"]


def test_a_key_that_several_choices_share_is_one_condition() -> None:
    blocks = (LayerChoice({"block": Block(), "skip": nn.Identity()}, key="all") for _ in range(2))
    emitted = search_space_of(nn.Sequential(*blocks))
    assert [emitted[f"{i}.block.kernel"]["_when"] for i in range(2)] == [{"all": ["block"]}] * 2
    inside = LayerChoice({"x": nn.Identity(), "y": Block()}, key="all")  # only runs where "all" is 0, that is "x"
    emitted = search_space_of(LayerChoice({"x": inside, "y": nn.Identity()}, key="all"))
    assert "_when" not in emitted["x.y.kernel"]  # it never runs: nothing is claimed of it


def test_choices_each_inside_the_other_are_no_circle() -> None:
    def pair(outer: str, inner: str) -> nn.Module:
        return LayerChoice([LayerChoice([conv(1), nn.Identity()], key=inner), nn.Identity()], key=outer)

    space = Space.from_json(search_space_of(LayerChoice({"p": pair("A", "B"), "q": pair("B", "A")}, key="R")))
    assert (
        set(space.when) in ({"A"}, {"B"}) and 6 <= space.size <= 8
    )  # six networks; it may count too many, never too few


def test_of_nested_choices_the_innermost_is_named() -> None:
    deep = LayerChoice({"u": LayerChoice([conv(1), conv(3)], key="inner"), "v": nn.Identity()}, key="middle")
    emitted = search_space_of(LayerChoice({"on": deep, "off": nn.Identity()}, key="outer"))
    assert emitted["inner"]["_when"] == {"middle": ["u"]} and emitted["middle"]["_when"] == {"outer": ["on"]}
    assert Space.from_json(emitted).size == 4


def test_inputs_are_no_condition() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Block(), Block()
            self.skip = InputChoice(n_candidates=2, n_chosen=1)

        def forward(self, x: torch.Tensor) -> Any:
            return self.skip([self.first(x), self.second(x)])

    assert not any("_when" in entry for entry in search_space_of(Skips()).values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ofa_mobilenet_v3", "ofa_resnet50"])
def test_elastic_depth_has_conditions(name: str) -> None:
    space = search_spaces.space_of(name)
    if name == "ofa_mobilenet_v3":
        assert space.size == (9**2 + 9**3 + 9**4) ** 5  # as Once-for-all's paper counts them: about 2e19
    model = search_spaces.build(name)
    tokens = space.sample(np.random.default_rng(0))
    config = choices_to_config(model, space.decode(tokens))  # MIT's lists are full
    assert all(len(values) == len(choices_to_config(model)[part]) for part, values in config.items())


class Elastic(nn.Module):
    """A width inside a stage that a layer outside of it reads as well."""

    def __init__(self) -> None:
        super().__init__()
        up, read, alone = (ElasticLinear(8, (4, 8)) for _ in range(3))
        self.stage = ElasticDepth([nn.Identity(), nn.Sequential(up, alone), nn.Sequential(read)], depths=(1, 2, 3))
        self.outside = ElasticLinear(up.outputs, 8)  # type: ignore[arg-type]
        self.last = ElasticDepth([nn.Identity(), ElasticLinear(read.outputs, 8)], depths=(1, 2))  # type: ignore[arg-type]


def test_a_width_of_a_block_matters_where_the_block_does() -> None:
    emitted = search_space_of(Elastic())
    assert {key: entry["_when"] for key, entry in emitted.items() if "_when" in entry} == {
        "stage.1.1.channel": {"stage.depth": ["2", "3"]},
        "stage.2.0.channel": [{"last.depth": ["2"]}, {"stage.depth": ["3"]}],  # the last layer reads it too
    }


@st.composite
def nets(draw: st.DrawFn, depth: int = 2) -> nn.Module:
    """Nested choices of convolutions, none of which changes the shape."""

    def part(left: int) -> nn.Module:
        kind = draw(st.sampled_from(["conv", "skip", "choice", "row"] if left else ["conv", "skip"]))
        if kind == "conv":
            return conv(draw(st.sampled_from([1, 3, 5])))
        if kind == "skip":
            return nn.Identity()
        parts = [part(left - 1) for _ in range(draw(st.integers(1, 3)))]
        return LayerChoice(parts) if kind == "choice" else nn.Sequential(*parts)

    return nn.Sequential(LayerChoice([part(depth) for _ in range(2)]), part(depth))


@settings(max_examples=12, deadline=None)
@given(nets())
def test_tables_of_nested_choices_are_those_of_the_networks(model: nn.Module) -> None:
    table = measure_cost(model, SHAPE, checks=10)
    rows = table.space.every()
    assert table.about["check"]["exact"] == {"macs": True, "params": True}
    for row in rows[np.linspace(0, len(rows) - 1, 8).astype(int)].tolist():
        network = extract(model, table.space.decode(row))
        assert table.cost("macs", row) == count_macs(network, SHAPE)
        assert table.cost("params", row) == count_params(network)


def test_milliseconds_of_nested_choices_are_fitted_where_they_matter() -> None:
    table = measure_latency(natural(2), SHAPE, rounds=4, held_out=2, repeats=2)
    skips = [table.cost("latency_ms", (1, kernel, 1, 0)) for kernel in range(3)]
    assert skips[0] == skips[1] == skips[2]


def test_a_table_of_a_model_that_is_no_sum_is_refused_for_limits() -> None:
    """Once, `nas cost` said "off by up to 502 %", and `nas search` went on."""

    class Shrinks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = LayerChoice({"no": nn.Identity(), "yes": nn.Sequential(nn.MaxPool2d(2), Block())})
            self.block = Block()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(self.pool(x))

    table = measure_cost(Shrinks(), SHAPE)
    assert not table.about["check"]["exact"]["macs"] and table.about["check"]["exact"]["params"]
    with pytest.raises(ValueError, match=r"limits cannot be kept with this cost table:\n  its macs are off by up to"):
        RandomSearch(constraints={"macs": 1e4}, cost_table=table)
    RandomSearch(constraints={"params": 600}, cost_table=table).setup(table.space)


def test_ss_gen_writes_the_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNI_GEN_SEARCH_SPACE", str(tmp_path / "space.json"))
    get_and_apply_next_architecture(natural())
    written = Space.load(tmp_path / "space.json")
    assert written.size == 4**3 and written.when["2.block.kernel"] == ({"2": (0,)},)
