"""Zero means zero: at every forward and every save, and nobody else notices."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mutators.pruning import GMPUnstructuredPruner, PruningError, UnstructuredPruner, sparsity_report
from tests import processes
from tests.mutators.pruning import nets
from tests.ports import free_port

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}
X = torch.ones(2, 1, 5, 5)
compiling = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor:UserWarning", "ignore::DeprecationWarning"
)
"""The compiler's own warnings about its own doings."""


def watch(model: nn.Module, pruner: UnstructuredPruner) -> list[bool]:
    """Note, whenever a layer computes, whether all that is pruned is zero."""
    seen: list[bool] = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: seen.append(nets.is_pruned(model, pruner)))
    return seen


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_at_every_forward_and_save_whatever_the_optimizer(name: str) -> None:
    model = nets.small()
    before = list(model.parameters())
    optimizer = OPTIMIZERS[name](model.parameters())
    configs = {"pruning_iterations": 6, "pruning_steps": 3}
    pruner = GMPUnstructuredPruner(model, 0.8, configs=configs)
    seen = watch(model, pruner)
    for step in range(10):
        optimizer.zero_grad()
        model(X * step).square().sum().backward()
        optimizer.step()
        if step:
            assert not nets.is_pruned(model, pruner)  # the optimizer did move them
        saved = model.state_dict()
        assert nets.is_pruned(model, pruner)
        assert all(not saved[name][~mask].any() for name, mask in pruner.masks.items())
        optimizer.step()
        pruner.step()
        assert nets.is_pruned(model, pruner)
        optimizer.step()
    assert len(seen) == 70
    assert all(seen)
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert nets.count(pruner) == round(0.8 * 420)


@pytest.mark.parametrize("write", [nets.unprune, lambda model: [p.data.fill_(1) for p in model.parameters()]])
@pytest.mark.parametrize("layer", ["block", "block.0", "conv"])
def test_a_layer_called_or_saved_alone(layer: str, write: Any) -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    part = model.get_submodule(layer)
    masks = {name: mask for name, mask in pruner.masks.items() if name.startswith(layer + ".")}
    for use in (lambda: part(X if layer == "conv" else torch.ones(1, 45)), part.state_dict):
        write(model)
        use()
        parameters = dict(model.named_parameters())
        assert masks
        assert all(not parameters[name].detach()[~mask].any() for name, mask in masks.items())


def test_attention_uses_weights_of_a_layer_that_is_never_called() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 8), attention)
    pruner = nets.half_pruned(model)
    assert "1.out_proj.weight" in pruner.masks
    nets.unprune(model)
    attention(*[torch.ones(1, 3, 8)] * 3)
    assert not attention.out_proj.weight.detach()[~pruner.masks["1.out_proj.weight"]].any()


def test_a_forward_that_fails_leaves_everything_as_it_should_be() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    with pytest.raises(RuntimeError):
        model(torch.ones(3))
    nets.unprune(model)
    model.block(torch.ones(1, 45))  # type: ignore[operator]
    assert not model.block[0].weight.detach()[~pruner.masks["block.0.weight"]].any()  # type: ignore[index, union-attr]


def test_gradients_of_pruned_weights_are_zero_and_those_of_the_rest_as_they_were() -> None:
    model = nets.small()
    dense = copy.deepcopy(model)
    pruner = nets.half_pruned(model)
    with torch.no_grad():
        for name, parameter in dense.named_parameters():
            parameter.mul_(pruner.masks.get(name, torch.tensor(True)))
    for _ in range(2):  # and so when they are added up
        model(X).square().sum().backward()
        dense(X).square().sum().backward()
    for (name, parameter), (_, other) in zip(model.named_parameters(), dense.named_parameters(), strict=True):
        assert parameter.grad is not None and other.grad is not None
        kept = pruner.masks.get(name, torch.tensor(True))
        assert torch.equal(parameter.grad, other.grad * kept)
        if name in pruner.masks:
            assert other.grad[~kept].any()
    pruner.remove()
    model.zero_grad()
    model(X).square().sum().backward()
    assert all(model.get_parameter(name).grad[~mask].any() for name, mask in pruner.masks.items())  # type: ignore[index]


def test_a_filter_that_is_all_but_gone_does_not_take_the_norm_of_the_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    with torch.no_grad():
        model[0].weight[0] *= 1e-4
        model[0].weight[0, 0] = 2e-4
    x, y = torch.randn(16, 8, 4, 4), torch.arange(16) % 4

    def norm() -> float:
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        return float(nn.utils.clip_grad_norm_(model.parameters(), 1e9))

    before = norm()
    UnstructuredPruner(model, ratio=0.75, prune_params_type="conv1x1_only").step()
    assert not model[0].weight[0].any()
    assert norm() < before


def test_a_forward_that_was_interrupted_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.norm, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model(X)
    pruner.step()
    nets.unprune(model)
    model.block(torch.ones(1, 45))  # type: ignore[operator]
    assert not model.block[0].weight.detach()[~pruner.masks["block.0.weight"]].any()  # type: ignore[index, union-attr]


def test_masks_made_or_cast_in_inference_mode_change_outside_of_it() -> None:
    model = nets.small()
    with torch.inference_mode():
        pruner = nets.half_pruned(model)
    for ratio, dtype in ((0.6, torch.float32), (0.7, torch.float64), (0.8, torch.float32)):
        model.to(dtype)
        with torch.inference_mode():
            model(X.to(dtype))
        pruner.ratio = ratio
        pruner.step()
        assert nets.count(pruner) == round(ratio * 420)
    pruner.load_state_dict(pruner.state_dict())


def test_an_average_of_weights_is_pruned_by_the_masks_of_the_model() -> None:
    """What the docstring says to do."""
    training = nets.Training(nets.small(), gradual)
    average = AveragedModel(training.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for number in range(12):
        training.step(number)
        average.update_parameters(training.model)
    assert not nets.is_pruned(average.module, training.pruner)
    pruner = UnstructuredPruner(average)
    pruner.load_state_dict(training.pruner.state_dict())
    pruner.remove()
    assert nets.is_pruned(average.module, training.pruner)
    assert sparsity_report(average).zeros == round(0.75 * 420)


def test_infinite_and_undefined_weights_become_zero_too() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    for value in (torch.inf, -torch.inf, torch.nan, -1.0):
        with torch.no_grad():
            model.own.fill_(value)  # type: ignore[operator, union-attr]
        pruner.update_params()
        assert nets.is_pruned(model, pruner)


def test_only_weights_are_pruned_those_of_the_model_itself_too() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    assert list(pruner.masks) == nets.WEIGHTS
    assert all(pruner.masks[name].shape == dict(model.named_parameters())[name].shape for name in nets.WEIGHTS)
    for name, zero in nets.zeros(model).items():
        assert bool(zero.any()) == (name in nets.WEIGHTS), name


def test_zero_biases_learn_also_with_static_masks() -> None:
    model = nets.small()
    with torch.no_grad():
        model.conv.bias.zero_()  # type: ignore[operator, union-attr]
        model.block[0].weight[:, ::2] = 0  # type: ignore[index, union-attr]
    pruner = UnstructuredPruner(model)
    pruner.set_static_masks()
    assert nets.count(pruner) == 7 * 23
    nets.unprune(model)
    model(X)
    assert bool((model.conv.bias == 1).all())  # type: ignore[union-attr]
    assert int((model.block[0].weight == 0).sum()) == 7 * 23  # type: ignore[index, union-attr]
    pruner.set_static_masks()
    assert nets.count(pruner) == 7 * 23


def test_checkpoints_have_the_keys_of_the_dense_model() -> None:
    model = nets.small()
    keys = list(model.state_dict())
    nets.half_pruned(model)
    assert list(model.state_dict()) == keys
    assert not list(model.buffers())
    dense = nets.Small()
    dense.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), model.parameters(), strict=True))


def test_weights_that_are_replaced_moved_or_cast_are_masked_all_the_same() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    model.load_state_dict({k: torch.ones_like(v) for k, v in model.state_dict().items()}, assign=True)
    model(X)
    assert nets.is_pruned(model, pruner)
    model.double()
    nets.unprune(model)
    model(X.double())
    assert all(not dict(model.named_parameters())[n].detach()[~m].any() for n, m in pruner.masks.items())


def test_several_forwards_before_a_backward() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    (model(X).sum() + model(2 * X).sum() + model.block(torch.ones(1, 45)).sum()).backward()  # type: ignore[operator]
    for name, mask in pruner.masks.items():
        gradient = model.get_parameter(name).grad
        assert gradient is not None and gradient[mask].any() and not gradient[~mask].any()


def test_a_copy_keeps_its_own_zeros() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    before = pruner.masks
    other = copy.deepcopy(model)
    pruner.ratio = 0.9
    pruner.step()
    for one in (model, other):
        nets.unprune(one)
        one(X)
    assert nets.is_pruned(model, pruner)
    assert all(torch.equal(~nets.zeros(other)[name], mask) for name, mask in before.items())


def test_a_model_saved_whole() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    nets.unprune(model)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    loaded = torch.load(stream, weights_only=False)  # our own bytes: a pickle, as users make them
    assert nets.is_pruned(loaded, pruner)
    nets.unprune(loaded)
    loaded(X)
    assert nets.is_pruned(loaded, pruner)


def test_tied_weights_are_one() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    pruner = nets.half_pruned(model)
    assert list(pruner.masks) == ["0.weight"]
    nets.unprune(model)
    model[2](torch.ones(1, 4))
    assert nets.is_pruned(model, pruner)
    assert nets.count(pruner) == 8
    with pytest.raises(PruningError, match="name fewer"):
        UnstructuredPruner(model, skip_params_func=lambda _: {"2.weight"})


def test_remove_leaves_an_ordinary_model() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    nets.unprune(model)
    pruner.remove()
    assert nets.is_pruned(model, pruner)
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_state_dict_pre_hooks")
    assert not any(getattr(module, kind) for module in model.modules() for kind in hooks)
    nets.unprune(model)
    model(X)
    assert not nets.is_pruned(model, pruner)


@pytest.mark.slow
@compiling
@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_is_the_same_and_new_masks_compile_nothing_anew(backend: str) -> None:
    torch._dynamo.reset()
    losses = []
    for compiled in (False, True):
        model = nets.small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
        pruner = GMPUnstructuredPruner(model, 0.8, configs={"pruning_iterations": 6, "pruning_steps": 3})
        run = torch.compile(model, backend=backend, fullgraph=True) if compiled else model
        losses.append([])
        graphs = []
        torch._dynamo.utils.counters.clear()
        for step in range(8):
            loss = run(X + step / 8).square().mean()
            assert nets.is_pruned(model, pruner)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pruner.step()
            losses[-1].append(loss.item())
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        assert len(set(graphs)) == 1
        assert bool(graphs[0]) == compiled
        assert nets.count(pruner) == round(0.8 * 420)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
@compiling
def test_a_model_that_was_compiled_before_is_masked_too() -> None:
    torch._dynamo.reset()
    model = nets.reference()  # a class of torch's, whose hooks are compiled with it
    x = torch.ones(2, 3, 8, 8)
    run = torch.compile(model, backend="eager")
    run(x)
    pruner = nets.half_pruned(run)  # type: ignore[arg-type]
    for _ in range(2):
        nets.unprune(model)
        run(x)
        assert nets.is_pruned(model, pruner)
    copy.deepcopy(model)(x)
    pruner.remove()
    nets.unprune(model)
    run(x)
    assert not nets.is_pruned(model, pruner)


@compiling
def test_masks_from_weights_break_no_graph() -> None:
    torch._dynamo.reset()
    trained = nets.small()
    expected = nets.half_pruned(trained).masks
    model = nets.small(1)
    pruner = GMPUnstructuredPruner(model, 0.5, configs={"resume_iteration": 1500})
    run = torch.compile(model, backend="eager", fullgraph=True)
    model.load_state_dict(trained.state_dict())
    for _ in range(2):
        run(X)
        assert nets.is_pruned(model, pruner)
        nets.unprune(model)
    assert all(torch.equal(mask, expected[name]) for name, mask in pruner.masks.items())


@pytest.mark.slow
@compiling
def test_a_compiled_layer_under_the_model_and_alone() -> None:
    torch._dynamo.reset()
    model = nets.small()
    pruner = nets.half_pruned(model)
    model.block.compile(backend="aot_eager")  # type: ignore[operator, union-attr]
    for use in (lambda: model(X), lambda: model.block(torch.ones(2, 45)), lambda: model(X)):  # type: ignore[operator]
        nets.unprune(model)
        use()
        assert not model.block[0].weight.detach()[~pruner.masks["block.0.weight"]].any()  # type: ignore[index, union-attr]


@compiling
def test_a_compiled_model_is_pruned_by_its_own_names() -> None:
    torch._dynamo.reset()
    model = nets.small()
    pruner = nets.half_pruned(torch.compile(model, backend="eager"))  # type: ignore[arg-type]
    assert list(pruner.masks) == nets.WEIGHTS


def test_autocast_computes_with_zeros() -> None:
    model = nets.small()
    pruner = nets.half_pruned(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    seen = watch(model, pruner)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            out = model(X)
        out.float().square().sum().backward()
        optimizer.step()
        nets.unprune(model)
    assert len(seen) == 21
    assert all(seen)
    inputs = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    dense = nets.Small()
    dense.load_state_dict(model.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert model.conv(inputs).dtype == torch.bfloat16  # type: ignore[operator]
        assert torch.equal(model(inputs), dense(inputs))


def _work(rank: int, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        model = nets.small()
        parallel = DistributedDataParallel(model)
        training = nets.Training(parallel, gradual)
        for number in range(12):
            training.step(2 * number + rank)
            training.optimizer.step()
            parallel(X)
            assert nets.is_pruned(model, training.pruner)
        torch.save({**model.state_dict(), **training.pruner.masks}, folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def gradual(model: nn.Module) -> GMPUnstructuredPruner:
    return GMPUnstructuredPruner(model, 0.75, configs={"pruning_iterations": 8, "pruning_steps": 4})


@pytest.mark.slow
def test_two_processes_prune_the_same(tmp_path: Path) -> None:
    processes.run_ranks(_work, tmp_path, free_port())
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sum(int((~first[name]).sum()) for name in nets.WEIGHTS) == round(0.75 * 420)


def test_one_process_of_data_parallelism(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nets.small()
        alone, parallel = nets.Training(nets.small(), gradual), nets.Training(DistributedDataParallel(model), gradual)
        seen = watch(model, parallel.pruner)
        for number in range(12):
            alone.step(number)
            parallel.step(number)
            parallel.optimizer.step()
            alone.optimizer.step()
        assert all(seen)
        assert len(seen) == 84
        state = parallel.model.state_dict()
        assert all(torch.equal(state[f"module.{name}"], weight) for name, weight in alone.model.state_dict().items())
    finally:
        dist.destroy_process_group()
