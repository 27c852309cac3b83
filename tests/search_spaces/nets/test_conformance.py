"""Test every net of the registry. A new net is tested by its line there; nothing is to be added here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import search_spaces
from mutators.costs import count_macs, count_params
from search_spaces import NetError, Space
from search_spaces.nets.registry import NETS, input_shape, references
from search_spaces.reference import Reference
from tests.search_spaces.nets.models import TOKEN_NETS, config_of, network_of, step

NAMES = search_spaces.names()
REFERENCES = [(name, reference) for name in NAMES for reference in references(name)]


@cache
def space_named(name: str) -> Space:
    with torch.device("meta"):
        return search_spaces.space_of(name, **config_of(name))


def _architecture(space: Space, which: str) -> Sequence[int]:
    if which == "random":
        return space.sample(np.random.default_rng(0))
    return [0 if which == "first" else radix - 1 for radix in space.radices]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_emits_a_valid_space(name: str) -> None:
    space = space_named(name)
    assert len(space) > 0
    assert Space.from_json(space.to_json()) == space
    assert all(
        len(set(domain.names)) == domain.radix for domain in space.domains.values() if domain.type == "layer_choice"
    )


def test_two_builds_emit_the_same(name: str) -> None:
    ours, theirs = space_named(name).to_json(), space_named.__wrapped__(name).to_json()
    assert list(ours) == list(theirs)
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.sampled(13)
@pytest.mark.parametrize("which", ["first", "last", "random"])
def test_architectures_run_forwards_and_backwards(name: str, which: str) -> None:
    """Run without numbers the last architectures of some spaces, which are too large for anything but shapes."""
    config, (channels, height, width) = config_of(name), input_shape(name)
    space = space_named(name)
    shape = (channels, min(height, 64), min(width, 64))
    with torch.device("meta" if which == "last" and name in TOKEN_NETS else "cpu"):
        assert len(step(network_of(name, _architecture(space, which), config), shape)) == 2


def test_tokens_and_choices_are_one_another(name: str) -> None:
    config, space = config_of(name), space_named(name)
    tokens = space.sample(np.random.default_rng(1))
    with torch.device("meta"):
        choices = search_spaces.choices_of(name, tokens, **config)
        assert choices == space.decode(tokens)
        assert search_spaces.tokens_of(name, {**choices, "_uid": 7}, **config) == tokens


@pytest.mark.slow
@pytest.mark.sampled(7)
@pytest.mark.parametrize(("name", "reference"), REFERENCES, ids=[f"{name}: {r.name}" for name, r in REFERENCES])
def test_costs_are_those_of_the_references(name: str, reference: Reference) -> None:
    network = network_of(name, reference.tokens, reference.config)
    macs, params = count_macs(network, input_shape(name)), count_params(network)
    assert (macs, params) == (reference.macs, reference.params)


def test_a_misspelt_argument_is_named(name: str) -> None:
    with pytest.raises(NetError, match=rf"{name} takes no 'varriant', wanted some of: "):
        search_spaces.build(name, varriant="x")


DUMMY = """
import torch
from torch import nn
from mutators import LayerChoice

INPUT_SHAPE = (3, 8, 8)


def build(num_classes: int = 10) -> nn.Module:
    layers = LayerChoice({"3x3": nn.Conv2d(3, 4, 3, padding=1), "5x5": nn.Conv2d(3, 4, 5, padding=2)}, key="conv")
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.fixture
def dummy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Add a net as a contributor would: one file, and one line in the registry."""
    (tmp_path / "dummy_net.py").write_text(DUMMY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NETS, "dummy", "dummy_net")
    yield "dummy"
    sys.modules.pop("dummy_net", None)


def test_one_file_and_one_line_make_a_net(dummy: str) -> None:
    assert dummy in search_spaces.names() and references(dummy) == ()
    test_it_emits_a_valid_space(dummy)
    test_two_builds_emit_the_same(dummy)
    for which in ("first", "last", "random"):
        test_architectures_run_forwards_and_backwards(dummy, which)
    test_tokens_and_choices_are_one_another(dummy)
    test_a_misspelt_argument_is_named(dummy)


def test_an_unknown_net_is_named_with_the_nearest() -> None:
    with pytest.raises(NetError, match="no net 'shuflenet_v2': did you mean 'shufflenet_v2'"):
        search_spaces.build("shuflenet_v2")
    with pytest.raises(NetError, match=r"there are: .*shufflenet_v2"):
        input_shape("zzz")


def test_the_registry_and_tables_cost_no_torch() -> None:
    code = (
        "import sys, search_spaces, search_spaces.cost as c; c.CostTable; search_spaces.names(); "
        "search_spaces.paddleslim.cost_table_of('ResNetSpace', (3, 32, 32)); "
        "assert not {'torch', 'nni', 'mutators'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
