"""A chain of five choices that trains in seconds, whose networks differ widely: the space of our own table of truth.

7^5 = 16,807 architectures for small grey images. ``tests/benchmarks/nas_bench_fashion`` trains some of them on real
images, so that what a supernet or a search says can be compared with what is. No paper: the operations are those of
cell-based spaces (Zoph et al., CVPR 2018, arXiv:1707.07012), without their cells. Nothing is bypassed and the stem sees
2 x 2 pixels, so that what is chosen decides how far a network sees and how much it can carry.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mutators import LayerChoice
from search_spaces.nets.layers.blocks import check_build, conv_bn, depthwise_bn
from search_spaces.reference import Reference

OPTIONS = ("skip", "max_pool", "1x1", "separable", "bottleneck", "3x3", "5x5")
"""Every place's candidates; a bottleneck is an eighth as wide in its middle."""

INPUT_SHAPE = (1, 14, 14)
WIDTHS = (16, 32)
"""Channels of the two places before, and of the three after, the image is halved for the last time."""


def build(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Return the supernet: (N, in_channels, H, W), H and W even, to (N, num_classes) logits.

    Raises NetError: arguments do not fit.
    """
    check_build("nas_bench_fashion", {"num_classes": num_classes, "in_channels": in_channels})
    first, last = WIDTHS
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(nn.PixelUnshuffle(2), *conv_bn(4 * in_channels, first))
    layers |= {f"place{i}": LayerChoice({name: _operation(name, first) for name in OPTIONS}) for i in (0, 1)}
    layers["halve"] = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), *conv_bn(first, last))
    layers |= {f"place{i}": LayerChoice({name: _operation(name, last) for name in OPTIONS}) for i in (2, 3, 4)}
    layers["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes))
    return nn.Sequential(layers)


def _operation(name: str, channels: int) -> nn.Module:
    """Return one of :data:`OPTIONS`: (N, channels, H, W) to the same shape."""
    middle = channels // 8
    match name:
        case "skip":
            return nn.Identity()
        case "max_pool":
            return nn.MaxPool2d(3, 1, 1)
        case "separable":
            layers = [*depthwise_bn(channels, 3), *conv_bn(channels, channels)]
        case "bottleneck":
            layers = [*conv_bn(channels, middle), *conv_bn(middle, middle, 3), *conv_bn(middle, channels)]
        case _:
            layers = conv_bn(channels, channels, int(name[0]))
    return nn.Sequential(*layers)


def _reference(name: str) -> Reference:
    """Return the costs of the network that has one operation everywhere; a batch norm has two parameters a channel."""
    macs, params = 49 * 4 * 16 + 16 * 16 * 32 + 32 * 10, (4 * 16 + 32) + (16 * 32 + 64) + (32 * 10 + 10)
    for width, pixels, places in ((16, 49, 2), (32, 16, 3)):
        middle = width // 8
        weights, norms = {
            "skip": (0, 0),
            "max_pool": (0, 0),
            "1x1": (width**2, width),
            "separable": (9 * width + width**2, 2 * width),
            "bottleneck": (2 * width * middle + 9 * middle**2, 2 * middle + width),
            "3x3": (9 * width**2, width),
            "5x5": (25 * width**2, width),
        }[name]
        macs += places * pixels * weights
        params += places * (weights + 2 * norms)
    return Reference(f"all {name}", {}, (OPTIONS.index(name),) * 5, macs, params)


REFERENCES = tuple(_reference(name) for name in OPTIONS)
"""Worked out by hand from the widths."""
