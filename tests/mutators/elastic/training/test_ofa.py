"""OFA: what is open when, what a step runs, what the teacher adds, and that nothing is lost."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import apply_choices, extract, search_space_of
from mutators.elastic import OFA, DistillConfig, ElasticError, RunConfig
from mutators.elastic.layers import ElasticDepth, ElasticLinear
from mutators.elastic.training.losses import soft_cross_entropy
from search_spaces.errors import PhaseError
from search_spaces.phases.phase import Phase
from tests.mutators.elastic.training import shrinking as nets

NAMES = {"kernel_size": ("1", "3", "5"), "expand_ratio": ("1", "2", "3"), "depth": ("1", "2", "3")}


def opened(ofa: OFA) -> dict[str, list[str]]:
    """By the last part of the keys, what is open now."""
    region = ofa.region()
    found: dict[str, list[str]] = {}
    for key, allowed in zip(region.keys, region.allowed, strict=True):
        part = key.rpartition(".")[2]
        names = sorted(NAMES[part][token] for token in allowed)
        assert found.setdefault(part, names) == names
    return found


ALL, TOP = ["1", "2", "3"], ["3"]
KERNELS = ["1", "3", "5"]
TABLE = [  # by epoch: n_epochs [[0, 1], [2, 4], [5, 6]], inclusive; p + 2 of the largest options in phase p
    ({"kernel_size": ["3", "5"], "expand_ratio": TOP, "depth": TOP}, 1),
    ({"kernel_size": KERNELS, "expand_ratio": TOP, "depth": TOP}, 1),
    ({"kernel_size": KERNELS, "expand_ratio": ["2", "3"], "depth": TOP}, 1),
    ({"kernel_size": KERNELS, "expand_ratio": ALL, "depth": TOP}, 2),
    ({"kernel_size": KERNELS, "expand_ratio": ALL, "depth": ["2", "3"]}, 1),
    ({"kernel_size": KERNELS, "expand_ratio": ALL, "depth": ALL}, 2),
]


@pytest.mark.parametrize("order", [("kernel_size", "width", "depth"), ("kernel_size", "depth", "width"), None])
def test_what_is_open_in_every_epoch(order: tuple[str, ...] | None) -> None:
    ofa = OFA(nets.Net(), RunConfig(n_epochs=[[0, 1], [2, 4], [5, 6]]), elastic_order=order)
    expected = [stage for stage, epochs in TABLE for _ in range(epochs)]
    expected += expected[-1:] * 3  # past the end: the last phase
    for epoch, table in enumerate(expected):
        ofa.set_epoch(epoch)
        wanted = dict(table)
        if order is not None and order[1] == "depth":  # Once-for-all's own order: the two tasks change places
            wanted["depth"], wanted["expand_ratio"] = wanted["expand_ratio"], wanted["depth"]
        assert opened(ofa) == wanted


def test_the_epoch_follows_from_the_steps_unless_it_is_set() -> None:
    ofa = OFA(nets.Net(), RunConfig(n_epochs=[[0], [1], [2]], total_images=24, train_batch_size=8))
    optimizer = torch.optim.SGD(ofa.parameters(), lr=0.01)
    epochs = []
    for batch in nets.batches(7):
        epochs.append(ofa.epoch)
        ofa.train_step(batch, F.cross_entropy, optimizer)
    assert epochs == [0, 0, 0, 1, 1, 1, 2]
    ofa.set_epoch(9)
    assert ofa.epoch == 9
    ofa.set_epoch(None)
    assert ofa.epoch == 2


@pytest.mark.parametrize(
    ("task", "phase", "expected"),
    [
        ("kernel_size", 0, {"kernel_size": ["3", "5"], "expand_ratio": TOP, "depth": TOP}),
        ("width", 0, {"kernel_size": ["5"], "expand_ratio": ["2", "3"], "depth": TOP}),
        ("expand_ratio", 1, {"kernel_size": ["5"], "expand_ratio": ALL, "depth": TOP}),
        ("depth", None, {"kernel_size": ["5"], "expand_ratio": TOP, "depth": ALL}),
        (["kernel_size", "depth"], 0, {"kernel_size": KERNELS, "expand_ratio": TOP, "depth": ["2", "3"]}),
        (["kernel_size", "width", "depth"], 1, {"kernel_size": KERNELS, "expand_ratio": ALL, "depth": ALL}),
    ],
)
def test_tasks_set_by_hand(task: Any, phase: int | None, expected: dict[str, list[str]]) -> None:
    ofa = nets.ofa()
    before = opened(ofa)
    ofa.set_task(task, phase)
    assert opened(ofa) == expected
    ofa.set_epoch(4)
    assert opened(ofa) == expected
    ofa.set_task(None)
    ofa.set_epoch(0)
    assert opened(ofa) == before


def test_keys_are_those_of_the_model() -> None:
    ofa = nets.ofa()
    assert search_space_of(ofa) == search_space_of(ofa.model)
    assert ofa.space.keys[:3] == ("stage.0.expand_ratio", "stage.0.depthwise.kernel_size", "stage.1.expand_ratio")


def test_a_step_sums_the_gradients_of_its_sub_networks() -> None:
    batch = nets.batches(1)[0]
    ofa = OFA(nets.Net(), RunConfig(dynamic_batch_size=3))
    group = ofa.curriculum.subnets(0)
    assert len(set(group)) > 1
    loss = ofa.train_step(batch)
    expected: dict[str, torch.Tensor] = {}
    losses = []
    for tokens in group:
        alone = nets.Net()
        apply_choices(alone, ofa.space.decode(tokens))
        value = F.cross_entropy(alone(batch[0]), batch[1])
        value.backward()
        losses.append(value.detach())
        for name, parameter in alone.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected.get(name, torch.zeros(())) + parameter.grad
    got = {name: p.grad for name, p in ofa.model.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, msg=name)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    mean = OFA(nets.Net(), RunConfig(dynamic_batch_size=3, reduction="mean"))
    mean.train_step(batch)
    for name, parameter in mean.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad * 3, got[name])


def test_each_call_runs_one_sub_network_and_a_group_of_them_is_a_step() -> None:
    ofa = OFA(nets.Net(), RunConfig(dynamic_batch_size=2))
    x, _ = nets.batches(1)[0]
    drawn = []
    for call in range(6):
        assert ofa.step == call // 2
        out = ofa(x)
        assert out.shape == (8, 3)
        drawn.append(ofa.space.encode(ofa.current_config))
    assert drawn == [ofa.space.canonical(t) for step in range(3) for t in ofa.curriculum.subnets(step)]
    ofa.eval()
    before = ofa.current_config
    assert torch.equal(ofa(x), ofa(x))
    assert ofa.current_config == before


def test_a_sandwich_learns_from_its_largest() -> None:
    batch = nets.batches(1)[0]
    ofa = OFA(nets.Net(), RunConfig(dynamic_batch_size=3, sandwich=True))
    largest, smallest, *_ = ofa.curriculum.subnets(5)
    assert largest == ofa.curriculum.largest
    assert smallest == tuple([0] * len(ofa.space))
    model = copy.deepcopy(ofa.model)
    ofa.set(largest)
    first, second = ofa.loss_of(batch), None
    ofa.set(smallest)
    second = ofa.loss_of(batch)
    apply_choices(model, ofa.space.decode(largest))
    taught = model(batch[0])
    torch.testing.assert_close(first, F.cross_entropy(taught, batch[1]))
    apply_choices(model, ofa.space.decode(smallest))
    torch.testing.assert_close(second, soft_cross_entropy(model(batch[0]), taught))
    second.backward()


def test_the_teacher_runs_once_a_batch_and_without_gradients() -> None:
    ofa = nets.ofa()
    assert ofa.distiller is not None
    calls: list[bool] = []
    ofa.distiller.teacher.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    before = copy.deepcopy(ofa.distiller.teacher.state_dict())
    given = DistillConfig(teacher_model=nets.Net(), lambda_logits=1.0)
    ofa.set_epoch(3)
    optimizer = torch.optim.SGD(ofa.parameters(), lr=0.1)
    for batch in nets.batches(3):
        ofa.train_step(batch, F.cross_entropy, optimizer)
    assert calls == [False] * 3
    assert all(torch.equal(t, before[name]) for name, t in ofa.distiller.teacher.state_dict().items())
    assert not any("teacher" in name for name in OFA(nets.Net(), None, given).state_dict())
    x, _ = nets.batches(1)[0]
    out, taught = ofa(x)
    assert not taught.requires_grad
    assert out.shape == taught.shape


@pytest.mark.parametrize("mapping", ["conv", "conv2d", None])
def test_the_layers_loss(mapping: str | None) -> None:
    teacher = nets.Net(seed=9)
    config = DistillConfig(0.25, teacher, ["stage.0.down", "head"], mapping_op=None)
    if mapping is not None:
        config = DistillConfig(0.25, teacher, ["stage.0.down", ("stage.1.down", "stage.0.down")], mapping_op=mapping)
    ofa = OFA(nets.Net(), distill_config=config)
    assert len(ofa.netAs_param) == (0 if mapping is None else 4)
    x, _ = nets.batches(1)[0]
    ofa(x)
    ofa.set_net_config({"stage.depth": 2})
    ofa(x)
    kept: dict[str, torch.Tensor] = {}
    for whose, model in (("ours", ofa.model), ("theirs", teacher)):
        for name in ("stage.0.down", "stage.1.down", "head"):
            model.get_submodule(name).register_forward_hook(
                lambda _, __, out, at=f"{whose} {name}": kept.__setitem__(at, out)
            )
    ofa.model(x)
    teacher.eval()(x)
    if mapping is None:
        terms = [F.mse_loss(kept[f"ours {n}"], kept[f"theirs {n}"]) for n in ("stage.0.down", "head")]
    else:
        assert ofa.distiller is not None
        first, second = ofa.distiller.mappings
        terms = [
            F.mse_loss(first(kept["ours stage.0.down"]), kept["theirs stage.0.down"]),
            F.mse_loss(second(kept["ours stage.1.down"]), kept["theirs stage.0.down"]),
        ]
    torch.testing.assert_close(ofa.calc_distill_loss(), 0.25 * (terms[0] + terms[1]))


def test_a_loss_of_ones_own_between_layers() -> None:
    config = DistillConfig(None, nets.Net(seed=9), ["head"], distill_fn=lambda a, b: (a - b).abs().sum())
    ofa = OFA(nets.Net(), distill_config=config)
    out, taught = ofa(nets.batches(1)[0][0])
    torch.testing.assert_close(ofa.calc_distill_loss(), (out - taught).abs().sum())


def test_a_teacher_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    plain = extract(nets.Net(seed=4), OFA(nets.Net()).choices_of({}))
    torch.save(plain.state_dict(), path)
    ofa = OFA(nets.Net(), distill_config=DistillConfig(teacher_model_path=path, lambda_logits=1.0))
    x, _ = nets.batches(1)[0]
    torch.testing.assert_close(ofa(x)[1], plain.eval()(x))
    path.write_bytes(b"no weights")
    with pytest.raises(ElasticError, match="is not a state dict of tensors"):
        OFA(nets.Net(), distill_config=DistillConfig(teacher_model_path=path, lambda_logits=1.0))


@pytest.mark.parametrize(
    "config",
    [
        {"stage.0.expand_ratio": 2, "stage.depth": 1},
        {"stage.0": {"expand_ratio": 2}, "stage": {"depth": 1}},
        {"stage.0.expand_ratio": {"_idx": 1, "_value": "2"}, "stage.depth": {"_idx": 0}, "_uid": 3},
        {"stage.0.expand_ratio": "2", "stage": {"depth": 1.0}},
    ],
)
def test_a_configuration_in_every_notation(config: dict[str, Any]) -> None:
    ofa = OFA(nets.Net())
    ofa.set_net_config(config)
    values = {key: choice["_value"] for key, choice in ofa.current_config.items()}
    assert values.pop("stage.0.expand_ratio") == "2"
    assert values.pop("stage.depth") == "1"
    assert set(values.values()) == {"5"}  # the largest; what is beyond the depth is not shown
    x, _ = nets.batches(1)[0]
    assert torch.equal(ofa(x), ofa(x))
    ofa.set_net_config(None)
    drawn = {tuple(ofa.space.encode(ofa.current_config)) for _ in range(8) if ofa(x) is not None}
    assert len(drawn) > 1


def test_a_state_in_the_middle_of_a_step_goes_on_there() -> None:
    ofa, other = (OFA(nets.Net(), RunConfig(dynamic_batch_size=3)) for _ in range(2))
    x, _ = nets.batches(1)[0]
    for _ in range(4):
        ofa(x)
    other.load_state_dict(ofa.state_dict())
    assert other.get_extra_state()["calls"] == 1
    drawn = [
        [tuple(net.space.encode(net.current_config)) for _ in range(5) if net(x) is not None] for net in (ofa, other)
    ]
    wanted = [*ofa.curriculum.subnets(1)[1:], *ofa.curriculum.subnets(2)]
    assert drawn[0] == drawn[1] == list(map(ofa.space.canonical, wanted))
    assert len(set(drawn[0])) > 2
    assert other.state_dict().keys() == ofa.state_dict().keys()
    for name, tensor in ofa.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], tensor)


def test_where_it_is_stands_in_the_state() -> None:
    ofa = nets.ofa()
    ofa.set_task(["kernel_size", "depth"], 0)
    ofa.train_step(nets.batches(1)[0])
    ofa(nets.batches(1)[0][0])
    other = nets.ofa(seed=5)
    other.load_state_dict(ofa.state_dict())
    assert (other.step, other.epoch, opened(other)) == (ofa.step, ofa.epoch, opened(ofa))
    x, _ = nets.batches(1)[0]
    assert torch.equal(other(x)[0], ofa(x)[0])


class WithDepth(nn.Module):
    """Looks after its depth itself, as PaddleSlim's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ElasticLinear(6, 6) for _ in range(4))

    def forward(self, x: torch.Tensor, depth: float = 1.0) -> torch.Tensor:
        for layer in self.layers[: round(depth * 4)]:
            x = x + torch.relu(layer(x))
        return x


def test_a_depth_that_the_model_looks_after() -> None:
    ofa = OFA(WithDepth(), RunConfig(elastic_depth=(0.5, 0.75, 1.0)))
    assert ofa.space.keys == ("depth",)
    x = torch.randn(3, 6)
    for depth in (0.5, 0.75, 1.0):
        ofa.set_net_config({"depth": depth})
        torch.testing.assert_close(ofa(x), ofa.model(x, depth=depth))
    with pytest.raises(ElasticError, match="takes no depth"):
        OFA(nets.Net(), RunConfig(elastic_depth=(1, 2)))


def test_the_choice_of_a_depth_stays_with_the_model_only_if_all_goes_well() -> None:
    model = WithDepth()
    with pytest.raises(PhaseError):
        OFA(model, RunConfig(elastic_depth=(0.5, 1.0), n_epochs=[[1], [2]]))
    assert not hasattr(model, "depth") and not search_space_of(model)
    first = OFA(model, RunConfig(elastic_depth=(0.25, 1.0)))
    assert OFA(model, RunConfig(elastic_depth=(0.25, 1.0))).depth_choice is first.depth_choice
    with pytest.raises(ElasticError, match=r"elastic_depth is \[0.5, 1.0\], but this WithDepth has .* \[0.25, 1.0\]"):
        OFA(model, RunConfig(elastic_depth=(0.5, 1.0)))
    assert list(OFA(model, RunConfig(elastic_depth=(0.25, 1.0))).depth_choice.values) == [0.25, 1.0]  # type: ignore[union-attr]


class Letters(nn.Module):
    """Its layers are called as the parts of MIT's notation are."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.d = ElasticLinear(4, (2, 4)), ElasticLinear(4, (2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.d(self.e(x))


def test_layers_that_are_called_as_mits_parts() -> None:
    choices = OFA(Letters()).choices_of({"e": {"channel": 2}, "d": {"channel": 2}})
    assert {key: choice["_value"] for key, choice in choices.items()} == {"e.channel": "2", "d.channel": "2"}


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: OFA(nn.Linear(2, 2)), ElasticError, "nothing elastic"),
        (lambda: OFA(nets.Net(), RunConfig(n_epochs=[[1], [2]])), PhaseError, "wanted 3 lists"),
        (lambda: OFA(nets.Net(), RunConfig(n_epochs=[[1], [2], [2]])), PhaseError, "end after the one before"),
        (lambda: OFA(nets.Net(), elastic_order=("depth",)), ElasticError, "needs n_epochs"),
        (
            lambda: OFA(nets.Net(), RunConfig(n_epochs=[[1]]), elastic_order=("heads",)),
            PhaseError,
            "'heads' is unknown",
        ),
        (lambda: OFA(nets.Net(), RunConfig(dynamic_batch_size=(1, 2))), ElasticError, "one for all tasks"),
        (lambda: OFA(nets.Net(), RunConfig(phases=[Phase("a", (("heads", 2),))])), PhaseError, "fits no key"),
        (
            lambda: RunConfig(train_batch_size=0, dynamic_batch_size=0, seed=-1, reduction="max"),
            ElasticError,
            "4 wrong",
        ),
        (lambda: RunConfig(sandwich=True), ElasticError, "two sub-networks"),
        (lambda: RunConfig(n_epochs=[[1]], phases=[]), ElasticError, "one of them"),
        (lambda: DistillConfig(mapping_op="pool", lambda_distill=-1), ElasticError, "3 wrong"),
        (lambda: DistillConfig(mapping_op="conv"), ElasticError, "without mapping_layers"),
        (lambda: nets.ofa().set_epoch(-1), ElasticError, "epoch is -1"),
        (lambda: nets.ofa().set_task("heads"), PhaseError, "'heads' is unknown"),
        (lambda: nets.ofa().set_net_config({"stage.0.expand_ratio": 4}), ElasticError, "4 is not on offer"),
        (
            lambda: nets.ofa().set_net_config({"stage.9.expand_ratio": 2}),
            ElasticError,
            "no key of this network, did",
        ),
        (lambda: OFA(nets.Net()).calc_distill_loss(), ElasticError, "no teacher"),
        (
            lambda: OFA(nets.Net(), distill_config=DistillConfig(None, nn.Linear(2, 2), ["stage.0.down", "nowhere"])),
            ElasticError,
            "the teacher has no layer 'stage.0.down'",
        ),
        (lambda: ElasticDepth([nn.Identity()], (1, 2)), ElasticError, "depth 2 is 2 blocks"),
    ],
)
def test_bad_input_says_what_is_wrong(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
