"""The quantized ResNet: costs by hand, the paper's numbers, one weight for all bits, and a real training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import search_spaces
from mutators import extract, load_subnet, save_subnet
from mutators.costs import count_bit_operations, measure_cost
from mutators.oneshot import TrainConfig, evaluate, recalibrate_bn, train_supernet
from mutators.quantization import QuantizedConv2d
from search_spaces import NetError
from search_spaces.nets.resnet_quantized import DEPTHS, PAPER_PAIRS, STRIDES_32
from tests.mutators.oneshot import nets
from tests.mutators.oneshot.test_train import Interrupted, interrupted_at
from tests.search_spaces.nets.models import space_of

TINY: dict[str, Any] = {"num_classes": 10, "in_channels": 1, "widths": (8, 8, 12, 16), "strides": (1, 1, 1, 2, 2, 1)}


def build(**config: Any) -> nn.Module:
    torch.manual_seed(0)
    return search_spaces.build("resnet_quantized", **config)


def block_macs(depth: int, widths: tuple[int, ...], size: int) -> list[int]:
    """Return the multiply-adds of each block at strides 1, 2, 2, 2; ``size`` is that of the first stage's images."""
    found, channels = [], widths[0]
    for stage, (width, blocks) in enumerate(zip(widths, DEPTHS[depth], strict=True)):
        for block in range(blocks):
            pixels, projects = (size >> stage) ** 2, block == 0 and stage > 0
            found.append(pixels * (9 * channels * width + 9 * width * width + (channels * width if projects else 0)))
            channels = width
    return found


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34])
def test_bit_operations_by_hand(depth: int) -> None:
    """Joint terms of the two bits of each block, to the unit; the stem and the head count nothing."""
    widths = (6, 10, 12, 16)
    with torch.device("meta"):
        model = build(depth=depth, num_classes=5, widths=widths, strides=STRIDES_32)
    table, macs = measure_cost(model, (3, 16, 16), ["bit_operations"], checks=0), block_macs(depth, widths, 16)
    assert table.space.keys[:2] == ("layer1.0.weight_bits", "layer1.0.activation_bits")
    assert len(table.space) == 2 * len(macs) == len(table.joint["bit_operations"]) * 2
    assert table.space.domains["layer4.1.activation_bits"].to_json() == ["1", "2", "3", "4"]
    for tokens in table.space.sample_tokens(np.random.default_rng(depth), 50).tolist():
        pairs = zip(tokens[::2], tokens[1::2], strict=True)
        wanted = sum((w + 1) * (a + 1) * cost for (w, a), cost in zip(pairs, macs, strict=True))
        assert table.cost("bit_operations", tokens) == wanted
    assert count_bit_operations(extract(model, table.space.decode(tokens)), (3, 16, 16)) == wanted


def test_uniform_bits_cost_what_the_paper_says() -> None:
    """Its table, in units of 2^30: ResNet-18 6.32G, 14.21G and 25.27G at two, three and four bits, ResNet-34 52.83G."""
    small, large = (sum(block_macs(depth, (64, 128, 256, 512), 56)) / 2**30 for depth in (18, 34))
    assert [round(small * bits**2, 2) for bits in (2, 3, 4)] == [6.32, 14.21, 25.27]
    assert round(large * 16, 2) == 52.83


def test_pairs_are_one_key_a_block_and_share_the_weights() -> None:
    model = build(pairs=PAPER_PAIRS, **TINY)
    space = space_of(model)
    assert space.keys[:2] == ("layer1.0.bits", "layer1.1.bits") and space.size == 6**8
    assert space.domains["layer1.0.bits"].to_json() == ["w1a2", "w2a2", "w1a4", "w2a4", "w3a4", "w4a4"]
    block: Any = model.get_submodule("layer2.0")
    for conv in (block.conv1, block.conv2, block.shortcut.conv):
        assert len({id(candidate.weight) for candidate in conv}) == 1
    network = extract(model, space.decode((2, 4) * 4))
    bits = [module.bits for module in network.modules() if isinstance(module, QuantizedConv2d)]
    assert bits[:4] == [(1, 4), (1, 4), (3, 4), (3, 4)]
    assert count_bit_operations(network, (1, 8, 8)) == sum(
        cost * (4 if i % 2 == 0 else 12) for i, cost in enumerate(_tiny_macs())
    )


def _tiny_macs() -> list[int]:
    """Return the multiply-adds of the blocks of :data:`TINY` at 8 x 8, whose last stage has stride 1."""
    first, last = block_macs(18, TINY["widths"], 8), [4 * cost for cost in block_macs(18, TINY["widths"], 8)[-2:]]
    return [*first[:-2], *last]


def test_arguments_that_do_not_fit_are_all_named() -> None:
    with pytest.raises(NetError) as caught:
        build(depth=50, widths=(8, 8), strides=(1, 3), bits=(1, 9), num_classes=0)
    assert len(caught.value.problems) == 5
    for pairs in ([], [(1, 2), (1, 2)], [(1, 2, 3)], [(0, 1)]):
        with pytest.raises(NetError, match="wanted distinct pairs of numbers from 1 to 8"):
            build(pairs=pairs)


@pytest.fixture(scope="module")
def digits() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of 64 of scikit-learn's digits, (N, 1, 8, 8) between 0 and 1."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
    return list(zip(images.split(64), labels.split(64), strict=True))


@pytest.mark.slow
def test_a_training_improves_and_what_is_exported_scores_the_same(digits: Any, tmp_path: Path) -> None:
    model, train, valid = build(**TINY), digits[:20], digits[20:]
    space = space_of(model)
    choices = space.decode((1, 2) * 8)
    before = evaluate(model, choices, valid, train, batches=4)["default"]
    train_supernet(model, train, TrainConfig(epochs=3, lr=0.2), progress=False)
    after = evaluate(model, choices, valid, train, batches=4)["default"]
    assert before < 0.3 and after > 0.4
    save_subnet(tmp_path, model, choices, factory="resnet_quantized", factory_args=TINY)
    network = load_subnet(tmp_path)
    recalibrate_bn(network, train, 4)
    network.eval()
    hits = torch.cat([network(images).argmax(1) == labels for images, labels in valid])
    assert hits.double().mean().item() == pytest.approx(after, abs=1e-5)
    layers = [module for module in network.modules() if isinstance(module, QuantizedConv2d)]
    assert len(layers) == 19 and all(len(layer.weight.unique()) <= 4 for layer in layers)


@pytest.mark.slow
def test_killed_and_resumed_bit_for_bit(digits: Any, tmp_path: Path) -> None:
    def run(name: str) -> tuple[nn.Module, list[float]]:
        model, config = build(**TINY), TrainConfig(epochs=2, lr=0.1, checkpoint_every=1)
        return model, train_supernet(model, digits[:3], config, checkpoint=tmp_path / name, progress=False)

    whole, losses = run("whole.pt")
    with pytest.raises(Interrupted), interrupted_at(4):
        run("part.pt")
    model, again = run("part.pt")
    assert again == losses and nets.same(model.state_dict(), whole.state_dict())
