"""The README is true: its names, its tables, its code and its commands."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nas_tuners.commands.register import TUNERS
from nas_tuners.search import Search
from search_spaces import Space
from tests.experiments.nni_experiment import BIN
from tests.ports import free_port
from tests.spaces import SPACES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_public_names_is_what_the_packages_export() -> None:
    table = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows("Public names")}
    for package, names in table.items():
        module = importlib.import_module(package)
        assert sorted(names) == sorted(module.__all__), package
        assert all(getattr(module, name) is not None for name in names)
    exporting = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for package in ("search_spaces", "mutators", "nas_tuners")
        for path in (ROOT / package).rglob("__init__.py")
        if "__all__" in path.read_text()
    }
    assert exporting == table.keys()


def test_the_table_of_tuners_is_what_is_registered() -> None:
    assert {row[1].strip("`"): row[0].strip("`") for row in rows("Tuners")} == TUNERS


def test_the_documented_defaults_are_the_real_ones() -> None:
    for class_name, _, _, arguments in rows("Tuners"):
        module, _, name = class_name.strip("`").rpartition(".")
        signature = importlib.import_module("inspect").signature(getattr(importlib.import_module(module), name))
        for argument, default in re.findall(r"`(\w+)` \((\d[\d.]*)\)", arguments):
            assert signature.parameters[argument].default == float(default), argument
        assert set(re.findall(r"`(\w+)` \(", arguments)) <= set(signature.parameters)


def test_the_first_trial_and_configuration_are_as_short_as_they_look() -> None:
    trial = next(block for block in blocks("python") if "get_and_apply_next_architecture(model)" in block)
    code = [line for line in trial.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) <= 20
    compile(trial, "trial.py", "exec")
    config = blocks("yaml")[0]
    assert len(config.splitlines()) <= 10
    shipped = yaml.safe_load((ROOT / "examples" / "quickstart" / "config.yml").read_text())
    assert yaml.safe_load(config) == shipped


def test_the_first_trials_model_is_a_model(tmp_path: Path) -> None:
    trial = next(block for block in blocks("python") if "get_and_apply_next_architecture(model)" in block)
    (tmp_path / "trial.py").write_text(trial)
    command = [sys.executable, "-m", "nas_tuners.cli", "ss-gen", "-o", "space.json", "--", sys.executable, "trial.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert Space.load(tmp_path / "space.json").radices == (3, 3, 2)  # in the order of the file: body, skip, stem


def test_the_tuner_of_ones_own_runs() -> None:
    definition, use = (block for block in blocks("python") if "FirstImprovement" in block)
    namespace: dict[str, object] = {"__name__": "my_module", "evaluate": lambda choices: len(choices), "Space": None}
    exec(definition, namespace)
    search = namespace["FirstImprovement"](seed=1)  # type: ignore[operator]
    assert isinstance(search, Search)
    search.setup(Space.from_json(SPACES["20 x 4"]))
    for _ in range(3):
        for proposal in search.ask(10):
            search.tell(proposal.uid, float(sum(proposal.tokens)))
    assert search.counts.told == 30
    compile(use, "use.py", "exec")
    assert namespace["FirstImprovementTuner"](seed=2) is not None  # type: ignore[operator]


def test_every_file_that_is_named_exists() -> None:
    for name in re.findall(r"`((?:examples|tests)/[\w./]+)`", README + (ROOT / "CONTRIBUTING.md").read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_a_newcomer_gets_to_an_exported_network_by_copying_the_commands(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    config = tmp_path / "examples" / "quickstart" / "config.yml"
    config.write_text(config.read_text().replace("maxTrialNumber: 24", "maxTrialNumber: 6"))  # the demo runs all 24
    (commands,) = blocks("bash")
    script = commands.replace("--port 8080", f"--port {free_port()}")
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = ["bash", "-euxo", "pipefail", "-c", script]
    try:
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400, check=False)
    finally:
        subprocess.run([BIN / "nnictl", "stop", "--all"], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "the experiment is DONE" in done.stdout
    assert float(re.findall(r"held-out images: ([\d.]+)", done.stdout)[0]) > 0.9
    assert done.stdout.rstrip().endswith(")")  # the printed network
