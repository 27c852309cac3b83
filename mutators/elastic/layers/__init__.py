"""Layers that run in part: elastic kernels, widths, heads and depths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.elastic.layers.attention import ElasticMultiheadAttention as ElasticMultiheadAttention
    from mutators.elastic.layers.batchnorm import ElasticBatchNorm1d as ElasticBatchNorm1d
    from mutators.elastic.layers.batchnorm import ElasticBatchNorm2d as ElasticBatchNorm2d
    from mutators.elastic.layers.batchnorm import ElasticBatchNorm3d as ElasticBatchNorm3d
    from mutators.elastic.layers.conv import ElasticConv2d as ElasticConv2d
    from mutators.elastic.layers.conv import ElasticConvTranspose2d as ElasticConvTranspose2d
    from mutators.elastic.layers.depth import ElasticDepth as ElasticDepth
    from mutators.elastic.layers.embedding import ElasticEmbedding as ElasticEmbedding
    from mutators.elastic.layers.linear import ElasticLinear as ElasticLinear
    from mutators.elastic.layers.norm import ElasticGroupNorm as ElasticGroupNorm
    from mutators.elastic.layers.norm import ElasticInstanceNorm2d as ElasticInstanceNorm2d
    from mutators.elastic.layers.norm import ElasticLayerNorm as ElasticLayerNorm
    from mutators.elastic.layers.width import Channels as Channels
    from mutators.elastic.layers.width import Width as Width

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".attention": ("ElasticMultiheadAttention",),
        ".batchnorm": (
            "ElasticBatchNorm1d",
            "ElasticBatchNorm2d",
            "ElasticBatchNorm3d",
        ),
        ".conv": (
            "ElasticConv2d",
            "ElasticConvTranspose2d",
        ),
        ".depth": ("ElasticDepth",),
        ".embedding": ("ElasticEmbedding",),
        ".linear": ("ElasticLinear",),
        ".norm": (
            "ElasticGroupNorm",
            "ElasticInstanceNorm2d",
            "ElasticLayerNorm",
        ),
        ".width": (
            "Channels",
            "Width",
        ),
    },
)
