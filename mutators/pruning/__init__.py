"""Prune weights to zero, gradually while the network trains on (Zhu & Gupta, 2017, arXiv:1710.01878)."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    moved={
        "LayerSparsity": "mutators.pruning.report.LayerSparsity",
        "SparseConv1x1": "mutators.pruning.sparse.runtime.SparseConv1x1",
        "SparseRuntimeError": "mutators.pruning.sparse.runtime.SparseRuntimeError",
        "SparsityReport": "mutators.pruning.report.SparsityReport",
    },
)
