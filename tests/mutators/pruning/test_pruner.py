"""The pruners' own promises: what is pruned, stopping and resuming, and errors that say what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
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


@pytest.mark.sampled(4)
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


def copied_in(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])


def assigned(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = state[name].clone()


def in_parts(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for part in ("conv", "norm", "block"):
        inner = {name.removeprefix(part + "."): v for name, v in state.items() if name.startswith(part + ".")}
        model.get_submodule(part).load_state_dict(inner)
    copied_in(model, {**model.state_dict(), "own": state["own"], "scale": state["scale"]})


@pytest.mark.parametrize("bring", [nn.Module.load_state_dict, copied_in, assigned, in_parts])
@pytest.mark.parametrize("first", ["forward", "layer", "step", "masks", "state"])
def test_weights_may_come_in_any_way_until_they_are_first_used(bring: Callable[..., Any], first: str) -> None:
    training = nets.Training(nets.small(), lambda m: GMPUnstructuredPruner(m, 0.8, configs=CONFIGS))
    for number in range(50):
        training.step(number)
    model = nets.small(seed=1)
    pruner = GMPUnstructuredPruner(model, 0.8, configs={**CONFIGS, "resume_iteration": 50})
    model.state_dict()
    bring(model, training.model.state_dict())
    {
        "forward": lambda: model(torch.ones(1, 1, 5, 5)),
        "layer": lambda: model.conv(torch.ones(1, 1, 5, 5)),  # type: ignore[operator]
        "step": pruner.step,
        "masks": lambda: pruner.masks,
        "state": pruner.state_dict,
    }[first]()
    if first == "step":  # at which more is due
        training.pruner.step()
    nets.unprune(model)
    assert same(pruner.masks, training.pruner.masks)


def test_a_resumed_pruner_leaves_nothing_behind() -> None:
    model = nets.small()
    pruner = GMPUnstructuredPruner(model, 0.8, configs={**CONFIGS, "resume_iteration": 50})
    other = copy.deepcopy(model)
    pruner.remove()
    assert sparsity_report(model).zeros == round(pruner.ratio * 420)
    dense = nets.small(seed=1).state_dict()
    for one in (model, other):
        assert not any(module._load_state_dict_post_hooks for module in one.modules())
        one.load_state_dict(dense)
        assert same(dict(one.state_dict()), dict(dense))


@pytest.mark.parametrize("take", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])  # noqa: S301
def test_a_copy_of_a_pruner_ends_its_own_masks(take: Callable[..., Any]) -> None:
    model = nets.small()
    other, copied = take((model, nets.half_pruned(model)))
    assert nets.is_pruned(other, copied)
    copied.remove()
    nets.unprune(other)
    other(torch.ones(1, 1, 5, 5))
    assert not nets.is_pruned(other, copied)
    assert not any(module._forward_pre_hooks or module._state_dict_pre_hooks for module in other.modules())
    assert any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("gradual", [False, True])
def test_a_higher_ratio_is_reached_from_the_state_of_a_lower_one(gradual: bool) -> None:
    def made(ratio: float, seed: int) -> UnstructuredPruner:
        if gradual:
            return GMPUnstructuredPruner(nets.small(seed), ratio, configs={"pruning_iterations": 10})
        return UnstructuredPruner(nets.small(seed), ratio=ratio)

    lower, higher = made(0.5, 0), made(0.9, 1)
    for _ in range(12):
        lower.step()
    higher.load_state_dict(lower.state_dict())
    assert nets.count(higher) == 210
    higher.step()
    assert (nets.count(higher), higher.ratio) == (round(0.9 * 420), 0.9)


def test_a_ratio_assigned_before_a_save_is_reached_after_it() -> None:
    pruner = nets.half_pruned(nets.small())
    pruner.ratio = 0.7
    again = UnstructuredPruner(nets.small(), ratio=0.7)
    again.load_state_dict(pruner.state_dict())
    again.step()
    assert nets.count(again) == round(0.7 * 420)


@pytest.mark.parametrize("kind", [UnstructuredPruner, GMPUnstructuredPruner])
def test_states_that_do_not_say_what_they_were_pruned_at_load_as_of_this_ratio(kind: type) -> None:
    pruner = kind(nets.small(), ratio=0.55)
    for _ in range(3):
        pruner.step()
    older = {name: value for name, value in pruner.state_dict().items() if name != "pruned_at"}
    again = kind(nets.small(1), ratio=0.55)
    again.load_state_dict(older)
    assert same(again.state_dict(), pruner.state_dict())


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
    names = ["mode", "threshold", "ratio", "prune_params_type", "skip_params_func", "local_sparsity", "sparse_block"]
    gradual = [*names[2:], "configs"]
    for kind, expected in ((UnstructuredPruner, names), (GMPUnstructuredPruner, gradual)):
        parameters = inspect.signature(kind).parameters.values()
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == ["model", *expected]
    model = conv_net()
    UnstructuredPruner(model, "ratio", 0.01, 0.75, "conv1x1_only", None, True, [1, 1]).step()
    assert [layer.zeros for layer in sparsity_report(model).layers] == [0, 384, 768, 0]
    pruner = GMPUnstructuredPruner(model, 0.6, "conv1x1_only", None, True, [2, 1], {"pruning_steps": 7})
    assert (pruner.schedule.ratio, pruner.schedule.pruning_steps) == (0.6, 7)


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


def test_reports_count_what_is_pruned_whatever_the_optimizer_did() -> None:
    model = conv_net()
    pruner = UnstructuredPruner(model, ratio=0.5, prune_params_type="conv1x1_only")
    pruner.step()
    totals = pruner.total_sparse(model), pruner.total_sparse_conv1x1(model), sparsity_report(model)
    for place, count in enumerate((pruner.total_sparse, pruner.total_sparse_conv1x1, sparsity_report)):
        with torch.no_grad():
            model[3].weight.add_(10)  # type: ignore[index, union-attr, operator]
        assert count(model) == totals[place]


@pytest.mark.parametrize("ratio", [np.float32(0.75), np.float64(0.75)])
def test_a_ratio_of_numpy(ratio: Any) -> None:
    pruner = UnstructuredPruner(nets.small(), ratio=ratio)
    pruner.step()
    assert nets.count(pruner) == round(0.75 * 420)
    pruner.ratio = type(ratio)(0.875)
    pruner.step()
    assert nets.count(pruner) == round(0.875 * 420)
    assert type(pruner.state_dict()["pruned_at"]) is float


@pytest.mark.parametrize("how", [{}, {"sparse_block": (2, 3)}, {"local_sparsity": True}, {"mode": "threshold"}])
def test_weights_that_are_nan_are_named_and_nothing_changes(how: dict[str, Any]) -> None:
    model = nets.small()
    pruner = UnstructuredPruner(model, ratio=0.5, **how)
    with torch.no_grad():
        model.block[0].weight[:3] = torch.nan  # type: ignore[index, union-attr]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(
        PruningError, match=r"go back to the last.*(?s:.*)'block\.0\.weight' has 135 of 315 that are NaN"
    ):
        pruner.step()
    assert nets.count(pruner) == pruner.iteration == 0
    assert all(torch.equal(p.nan_to_num(9), before[n].nan_to_num(9)) for n, p in model.named_parameters())


@pytest.mark.parametrize("method", ["step", "update_params", "set_static_masks", "load_state_dict"])
def test_after_its_end_a_pruner_says_so(method: str) -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    state = pruner.state_dict()
    pruner.remove()
    nets.unprune(model)
    with pytest.raises(PruningError, match=rf"{method}\(\) after remove\(\)"):
        getattr(pruner, method)(*[state] * (method == "load_state_dict"))
    pruner.remove()
    assert not nets.is_pruned(model, pruner)


@pytest.mark.parametrize("model", [3, nn.Linear, None])
@pytest.mark.parametrize("kind", [UnstructuredPruner, GMPUnstructuredPruner])
def test_what_is_no_model(kind: type, model: Any) -> None:
    with pytest.raises(PruningError, match=r"wanted an object of torch\.nn\.Module"):
        kind(model)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan"), "0.5", None, True])
@pytest.mark.parametrize("kind", [UnstructuredPruner, GMPUnstructuredPruner])
def test_ratios_outside(kind: type, ratio: Any) -> None:
    with pytest.raises(PruningError, match="at least 0 and less than 1"):
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
        (nets.Small, {"mode": "all"}, "mode is 'all', wanted one of 'ratio', 'threshold'"),
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
