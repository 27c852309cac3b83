"""The pruners' own promises: what is pruned, stopping and resuming, and errors that say what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mutators.pruning
from mutators.pruning import GMPUnstructuredPruner, PruningError, UnstructuredPruner, sparsity_report
from tests.mutators.pruning import nets

END = 100
CONFIGS = {"stable_iterations": 15, "pruning_iterations": 60, "tunning_iterations": 25, "pruning_steps": 7}
VARIANTS: dict[str, dict[str, Any]] = {
    "global": {},
    "local": {"local_sparsity": True},
    "blocks": {"sparse_block": (2, 3)},
    "compatible": {"paddle_compatible": True},
    "compatible local blocks": {"paddle_compatible": True, "local_sparsity": True, "sparse_block": (3, 2)},
}


def conv_net() -> nn.Module:
    """Two 1x1 convolutions among other layers; the reference network."""
    return nets.reference()


@pytest.mark.parametrize(
    ("variant", "length", "every"),
    [
        ("global", 1, 1),
        *((name, 1, 3) for name in VARIANTS if name != "global"),
        pytest.param("global", END, 1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("weights_alone", [False, True])
def test_stopped_and_resumed_at_every_iteration_is_as_unbroken(
    variant: str, length: int, every: int, weights_alone: bool
) -> None:
    """To the end if slow; else the next step, which ends in all that the one after it starts from."""

    def fresh(resume: int = 0) -> nets.Training:
        configs = {**CONFIGS, "resume_iteration": resume if weights_alone else 0}
        return nets.Training(
            nets.small(seed=resume), lambda m: GMPUnstructuredPruner(m, 0.8, configs=configs, **VARIANTS[variant])
        )

    unbroken = fresh()
    states = [unbroken.save()]
    ratios = []
    for number in range(END):
        unbroken.step(number)
        states.append(unbroken.save())
        ratios.append(unbroken.pruner.ratio)
    for stopped in range(0, END, every):
        training, saved = fresh(stopped), nets.read(states[stopped])
        training.model.load_state_dict(saved["model"])
        training.optimizer.load_state_dict(saved["optimizer"])
        if not weights_alone:
            training.pruner.load_state_dict(saved["pruner"])
        assert training.pruner.ratio == (ratios[stopped - 1] if stopped else 0)
        end = min(stopped + length, END)
        for number in range(stopped, end):
            training.step(number)
        assert same(nets.read(training.save()), nets.read(states[end])), stopped


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


@pytest.mark.parametrize("first", ["weights", "pruner"])
def test_weights_may_be_loaded_before_or_after(first: str) -> None:
    training = nets.Training(nets.small(), lambda m: GMPUnstructuredPruner(m, 0.8, configs=CONFIGS))
    for number in range(50):
        training.step(number)
    model = nets.small(seed=1)
    configs = {**CONFIGS, "resume_iteration": 50}
    if first == "weights":
        model.load_state_dict(training.model.state_dict())
        pruner = GMPUnstructuredPruner(model, 0.8, configs=configs)
    else:
        pruner = GMPUnstructuredPruner(model, 0.8, configs=configs)
        model.load_state_dict(training.model.state_dict())
    assert same(pruner.masks, training.pruner.masks)
    pruner.step()
    masks = pruner.masks
    model.load_state_dict(nets.small().state_dict())  # later loads change no mask
    assert same(pruner.masks, masks)
    assert pruner.iteration == 51


def test_resuming_with_dense_weights_prunes_them_by_what_is_due() -> None:
    pruner = GMPUnstructuredPruner(nets.small(), 0.55, configs={"pruning_iterations": 1000, "resume_iteration": 500})
    assert pruner.ratio > 0.3
    assert nets.count(pruner) == round(pruner.ratio * 420)


def test_the_state_is_plain() -> None:
    training = nets.Training(nets.small(), nets.half_pruned)
    state = nets.read(training.save())["pruner"]
    assert state["iteration"] == 1
    assert all(mask.dtype == torch.bool for mask in state["masks"].values())
    training.pruner.masks["own"].fill_(False)  # a copy
    assert nets.count(training.pruner) == 210


def test_a_state_of_something_else() -> None:
    pruner = nets.half_pruned(nets.small())
    before = pruner.state_dict()
    masks = {"own": torch.ones(2, 2), "other": torch.ones(1, dtype=torch.bool)}
    with pytest.raises(PruningError, match="no state of this pruner") as raised:
        pruner.load_state_dict({"iteration": -1, "masks": masks})
    assert len(raised.value.problems) == 6
    for state in ({}, None, {"iteration": 1, "masks": [1]}):
        with pytest.raises(PruningError):
            pruner.load_state_dict(state)  # type: ignore[arg-type]
    assert same(pruner.state_dict(), before)


@pytest.mark.parametrize(
    "how",
    [
        {"prune_params_type": "conv1x1_only"},
        {"skip_params_type": "exclude_conv1x1"},
        {"skip_params_type": "include_conv1x1_only"},
        {"prune_params_type": "exclude_conv1x1"},
    ],
)
def test_only_1x1_convolutions(how: dict[str, Any]) -> None:
    model = conv_net()
    for pruner in (UnstructuredPruner(model, **how), GMPUnstructuredPruner(model, **how)):
        assert list(pruner.masks) == ["3.weight", "6.weight"]
    pruner = UnstructuredPruner(model, ratio=0.55, **how)
    pruner.step()
    assert UnstructuredPruner.total_sparse_conv1x1(model) == round(0.55 * 1536) / 1536
    assert abs(UnstructuredPruner.total_sparse_conv1x1(model) - 0.55) < 0.01


def test_a_skip_function_takes_precedence() -> None:
    """By shape and by layer, as PicoDet's guide does; biases and norms are left alone all the same."""

    def skip(model: nn.Module) -> set[str]:
        small = {name for name, parameter in model.named_parameters() if parameter.numel() < 500}
        return {name for name in small if not name.startswith("0.")} | {"3.weight"}

    model = conv_net()
    pruner = GMPUnstructuredPruner(model, 0.75, "conv1x1_only", skip, skip_params_type="exclude_conv1x1")
    assert list(pruner.masks) == ["0.weight", "6.weight"]
    assert list(UnstructuredPruner(model, skip_params_func=lambda _: []).masks) == [
        f"{i}.weight" for i in (0, 3, 6, 10)
    ]


def test_positional_arguments_stand_as_in_paddleslim() -> None:
    model = conv_net()
    UnstructuredPruner(model, "ratio", 0.01, 0.55, "conv1x1_only", None, True, [1, 1])
    GMPUnstructuredPruner(model, 0.55, "conv1x1_only", None, True, [2, 1], {"pruning_steps": 10})


def test_sparsity_counts_parameters_only() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        model[0].weight[:2] = 0
        model[0].bias.fill_(1)
    assert UnstructuredPruner.total_sparse(model) == (8 + 4) / 28  # the norm's bias is zero, its running mean too
    assert UnstructuredPruner.total_sparse_conv1x1(model) == 0


def test_weights_summarised() -> None:
    model = conv_net()
    pruner = nets.half_pruned(model)
    weights = torch.cat([model.get_parameter(name).detach().abs().flatten() for name in pruner.masks])
    assert pruner.summarize_weights(model, 1.0) == float(weights.max())
    assert pruner.summarize_weights(model, 0.5) == 0 < pruner.summarize_weights(model, 0.501)
    with pytest.raises(PruningError, match=r"ratio is 2\.0") as raised:
        pruner.summarize_weights(nets.small(), 2.0)
    assert len(raised.value.problems) == 5


def test_the_report() -> None:
    model = nets.small()
    nets.half_pruned(model)
    report = sparsity_report(model)
    assert [layer.name for layer in report.layers] == nets.WEIGHTS
    assert (report.weights, report.zeros, report.share) == (420, 210, 0.5)
    assert report.params == sum(p.numel() for p in model.parameters())
    conv = report.layers[1]
    assert (conv.kind, conv.shape, conv.weights) == ("Conv2d", (5, 1, 3, 3), 45)
    assert conv.zeros == int((model.conv.weight == 0).sum())  # type: ignore[union-attr]
    assert report.to_json()["layers"][1] == {
        "name": "conv.weight",
        "kind": "Conv2d",
        "shape": [5, 1, 3, 3],
        "weights": 45,
        "zeros": conv.zeros,
        "share": conv.share,
    }
    lines = str(report).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split()[0] == "all"
    assert lines[-1].endswith("50.00%")
    assert sparsity_report(nn.ReLU()).share == 0


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan"), "0.5", None, True])
@pytest.mark.parametrize("kind", [UnstructuredPruner, GMPUnstructuredPruner])
def test_ratios_outside(kind: type, ratio: Any) -> None:
    with pytest.raises(PruningError, match="at least 0, less than 1"):
        kind(nets.small(), ratio=ratio)


def test_a_ratio_assigned_is_checked_too() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    pruner.ratio = 1.5
    with pytest.raises(PruningError, match=r"ratio is 1\.5"):
        pruner.step()


@pytest.mark.parametrize(
    ("model", "how", "words"),
    [
        (nets.Small, {"mode": "all"}, "mode is 'all', wanted one of ratio, threshold"),
        (nets.Small, {"threshold": -1}, "threshold is -1"),
        (nets.Small, {"mode": "threshold", "local_sparsity": True}, "local_sparsity is for mode='ratio'"),
        (nets.Small, {"sparse_block": [2]}, r"sparse_block is \(2,\), wanted two integers"),
        (nets.Small, {"sparse_block": 2}, "sparse_block is 2"),
        (nets.Small, {"prune_params_type": "conv"}, "wanted None or 'conv1x1_only'"),
        (nets.Small, {"prune_params_type": "conv1x1_only"}, "no 1x1 convolution to prune: leave out"),
        (nets.Small, {"skip_params_func": lambda _: {"block.0.wight"}}, "did you mean 'block.0.weight'"),
        (nets.Small, {"skip_params_func": lambda _: "own"}, "returned 'own', wanted a set of names"),
        (nets.Small, {"skip_params_func": lambda m: dict(m.named_parameters())}, "let it name fewer"),
        (nets.Small, {"skip_params_func": {"own"}}, "is a set, wanted a function"),
        (nn.ReLU, {}, "no weight to prune"),
        (lambda: nn.LayerNorm([3, 3]), {}, "no weight to prune"),
        (lambda: nn.LazyLinear(3), {}, "run one forward pass first"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_does_not_fit_is_said_and_changes_nothing(model: Any, how: dict[str, Any], words: str) -> None:
    built = model()
    with pytest.raises(PruningError, match=words) as raised:
        UnstructuredPruner(built, **how)
    assert len(raised.value.problems) == 1
    assert not any(module._forward_pre_hooks for module in built.modules() if not isinstance(module, nn.LazyLinear))


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(PruningError) as raised:
        GMPUnstructuredPruner(
            nets.small(),
            1.5,
            "x",
            lambda _: {"a", "b"},
            3,  # type: ignore[arg-type]
            (0, 1),
            {"tuning_iterations": 3, "pruning_steps": 0},
        )
    assert len(raised.value.problems) == 8


def test_the_names_load_lazily() -> None:
    assert all(getattr(mutators.pruning, name) is not None for name in mutators.pruning.__all__)
    assert set(mutators.pruning.__all__) <= set(dir(mutators.pruning))
    with pytest.raises(AttributeError):
        mutators.pruning.nothing  # noqa: B018
