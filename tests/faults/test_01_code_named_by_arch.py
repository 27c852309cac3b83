"""Once: ``arch.json`` had any function called that says that it returns a module, and any module imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import search_spaces
from mutators import load_subnet, save_subnet
from mutators.subnet.folder import SubnetError
from search_spaces.nets import shufflenet_v2
from search_spaces.trust import TrustError
from tests.nas_tuners.nas import Nas

RUNS = "torch.fx.graph_module:reduce_graph_module"  # returns an nn.Module, and executes what it is given
PAYLOAD = "from pathlib import Path\nPath('ran').touch()\nfrom torch import nn\nclass Net(nn.Linear): pass\n"
CODE = {"body": {"_code": "\n"}, "import_block": "import pathlib; pathlib.Path('ran').touch()\n"}


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a network, and beside it modules that leave a trace when they are imported."""
    for name in ("payload", "yaml_", "sympy"):  # the last is imported by torch, if it needs it
        (tmp_path / f"{name}.py").write_text(PAYLOAD)
    save_subnet(tmp_path / "net", nn.Linear(2, 2), {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("payload", None)


def name_in(folder: Path, call: str, **arguments: Any) -> None:
    arch = json.loads((folder / "arch.json").read_text())
    (folder / "arch.json").write_text(json.dumps({**arch, "factory": {"call": call, "args": arguments}}))


NAMED = [
    (RUNS, CODE),
    ("payload:Net", {"in_features": 2, "out_features": 2}),
    ("os:system", {"command": "touch ran"}),
    ("search_spaces:names", {}),
    ("search_spaces.resolve:resolve", {"name": "payload:Net"}),
    ("search_spaces.lazy:lazy_names", {"package": "payload"}),
    ("search_spaces.nets.payload:build", {}),
    ("search_spaces.nets.shufflenet_v2:nothing", {}),
    ("search_spaces:build", {"name": "payload"}),
    ("payload", {}),
]


@pytest.mark.parametrize(("call", "arguments"), NAMED, ids=[call for call, _ in NAMED])
def test_what_a_file_names_is_neither_imported_nor_called(here: Path, nas: Nas, call: str, arguments: dict) -> None:
    name_in(here / "net", call, **arguments)
    with pytest.raises(TrustError) as refused:
        load_subnet(here / "net")
    assert f"factory={call!r}" in str(refused.value) and "trust_code=True" in str(refused.value)
    said = nas("prune", "net", "-o", "out", "--ratio", "0.5", cwd=here, code=1)
    assert "nas prune net -o out --ratio 0.5 --trust-code\n" in said
    assert not (here / "ran").exists() and "payload" not in sys.modules and not (here / "out").exists()


def test_prune_does_not_look_for_modules_in_the_current_folder_unless_the_caller_names_one(
    here: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(here))])
    name_in(here / "net", "shufflenet_v2")
    paths = []
    monkeypatch.setattr("nas_tuners.commands.prune.load_subnet", lambda *_: paths.extend(sys.path) or nn.Linear(2, 2))
    nas("prune", "net", "-o", "out", "--ratio", "0.5", cwd=here)
    assert paths and str(here) not in paths


@pytest.mark.parametrize("factory", [nn.Linear, "torch.nn:Linear", nn.Linear(2, 2)], ids=["class", "name", "model"])
def test_it_loads_by_what_the_caller_names(here: Path, factory: Any) -> None:
    """The file's arguments are used, its name is not."""
    name_in(here / "net", "payload:Net", in_features=2, out_features=2)
    assert type(load_subnet(here / "net", factory)) is nn.Linear
    assert type(load_subnet(here / "net", factory=factory)) is nn.Linear
    assert not (here / "ran").exists()


def test_it_loads_for_who_trusts_it(here: Path, nas: Nas) -> None:
    name_in(here / "net", "payload:Net", in_features=2, out_features=2)
    assert type(load_subnet(here / "net", trust_code=True)).__name__ == "Net"
    nas("prune", "net", "-o", "out", "--ratio", "0.5", "--trust-code", cwd=here)
    nas("prune", "net", "-o", "other", "--ratio", "0.5", "--model", "torch.nn:Linear", cwd=here)
    assert json.loads((here / "other" / "arch.json").read_text())["factory"]["call"] == "torch.nn:Linear"


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        (search_spaces.build, {"name": "MobileNetV1Space", "num_classes": 3}),
        ("search_spaces:build", {"name": "MobileNetV1Space", "num_classes": 3}),
        ("MobileNetV1Space", {"num_classes": 3}),
    ],
)
def test_our_nets_load_by_their_names(tmp_path: Path, nas: Nas, factory: Any, arguments: dict) -> None:
    net = search_spaces.build("MobileNetV1Space", num_classes=3)
    save_subnet(tmp_path / "net", net, {}, factory=factory, factory_args=arguments)
    again = load_subnet(tmp_path / "net")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())
    assert "50.00%" in nas("prune", "net", "-o", "out", "--ratio", "0.5", cwd=tmp_path)


def test_the_function_of_a_net_is_saved_by_the_nets_name(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    save_subnet(tmp_path, net, {}, factory=shufflenet_v2.build)
    assert json.loads((tmp_path / "arch.json").read_text())["factory"]["call"] == "shufflenet_v2"
    name_in(tmp_path, "search_spaces.nets.shufflenet_v2:build")  # as it was saved before
    with pytest.raises(SubnetError, match=r"missing 'stage1\.block0'"):
        load_subnet(tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("shufflenet_v2", {"num_classes": 10**9}, "num_classes: wanted no number"),
        ("shufflenet_v2", {"num_classes": [10**12]}, "num_classes: wanted no number"),
        ("shufflenet_v2", {"num_classes": float("inf")}, "num_classes: wanted no number"),
        ("ResNetSpace", {"num_classes": 90_000, "in_channels": 99_999}, "describes a network of .* parameters"),
        ("shufflenet_v2", {"of": "x"}, "takes no 'of'"),
        ("MobileNetV2BlockSpace", {"block_mask": [0] * 99_999}, "99999 blocks, wanted at most 1000"),
        ("ResNetBlockSpace", {"block_num": 99_999, "input_size": 8, "output_size": 8}, "99999 blocks, wanted at most"),
        pytest.param("darts", {"layers": 99_999}, "of more modules than", marks=pytest.mark.slow),
        pytest.param("darts", {"nodes": 9_999}, "of more modules than", marks=pytest.mark.slow),
    ],
)
def test_sizes_in_a_file_are_bounded(tmp_path: Path, name: str, arguments: dict, said: str) -> None:
    save_subnet(tmp_path, nn.Linear(1, 1), {})
    name_in(tmp_path, name, **arguments)
    with pytest.raises(SubnetError, match=said):
        load_subnet(tmp_path)
