"""Train a supernet once, and take any sub-network of it (once for all, Cai et al., ICLR 2020, arXiv:1908.09791)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.choices.errors import ElasticError as ElasticError
    from mutators.elastic.conversion.convert import convert as convert
    from mutators.elastic.conversion.importing import load_weights as load_weights
    from mutators.elastic.conversion.report import conversion_of as conversion_of
    from mutators.elastic.export.onnx_file import export_onnx as export_onnx
    from mutators.elastic.training.distill_config import DistillConfig as DistillConfig
    from mutators.elastic.training.importance import gradient_importance as gradient_importance
    from mutators.elastic.training.ofa import OFA as OFA
    from mutators.elastic.training.run_config import RunConfig as RunConfig
    from mutators.elastic.training.sorting import sort_channels as sort_channels
    from mutators.elastic.training.train import train as train

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".conversion.convert": ("convert",),
        ".conversion.importing": ("load_weights",),
        ".conversion.report": ("conversion_of",),
        ".export.onnx_file": ("export_onnx",),
        "mutators.choices.errors": ("ElasticError",),
        ".training.distill_config": ("DistillConfig",),
        ".training.importance": ("gradient_importance",),
        ".training.ofa": ("OFA",),
        ".training.run_config": ("RunConfig",),
        ".training.sorting": ("sort_channels",),
        ".training.train": ("train",),
    },
    moved={
        "AccuracyPredictor": "mutators.elastic.search.predictor.AccuracyPredictor",
        "Channels": "mutators.elastic.layers.Channels",
        "Conversion": "mutators.elastic.conversion.report.Conversion",
        "Convert": "mutators.elastic.conversion.paddle.Convert",
        "ElasticBatchNorm1d": "mutators.elastic.layers.ElasticBatchNorm1d",
        "ElasticBatchNorm2d": "mutators.elastic.layers.ElasticBatchNorm2d",
        "ElasticBatchNorm3d": "mutators.elastic.layers.ElasticBatchNorm3d",
        "ElasticChoice": "mutators.ValueChoice",
        "ElasticConv2d": "mutators.elastic.layers.ElasticConv2d",
        "ElasticConvTranspose2d": "mutators.elastic.layers.ElasticConvTranspose2d",
        "ElasticDepth": "mutators.elastic.layers.ElasticDepth",
        "ElasticEmbedding": "mutators.elastic.layers.ElasticEmbedding",
        "ElasticGroupNorm": "mutators.elastic.layers.ElasticGroupNorm",
        "ElasticInstanceNorm2d": "mutators.elastic.layers.ElasticInstanceNorm2d",
        "ElasticLayerNorm": "mutators.elastic.layers.ElasticLayerNorm",
        "ElasticLinear": "mutators.elastic.layers.ElasticLinear",
        "ElasticMultiheadAttention": "mutators.elastic.layers.ElasticMultiheadAttention",
        "ElasticNetwork": "mutators.elastic.mit_config.ElasticNetwork",
        "Found": "mutators.elastic.search.results.SearchResult",
        "Sorting": "mutators.elastic.training.sorting.Sorting",
        "Subnet": "mutators.elastic.search.results.ScoredSubnet",
        "Width": "mutators.elastic.layers.Width",
        "cost_table": "mutators.costs.elastic_table.cost_table",
        "supernet": "mutators.elastic.conversion.paddle.supernet",
    },
)
