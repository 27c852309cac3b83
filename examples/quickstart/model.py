"""A small network with four decisions in it: 2 x 4 x 4 x 7 = 224 architectures."""

from __future__ import annotations

from torch import Tensor, nn

from mutators import InputChoice, LayerChoice


def convolution(c_in: int, c_out: int, kernel: int, groups: int = 1) -> nn.Sequential:
    """(N, c_in, H, W) -> (N, c_out, H, W)"""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


def candidates(channels: int) -> dict[str, nn.Module]:
    return {
        "conv3x3": convolution(channels, channels, 3),
        "conv5x5": convolution(channels, channels, 5),
        "separable5x5": nn.Sequential(
            convolution(channels, channels, 5, groups=channels), convolution(channels, channels, 1)
        ),
        "pool3x3": nn.MaxPool2d(3, stride=1, padding=1),
    }


class Net(nn.Module):
    """(N, 1, H, W) -> logits (N, 10)"""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = LayerChoice({"conv3x3": convolution(1, channels, 3), "conv5x5": convolution(1, channels, 5)})
        self.block1 = LayerChoice(candidates(channels))
        self.block2 = LayerChoice(candidates(channels))
        self.merge = InputChoice(choose_from=["stem", "block1", "block2"], n_chosen=(1, 3))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(channels * 16, 10))

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        if stem.shape[-1] > 16:
            stem = nn.functional.max_pool2d(stem, 2)
        block1 = self.block1(stem)
        block2 = self.block2(block1)
        return self.head(self.merge([stem, block1, block2]))


def build(channels: int = 16) -> Net:
    """The model with its choices; ``load_subnet`` calls this."""
    return Net(channels)
