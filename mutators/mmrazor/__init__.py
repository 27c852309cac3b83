"""MMRazor 0.3's way to supernets: placeholders, one-shot mutators, ``mutable_cfg`` files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.mmrazor.mutable_cfg import load_mutable_cfg as load_mutable_cfg
    from mutators.mmrazor.mutable_cfg import save_mutable_cfg as save_mutable_cfg
    from mutators.mmrazor.mutables import DifferentiableEdge as DifferentiableEdge
    from mutators.mmrazor.mutables import DifferentiableOP as DifferentiableOP
    from mutators.mmrazor.mutables import OneShotOP as OneShotOP
    from mutators.mmrazor.oneshot_mutator import OneShotMutator as OneShotMutator
    from mutators.mmrazor.placeholder import Placeholder as Placeholder
    from mutators.mmrazor.placeholder import convert_placeholders as convert_placeholders

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".mutable_cfg": (
            "load_mutable_cfg",
            "save_mutable_cfg",
        ),
        ".oneshot_mutator": ("OneShotMutator",),
        ".placeholder": (
            "Placeholder",
            "convert_placeholders",
        ),
        ".mutables": (
            "DifferentiableEdge",
            "DifferentiableOP",
            "OneShotOP",
        ),
    },
)
