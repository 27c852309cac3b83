"""Once: a saved network needed the source of its model, and there was no way to a file that stands by itself."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mutators import LayerChoice, SubnetError, extract, load_subnet, save_subnet
from mutators.subnet.translate import ProgramError, largest_difference
from nas_tuners import Run
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.mutators import models
from tests.nas_tuners.nas import Nas

CHOICES = {"first_conv": {"_idx": 1}, "mid_conv": {"_idx": 0}, "skip": {"_idx": [1]}}
MODEL = """
from torch import nn
from mutators import LayerChoice

def build() -> nn.Module:
    first = LayerChoice([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 5, padding=2)], key="conv")
    return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""
# What a stranger does: no module of ours, no training script; inputs and wanted outputs come as tensors.
STRANGER = """
import importlib.util, sys
import torch
assert not any(importlib.util.find_spec(name) for name in ("mutators", "search_spaces", "nas_tuners", "own"))
folder, kind = sys.argv[1:]
for images, wanted in torch.load(folder + "/cases.pt", weights_only=True):
    if kind == "pt2":
        got = torch.export.load(folder + "/network.pt2").module()(images)
    else:
        import onnxruntime
        session = onnxruntime.InferenceSession(folder + "/network.onnx", providers=["CPUExecutionProvider"])
        got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
print("right")
"""


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


def start_run(folder: Path, space: Space) -> Any:
    """A run with one result. Returns: its choices."""
    run = Run.start(RandomSearch(), space, path=folder / "journal.jsonl")
    (proposal,) = run.ask(1)
    run.tell(proposal.uid, 1.0)
    run.close()
    return proposal.choices


def lively(model: nn.Module) -> nn.Module:
    """Numbers other than a new model's in its batch norms, which show whether the mode is evaluation."""
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2)
    return model


def run_as_a_stranger(folder: Path, kind: str, network: nn.Module, *shapes: tuple[int, ...]) -> None:
    """Run a file in a process that finds nothing of ours, and compare with the network on new inputs."""
    network.eval()
    with torch.no_grad():
        cases = [(x, network(x)) for x in map(torch.randn, shapes)]
    torch.save(cases, folder / "cases.pt")
    script = folder / "stranger.py"
    hidden = [str(Path(models.__file__).parents[2])]  # an editable install is on every process's path
    prefix = f"import sys\nsys.path[:] = [p for p in sys.path if p not in {hidden!r}]\n"
    prefix += "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    script.write_text(prefix + STRANGER)
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(folder), kind], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.stdout == "right\n", done.stderr


@pytest.mark.slow
def test_files_of_save_subnet_run_without_any_source(tmp_path: Path) -> None:
    model = lively(models.build("Mnist")).train()
    network = extract(model, CHOICES)
    programs = save_subnet(tmp_path, model, CHOICES, standalone=True)
    assert set(programs) == {"network.pt2", "network.onnx"} and model.training
    about = json.loads((tmp_path / "arch.json").read_text())["programs"]
    for kind in ("pt2", "onnx"):
        program = programs[f"network.{kind}"]
        assert program.inputs == [["batch", 1, "any", "any"]] and 0 <= program.difference < 1e-5 * program.largest
        assert "batch x 1 x any x any, as guessed; differs from the network by at most" in str(program)
        content = (tmp_path / f"network.{kind}").read_bytes()
        assert about[f"network.{kind}"] == program.to_json()
        assert about[f"network.{kind}"]["sha256"] == hashlib.sha256(content).hexdigest()
        run_as_a_stranger(tmp_path, kind, network, (1, 1, 28, 28), (5, 1, 28, 28), (2, 1, 40, 36))
    assert load_subnet(tmp_path, models.build("Mnist"))(torch.ones(1, 1, 8, 8)).shape == (1, 10)  # as ever


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("flags", [["--pt2"], ["--onnx"], ["--pt2", "--onnx", "--input", "1,12,12"]])
def test_nas_export_writes_them_and_prints_their_parity(nas: Nas, tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "own.py").write_text(MODEL)
    space = Space.from_json({"conv": {"_type": "layer_choice", "_value": ["0", "1"]}})
    choices = start_run(tmp_path, space)
    namespace: dict[str, Any] = {"__name__": "own"}
    exec(MODEL, namespace)
    network = extract(lively(namespace["build"]()), choices)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    said = nas(
        "export", ".", "-o", "best", "--model", "own:build", "--weights", "weights.pt", *flags, cwd=tmp_path
    ).splitlines()
    size = "batch x 1 x 12 x 12;" if "--input" in flags else "batch x 1 x any x any, as guessed;"
    for kind in ("pt2", "onnx"):
        lines = [line for line in said if line.startswith(f"best/network.{kind}: takes {size} differs from")]
        assert len(lines) == (f"--{kind}" in flags) == (tmp_path / "best" / f"network.{kind}").exists()
        if lines:
            assert float(lines[0].partition("by at most ")[2].split(",")[0]) < 1e-5
            run_as_a_stranger(tmp_path / "best", kind, network, (1, 1, 12, 12), (4, 1, 12, 12))


def test_nas_export_without_weights_says_so(nas: Nas, tmp_path: Path) -> None:
    start_run(tmp_path, Space.from_json(models.MNIST_SPACE))
    said = nas("export", ".", "-o", "best", "--model", "tests.mutators.models:Mnist", cwd=tmp_path)
    assert "best/weights.pt: those that tests.mutators.models:Mnist gives it, untrained" in said
    assert load_subnet(tmp_path / "best", models.build("Mnist"))(torch.ones(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pt2",), "--pt2: of which network? Give --model"),
        (("--onnx", "--weights", "w.pt"), "--weights, --onnx: of which network?"),
        (("--model", "tests.mutators.models:Mnist", "--input", "1,8,8"), "give one of them as well"),
        (("--model", "tests.mutators.models:Mnist", "--pt2", "--input", "1,x"), "--input is '1,x'"),
        (("--model", "tests.mutators.models:Mnist", "--pt2", "--input", "3,8,8"), "cannot be run on 1x3x8x8"),
    ],
)
def test_a_failed_export_leaves_nothing(nas: Nas, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    start_run(tmp_path, Space.from_json(models.MNIST_SPACE))
    assert said in nas("export", ".", "-o", "best", *words, cwd=tmp_path, code=1)
    assert not (tmp_path / "best").exists()


class Fixed(nn.Module):
    """Computes for one image at a time, of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] != 1:
            raise ValueError("one at a time")
        return self.conv(x).mean()


class Two(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": a + b}


class Looks(nn.Module):
    """Its path depends on its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out + 1 if out.sum() > 0 else out


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 4), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.scale


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "example", "sizes"),
    [
        (Fixed(), None, [[1, 3, 32, 32]]),  # no free batch where that does not work
        (flat(), None, [["batch", 3, 28, 28]]),  # nor another size than the one that fits
        (Two(), [torch.rand(2, 3), torch.rand(2, 3)], [["batch", 3], ["batch", 3]]),
        (nn.Linear(4, 2).double(), (5, 4), [["batch", 5, 4]]),
    ],
)
def test_sizes_are_as_free_as_works(network: nn.Module, example: Any, sizes: Any, tmp_path: Path) -> None:
    for program in save_subnet(tmp_path, network, {}, standalone=True, example=example).values():
        assert program.inputs == sizes


@pytest.mark.slow
def test_small_outputs_are_compared_by_their_own_size(tmp_path: Path) -> None:
    """An absolute tolerance would let anything pass for outputs of 1e-10."""
    (program,) = save_subnet(tmp_path, Scaled(1e-12), {}, standalone=["pt2"]).values()
    assert program.difference < 1e-5 * program.largest < 1e-15 and "of outputs up to" in str(program)
    with pytest.raises(ProgramError, match="differs by up to 1e-10"):
        largest_difference([torch.tensor([2e-10])], [torch.tensor([1e-10])], 1e-4, "torch.export")


@pytest.mark.slow
def test_a_wrong_translation_is_not_written(tmp_path: Path) -> None:
    """torch's ONNX of an adaptive pooling is right for the traced size only: that size is then a fixed one."""
    pooled = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, 3))
    (program,) = save_subnet(tmp_path, pooled, {}, standalone=["onnx"]).values()
    assert program.inputs == [["batch", 3, 32, 32]]


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (nn.Linear(2, 2), {"standalone": "pt2"}, "standalone is 'pt2', wanted True, False, or some of"),
        (nn.Linear(2, 2), {"standalone": ["pt3"]}, "wanted True, False, or some of"),
        (nn.Linear(2, 2), {"example": (2,)}, "set standalone as well"),
        (nn.Linear(2, 2), {"standalone": ["pt2"], "example": (3,)}, "cannot be run on 1x3.*give an input by example="),
        (nn.Linear(2, 2), {"standalone": ["pt2"], "example": 3}, "the input is 3"),
        (nn.Bilinear(2, 2, 2), {"standalone": ["pt2"]}, "no input is known that Bilinear takes: give an input"),
        (Scaled(math.nan), {"standalone": ["pt2"]}, "output 0 differs by up to nan"),
        (Looks(), {"standalone": ["pt2"]}, "network.pt2 cannot be made of this Looks: .*data-dependent"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(
    network: nn.Module, options: dict[str, Any], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SubnetError, match=message):
        save_subnet(tmp_path / "net", network, {}, **options)
    assert not (tmp_path / "net").exists() and capfd.readouterr().err == ""


def test_programs_of_other_weights_do_not_stay(tmp_path: Path) -> None:
    """A later save without them must not leave ``network.pt2`` of the weights of before."""
    network = nn.Linear(4, 2)
    save_subnet(tmp_path, network, {}, standalone=["pt2"])
    assert (tmp_path / "network.pt2").exists() and not (tmp_path / "network.onnx").exists()
    save_subnet(tmp_path, network, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arch.json", "weights.pt"]


def test_saving_a_program_changes_neither_network_nor_generators(tmp_path: Path) -> None:
    network = nn.Sequential(LayerChoice([nn.Linear(4, 4), nn.Identity()], key="a"), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    save_subnet(tmp_path, network, {"a": {"_idx": 0}}, standalone=["pt2"])
    assert torch.equal(state, torch.random.get_rng_state()) and network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("page", ["README.md", "mutators/README.md"])
def test_pages_say_what_needs_the_source(page: str) -> None:
    text = " ".join((Path(models.__file__).parents[2] / page).read_text().split())
    assert all(name in text for name in ("network.pt2", "network.onnx")) and re.search(
        "load_subnet` needs the source", text
    )
