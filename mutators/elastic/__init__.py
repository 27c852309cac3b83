"""Train a supernet once, and take any sub-network of it (once for all, Cai et al., ICLR 2020, arXiv:1908.09791)."""

from search_spaces.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
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
