"""``nas prune``: at once, in a training, interrupted and killed, and what is wrong."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mutators import LayerChoice, load_subnet, save_subnet
from mutators.oneshot import TrainConfig
from mutators.pruning import sparsity_report
from tests import processes
from tests.nas_tuners.nas import Nas

HERE = "tests.nas_tuners.commands.test_prune_command"
CHOICES = {"0": {"_value": "wide", "_idx": 1}}


def build() -> nn.Module:
    """(N, 4, 6, 6) to (N, 3)."""
    first = LayerChoice({"narrow": nn.Conv2d(4, 24, 1), "wide": nn.Conv2d(4, 24, 3, padding=1)})
    layers = [nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.Flatten(), nn.Linear(864, 3)]
    return nn.Sequential(first, *layers)


def training(network: nn.Module) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(4, 4, 6, 6, generator=generator), torch.randint(3, (4,), generator=generator))] * 10
    config = TrainConfig(epochs=4, lr=0.01, checkpoint_every=3)
    return {"loader": batches, "config": config, "loss": nn.functional.cross_entropy}


calls = 0


def interrupted(network: nn.Module) -> dict[str, Any]:
    """The 18th step of the first run is broken off; the same training otherwise."""
    made = training(network)

    def loss(outputs: Any, targets: Any) -> Any:
        global calls
        calls += 1
        if calls == 18:
            raise KeyboardInterrupt
        return made["loss"](outputs, targets)

    return {**made, "loss": loss}


def killed(network: nn.Module) -> dict[str, Any]:
    """Killed in each step that is not yet in the file ``seen``, of four: each kill comes later."""
    made, step = training(network), 0
    seen = Path("seen").read_text().split() if Path("seen").exists() else []

    def loss(outputs: Any, targets: Any) -> Any:
        nonlocal step
        step += 1
        if len(seen) < 4 and step == 5 + len(seen):
            with open("seen", "a") as file:
                file.write(f"{step} ")
            os.kill(os.getpid(), signal.SIGKILL)
        return made["loss"](outputs, targets)

    return {**made, "loss": loss}


def diverges(network: nn.Module) -> dict[str, Any]:
    return {**training(network), "loss": lambda outputs, targets: outputs.sum() * float("nan")}


def wrong_data(network: nn.Module) -> dict[str, Any]:
    return {**training(network), "loader": [(torch.randn(1, 3, 6, 6), torch.zeros(1, dtype=torch.int64))]}


def no_length(network: nn.Module) -> dict[str, Any]:
    return {**training(network), "loader": (number for number in ())}


def no_config(network: nn.Module) -> dict[str, Any]:
    return {"loader": [], "config": {"epochs": 3}}


def returns_list(network: nn.Module) -> list[int]:
    return [1]


def mixed_keys(network: nn.Module) -> dict[Any, Any]:
    return {1: 2, "loader": []}


def says(network: nn.Module) -> str:
    return "good"


def spoils(network: nn.Module) -> torch.Tensor:
    for parameter in network.parameters():
        parameter.data.zero_()
    network.train()
    return torch.tensor(0.5)


def raises(network: nn.Module) -> None:
    raise KeyError("no such\ndata")


def skip_linear(network: nn.Module) -> set[str]:
    return {"6.weight", "6.bias"}


def skip_unknown(network: nn.Module) -> set[str]:
    return {"6.wait"}


def skip_all(network: nn.Module) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def score(network: nn.Module) -> float:
    return float(sum(int((p == 0).sum()) for p in network.parameters() if p.dim() > 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_subnet(tmp_path / "net", build(), CHOICES, factory=build)
    return tmp_path


def words(*more: str, ratio: str = "0.75") -> tuple[str, ...]:
    return ("prune", "net", "-o", "out", "--ratio", ratio, "--trust-code", *more)


def train(name: str = "training") -> tuple[str, str]:
    return "--train", f"{HERE}:{name}"


WEIGHTS = 24 * 4 * 9 + 24 * 24 + 864 * 3


def test_at_once(nas: Nas, folder: Path) -> None:
    said = nas(*words(), cwd=folder)
    report = sparsity_report(load_subnet(folder / "out", trust_code=True))
    assert (report.weights, report.zeros) == (WEIGHTS, round(0.75 * WEIGHTS))
    assert str(report) in said
    for name, value in load_subnet(folder / "out" / "sparse", trust_code=True).state_dict().items():
        assert torch.equal(value, load_subnet(folder / "out", trust_code=True).state_dict()[name])
    assert sorted(os.listdir(folder / "out")) == ["arch.json", "sparse", "weights.pt"]


def test_what_is_kept_is_as_it_was_and_the_source_too(nas: Nas, folder: Path) -> None:
    before = (folder / "net" / "weights.pt").read_bytes()
    nas(*words("--conv1x1-only", ratio="0.5"), cwd=folder)
    assert (folder / "net" / "weights.pt").read_bytes() == before
    old, new = (
        load_subnet(folder / "net", trust_code=True).state_dict(),
        load_subnet(folder / "out", trust_code=True).state_dict(),
    )
    weight = new.pop("3.weight")
    assert int((weight == 0).sum()) == 288
    assert torch.equal(weight[weight != 0], old["3.weight"][weight != 0])
    assert all(torch.equal(value, old[name]) for name, value in new.items())


def test_skip_and_local(nas: Nas, folder: Path) -> None:
    nas(*words("--skip", f"{HERE}:skip_linear", "--local"), cwd=folder)
    zeros = [layer.zeros for layer in sparsity_report(load_subnet(folder / "out", trust_code=True)).layers]
    assert zeros == [round(0.75 * 24 * 4 * 9), round(0.75 * 24 * 24), 0]


def test_in_a_training(nas: Nas, folder: Path) -> None:
    options = ("--conv1x1-only", "--stable-epochs", "1", "--pruning-epochs", "2", "--pruning-steps", "5")
    said = nas(*words(*train(), *options, "--evaluate", f"{HERE}:score"), cwd=folder)
    assert f"{HERE}:score: 0.0 before, 432.0 after" in said
    old, new = (
        load_subnet(folder / "net", trust_code=True).state_dict(),
        load_subnet(folder / "out", trust_code=True).state_dict(),
    )
    assert not torch.equal(old["6.weight"], new["6.weight"])
    assert int((new["3.weight"] == 0).sum()) == 432
    assert sorted(os.listdir(folder / "out")) == ["arch.json", "prune.json", "sparse", "weights.pt"]


def test_interrupted_it_goes_on_as_if_it_had_not_been(nas: Nas, folder: Path) -> None:
    global calls
    calls = 0
    said = nas(*words(*train("interrupted")), cwd=folder, code=130)
    assert "interrupted" in said and (folder / "out" / "checkpoint.pt").exists()
    said = nas(*words(*train()), cwd=folder, code=1)
    assert "train 'tests.nas_tuners.commands.test_prune_command:training', begun with" in said
    assert "75.00%" in nas(*words(*train("interrupted")), cwd=folder)
    unbroken = ("prune", "net", "-o", "other", "--ratio", "0.75", "--trust-code", *train())
    nas(*unbroken, cwd=folder)
    a, b = (
        load_subnet(folder / "out", trust_code=True).state_dict(),
        load_subnet(folder / "other", trust_code=True).state_dict(),
    )
    assert all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.slow
def test_killed_again_and_again(nas: Nas, folder: Path) -> None:
    """Each process is killed some steps on; the last one ends as an unbroken one does."""
    command = words(*train("killed"))
    codes = [processes.run(processes.run_nas, folder, *command) for _ in range(5)]
    assert codes == [-signal.SIGKILL] * 4 + [0]
    nas("prune", "net", "-o", "other", "--ratio", "0.75", "--trust-code", *train(), cwd=folder)
    a, b = (
        load_subnet(folder / "out", trust_code=True).state_dict(),
        load_subnet(folder / "other", trust_code=True).state_dict(),
    )
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_folder_without_a_factory(nas: Nas, folder: Path) -> None:
    save_subnet(folder / "net", build(), CHOICES)
    assert "saved without a factory" in nas(*words(), cwd=folder, code=1)
    nas(*words("--model", f"{HERE}:build"), cwd=folder)
    assert json.loads((folder / "out" / "arch.json").read_text())["factory"]["call"] == f"{HERE}:build"
    assert sparsity_report(load_subnet(folder / "out", trust_code=True)).share == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (words(ratio="1"), "ratio is 1.0, wanted a number of at least 0 and less than 1"),
        (words(ratio="-0.1"), "ratio is -0.1"),
        (words(ratio="nan"), "ratio is nan"),
        (words("--skip", f"{HERE}:skip_unknown"), "'6.wait', which the model does not have: did you mean '6.weight'"),
        (words("--skip", f"{HERE}:skip_all"), "leaves no weight to prune"),
        (words("--skip", f"{HERE}:raises"), "raises failed: KeyError"),
        (words("--skip", f"{HERE}:skip"), "has no skip; did you mean"),
        (
            words("--evaluate", f"{HERE}:raises"),
            f"--evaluate {HERE}:raises failed",
        ),
        (words("--evaluate", "nowhere:score"), "nowhere:score cannot be imported"),
        (words("--pruning-epochs", "2"), "--pruning-epochs: for a training only: give --train"),
        (words(*train("raises")), "raises failed: KeyError: 'no such\\ndata'"),
        (words(*train("returns_list")), 'a list, wanted {"loader": batches'),
        (words(*train("mixed_keys")), "returned ['1', 'loader'], wanted"),
        (words("--evaluate", f"{HERE}:says"), "says returned 'good', wanted a number"),
        (words(*train("no_config")), "config of type dict, wanted"),
        (words(*train("no_length")), "set steps_per_epoch"),
        (words(*train(), "--pruning-epochs", "5"), "5 pruning epochs do not fit into the 4 epochs"),
        (words(*train(), "--stable-epochs", "4"), "0 pruning epochs do not fit into the 4 epochs"),
        (words(*train(), "--stable-epochs", "-1"), "stable_epochs is -1"),
        (words(*train(), "--pruning-steps", "50"), "fewer than the 50 pruning_steps"),
        (words(*train(), "--pruning-steps", "0"), "pruning_steps is 0"),
        (("prune", "nowhere", "-o", "out", "--ratio", "0.5"), "cannot read nowhere/arch.json"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    nas: Nas, folder: Path, given: tuple[str, ...], said: str
) -> None:
    assert said in nas(*given, cwd=folder, code=1)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("diverges", "nas: weights cannot be ranked, the training has diverged"), ("wrong_data", "the training by")],
)
def test_a_training_that_fails(nas: Nas, folder: Path, name: str, said: str) -> None:
    found = nas(*words(*train(name)), cwd=folder, code=1)
    assert said in found and not (folder / "out" / "arch.json").exists()


def test_a_folder_that_is_in_use(nas: Nas, folder: Path) -> None:
    nas(*words(), cwd=folder)
    assert "holds a network already" in nas(*words(), cwd=folder, code=1)
    (folder / "out" / "arch.json").unlink()
    (folder / "out" / "prune.json").write_text("{")
    assert "is damaged" in nas(*words(*train()), cwd=folder, code=1)


@pytest.mark.parametrize("output", ["file", "file/folder"])
def test_an_output_that_is_a_file(nas: Nas, folder: Path, output: str) -> None:
    (folder / "file").write_text("mine")
    for more in ((), train()):
        said = nas("prune", "net", "-o", output, "--ratio", "0.5", *more, cwd=folder, code=1)
        assert f"-o {output}: " in said and "file is a file, wanted a folder" in said
    assert (folder / "file").read_text() == "mine"


def test_a_training_that_was_begun_is_not_overwritten_at_once(nas: Nas, folder: Path) -> None:
    global calls
    calls = 0
    nas(*words(*train("interrupted")), cwd=folder, code=130)
    checkpoint = (folder / "out" / "checkpoint.pt").read_bytes()
    assert "which holds prune.json and checkpoint.pt: to go on with it, repeat its command" in nas(
        *words(), cwd=folder, code=1
    )
    assert (folder / "out" / "checkpoint.pt").read_bytes() == checkpoint
    assert not (folder / "out" / "arch.json").exists()


def test_an_evaluation_gets_a_copy(nas: Nas, folder: Path) -> None:
    assert f"{HERE}:spoils: 0.5 before, 0.5 after" in nas(*words("--evaluate", f"{HERE}:spoils"), cwd=folder)
    assert sparsity_report(load_subnet(folder / "out", trust_code=True)).zeros == round(0.75 * WEIGHTS)
