"""Scores of paths: batch norm in closed form, the same images for all, and a supernet that is as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from mutators import ChoiceError, RandomMutator, apply_choices, extract, search_space_of
from mutators.oneshot import OneShotError, TrainConfig, evaluate, recalibrate_bn, train_supernet
from mutators.oneshot.rng import get_rng_state
from mutators.oneshot.scoring import accuracy
from search_spaces import Space
from tests.mutators import models
from tests.mutators.oneshot import nets


def decode(model: nn.Module, *tokens: int) -> dict[str, Any]:
    return Space.from_json(search_space_of(model)).decode(tokens)


def loader(n: int = 48, size: int = 8, **options: Any) -> DataLoader[Any]:
    return DataLoader(nets.data(n), batch_size=size, **options)


@contextmanager
def untouched(model: nn.Module, *loaders: DataLoader[Any]) -> Iterator[None]:
    """All that an evaluation could change, bit for bit."""

    def everything() -> dict[str, Any]:
        modules = {name: (m.training, getattr(m, "_active", 0)) for name, m in model.named_modules()}
        hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
        mutators = [getattr(m, "mutator", None) for m in model.modules()]
        states = [one.generator.get_state() for one in loaders if one.generator is not None]
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        grads = {name: p.grad for name, p in model.named_parameters()}
        return {"m": modules, "h": hooks, "b": mutators, "l": states, "w": weights, "g": grads, "r": get_rng_state()}

    before = everything()
    yield
    assert nets.same(everything(), before)


class TestBatchNorm:
    @pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 4, 3), (5, 2, 3, 2)])
    def test_statistics_are_those_of_all_data_at_once(self, shape: tuple[int, ...]) -> None:
        """Batches of different sizes and far from each other: each image counts the same."""
        norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}[len(shape)](5)
        batches = [torch.randn(n, *shape) * n + 100 * n for n in (2, 7, 3)]
        model = nn.Sequential(norm).eval()
        assert recalibrate_bn(model, batches) == 3
        whole = torch.cat(batches).double()
        dims = [0, *range(2, whole.dim())]
        torch.testing.assert_close(norm.running_mean, whole.mean(dims).float())
        torch.testing.assert_close(norm.running_var, whole.var(dims, correction=0).float())
        assert norm.num_batches_tracked == 3 and not norm.training

    def test_nothing_of_the_old_statistics_is_left(self) -> None:
        a, b = nets.supernet(), nets.supernet()
        nn.init.constant_(b[1].running_mean, 1e6)
        for model in (a, b):
            apply_choices(model, decode(model, 0, 1, 0))
            recalibrate_bn(model, loader())
        assert nets.same(a.state_dict(), b.state_dict())

    def test_behind_another_norm_inputs_are_normalised_by_batch(self) -> None:
        torch.manual_seed(0)
        first, second = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        batches = [torch.randn(n, 6) * n for n in (4, 8)]
        recalibrate_bn(nn.Sequential(first, nn.Sigmoid(), second), batches)
        normalised = [(x - x.mean(0)) / (x.var(0, correction=0) + first.eps).sqrt() for x in batches]
        torch.testing.assert_close(second.running_mean, torch.cat(normalised).sigmoid().mean(0))

    def test_a_norm_that_runs_twice_gets_both(self) -> None:
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norm = nn.BatchNorm1d(6)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.norm(x) + self.norm(x + 2)

        model, (x, _) = Twice(), nets.data().tensors
        recalibrate_bn(model, [x])
        torch.testing.assert_close(model.norm.running_mean, x.mean(0) + 1)

    def test_only_the_chosen_path_and_only_what_has_statistics(self) -> None:
        model = nets.supernet()
        model.append(nn.BatchNorm1d(3, track_running_stats=False))
        apply_choices(model, decode(model, 0, 0, 0))
        with untouched(model[2][1]), untouched(model[3][2]):
            recalibrate_bn(model, loader(), batches=2)
        assert model[2][0][3].num_batches_tracked == 2 and model[2][1][3].num_batches_tracked == 0
        assert all(m.training for m in model.modules())

    def test_an_exception_leaves_it_as_it_was(self) -> None:
        model = nets.supernet()
        apply_choices(model, decode(model, 0, 0, 0))
        with untouched(model), pytest.raises(RuntimeError):
            recalibrate_bn(model, [torch.eye(6), torch.eye(5)])
        with untouched(model), pytest.raises(OneShotError, match="0 batches"):
            recalibrate_bn(model, [], batches=4)
        with untouched(model), pytest.raises(OneShotError, match="batches is 0, wanted a whole number from 1 up"):
            recalibrate_bn(model, [], batches=0)

    def test_synchronised_norms_count_too(self) -> None:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(6)))
        x, _ = nets.data().tensors
        recalibrate_bn(model, [x])
        torch.testing.assert_close(model[0].running_mean, x.mean(0))


class TestEvaluate:
    @pytest.mark.parametrize("options", [{}, {"bn_training_mode": True}, {"calibrated": True}])
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("bound", [True, False])
    def test_leaves_everything_untouched(self, options: dict[str, Any], training: bool, bound: bool) -> None:
        model = nets.supernet(dropout=0.5).train(training)
        model[3].eval()  # someone froze a part
        apply_choices(model, decode(model, 2, 0, 1))
        if bound:
            RandomMutator(model).reset()
        calibration = loader(shuffle=True, generator=torch.Generator())
        valid = loader(sampler=RandomSampler(nets.data(), generator=torch.Generator()))
        given = {"bn_training_mode": True} if "bn_training_mode" in options else {}
        with untouched(model, calibration):
            state = valid.sampler.generator.get_state()  # type: ignore[union-attr]
            evaluate(
                model,
                decode(model, 0, 1, 0),
                valid,
                calibration if "calibrated" in options else None,
                batches=3,
                **given,
            )
            assert torch.equal(state, valid.sampler.generator.get_state())  # type: ignore[union-attr]

    def test_also_after_an_exception(self) -> None:
        model = nets.supernet()
        apply_choices(model, decode(model, 2, 0, 1))

        def fail(*_: Any) -> Any:
            torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
            raise KeyboardInterrupt

        for arguments in ({"metric": fail}, {"forward": fail, "calibration_loader": loader()}):
            with untouched(model), pytest.raises(KeyboardInterrupt):
                evaluate(model, decode(model, 0, 1, 0), loader(), **arguments)
        with untouched(model), pytest.raises(ChoiceError):
            evaluate(model, {}, loader())

    def test_the_score_is_that_of_the_extracted_and_recalibrated_network(self) -> None:
        model = nets.supernet(dropout=0.3)
        train_supernet(model, loader(), TrainConfig(epochs=3, lr=0.1), progress=False)
        for tokens in ((0, 1, 0), (1, 0, 1), (2, 2, 0)):
            choices = decode(model, *tokens)
            found = evaluate(model, choices, loader(40, 12), loader(), batches=6, seed=3)
            plain = extract(model, choices).eval()
            recalibrate_bn(plain, loader(), 6, seed=3)
            x, y = nets.data(40).tensors
            assert found["default"] == pytest.approx(float(accuracy(plain(x), y)))
            likely = evaluate(plain, {}, loader(40, 12), metric="log_likelihood")
            assert likely["default"] == pytest.approx(-F.cross_entropy(plain(x), y).item(), abs=1e-6)
            assert {k: v for k, v in found.items() if k != "default"} == {
                "images": 40,
                "calibration_batches": 6,
                "seed": 3,
            }

    def test_a_network_that_adapts_leaves_the_supernet_as_it_was(self) -> None:
        """Its score is that of the extracted network after the same training."""

        def adapt(network: nn.Module) -> None:
            train_supernet(network, loader(), TrainConfig(epochs=2, lr=0.1, seed=1), progress=False)

        model = nets.supernet()
        train_supernet(model, loader(), TrainConfig(epochs=1, lr=0.1), progress=False)
        choices = decode(model, 1, 0, 1)
        with untouched(model):
            found = evaluate(model, choices, loader(40, 12), loader(), metric="log_likelihood", adapt=adapt)
        alone = extract(model, choices)
        adapt(alone)
        assert found == evaluate(alone, {}, loader(40, 12), loader(), metric="log_likelihood")
        before = evaluate(model, choices, loader(40, 12), loader(), metric="log_likelihood")
        assert found["default"] > before["default"]

    def test_all_candidates_see_the_same_part_and_another_seed_another(self) -> None:
        model, seen = nets.supernet(), []

        def metric(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
            seen.append(targets)
            return {"top-1": 0.5, "top-5": 0.25}

        shuffled = loader(200, shuffle=True)
        for tokens, seed in (((0, 0, 0), 1), ((1, 2, 1), 1), ((0, 0, 0), 2)):
            torch.rand(int(seed))
            found = evaluate(model, decode(model, *tokens), shuffled, valid_batches=2, seed=seed, metric=metric)
        assert nets.same(seen[:2], seen[2:4]) and not nets.same(seen[:2], seen[4:])
        assert found == {"top-1": 0.5, "top-5": 0.25, "images": 16, "calibration_batches": 0, "seed": 2}

    def test_batch_statistics_on_request(self) -> None:
        model = nets.supernet()
        choices = decode(model, 0, 1, 0)
        x, y = nets.data(48).tensors
        found = evaluate(model, choices, loader(48, 48), bn_training_mode=True)
        assert found["default"] == pytest.approx(float(accuracy(extract(model, choices).train()(x), y)))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"bn_training_mode": True, "calibration_loader": loader()}, "one of them"),
            ({"batches": 0}, "batches is 0"),
            ({"metric": "acuracy"}, "metric is 'acuracy', wanted .*accuracy.*, or a function"),
            ({"valid_batches": 7}, "has 6 batches, wanted 7"),
            ({"calibration_loader": iter(loader())}, "calibration_loader is an iterator"),
        ],
    )
    def test_what_does_not_fit(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(OneShotError, match=message):
            evaluate(nets.supernet(), decode(nets.supernet(), 0, 0, 0), loader(), **options)


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_the_exported_winner_has_the_supernets_logits(name: str) -> None:
    """With the same batch norm statistics, within 1e-5 of the largest logit or of one."""
    model = models.build(name)
    x = models.input_of(name)
    space = Space.from_json(search_space_of(model))
    for seed in range(5):
        choices = space.decode(space.sample(np.random.default_rng(seed)))
        apply_choices(model, choices)
        recalibrate_bn(model.train(), [x, x + 1])
        model.eval()
        ours, theirs = model(x), extract(model, choices).eval()(x)
        assert ((ours - theirs).abs() <= 1e-5 * ours.abs().clamp(min=1)).all()
