"""Training: what moves and what does not, options, resuming, errors."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from mutators import ChoiceError, RandomMutator, apply_choices, extract, search_space_of
from mutators.oneshot import OneShotError, TrainConfig, train_supernet
from mutators.oneshot.optim import lr_factor
from search_spaces import Space
from tests import processes
from tests.mutators.oneshot import nets

Batches = list[tuple[torch.Tensor, torch.Tensor]]


def batches_of(n: int = 4, size: int = 8) -> Batches:
    x, y = nets.data(n * size).tensors
    return list(zip(x.split(size), y.split(size), strict=True))


def fit(model: nn.Module, loader: Any = None, **options: Any) -> list[float]:
    """Train without progress; options of the config and of train_supernet together."""
    names = TrainConfig.__dataclass_fields__.keys() - (
        {"optimizer"} if not isinstance(options.get("optimizer"), str) else set()
    )
    config = TrainConfig(**{"epochs": 2} | {k: v for k, v in options.items() if k in names})
    rest = {k: v for k, v in options.items() if k not in names}
    return train_supernet(model, batches_of() if loader is None else loader, config, progress=False, **rest)


def parameters(model: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.state_dict().items() if name.startswith(prefix)}


class Unsized:
    """A loader without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(batches_of())


class TestUnchosenWeights:
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_do_not_move(self, optimizer: str) -> None:
        """Candidate 0 is trained first, so that it has momentum; then it is left alone for several steps."""
        model = nets.supernet()
        seen: dict[int, dict[str, torch.Tensor]] = {}

        def step(net: nn.Module, batch: Any) -> torch.Tensor:
            seen[len(seen)] = parameters(net, "2.candidates.0.")
            return F.cross_entropy(net(batch[0]), batch[1])

        fit(
            model,
            batches_of(8),
            epochs=1,
            step=step,
            optimizer=optimizer,
            weight_decay=0.1,
            schedule="constant",
            paths=lambda i: [(0, 0, 0) if i < 3 else (1 + i % 2, 2, 1)],
        )
        assert not nets.same(seen[2], seen[3]), "it moves while it is chosen"
        assert nets.same(seen[3], parameters(model, "2.candidates.0."))

    def test_have_no_gradient(self) -> None:
        model = nets.supernet()
        fit(model, paths=lambda i: [(0, 1, 0)])
        assert all(p.grad is None for p in model[2][1].parameters())
        assert all(p.grad is not None for p in model[2][0].parameters())


class TestUpdates:
    def test_are_those_of_sgd_by_hand(self) -> None:
        """Momentum, decay on matrices only, a linear schedule: against the formulas."""
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
        batches, moments = batches_of(3), [torch.zeros(3, 6), torch.zeros(3)]
        fit(model, batches, lr=0.5, momentum=0.9, weight_decay=0.1, schedule="linear", epochs=1)
        for i, (x, y) in enumerate(batches):
            w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
            F.cross_entropy(F.linear(x, w, b), y).backward()
            moments[0] = 0.9 * moments[0] + w.grad + 0.1 * weight
            moments[1] = 0.9 * moments[1] + b.grad
            weight, bias = weight - 0.5 * (1 - i / 3) * moments[0], bias - 0.5 * (1 - i / 3) * moments[1]
        torch.testing.assert_close(model.weight.detach(), weight)
        torch.testing.assert_close(model.bias.detach(), bias)

    def test_fair_adds_up_the_gradients_of_the_group_on_one_batch(self) -> None:
        model, plain = nets.supernet(norm=False), nets.supernet(norm=False)
        batch = batches_of(1)
        group = [(0, 1, 0), (1, 2, 1), (2, 0, 0)]
        fit(model, batch, epochs=1, lr=0.1, momentum=0, weight_decay=0, paths=lambda i: group)
        space = Space.from_json(search_space_of(plain))
        for tokens in group:
            apply_choices(plain, space.decode(tokens))
            F.cross_entropy(plain(batch[0][0]), batch[0][1]).backward()
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            expected = theirs if theirs.grad is None else theirs - 0.1 * theirs.grad
            torch.testing.assert_close(ours, expected)

    def test_fair_strategy_runs_every_option(self) -> None:
        model = nets.supernet()
        fit(model, epochs=1, strategy="fair")
        assert all(p.grad is not None for p in model[2].parameters())

    def test_gradients_are_cut(self) -> None:
        model = nn.Linear(6, 3)
        fit(model, epochs=1, clip_norm=1e-3)
        assert sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5 < 1.001e-3  # type: ignore[union-attr]

    def test_loss_falls_for_all_optimizers(self) -> None:
        for optimizer, lr in (("sgd", 0.1), ("adamw", 0.01)):
            losses = fit(nets.supernet(), epochs=15, optimizer=optimizer, lr=lr, label_smoothing=0.1)
            assert len(losses) == 15 and losses[-1] < 0.8 * losses[0]

    def test_an_optimizer_loss_and_step_of_the_users_own(self) -> None:
        model = nets.supernet()
        optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
        assert fit(model, optimizer=optimizer, loss=lambda out, y: (out.sum() - y.sum()) * 0 + 2.0) == [2.0, 2.0]
        losses = fit(nets.supernet(), [{"x": x} for x, _ in batches_of()], step=lambda m, b: m(b["x"]).square().mean())
        assert losses[1] < losses[0]

    def test_a_mutator_draws_in_the_place_of_paths(self) -> None:
        model = nets.supernet()
        mutator = RandomMutator(model, seed=1)
        drawn = []
        mutator.sample_search, original = lambda: drawn.append(original()) or drawn[-1], mutator.sample_search  # type: ignore
        fit(model, mutator=mutator)
        assert len(drawn) == 8 and model[2].mutator is mutator

    def test_a_plain_network_is_retrained_by_the_same_loop(self) -> None:
        model = nets.supernet()
        plain = extract(model, Space.from_json(search_space_of(model)).decode((0, 1, 0)))
        losses = fit(plain, epochs=10)
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rates(schedule: str) -> None:
    config = TrainConfig(epochs=10, schedule=schedule, warmup_epochs=1.5)
    factors = [lr_factor(config, step, 40, 4) for step in range(40)]
    assert factors[:6] == [i / 6 for i in range(1, 7)] and factors[6] == 1
    middle = {"cosine": 0.5, "linear": 0.5, "constant": 1.0}[schedule]
    assert factors[6 + 17] == pytest.approx(middle) and min(factors[6:]) > 0


class TestResume:
    @pytest.mark.slow
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    @pytest.mark.parametrize("stop", [1, 6, 7, 13])
    def test_inside_an_epoch_is_exact(self, tmp_path: Path, optimizer: str, stop: int) -> None:
        """Weights, momentum, generators, losses: all of the last checkpoint, bit for bit."""
        whole, losses = nets.train(tmp_path / "whole.pt", optimizer)
        with pytest.raises(Interrupted), interrupted_at(stop):
            nets.train(tmp_path / "part.pt", optimizer)
        model, again = nets.train(tmp_path / "part.pt", optimizer)
        assert again == losses and nets.same(model.state_dict(), whole.state_dict())
        assert nets.same(*(torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("part", "whole")))

    def test_workers_draw_the_same(self, tmp_path: Path) -> None:
        whole, losses = nets.train(tmp_path / "whole.pt", epochs=1, workers=1)
        with pytest.raises(Interrupted), interrupted_at(3):
            nets.train(tmp_path / "part.pt", epochs=1, workers=1)
        model, again = nets.train(tmp_path / "part.pt", epochs=1, workers=1)
        assert again == losses and nets.same(model.state_dict(), whole.state_dict())

    def test_a_checkpoint_changes_nothing(self, tmp_path: Path) -> None:
        (a, losses), (b, others) = nets.train(None), nets.train(tmp_path / "c.pt")
        assert losses == others and nets.same(a.state_dict(), b.state_dict())

    def test_data_and_paths_do_not_depend_on_the_networks_draws(self) -> None:
        order: list[list[torch.Tensor]] = [[], []]
        for dropout, seen in zip((0.0, 0.5), order, strict=True):

            def step(net: nn.Module, batch: Any, seen: Any = seen) -> torch.Tensor:
                seen.append(batch[0])
                return net(batch[0]).square().mean()

            loader: Any = DataLoader(nets.Noisy(), batch_size=8, shuffle=True)
            fit(nets.supernet(dropout=dropout), loader, step=step)
        assert nets.same(order[0], order[1])
        assert not torch.equal(order[0][0], order[0][6]), "each epoch has its own order"

    def test_a_finished_training_returns_at_once(self, tmp_path: Path) -> None:
        _, losses = nets.train(tmp_path / "c.pt")
        model = nets.supernet()
        config = {"epochs": 4, "warmup_epochs": 1, "clip_norm": 1}
        loader: Any = DataLoader(nets.Noisy(), batch_size=8, shuffle=True)
        assert fit(model, loader, checkpoint=tmp_path / "c.pt", **config) == losses

    def test_a_mutators_own_generator_goes_on(self, tmp_path: Path) -> None:
        def run(path: Path) -> nn.Module:
            model = nets.supernet()
            fit(model, mutator=RandomMutator(model, seed=4), checkpoint=path, checkpoint_every=1, epochs=4)
            return model

        whole = run(tmp_path / "whole.pt")
        with pytest.raises(Interrupted), interrupted_at(6):
            run(tmp_path / "part.pt")
        assert nets.same(run(tmp_path / "part.pt").state_dict(), whole.state_dict())

    @pytest.mark.slow
    @pytest.mark.parametrize("strategy", ["uniform", "fair"])
    def test_killed_at_random_moments(self, tmp_path: Path, strategy: str) -> None:
        """A real process, a real SIGKILL, until it gets through; then its last checkpoint is the unbroken one's."""
        rng, part, kills = random.Random(strategy), tmp_path / "part.pt", 0
        train = partial(nets.train, strategy=strategy, epochs=30)
        assert processes.run(train, tmp_path / "whole.pt") == 0
        for _ in range(4):
            written, process = partial(_has_changed, part, _stamp(part)), processes.start(train, part)
            kills += processes.kill(process, written, rng.uniform(0, 0.2))
        assert processes.run(train, part) == 0
        assert kills >= 2, f"only {kills} kills: the training is too short for this test"
        assert nets.same(*(torch.load(path, weights_only=True) for path in (part, tmp_path / "whole.pt")))


class TestErrors:
    def test_a_config_names_all_that_is_wrong(self) -> None:
        with pytest.raises(OneShotError) as caught:
            TrainConfig(epochs=0, optimizer="lion", lr=-1, momentum=1, seed=-1, warmup_epochs=-1, clip_norm=0)
        assert len(caught.value.problems) == 7
        with pytest.raises(TypeError):
            TrainConfig(epochs=1, epoch=3)  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"loss": F.mse_loss, "step": lambda m, b: m(b[0]).sum()}, "loss and step"),
            ({"loss": F.mse_loss, "label_smoothing": 0.1}, "label_smoothing"),
            ({"paths": lambda i: [(0, 0, 0)], "strategy": "fair"}, "strategy"),
            ({"optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)}, "the optimizer does not have"),
            ({"paths": lambda i: [(0, 0)]}, "a path has 2 tokens, wanted 3"),
            ({"loader": iter(batches_of())}, "an iterator"),
            ({"loader": (b for b in batches_of())}, "an iterator"),
            ({"loader": []}, "no batch"),
            ({"loader": Unsized()}, "no length"),
            ({"steps_per_epoch": 5}, "ended after 4 batches in epoch 0"),
            ({"loss": lambda out, y: out.sum() * float("nan")}, "the loss is nan at step 4"),
        ],
    )
    def test_arguments(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises((OneShotError, ChoiceError), match=message):
            loader = options.get("loader")
            rest = {k: v for k, v in options.items() if k != "loader"}
            fit(nets.supernet(), batches_of() if loader is None else loader, **rest)

    def test_a_bound_mutator_that_was_not_given(self) -> None:
        model = nets.supernet()
        mutator = RandomMutator(model)
        with pytest.raises(ChoiceError, match="mutator="):
            fit(model)
        with pytest.raises(OneShotError, match="bound to another model"):
            fit(nets.supernet(), mutator=mutator)

    def test_a_checkpoint_of_another_training(self, tmp_path: Path) -> None:
        path = tmp_path / "c.pt"
        fit(nets.supernet(), checkpoint=path)
        with pytest.raises(OneShotError, match="lr"):
            fit(nets.supernet(), checkpoint=path, lr=0.3)
        with pytest.raises(OneShotError, match="first_paths"):
            fit(nets.supernet(), checkpoint=path, paths=lambda i: [(0, 0, 0)])
        with pytest.raises(OneShotError, match="space"):
            fit(nets.supernet()[:4], checkpoint=path)
        with pytest.raises(OneShotError, match="parameters"):
            fit(nets.supernet(norm=False), checkpoint=path)
        with pytest.raises(OneShotError, match="already"):
            fit(nets.supernet(), checkpoint=path, resume=False)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
    def test_a_damaged_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "c.pt").write_bytes(content)
        with pytest.raises(OneShotError, match="no checkpoint"):
            fit(nets.supernet(), checkpoint=tmp_path / "c.pt")

    def test_a_cut_checkpoint_and_a_missing_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "c.pt"
        fit(nets.supernet(), checkpoint=path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(OneShotError, match="no checkpoint"):
            fit(nets.supernet(), checkpoint=path)
        with pytest.raises(OneShotError, match="cannot write the checkpoint"):
            fit(nets.supernet(), checkpoint="/proc/no/c.pt")

    def test_a_loss_that_is_lost_leaves_the_last_checkpoint(self, tmp_path: Path) -> None:
        calls: list[int] = []

        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return F.cross_entropy(outputs, targets) * (float("nan") if len(calls) == 6 else 1.0)

        with pytest.raises(OneShotError, match="step 6"):
            fit(nets.supernet(), loss=loss, checkpoint=tmp_path / "c.pt", checkpoint_every=1)
        content = torch.load(tmp_path / "c.pt", weights_only=True)
        assert content["step"] == 5 and all(v.isfinite().all() for v in content["model"].values())

    def test_persistent_workers_cannot_be_resumed(self, tmp_path: Path) -> None:
        loader: Any = DataLoader(nets.data(), num_workers=1, persistent_workers=True)
        with pytest.raises(OneShotError, match="persistent_workers"):
            fit(nets.supernet(), loader, checkpoint=tmp_path / "c.pt")


def test_progress_shows_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    train_supernet(nets.supernet(), batches_of(), TrainConfig(epochs=1))
    assert "4/4" in capsys.readouterr().err


def test_without_tensorboard_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="tensorboard"):
        fit(nets.supernet(), log_dir=tmp_path)


def test_scalars_for_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package, which need not be installed."""
    written: list[Any] = []

    class SummaryWriter:
        def __init__(self, log_dir: str, purge_step: int) -> None:
            written.append((log_dir, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def close(self) -> None:
            written.append("closed")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    fit(nets.supernet(), log_dir=tmp_path, epochs=1)
    assert written == [(str(tmp_path), 0), ("loss", 4), ("lr", 4), "closed"]


class Interrupted(Exception):
    """In the place of a kill."""


class interrupted_at:
    """Raise in the ``stop``-th optimizer step, after its update: nothing is saved any more."""

    def __init__(self, stop: int) -> None:
        self.stop, self.patch = stop, pytest.MonkeyPatch()

    def __enter__(self) -> None:
        from mutators.oneshot.optim import Update

        count, original = iter(range(1, 10**6)), Update.step

        def step(update: Update, factor: float) -> None:
            original(update, factor)
            if next(count) == self.stop:
                raise Interrupted

        self.patch.setattr(Update, "step", step)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _has_changed(path: Path, stamp: int) -> bool:
    return _stamp(path) != stamp
