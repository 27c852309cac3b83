"""A network as a folder, there and back; and everything that can be wrong with the folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import search_spaces.files
from mutators import LayerChoice, RandomMutator, apply_choices, extract, load_subnet, save_subnet, search_space_of
from mutators.subnet.folder import SubnetError
from search_spaces import Space
from tests.mutators import models

FACTORY = "tests.mutators.models:build"
CHOICES = {
    "first_conv": {"_value": "conv3x3", "_idx": 1},
    "mid_conv": {"_value": "0", "_idx": 0},
    "skip": {"_value": [""], "_idx": [1]},
    "_uid": 4,
    "lr": 0.1,
}


def unannotated():
    raise AssertionError("called")


def returns_none() -> None:
    raise AssertionError("called")


def returns_maybe() -> nn.Module | None:
    raise AssertionError("called")


def returns_unknown() -> Missing:  # type: ignore[name-defined]  # noqa: F821
    raise AssertionError("called")


def lies() -> nn.Module:
    return 3  # type: ignore[return-value]


def fails() -> nn.Module:
    raise KeyError("inside")


class Stateful(nn.Module):
    """Has a state that is no tensor."""

    def get_extra_state(self) -> dict:
        return {"a": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved subnet whose weights are not the ones that its factory makes."""
    model = models.build("Mnist")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    save_subnet(tmp_path / "net", model, CHOICES, factory=FACTORY, factory_args={"name": "Mnist"})
    return tmp_path / "net"


def arch_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "arch.json").read_text())


def change(folder: Path, **fields: Any) -> None:
    (folder / "arch.json").write_text(json.dumps({**arch_of(folder), **fields}))


def test_every_model_comes_back(name: str, model: nn.Module, drawn: Iterator[dict], tmp_path: Path) -> None:
    x = models.input_of(name)
    choices = next(drawn)
    for i, saved in enumerate((model, extract(model, choices))):
        save_subnet(tmp_path / str(i), saved, choices, factory=models.build, factory_args={"name": name})
        network = load_subnet(tmp_path / str(i), trust_code=True)
        apply_choices(model, choices)
        assert torch.equal(network(x), model.eval()(x)) and not any(m.training for m in network.modules())
        assert not any(isinstance(m, LayerChoice) for m in network.modules())
        assert load_subnet(tmp_path / str(i), models.build(name))(x).shape == network(x).shape


def test_the_saved_weights_are_the_ones_loaded(folder: Path) -> None:
    assert load_subnet(folder, trust_code=True).fc.weight.min() > 0.4  # those of the factory are below 0.5, these above
    assert abs(models.build("Mnist").fc.weight).max() < 0.6


def test_the_files(folder: Path) -> None:
    arch = arch_of(folder)
    assert sorted(os.listdir(folder)) == ["arch.json", "weights.pt"]
    assert arch["format"] == 1 and arch["choices"] == CHOICES
    assert arch["factory"] == {"call": FACTORY, "args": {"name": "Mnist"}}
    assert arch["space_digest"] == Space.from_json(models.MNIST_SPACE).digest
    assert arch["weights_sha256"] == hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
    assert arch["versions"]["torch"] == torch.__version__
    state = torch.load(folder / "weights.pt", weights_only=True)
    assert list(state) == list(models.Plain().state_dict())


@pytest.mark.slow
def test_it_loads_in_another_process(folder: Path) -> None:
    code = f"from mutators import load_subnet; print(load_subnet({str(folder)!r}, trust_code=True).fc.weight.shape)"
    assert "10, 4" in subprocess.check_output([sys.executable, "-c", code], text=True)


def test_the_model_that_is_given_is_not_changed(folder: Path) -> None:
    for model in (models.build("Mnist"), extract(models.build("Mnist"), CHOICES)):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        network = load_subnet(folder, model)
        assert network is not model and model.training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert network.fc.weight.min() > 0.4


def test_a_bound_model_can_be_saved(tmp_path: Path) -> None:
    model = models.build("Mnist")
    RandomMutator(model)
    save_subnet(tmp_path, model, CHOICES, factory=FACTORY)
    assert isinstance(load_subnet(tmp_path, trust_code=True).conv1, nn.Conv2d)


def test_an_extracted_network_has_no_digest(tmp_path: Path) -> None:
    save_subnet(tmp_path, extract(models.build("Mnist"), CHOICES), CHOICES)
    assert arch_of(tmp_path)["space_digest"] is None and arch_of(tmp_path)["factory"] is None


def test_saving_again_replaces(folder: Path) -> None:
    save_subnet(folder, models.build("Mnist"), CHOICES, factory=FACTORY)
    assert load_subnet(folder, trust_code=True).fc.weight.min() < 0.4


class TestSaving:
    @pytest.mark.parametrize(
        "factory, said",
        [
            (lambda: nn.ReLU(), "'TestSaving.<lambda>' is a lambda, local or nested"),
            (nn.Sequential(), "has no name"),
            ("os:system", "nothing says that it builds a model"),
            ("builtins:eval", "nothing says"),
            ("tests.mutators.subnet.test_folder:unannotated", "annotate"),
            ("tests.mutators.subnet.test_folder:returns_none", "annotate"),
            ("tests.mutators.subnet.test_folder:returns_maybe", "annotate"),
            ("tests.mutators.subnet.test_folder:returns_unknown", "annotations .* cannot be read: NameError"),
            ("tests.mutators.subnet.test_folder:nothing", "has no nothing"),
            ("tests.mutators.nowhere:build", "cannot be imported"),
            ("tests.mutators.models.build", 'wanted "module:function"'),
            ("tests.mutators.models:build.more", 'wanted "module:function"'),
            (":build", 'wanted "module:function"'),
            ("", 'wanted "module:function"'),
            (unannotated, "annotate"),
        ],
    )
    def test_factories_that_are_refused_and_not_called(self, factory: Any, said: str, tmp_path: Path) -> None:
        with pytest.raises(SubnetError, match=said):
            save_subnet(tmp_path / "net", models.build("Mnist"), CHOICES, factory=factory)
        assert not (tmp_path / "net").exists()

    @pytest.mark.slow
    def test_a_local_function_and_one_in_main(self, tmp_path: Path) -> None:
        def local() -> nn.Module:
            return nn.ReLU()

        with pytest.raises(SubnetError, match="local"):
            save_subnet(tmp_path, nn.ReLU(), {}, factory=local)
        code = (
            "from torch import nn\nfrom mutators import save_subnet\n"
            "def build() -> nn.Module:\n    return nn.ReLU()\n"
            f"save_subnet({str(tmp_path)!r}, nn.ReLU(), {{}}, factory=build)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1 and "'build' is in __main__" in done.stderr
        assert "module:function" in done.stderr and os.listdir(tmp_path) == []

    def test_a_function_that_is_hidden_by_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = models.build
        monkeypatch.setattr(models, "build", lies)
        with pytest.raises(SubnetError, match="is not this factory"):
            save_subnet(tmp_path, nn.ReLU(), {}, factory=real)

    @pytest.mark.parametrize(
        "changes, said",
        [
            ({"factory_args": {"name": object()}}, "cannot be written as JSON"),
            ({"factory_args": ["Mnist"]}, "wanted a dict"),
            ({"factory_args": {1: 2}}, "wanted a dict"),
            ({"factory": None, "factory_args": {"name": "x"}}, "without a factory"),
            ({"choices": {"first_conv": {"_idx": 1}}}, "missing 'mid_conv'"),
            ({"choices": {**CHOICES, "extra": object()}}, "cannot be saved"),
            ({"choices": None}, "wanted an object"),
            ({"model": Stateful()}, r"\['_extra_state'\], wanted tensors only"),
        ],
    )
    def test_what_cannot_be_saved(self, changes: dict, said: str, tmp_path: Path) -> None:
        arguments = {"model": models.build("Mnist"), "choices": CHOICES, "factory": FACTORY, **changes}
        with pytest.raises(SubnetError, match=said):
            save_subnet(tmp_path / "net", **arguments)
        assert not (tmp_path / "net").exists()

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SubnetError, match="cannot write to"):
            save_subnet(tmp_path / "file", models.build("Mnist"), CHOICES)

    def test_a_crash_leaves_the_old_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = (folder / "weights.pt").read_bytes()

        def crash(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(search_spaces.files.os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            save_subnet(folder, models.build("Mnist"), CHOICES)
        assert (folder / "weights.pt").read_bytes() == before and len(os.listdir(folder)) == 2
        load_subnet(folder, trust_code=True)

    def test_arch_json_comes_last(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []
        real = os.replace
        monkeypatch.setattr(
            search_spaces.files.os, "replace", lambda a, b: (order.append(os.path.basename(b)), real(a, b))[1]
        )
        save_subnet(folder, models.build("Mnist"), CHOICES)
        assert order == ["weights.pt", "arch.json"]


class TestLoading:
    @pytest.mark.parametrize("file", ["arch.json", "weights.pt"])
    def test_missing_files(self, folder: Path, file: str) -> None:
        (folder / file).unlink()
        with pytest.raises(SubnetError, match=f"cannot read .*{file}: No such file"):
            load_subnet(folder, trust_code=True)
        with pytest.raises(SubnetError, match="cannot read"):
            load_subnet(folder / "nowhere", trust_code=True)

    @pytest.mark.parametrize("text", ["{", "", "\xff", "[" * 100_000, "[1]", "3", "{}", "null"])
    def test_arch_json_that_is_none(self, folder: Path, text: str) -> None:
        (folder / "arch.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(SubnetError, match=r"is not JSON|is not the description"):
            load_subnet(folder, trust_code=True)

    @pytest.mark.parametrize(
        "fields, said",
        [
            ({"format": 3}, "format 3, wanted 1 or 2"),
            ({"choices": [1]}, r"missing or of the wrong type: \['choices'\]"),
            ({"factory": FACTORY}, "factory"),
            ({"factory": {"call": FACTORY}}, "factory"),
            ({"factory": {"call": 3, "args": {}}}, "factory"),
            ({"weights_sha256": None, "space_digest": 3}, r"\['space_digest', 'weights_sha256'\]"),
            ({"choices": {"first_conv": {"_idx": 1}}}, "missing 'mid_conv'"),
            ({"factory": None}, r"without a factory: give load_subnet\(folder, factory\)"),
            ({"factory": {"call": "os:system", "args": {"command": "touch called"}}}, "is not called"),
            ({"factory": {"call": "torch.hub:load", "args": {"repo_or_dir": "x", "model": "y"}}}, "is not called"),
            ({"factory": {"call": "subprocess:Popen", "args": {"args": "touch called"}}}, "is not called"),
            ({"factory": {"call": "os:sys.exit", "args": {}}}, 'wanted "module:function"'),
            ({"factory": {"call": "tests.mutators.subnet.test_folder:lies", "args": {}}}, "returned a int"),
            ({"factory": {"call": "tests.mutators.subnet.test_folder:fails", "args": {}}}, "KeyError: 'inside'"),
            ({"factory": {"call": FACTORY, "args": {"nam": "Mnist"}}}, "unexpected keyword"),
            ({"factory": {"call": FACTORY, "args": {"name": "Darts"}}}, "another search space"),
            ({"factory": {"call": "torch.nn:ReLU", "args": {}}}, "do not fit the model"),
            ({"weights_sha256": "0" * 64}, "is not the file that arch.json"),
        ],
    )
    def test_what_arch_json_may_not_say(
        self, folder: Path, fields: dict, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        change(folder, **fields)
        with pytest.raises(SubnetError, match=said):
            load_subnet(folder, trust_code=True)
        assert not (folder / "called").exists()

    @pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 torn"])
    def test_weights_that_are_none(self, folder: Path, content: bytes) -> None:
        (folder / "weights.pt").write_bytes(content)
        with pytest.raises(SubnetError, match="is not the file"):
            load_subnet(folder, trust_code=True)
        change(folder, weights_sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(SubnetError, match="cannot be read as weights"):
            load_subnet(folder, trust_code=True)

    def test_weights_that_would_run_code(self, folder: Path) -> None:
        torch.save(models.build("Mnist"), folder / "weights.pt")
        change(folder, weights_sha256=hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest())
        with pytest.raises(SubnetError, match="cannot be read as weights"):
            load_subnet(folder, trust_code=True)
        torch.save([1], folder / "weights.pt")
        change(folder, weights_sha256=hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest())
        with pytest.raises(SubnetError, match="tensors by name"):
            load_subnet(folder, trust_code=True)

    def test_a_model_of_other_shapes(self, folder: Path) -> None:
        model = models.build("Mnist")
        model.fc = nn.Linear(4, 11)
        with pytest.raises(SubnetError, match=r"size mismatch for fc\.weight"):
            load_subnet(folder, model)
        del model.fc
        with pytest.raises(SubnetError, match=r"Unexpected key.*fc.weight"):
            load_subnet(folder, model)


def test_search_space_of_the_factory_is_what_was_saved(folder: Path) -> None:
    assert Space.from_json(search_space_of(models.build())).digest == arch_of(folder)["space_digest"]
