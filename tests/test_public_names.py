"""The public face: what was public once still imports."""

from __future__ import annotations

import importlib

import pytest

# Every name that README listed before the packages were split into rooms, by the package it was imported from.
ONCE_PUBLIC = {
    "search_spaces": [
        "Choices",
        "MIT_PHASES",
        "NetError",
        "Phase",
        "PhaseError",
        "Reference",
        "Schedule",
        "Space",
        "SpaceError",
        "Tokens",
        "build",
        "choices_of",
        "cost_factors",
        "cost_table_of",
        "initial_tokens",
        "input_shape",
        "names",
        "progressive",
        "references",
        "space_of",
        "tokens_of",
    ],
    "search_spaces.cost": [
        "CostError",
        "CostTable",
        "Latency",
        "count_macs",
        "count_params",
        "latency_of",
        "macs_by_module",
        "measure_cost",
        "measure_latency",
    ],
    "mutators": [
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
    ],
    "mutators.oneshot": [
        "OneShotError",
        "TrainConfig",
        "accuracy",
        "evaluate",
        "fair",
        "macs_bins",
        "recalibrate_bn",
        "train_supernet",
        "uniform",
    ],
    "mutators.elastic": [
        "AccuracyPredictor",
        "Channels",
        "Conversion",
        "Convert",
        "DistillConfig",
        "ElasticBatchNorm1d",
        "ElasticBatchNorm2d",
        "ElasticBatchNorm3d",
        "ElasticChoice",
        "ElasticConv2d",
        "ElasticConvTranspose2d",
        "ElasticDepth",
        "ElasticEmbedding",
        "ElasticError",
        "ElasticGroupNorm",
        "ElasticInstanceNorm2d",
        "ElasticLayerNorm",
        "ElasticLinear",
        "ElasticMultiheadAttention",
        "ElasticNetwork",
        "Found",
        "OFA",
        "RunConfig",
        "Sorting",
        "Subnet",
        "Width",
        "conversion_of",
        "convert",
        "cost_table",
        "export_onnx",
        "gradient_importance",
        "load_weights",
        "sort_channels",
        "supernet",
        "train",
    ],
    "mutators.pruning": [
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
    ],
    "nas_tuners": [
        "AnnealingTuner",
        "EvolutionTuner",
        "ProgressiveShrinkingTuner",
        "RandomTuner",
        "Run",
        "SANAS",
        "SANASError",
        "SearchFinished",
        "SearchTuner",
        "run_search",
    ],
    "nas_tuners.search": [
        "Annealing",
        "Best",
        "ConstraintError",
        "Evolution",
        "InPhase",
        "MetricError",
        "Proposal",
        "RandomSearch",
        "Search",
        "SearchError",
        "Shrinking",
    ],
}


@pytest.mark.parametrize("package", ONCE_PUBLIC)
def test_what_was_public_still_imports(package: str) -> None:
    """Either as before, or with a DeprecationWarning whose line, typed as it stands, gives the same object."""
    module = importlib.import_module(package)
    for name in ONCE_PUBLIC[package]:
        if name in module.__all__:
            assert getattr(module, name) is not None
            continue
        with pytest.warns(DeprecationWarning, match=f"{name} has moved") as caught:
            value = getattr(module, name)
        line = str(caught[0].message).partition("`")[2].partition("`")[0]
        namespace: dict[str, object] = {}
        exec(line, namespace)
        assert namespace[line.split()[-1]] is value
