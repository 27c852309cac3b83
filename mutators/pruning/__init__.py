"""Prune weights to zero, gradually while the network trains on (Zhu & Gupta, 2017, arXiv:1710.01878)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.choices.errors import PruningError as PruningError
    from mutators.pruning.pruner import GMPUnstructuredPruner as GMPUnstructuredPruner
    from mutators.pruning.pruner import UnstructuredPruner as UnstructuredPruner
    from mutators.pruning.report import sparsity_report as sparsity_report
    from mutators.pruning.schedule import iterations as iterations
    from mutators.pruning.sparse.runtime import sparse_inference as sparse_inference

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "mutators.choices.errors": ("PruningError",),
        ".pruner": (
            "GMPUnstructuredPruner",
            "UnstructuredPruner",
        ),
        ".report": ("sparsity_report",),
        ".schedule": ("iterations",),
        ".sparse.runtime": ("sparse_inference",),
    },
    moved={
        "LayerSparsity": "mutators.pruning.report.LayerSparsity",
        "SparseConv1x1": "mutators.pruning.sparse.runtime.SparseConv1x1",
        "SparseRuntimeError": "mutators.pruning.sparse.runtime.SparseRuntimeError",
        "SparsityReport": "mutators.pruning.report.SparsityReport",
    },
)
