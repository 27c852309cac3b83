"""What holds for every net of the registry. A new net is tested by its line there; nothing is to be added here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from torch import nn

import search_spaces
from mutators import extract, search_space_of
from search_spaces import NetError, Reference, Space
from search_spaces.cost import count_macs, count_params
from tests.search_spaces.nets import space_of, step

NAMES = search_spaces.names()
REFERENCES = [(name, reference) for name in NAMES for reference in search_spaces.references(name)]


@cache
def built(name: str, config: tuple[tuple[str, object], ...] = ()) -> nn.Module:
    return search_spaces.build(name, **dict(config))


def _architecture(space: Space, which: str) -> Sequence[int]:
    if which == "random":
        return space.sample(np.random.default_rng(0))
    return [0 if which == "first" else radix - 1 for radix in space.radices]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_builds_and_emits_a_valid_space(name: str) -> None:
    space = space_of(built(name))
    assert len(space) > 0
    assert Space.from_json(space.to_json()) == space


def test_two_builds_emit_the_same(name: str) -> None:
    ours, theirs = search_space_of(built(name)), search_space_of(search_spaces.build(name))
    assert list(ours) == list(theirs)
    assert ours == theirs


@pytest.mark.parametrize("which", ["first", "last", "random"])
def test_architectures_run_forwards_and_backwards(name: str, which: str) -> None:
    model, (channels, height, width) = built(name), search_spaces.input_shape(name)
    space = space_of(model)
    network = extract(model, space.decode(_architecture(space, which)))
    output = step(network, (channels, min(height, 64), min(width, 64)))
    assert len(output) == 2


@pytest.mark.parametrize(("name", "reference"), REFERENCES, ids=[r.name for _, r in REFERENCES])
def test_costs_are_the_published_ones(name: str, reference: Reference) -> None:
    model = built(name, tuple(reference.config.items()))
    network = extract(model, space_of(model).decode(reference.tokens))
    assert count_macs(network, search_spaces.input_shape(name)) == reference.macs
    assert count_params(network) == reference.params


def test_a_misspelt_argument_is_named(name: str) -> None:
    with pytest.raises(NetError, match=rf"{name} takes no 'varriant', wanted some of: "):
        search_spaces.build(name, varriant="x")


def test_an_unknown_net_is_named_with_the_nearest() -> None:
    with pytest.raises(NetError, match="no net 'shuflenet_v2': did you mean 'shufflenet_v2'"):
        search_spaces.build("shuflenet_v2")
    with pytest.raises(NetError, match=r"there are: .*shufflenet_v2"):
        search_spaces.input_shape("zzz")


def test_the_registry_and_tables_cost_no_torch() -> None:
    code = (
        "import sys, search_spaces, search_spaces.cost as c; c.CostTable; search_spaces.names(); "
        "assert not {'torch', 'nni', 'mutators'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
