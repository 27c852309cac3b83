"""Train a supernet once, and take any sub-network of it (once for all, Cai et al., ICLR 2020, arXiv:1908.09791)."""

from search_spaces.lazy import lazy_names

_LAYERS = """
    Channels ElasticBatchNorm1d ElasticBatchNorm2d ElasticBatchNorm3d ElasticConv2d ElasticConvTranspose2d ElasticDepth
    ElasticEmbedding ElasticGroupNorm ElasticInstanceNorm2d ElasticLayerNorm ElasticLinear ElasticMultiheadAttention
    Width
"""
__getattr__, __dir__ = lazy_names(
    __name__,
    moved={
        **{name: f"mutators.elastic.layers.{name}" for name in _LAYERS.split()},
        "AccuracyPredictor": "mutators.elastic.search.predictor.AccuracyPredictor",
        "Conversion": "mutators.elastic.conversion.report.Conversion",
        "Convert": "mutators.elastic.conversion.paddle.Convert",
        "ElasticChoice": "mutators.ValueChoice",
        "ElasticNetwork": "mutators.elastic.mit_config.ElasticNetwork",
        "Found": "mutators.elastic.search.results.SearchResult",
        "Sorting": "mutators.elastic.training.sorting.Sorting",
        "Subnet": "mutators.elastic.search.results.ScoredSubnet",
        "cost_table": "mutators.costs.elastic_table.cost_table",
        "supernet": "mutators.elastic.conversion.paddle.supernet",
    },
)
