"""Put choices into a PyTorch model, emit its search space, apply what a tuner chose, extract the plain network.

Loads lazily: ``import mutators`` costs neither torch nor nni.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.base import BaseMutator as BaseMutator
    from mutators.base import Mutator as Mutator
    from mutators.base import RandomMutator as RandomMutator
    from mutators.choices.applying import apply_choices as apply_choices
    from mutators.choices.applying import apply_fixed_architecture as apply_fixed_architecture
    from mutators.choices.errors import ChoiceError as ChoiceError
    from mutators.choices.extracting import extract as extract
    from mutators.choices.input_choice import InputChoice as InputChoice
    from mutators.choices.layer_choice import LayerChoice as LayerChoice
    from mutators.choices.mutable import MutableScope as MutableScope
    from mutators.choices.value_choice import ValueChoice as ValueChoice
    from mutators.choices.walk import search_space_of as search_space_of
    from mutators.darts import DartsMutator as DartsMutator
    from mutators.elastic.training.shared_checkpoint import shared_checkpoint as shared_checkpoint
    from mutators.subnet.folder import SubnetError as SubnetError
    from mutators.subnet.folder import load_subnet as load_subnet
    from mutators.subnet.folder import save_subnet as save_subnet
    from mutators.trial import get_and_apply_next_architecture as get_and_apply_next_architecture
    from mutators.trial import get_next_architecture as get_next_architecture
    from mutators.trial import report_final as report_final
    from mutators.trial import report_intermediate as report_intermediate

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".base": (
            "BaseMutator",
            "Mutator",
            "RandomMutator",
        ),
        ".choices.applying": (
            "apply_choices",
            "apply_fixed_architecture",
        ),
        ".choices.errors": ("ChoiceError",),
        ".choices.extracting": ("extract",),
        ".choices.input_choice": ("InputChoice",),
        ".choices.layer_choice": ("LayerChoice",),
        ".choices.mutable": ("MutableScope",),
        ".choices.value_choice": ("ValueChoice",),
        ".choices.walk": ("search_space_of",),
        ".darts": ("DartsMutator",),
        ".elastic.training.shared_checkpoint": ("shared_checkpoint",),
        ".subnet.folder": (
            "SubnetError",
            "load_subnet",
            "save_subnet",
        ),
        ".trial": (
            "get_and_apply_next_architecture",
            "get_next_architecture",
            "report_final",
            "report_intermediate",
        ),
    },
    moved={
        "DifferentiableEdge": "mutators.mmrazor.DifferentiableEdge",
        "DifferentiableOP": "mutators.mmrazor.DifferentiableOP",
        "OneShotMutator": "mutators.mmrazor.OneShotMutator",
        "OneShotOP": "mutators.mmrazor.OneShotOP",
        "Placeholder": "mutators.mmrazor.Placeholder",
        "SharedCheckpointError": "mutators.elastic.training.shared_checkpoint.SharedCheckpointError",
        "convert_placeholders": "mutators.mmrazor.convert_placeholders",
        "load_mutable_cfg": "mutators.mmrazor.load_mutable_cfg",
        "save_mutable_cfg": "mutators.mmrazor.save_mutable_cfg",
    },
)
