"""Put choices into a PyTorch model, get its search space, apply what a tuner chose, and extract the plain network.

Loads lazily: ``import mutators`` costs neither torch nor nni; a name costs what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutators.base import BaseMutator, Mutator, RandomMutator
    from mutators.darts import DartsMutator
    from mutators.errors import ChoiceError
    from mutators.fixed import apply_choices, apply_fixed_architecture, extract, search_space_of
    from mutators.mutable_cfg import load_mutable_cfg, save_mutable_cfg
    from mutators.mutables import InputChoice, LayerChoice, MutableScope
    from mutators.oneshot_mutator import OneShotMutator
    from mutators.placeholder import Placeholder, convert_placeholders
    from mutators.shared import SharedCheckpointError, shared_checkpoint
    from mutators.subnet import SubnetError, load_subnet, save_subnet
    from mutators.targets import DifferentiableEdge, DifferentiableOP, OneShotOP
    from mutators.trial import get_and_apply_next_architecture, get_next_architecture, report_final, report_intermediate

__all__ = [
    "BaseMutator",
    "ChoiceError",
    "DartsMutator",
    "DifferentiableEdge",
    "DifferentiableOP",
    "InputChoice",
    "LayerChoice",
    "MutableScope",
    "Mutator",
    "OneShotMutator",
    "OneShotOP",
    "Placeholder",
    "RandomMutator",
    "SharedCheckpointError",
    "SubnetError",
    "apply_choices",
    "apply_fixed_architecture",
    "convert_placeholders",
    "extract",
    "get_and_apply_next_architecture",
    "get_next_architecture",
    "load_mutable_cfg",
    "load_subnet",
    "report_final",
    "report_intermediate",
    "save_mutable_cfg",
    "save_subnet",
    "search_space_of",
    "shared_checkpoint",
]

_HOME = {
    "BaseMutator": "base",
    "ChoiceError": "errors",
    "DartsMutator": "darts",
    "DifferentiableEdge": "targets",
    "DifferentiableOP": "targets",
    "InputChoice": "mutables",
    "LayerChoice": "mutables",
    "MutableScope": "mutables",
    "Mutator": "base",
    "OneShotMutator": "oneshot_mutator",
    "OneShotOP": "targets",
    "Placeholder": "placeholder",
    "RandomMutator": "base",
    "SharedCheckpointError": "shared",
    "SubnetError": "subnet",
    "apply_choices": "fixed",
    "apply_fixed_architecture": "fixed",
    "convert_placeholders": "placeholder",
    "extract": "fixed",
    "get_and_apply_next_architecture": "trial",
    "get_next_architecture": "trial",
    "load_mutable_cfg": "mutable_cfg",
    "load_subnet": "subnet",
    "report_final": "trial",
    "report_intermediate": "trial",
    "save_mutable_cfg": "mutable_cfg",
    "save_subnet": "subnet",
    "search_space_of": "fixed",
    "shared_checkpoint": "shared",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
