"""The teacher: layers that are left out, mappings that are sorted along, outputs of every kind, and bad input."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mutators.elastic import OFA, DistillConfig, ElasticError, RunConfig, convert, sort_channels, train
from mutators.elastic.layers import ElasticLinear
from mutators.elastic.training.losses import soft_cross_entropy
from mutators.elastic.training.train import sort_for_phase
from mutators.oneshot import TrainConfig
from tests.mutators.elastic.training import shrinking as nets

X, Y = nets.batches(1)[0]
LAST = DistillConfig(mapping_layers=["stage.2.down"])  # runs at depth 3 only


def test_a_layer_that_is_left_out_adds_nothing() -> None:
    ofa = OFA(nets.Net(), distill_config=DistillConfig(mapping_layers=["stage.2.down", "stage.0.down"])).eval()
    ofa(X)
    ofa.set_net_config({"stage.depth": 1, "stage.0.expand_ratio": 1})
    out, _ = ofa(X + 1)  # what was seen of the batch before is none of this one's
    first = ofa.calc_distill_loss()
    assert first > 0 and first.requires_grad and out.shape == (8, 3)
    alone = OFA(copy.deepcopy(ofa.model), distill_config=DistillConfig(mapping_layers=["stage.0.down"])).eval()
    alone.set_net_config({"stage.depth": 1, "stage.0.expand_ratio": 1})
    alone(X + 1)
    torch.testing.assert_close(first, alone.calc_distill_loss())
    only = OFA(nets.Net(), distill_config=LAST).eval()
    with pytest.raises(ElasticError, match="did not run: call the model first"):
        only.calc_distill_loss()
    only.set_net_config({"stage.depth": 1})
    only(X)
    assert only.calc_distill_loss() == 0


def test_a_training_in_which_layers_are_left_out() -> None:
    ofa = OFA(nets.Net(), RunConfig(dynamic_batch_size=2), LAST)
    losses = train(ofa, nets.batches(8), TrainConfig(epochs=1, lr=0.05), progress=False)
    assert len(losses["all"]) == 1
    optimizer = torch.optim.SGD(ofa.parameters(), lr=0.05)
    for batch in nets.batches(8):
        ofa.train_step(batch, F.cross_entropy, optimizer)


def _sortable(op: str) -> OFA:
    """Widths of one layer, and for "linear" of one whose halves go two ways."""
    torch.manual_seed(0)
    if op == "conv":
        net: nn.Module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3))
        layers, example = ["0", "1"], torch.randn(2, 1, 6, 6)
    else:
        net, layers, example = Halves(), ["both"], torch.randn(2, 4)
    config = DistillConfig(mapping_layers=layers, mapping_op=op)
    ofa = OFA(convert(net, example=example, expand_ratio=(0.5, 1.0)), RunConfig(n_epochs=[[1]]), config)
    with torch.no_grad():
        for parameter in ofa.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return ofa.eval()


class Halves(nn.Module):
    """A gate: one half of a layer's features times the other."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(4, 16), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.both(x).chunk(2, -1)
        out: torch.Tensor = self.out(a * torch.sigmoid(b))
        return out


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("op", ["conv", "linear"])
def test_mappings_are_sorted_with_the_channels_that_they_read(op: str, whole: bool) -> None:
    ofa = _sortable(op)
    x = torch.randn(3, 1, 6, 6) if op == "conv" else torch.randn(3, 4)
    before, weight = ofa(x)[0], ofa.netAs_param[0].clone()
    loss = ofa.calc_distill_loss()
    alone = sort_channels(copy.deepcopy(ofa.model)).permutations
    if whole:
        assert [p.tolist() for p in sort_channels(ofa).permutations.values()] == [p.tolist() for p in alone.values()]
    else:
        sort_for_phase(ofa, 0)
    assert not torch.equal(ofa.netAs_param[0], weight)
    torch.testing.assert_close(ofa(x)[0], before)
    torch.testing.assert_close(ofa.calc_distill_loss(), loss)


def test_a_mapping_reads_both_halves_of_what_is_cut() -> None:
    ofa = _sortable("linear")
    ofa.set_net_config({"both.expand_ratio": 0.5})
    x = torch.randn(3, 4)
    _, _ = ofa(x)
    both, assert_close = ofa.model.both(x), torch.testing.assert_close
    assert ofa.distiller is not None and both.shape == (3, 8)
    mapping = ofa.distiller.mappings[0]
    read = torch.cat([mapping.weight[:, :4], mapping.weight[:, 8:12]], 1)
    wanted = F.mse_loss(both @ read.T + mapping.bias, ofa.distiller.teacher.both(x))
    assert_close(ofa.calc_distill_loss(), wanted)


def test_a_block_that_ends_with_one_slope_for_all_channels_is_mapped_by_the_layer_before() -> None:
    net = nn.Sequential(nn.Sequential(ElasticLinear(3, (2, 4)), nn.PReLU()))
    ofa = OFA(net, None, DistillConfig(mapping_layers=["0"], mapping_op="linear"))
    assert ofa.distiller.mappings[0].weight.shape == (4, 4)
    ofa(torch.randn(2, 3))
    assert ofa.calc_distill_loss() >= 0


def test_what_only_a_mapping_reads_is_not_sorted() -> None:
    ofa = OFA(nn.Sequential(ElasticLinear(3, (2, 4))), None, DistillConfig(mapping_layers=["0"], mapping_op="linear"))
    assert not sort_channels(ofa).permutations and "reads it" in next(iter(sort_channels(ofa).left.values()))


def test_mappings_have_the_models_type() -> None:
    net = convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double(), expand_ratio=(0.5, 1.0))
    ofa = OFA(net, None, DistillConfig(mapping_layers=["0"], mapping_op="linear"))
    ofa(torch.randn(2, 4).double())
    assert ofa.calc_distill_loss().dtype == torch.float64


def test_a_batch_that_was_written_over_is_another_one() -> None:
    ofa = OFA(nets.Net(), distill_config=DistillConfig(teacher_model=nets.Net(seed=9)))
    calls: list[int] = []
    assert ofa.distiller is not None
    ofa.distiller.teacher.register_forward_hook(lambda *_: calls.append(1))
    buffer = X.clone()
    first = ofa(buffer)[1]
    assert ofa(buffer)[1] is first and len(calls) == 1
    buffer.copy_(X + 1)
    torch.testing.assert_close(ofa(buffer)[1], ofa.distiller.teacher(X + 1))
    with torch.inference_mode():
        assert ofa(torch.ones_like(X))[1].shape == (8, 3)


def test_it_can_be_copied_after_a_forward() -> None:
    ofa = nets.ofa()
    ofa(X)
    ofa.calc_distill_loss()
    for made in (copy.deepcopy(ofa), AveragedModel(ofa).module):
        with pytest.raises(ElasticError, match="did not run"):
            made.calc_distill_loss()
        made.eval()(X)
        assert made.calc_distill_loss().requires_grad
        assert made.distiller._layers[0][0] is made.model.get_submodule("stage.0.down")


def test_the_temperature() -> None:
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    by_hand = -(F.softmax(teacher / 3, 1) * F.log_softmax(student / 3, 1)).sum(1).mean() * 9
    torch.testing.assert_close(soft_cross_entropy(student, teacher, 3.0), by_hand)
    ofa = OFA(nets.Net(), None, DistillConfig(teacher_model=nets.Net(seed=9), lambda_logits=0.5, temperature=3.0))
    loss = ofa.eval().loss_of((X, Y))
    out, taught = ofa(X)
    torch.testing.assert_close(loss, F.cross_entropy(out, Y) + 0.5 * soft_cross_entropy(out, taught, 3.0))


class Exits(nn.Module):
    """Two outputs and a None, as the class says."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind, self.body = kind, ElasticLinear(4, (4, 8))
        self.early, self.late = ElasticLinear(8, 2), ElasticLinear(8, 2)

    def forward(self, x: torch.Tensor) -> Any:
        h = self.body(x).relu()
        return self.kind((("early", self.early(h)), ("late", self.late(h)), ("state", None)))


def _exits_loss(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    found = dict(outputs)
    return F.cross_entropy(found["early"], targets) + F.cross_entropy(found["late"], targets)


@pytest.mark.parametrize("kind", [dict, tuple, list])
@pytest.mark.parametrize("sandwich", [False, True])
def test_outputs_in_dicts_and_beside_nothing(kind: Any, sandwich: bool) -> None:
    torch.manual_seed(0)
    run_config = RunConfig(dynamic_batch_size=2, sandwich=sandwich)
    ofa = OFA(Exits(kind), run_config, None if sandwich else DistillConfig(lambda_logits=1.0))
    batch = (torch.randn(6, 4), torch.randint(2, (6,)))
    before = copy.deepcopy(ofa.model)
    loss = ofa.train_step(batch, _exits_loss)
    group = ofa.curriculum.subnets(0)
    outputs = []
    for tokens in group:
        before.body.set_config(channel=(4, 8)[tokens[0]])
        outputs.append(dict(before(batch[0])))
    before.body.set_config(channel=8)
    taught = dict(before(batch[0]))
    soft = [sum(soft_cross_entropy(out[name], taught[name]) for name in ("early", "late")) for out in outputs]
    hard = [_exits_loss(out, batch[1]) for out in outputs]
    expected = [hard[0], soft[1]] if sandwich else [a + b for a, b in zip(hard, soft, strict=True)]
    torch.testing.assert_close(loss, sum(expected) / 2)


def test_losses_of_ones_own_between_outputs() -> None:
    torch.manual_seed(0)
    batch = (torch.randn(5, 4), torch.randn(5, 1))
    regression = nn.Sequential(ElasticLinear(4, (4, 8)), ElasticLinear(8, 1))
    ofa = OFA(regression, RunConfig(dynamic_batch_size=2, sandwich=True, sandwich_fn=F.mse_loss))
    largest, smallest = ofa.curriculum.subnets(0)
    ofa.set(largest)
    ofa.loss_of(batch, F.mse_loss)
    big = ofa.run(batch[0])
    ofa.set(smallest)
    torch.testing.assert_close(ofa.loss_of(batch, F.mse_loss), F.mse_loss(ofa.run(batch[0]), big))
    teacher = nn.Linear(4, 1)
    ofa = OFA(regression, None, DistillConfig(teacher_model=teacher, lambda_logits=2.0, logits_fn=F.l1_loss))
    loss, out = ofa.loss_of(batch, F.mse_loss), ofa.run(batch[0])
    torch.testing.assert_close(loss, F.mse_loss(out, batch[1]) + 2 * F.l1_loss(out, teacher(batch[0])))


def test_the_largest_of_a_sandwich_never_learns_from_itself() -> None:
    hard: list[int] = []

    def loss(outputs: Any, targets: Any) -> torch.Tensor:
        hard.append(1)
        return F.cross_entropy(outputs, targets)

    config = RunConfig(dynamic_batch_size=2, sandwich=True)
    train(OFA(nets.Net(), config), [(X, Y)], TrainConfig(epochs=5, lr=0.01), loss=loss, progress=False)
    assert len(hard) == 5  # once a step
    ofa = OFA(nets.Net(), config)
    ofa.loss_of((X, Y), loss)  # as a step that was interrupted
    ofa.train_step((X, Y), loss)
    assert len(hard) == 7


def test_paddleslims_way_of_comparing_outputs_oneself() -> None:
    ofa = OFA(nets.Net(), None, DistillConfig(lambda_distill=0.5, teacher_model=nets.Net(seed=9)))
    out, taught = ofa(X)
    F.mse_loss(out, taught).backward()
    with pytest.raises(ElasticError, match="the teacher adds nothing to the loss: name mapping_layers"):
        ofa.train_step((X, Y))


class Opaque(nn.Module):
    """Returns what nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = ElasticLinear(4, (1, 2))

    def forward(self, x: torch.Tensor) -> Any:
        return type("Answer", (), {"logits": self.layer(x)})()


def _sandwich(out: int, x: torch.Tensor) -> Any:
    ofa = OFA(
        nn.Sequential(ElasticLinear(4, (4, 8)), ElasticLinear(8, out)), RunConfig(2, None, None, None, 2, None, True)
    )
    return ofa.train_step((x, None), lambda a, b: a.sum())


def _distilled(**options: Any) -> OFA:
    return OFA(nets.Net(), None, DistillConfig(**options))


def _own_teacher() -> OFA:
    net = nets.Net()
    return OFA(net, None, DistillConfig(teacher_model=net, lambda_logits=1.0))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: _distilled(teacher_model="x"), "teacher_model is 'x', wanted a module"),
        (lambda: _distilled(mapping_layers=[3]), r"mapping_layers is \[3\], wanted a list of names"),
        (lambda: _distilled(mapping_layers=[("head", "head", "head")]), "wanted a list of names, or of pairs"),
        (lambda: _distilled(distill_fn="mse"), "distill_fn is 'mse', wanted a function"),
        (lambda: _distilled(logits_fn=F.mse_loss), "without lambda_logits"),
        (
            lambda: _distilled(mapping_layers=["head"], mapping_op="conv"),
            "'conv' is for maps .* not for a ElasticLinear",
        ),
        (lambda: _distilled(mapping_layers=["stem"], mapping_op="linear"), "'linear' is for features .* a Conv2d"),
        (
            lambda: [o := _distilled(mapping_layers=["stage"], mapping_op="linear"), o(X), o.calc_distill_loss()],
            r"'stage' gives \(8, 4, 6, 6\), but mapping_op 'linear' wants \(..., C\) with C = 4",
        ),
        (_own_teacher, "the supernet's own parameters, which would be frozen"),
        (lambda: RunConfig(sandwich_fn=F.mse_loss), "and sandwich=True"),
        (lambda: _sandwich(1, torch.randn(5, 4)), r"\(5, 1\) have no classes along dimension 1.*sandwich_fn"),
        (lambda: _sandwich(3, torch.randn(5, 7, 4)), "classes second or last.*sandwich_fn"),
        (lambda: soft_cross_entropy((X, X), (X,)), "wanted the same"),
        (lambda: soft_cross_entropy(torch.ones(2, 3), torch.ones(2, 4)), r"\(2, 3\), the teacher's \(2, 4\)"),
        (lambda: soft_cross_entropy({"a": None}, {"a": None}), "a dict without a tensor of logits"),
        (
            lambda: OFA(Opaque(), RunConfig(dynamic_batch_size=2, sandwich=True)).train_step(
                (torch.ones(2, 4), None), lambda a, b: a.logits.sum()
            ),
            "among the outputs is a Answer",
        ),
        (lambda: OFA(nets.Net()).train_step((X, Y, Y)), "the batch is a tuple of 3, wanted"),
        (lambda: OFA(nets.Net()).train_step({"x": X, "y": Y}), "the batch is a dict, wanted"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_says_what_is_wrong(act: Any, message: str) -> None:
    with pytest.raises(ElasticError, match=message):
        act()


def test_a_teacher_that_was_refused_is_not_frozen() -> None:
    net, teacher = nets.Net(), nets.Net()
    for model, config in ((net, DistillConfig(teacher_model=net)), (nets.Net(), DistillConfig(None, teacher, ["x"]))):
        with pytest.raises(ElasticError):
            OFA(model, None, config)
    assert all(p.requires_grad for p in (*net.parameters(), *teacher.parameters()))
