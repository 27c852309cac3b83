"""Importance from gradients: a head's against a mask's gradient by autograd, a neuron's against the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators.elastic import ElasticError, gradient_importance, sort_channels
from mutators.elastic.layers import ElasticConv2d
from tests.mutators.elastic.nets import Encoder

Batch = tuple[torch.Tensor, torch.Tensor]


def _loss(net: nn.Module, batch: Batch) -> torch.Tensor:
    return F.cross_entropy(net(batch[0]), batch[1])


def _batches(n: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(4, 6, 12, generator=generator), torch.randint(3, (4,), generator=generator)) for _ in range(n)]


def _widths(net: Encoder) -> tuple[Any, Any]:
    assert net.up.outputs is not None
    return net.attention.projected.segments[0][0], net.up.outputs.segments[0][0]


def test_a_head_matters_as_its_masks_gradient() -> None:
    net = Encoder().eval()
    heads, _ = _widths(net)
    expected = torch.zeros(4)
    for batch in _batches():
        mask = torch.ones(4, requires_grad=True)

        def masked(_: nn.Module, inputs: tuple[torch.Tensor], mask: torch.Tensor = mask) -> torch.Tensor:
            return inputs[0] * mask.repeat_interleave(3)

        hook = net.attention.out_proj.register_forward_pre_hook(masked)
        (gradient,) = torch.autograd.grad(_loss(net, batch), mask)
        hook.remove()
        expected += gradient.abs()
    got = gradient_importance(net, _batches(), _loss)[heads]
    torch.testing.assert_close(got.float(), expected, atol=1e-6, rtol=1e-5)
    assert len(set(got.tolist())) == 4


def test_a_neuron_matters_as_the_formula_says() -> None:
    net = Encoder().eval()
    _, neurons = _widths(net)
    expected = torch.zeros(20)
    for batch in _batches():
        net.zero_grad()
        _loss(net, batch).backward()
        up, down = net.up, net.down
        assert up.bias is not None
        grads = [p.grad for p in (up.weight, up.bias, down.weight)]
        assert grads[0] is not None
        assert grads[1] is not None
        assert grads[2] is not None
        expected += ((up.weight * grads[0]).sum(1) + up.bias * grads[1]).abs().detach()
        expected += (down.weight * grads[2]).sum(0).abs().detach()
    got = gradient_importance(net, _batches(), _loss)[neurons]
    torch.testing.assert_close(got.float(), expected, atol=1e-6, rtol=1e-5)


def test_batches_add_up_and_the_network_is_as_it_was() -> None:
    net = Encoder().train()
    net.norm.eval()
    net.up.set_config(channel=5)
    net.attention.set_config(heads=1)
    whole = gradient_importance(net, _batches(), _loss)
    each = [gradient_importance(net, [batch], _loss) for batch in _batches()]
    for width in _widths(net):
        torch.testing.assert_close(whole[width], sum(part[width] for part in each))
        assert whole[width].ge(0).all()
        assert len(whole[width].unique()) >= 4
    assert (net.training, net.norm.training, net.up.training) == (True, False, True)
    assert net.up.channel.value == 5  # type: ignore[union-attr]
    assert net.attention.num_heads == 1
    assert all(p.grad is None for p in net.parameters())


def test_sorting_takes_it() -> None:
    net = Encoder().eval()
    x, _ = _batches(1)[0]
    before = net(x)
    scores = gradient_importance(net, _batches(), _loss)
    result = sort_channels(net, importance=scores)
    for width in _widths(net):
        assert result.permutations[width].tolist() == scores[width].argsort(descending=True, stable=True).tolist()
    torch.testing.assert_close(net(x), before, atol=1e-5, rtol=1e-5)
    again = gradient_importance(net, _batches(), _loss)
    for width in _widths(net):
        torch.testing.assert_close(again[width], scores[width].sort(descending=True)[0], atol=1e-5, rtol=1e-4)


def test_without_batches_or_layers_it_says_so() -> None:
    with pytest.raises(ElasticError, match="no batches"):
        gradient_importance(Encoder(), [], _loss)
    with pytest.raises(ElasticError, match="nothing to compute importance of"):
        gradient_importance(nn.Sequential(ElasticConv2d(3, (2, 4), 1)), _batches(), _loss)
