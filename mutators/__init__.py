"""Put choices into a PyTorch model, emit its search space, apply what a tuner chose, extract the plain network.

Loads lazily: ``import mutators`` costs neither torch nor nni.
"""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
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
