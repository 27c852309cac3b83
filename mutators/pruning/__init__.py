"""Unstructured pruning: weights become zero, little by little, while the network trains on (Zhu & Gupta, 2017).

Loads lazily, as its parent does. Three lines in a training loop::

    pruner = GMPUnstructuredPruner(model, ratio=0.75, configs={**iterations(len(loader)), "pruning_steps": 100})
    ...
        optimizer.step()
        pruner.step()
    torch.save(model.state_dict(), path)  # the keys of the dense model, the zeros in place
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutators.pruning.errors import PruningError
    from mutators.pruning.pruner import GMPUnstructuredPruner, UnstructuredPruner
    from mutators.pruning.report import LayerSparsity, SparsityReport, sparsity_report
    from mutators.pruning.runtime import SparseConv1x1, SparseRuntimeError, sparse_inference
    from mutators.pruning.schedule import iterations

__all__ = [
    "GMPUnstructuredPruner",
    "LayerSparsity",
    "PruningError",
    "SparseConv1x1",
    "SparseRuntimeError",
    "SparsityReport",
    "UnstructuredPruner",
    "iterations",
    "sparse_inference",
    "sparsity_report",
]

_HOME = {
    "GMPUnstructuredPruner": "pruner",
    "LayerSparsity": "report",
    "PruningError": "errors",
    "SparseConv1x1": "runtime",
    "SparseRuntimeError": "runtime",
    "SparsityReport": "report",
    "UnstructuredPruner": "pruner",
    "iterations": "schedule",
    "sparse_inference": "runtime",
    "sparsity_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
