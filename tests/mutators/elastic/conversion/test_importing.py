"""Weights whose matrices are turned round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mutators.elastic import ElasticError, load_weights
from mutators.elastic.layers import ElasticConv2d
from mutators.elastic.search.journal import digest_of
from tests.mutators.elastic.training import shrinking


def test_matrices_in_paddles_convention() -> None:
    torch.manual_seed(0)
    ours = ElasticConv2d(4, 4, (3, 5, 7), groups=4)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    theirs = {name: t.T.contiguous() if name.endswith("_matrix") else t for name, t in ours.state_dict().items()}
    x = torch.randn(1, 4, 9, 9)
    for transposed in (True, False):
        loaded = ElasticConv2d(4, 4, (3, 5, 7), groups=4)
        load_weights(loaded, theirs, transposed_matrices=transposed)
        for layer in (ours, loaded):
            layer.set_config(kernel_size=3)
        assert torch.allclose(loaded(x), ours(x), atol=1e-6) == transposed
    filter_by_hand = ours.weight[:, :, 1:6, 1:6].reshape(4, 25) @ theirs["7to5_matrix"]
    filter_by_hand = filter_by_hand.view(4, 5, 5)[:, 1:4, 1:4].reshape(4, 9) @ theirs["5to3_matrix"]
    by_hand = F.conv2d(x, filter_by_hand.view(4, 1, 3, 3), ours.bias, padding=1, groups=4)
    torch.testing.assert_close(ours(x), by_hand)


def test_arrays_and_the_state_of_a_training() -> None:
    ofa, other = shrinking.ofa(), shrinking.ofa(seed=5)
    ofa.train_step(shrinking.batches(1)[0])
    load_weights(other, ofa.state_dict())
    assert other.step == 1 and digest_of(other) == digest_of(ofa)
    arrays = {name: t.numpy() for name, t in shrinking.ofa(seed=7).state_dict().items() if isinstance(t, torch.Tensor)}
    load_weights(ofa, arrays)
    assert ofa.step == 1 and digest_of(ofa) == digest_of(shrinking.ofa(seed=7))
    with torch.no_grad():
        ofa.model.stem.weight.zero_()  # type: ignore[union-attr, operator]
    assert arrays["model.stem.weight"].any()  # its own memory
    net = ElasticConv2d(4, 4, 3)
    with pytest.raises(ElasticError, match=r"'bias' is a list, wanted a tensor or an array of shape \(4,\)"):
        load_weights(net, {"weight": np.zeros((4, 4, 3, 3)), "bias": [0.0] * 4})


def test_weights_of_another_network() -> None:
    net = ElasticConv2d(4, 4, (3, 5))
    before = net.weight.clone()
    state = {"weight": torch.zeros(4, 4, 3, 3), "bias": torch.zeros(4), "extra": torch.zeros(1)}
    with pytest.raises(ElasticError) as caught:
        load_weights(net, state)
    assert caught.value.problems == [
        "missing '5to3_matrix'",
        "unknown 'extra'",
        "'weight' has shape (4, 4, 3, 3), wanted (4, 4, 5, 5)",
    ]
    assert torch.equal(net.weight, before)
