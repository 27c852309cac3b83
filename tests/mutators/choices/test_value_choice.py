"""The choice of a number, by itself; within elastic layers it is tested with these."""

from __future__ import annotations

import pytest
from torch import nn

from mutators import ChoiceError, ValueChoice, apply_choices, extract, search_space_of
from mutators.elastic import ElasticError


@pytest.mark.parametrize("values", [(), (3, 3), (-1, 2), ("a",), (True,), (None,)])
def test_what_cannot_be_offered_is_refused(values: tuple) -> None:
    for kind in (ChoiceError, ElasticError):
        with pytest.raises(kind, match="wanted at least one, distinct numbers"):
            ValueChoice(values)


def test_it_is_a_choice_like_the_others() -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    model[0].add_module("width", ValueChoice((2, 8, 4)))
    assert search_space_of(model) == {"0.width": {"_type": "layer_choice", "_value": ["2", "8", "4"]}}
    assert model[0].width.value == 8
    choices = {"0.width": {"_value": "4", "_idx": 2}}
    network = extract(model, choices)
    assert network[0].width.value == 4 and model[0].width.chosen == (1,)
    apply_choices(model, choices)
    assert model[0].width.value == 4 and model[0].width.chosen == model[0].width.applied_indices == (2,)
    with pytest.raises(ElasticError, match=r"'0.width': 5 is not on offer, wanted one of \[2, 8, 4\]"):
        model[0].width.set(5)
