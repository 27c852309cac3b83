"""The public face: what was public once still imports."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("search_spaces", "mutators", "nas_tuners")

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


def imports_of_ours(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each name that a file imports from a package of ours, imports in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("folder", ["examples", "tests/benchmarks"])
def test_what_is_outside_the_packages_imports_names_that_exist(folder: str) -> None:
    """Examples and benchmarks are not type-checked and run rarely: a renamed class would be noticed late."""
    found = [(path, *names) for path in sorted((ROOT / folder).rglob("*.py")) for names in imports_of_ours(path)]
    assert len(found) > 10
    missing = []
    for path, module, name in found:
        imported = importlib.import_module(module)
        is_module = hasattr(imported, "__path__") and find_spec(f"{module}.{name}")
        is_lazy = name in getattr(imported, "__all__", ())  # it may need what is not installed
        if not is_module and not is_lazy and not hasattr(imported, name):
            missing.append(f"{path.relative_to(ROOT)}: from {module} import {name}")
    assert not missing
