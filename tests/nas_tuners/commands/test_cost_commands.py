"""``nas cost`` and ``nas latency``, as they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_tuners.cli import main
from search_spaces.cost import CostTable

MODEL = """
from torch import nn
from mutators import LayerChoice

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.op = LayerChoice({"1x1": nn.Conv2d(3, 8, 1), "3x3": nn.Conv2d(3, 8, 3, padding=1)})
    def forward(self, x):
        return self.op(x)

def build() -> nn.Module:
    return Net()

def unsaid():
    return Net()

def fails() -> nn.Module:
    raise RuntimeError("no data here")
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "costed_model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "broken_model.py").write_text("1 +", encoding="utf-8")


def test_counting_then_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "costed_model:build", "--input", "3,8,8", "-o", "table.json"]) == 0
    said = capsys.readouterr().out
    assert "macs: 1,536 to 13,824, of which 0 fixed; exact on 2 random architectures" in said
    assert CostTable.load("table.json").options["macs"] == {"op": (1536, 13824)}
    arguments = ["--input", "3,8,8", "--table", "table.json", "--threads", "1", "-o", "both.json"]
    assert main(["latency", "costed_model:build", *arguments]) == 0
    assert "predictions are off by" in capsys.readouterr().out
    table = CostTable.load("both.json")
    assert table.metrics == ("macs", "params", "latency_ms")
    assert table.about["latency_ms"]["threads"] == 1


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ("costed_model:build", "3,x", "--input is '3,x', wanted a shape"),
        ("costed_model:build", "4,8,8", "Net cannot be run on 1x4x8x8"),
        ("costed_model:nothing", "3,8,8", "costed_model has no nothing"),
        ("costed_model:unsaid", "3,8,8", "annotate the function"),
        ("costed_model:fails", "3,8,8", "no data here"),
        ("broken_model:build", "3,8,8", "broken_model:build cannot be imported: SyntaxError"),
        ("not_there_at_all:build", "3,8,8", "No module named 'not_there_at_all'"),
    ],
)
def test_failures_are_a_few_lines(capsys: pytest.CaptureFixture[str], model: str, shape: str, message: str) -> None:
    assert main(["cost", model, "--input", shape, "-o", "table.json"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) <= 3
    assert not Path("table.json").exists()
