"""MIT's configurations: to choices and back, checked, and applied whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from mutators import ChoiceError, RandomMutator, apply_choices, search_space_of
from mutators.elastic import ElasticError
from mutators.elastic.layers import ElasticConv2d, ElasticDepth
from mutators.elastic.mit_config import choices_to_config, config_to_choices
from search_spaces import Space
from tests.mutators.elastic.nets import configs_of, small


@pytest.mark.parametrize("name", ["ofa_mobilenet_v3", "ofa_resnet50"])
def test_configurations_become_choices_and_back(name: str) -> None:
    net = small(name)
    space = Space.from_json(search_space_of(net))
    for config in configs_of(net, 10, seed=0):
        choices = net.choices_of(config)
        assert list(choices) == list(space.keys)
        space.encode(choices)
        assert net.config_of(choices) == config == json.loads(json.dumps(net.config_of(choices)))
        apply_choices(net, choices)
        assert net.config_of() == config


def test_one_value_stands_for_all_and_what_is_missing_stays() -> None:
    net = small("ofa_mobilenet_v3")
    assert net.config_of() == {"ks": [7] * 4, "e": [6] * 4, "d": [2, 2]}
    net.set_config({"ks": [3, 5, 7, 3], "d": 1})
    net.set_config({"e": 4})
    assert net.config_of() == {"ks": [3, 5, 7, 3], "e": [4] * 4, "d": [1, 1]}
    plain = net.extract({"e": 3})
    assert plain.stage1.block0.depthwise.conv.weight.shape == (48, 1, 3, 3)  # type: ignore[union-attr]
    assert len(plain.stage1) == 1  # type: ignore[arg-type]
    assert net.config_of()["e"] == [4] * 4


def test_widths_are_indices_or_the_multipliers_themselves() -> None:
    net = small("ofa_resnet50")
    net.set_config({"w": [0, 1, 0.65, 1.0]})
    assert net.config_of()["w"] == [0, 1, 0, 2]


def test_everything_that_is_wrong_is_listed_and_nothing_is_set() -> None:
    net = small("ofa_mobilenet_v3")
    before = net.config_of()
    with pytest.raises(ElasticError) as caught:
        net.set_config({"ks": [3, 4, 5, True], "e": [3, 4], "d": 9, "x": 1})
    assert caught.value.problems == [
        "ks[1], 'stage1.block1.depthwise.conv.kernel_size': 4 is not on offer, wanted one of [3, 5, 7]",
        "ks[3], 'stage2.block1.depthwise.conv.kernel_size': True is not on offer, wanted one of [3, 5, 7]",
        "'e' has 2 values, wanted 4, or one for all",
        "d[0], 'stage1.depth': 9 is not on offer, wanted one of [1, 2]",
        "d[1], 'stage2.depth': 9 is not on offer, wanted one of [1, 2]",
        "'x' is unknown, wanted some of ks, e, d",
    ]
    assert net.config_of() == before
    with pytest.raises(ElasticError, match=r"0.7 is not on offer, wanted an index of \[0.65, 0.8, 1.0\]"):
        small("ofa_resnet50").set_config({"w": [0.7, 3, 0, 0]})


def test_arrays_are_lists_and_what_is_no_mapping_is_an_error() -> None:
    net = small("ofa_mobilenet_v3")
    net.set_config({"ks": np.array([3, 5, 7, 3]), "e": torch.tensor([3, 4, 6, 3]), "d": np.int64(1)})
    assert net.config_of() == {"ks": [3, 5, 7, 3], "e": [3, 4, 6, 3], "d": [1, 1]}
    with pytest.raises(ElasticError, match="the configuration is 3, wanted a mapping"):
        net.set_config(3)  # type: ignore[arg-type]


def test_choices_that_do_not_fit_are_listed() -> None:
    net = small("ofa_mobilenet_v3")
    choices = {**net.choices_of(), "stage1.depth": {"_idx": 5}}
    del choices["stage2.depth"]
    with pytest.raises(ElasticError, match=r"(?s)missing 'stage2.depth'.*'stage1.depth': "):
        net.config_of(choices)


def test_a_bound_mutator_has_precedence() -> None:
    net = small("ofa_mobilenet_v3")
    mutator = RandomMutator(net)
    with pytest.raises(ChoiceError, match="release"):
        net.set_config({"d": 1})
    mutator.reset()
    assert net.extract({"d": 1})(torch.randn(1, 3, 32, 32)).shape == (1, 10)


def test_any_model_whose_choices_are_called_so_has_configurations() -> None:
    blocks = ElasticDepth([ElasticConv2d(4, 4, (1, 3)) for _ in range(3)], (1, 2, 3))
    net = nn.Sequential(ElasticConv2d(3, (2, 4), (3, 5)), blocks)
    assert choices_to_config(net) == {"ks": [5, 3, 3, 3], "d": [3]}
    choices = config_to_choices(net, {"ks": [3, 1, 1, 3], "d": 2})
    assert choices["0.channel"] == {"_value": "4", "_idx": 1}
    assert choices_to_config(net, choices) == {"ks": [3, 1, 1, 3], "d": [2]}
    parts = {"channels": "channel"}
    assert choices_to_config(net, config_to_choices(net, {"channels": 2}, parts), parts) == {"channels": [2]}
