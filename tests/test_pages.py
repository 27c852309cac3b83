"""The pages are true: every block runs alone, as it stands; names, tables and files are those of the code."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from nas_tuners.search.algorithms import table_rows
from search_spaces import Space
from search_spaces.nets import registry
from tests import script
from tests.examples.guides import CHECKS
from tests.experiments.nni_experiment import BIN
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
PACKAGES = ("search_spaces", "mutators", "nas_tuners")
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / package / "README.md" for package in PACKAGES),
    *sorted(ROOT.glob("examples/*/README.md")),
]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
# What a page shows at full length runs shortened here: in the block itself, and in the files of the examples.
SHORTER = {
    "maxTrialNumber: 24": "maxTrialNumber: 6",
    "maxTrialNumber: 40": "maxTrialNumber: 2",
    "maxTrialNumber: 60": "maxTrialNumber: 4",
    "maxTrialNumber: 64": "maxTrialNumber: 12",
    "phase_budgets: 8": "phase_budgets: 1",
    "python run.py": "python run.py --smoke",
    "python train.py": "python train.py --smoke",
    "python demo.py": "python demo.py --smoke --limit 2000",
}
# Images, steps, epochs.
LESS = {"SPOS_LIMIT": "1000", "OFA_LIMIT": "600", "OFA_STEPS": "3", "GMP_LIMIT": "1500", "GMP_EPOCHS": "2"}
TOO_BUSY = (
    "did not connect in 10 seconds|Create experiment failed"  # NNI's patience on a busy machine; no page's matter
)
# What a page asks its reader to write, and what its commands write.
MADE = {
    "trial.py",
    "my_tuner.py",
    "config.yml",
    "choices.yml",
    "sparse/",
    "NAME.py",
    "nas_tuners.ClassTuner",
}  # NAME: what a contributor adds
NEEDS = {"nas_tuners.hosts.ray": "ray"}  # what is not installed for the tests


# Public modules of hosts whose programs are extras, and the programs.
OF_EXTRAS = {"nas_tuners.hosts.optuna": "optuna"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        yield Block(page, text[: found.start()].count("\n") + 1, *found.groups())


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
README = PAGES[0]


def blocks(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.name) for block in BLOCKS if block.language in languages]


def section(page: Path, title: str) -> str:
    return page.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(page: Path, title: str) -> list[list[str]]:
    lines = [line for line in section(page, title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def make_clone(folder: Path) -> Path:
    """Make a folder with what a clone has besides the packages, which are installed."""
    folder.mkdir(exist_ok=True)
    for name in ("Makefile", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    unwanted = shutil.ignore_patterns("__pycache__", "runs", "*.json")
    for name in ("examples", "tests/benchmarks/nas_bench_fashion"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    return folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return make_clone(tmp_path)


def folder_of(block: Block, clone: Path) -> Path:
    """Return where a block runs: a guide's in its example's folder, the others' at the top of the clone."""
    place = block.page.parent.relative_to(ROOT)
    return clone / place if place.parts[:1] == ("examples",) else clone


def test_every_block_has_a_language_that_is_checked() -> None:
    """``text`` is for diagrams and for what a command prints."""
    for block in BLOCKS:
        assert block.language in ("python", "bash", "yaml", "json", "text"), block.name


def test_every_example_has_its_guide() -> None:
    folders = {path.parent for path in (ROOT / "examples").glob("*/*.py")}
    assert {folder / "README.md" for folder in folders} <= set(PAGES)


def test_every_fence_is_a_block() -> None:
    for page in PAGES:
        assert page.read_text().count("```") == 2 * len(list(blocks_of(page))), page


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_block_is_a_complete_script(block: Block, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a process of its own, in which nothing is imported but torch, and warns of nothing deprecated."""
    for module, extra in OF_EXTRAS.items():
        if module in block.text and not find_spec(extra):
            pytest.skip(f'{extra} is missing: pip install "nas-tuners[{extra}]"')
    folder = folder_of(block, clone)
    path = folder / "block.py"
    path.write_text(block.text)
    monkeypatch.chdir(folder)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    process = context.Process(target=script.run, args=(path, folder / "block.log"))
    process.start()
    process.join(120)
    process.kill()
    process.join()
    assert process.exitcode == 0, f"{block.name}:\n{(folder / 'block.log').read_text()[-3000:]}"


@pytest.mark.slow
@pytest.mark.sampled(14)  # they take half of the time of all tests
@pytest.mark.parametrize("block", blocks("bash"))
def test_a_bash_block_runs_in_a_clone(block: Block, tmp_path: Path) -> None:
    """With the waiting shortened. What ``make`` would do is only printed: this test is a part of it."""
    if not FASHION_MNIST.is_dir() and (block.page.parent.name in ("spos", "ofa", "gmp") or "--data" in block.text):
        pytest.skip("Fashion-MNIST is missing: apt-get install dataset-fashion-mnist")
    for attempt in range(5):
        clone = make_clone(tmp_path / str(attempt))
        said, failed = run_bash(block, clone)
        if not failed or not re.search(TOO_BUSY, said):
            break
    assert not failed, said[-6000:]
    if "nas show --watch" in block.text:
        assert "the experiment is DONE" in said
    if block.page == README and "retrain.py best" in block.text:
        assert float(re.findall(r"held-out images: ([\d.]+)", said)[0]) > 0.9
        assert said.rstrip().endswith(")")  # the printed network
    if block.page.parent.name in CHECKS:
        CHECKS[block.page.parent.name](said, folder_of(block, clone), clone)


def run_bash(block: Block, clone: Path) -> tuple[str, bool]:
    """Run a block, shortened, in its folder of a clone. Returns: what it printed, and if it failed."""
    for config in (clone / "examples").glob("*/*.yml"):
        config.write_text(shortened(config.read_text()))
    text = shortened(block.text.replace("--port 8080", f"--port {free_port()}"))
    env = {**os.environ, **LESS, "HOME": str(clone), "PATH": f"{BIN}:{os.environ['PATH']}", "MAKEFLAGS": "n"}
    env["PYTHONPATH"] = str(ROOT)
    command = ["bash", "-euxo", "pipefail", "-c", text]
    folder = folder_of(block, clone)
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=560, check=False)
    finally:
        subprocess.run([BIN / "nnictl", "stop", "--all"], env=env, capture_output=True, check=False)
    return (done.stderr + done.stdout if done.returncode else done.stdout), done.returncode != 0


def shortened(text: str) -> str:
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("yaml", "json"))
def test_nas_check_takes_what_a_page_shows(block: Block, clone: Path) -> None:
    """A configuration, beside the space file that its page's commands write; or a space file."""
    folder = folder_of(block, clone)
    value = yaml.safe_load(block.text) if block.language == "yaml" else json.loads(block.text)
    if "searchSpaceFile" in value:
        space = {f"block{i}": {"_type": "layer_choice", "_value": ["a", "b"]} for i in range(2)}
        (folder / value["searchSpaceFile"]).write_text(json.dumps(space))
    file = folder / f"block.{block.language}"
    file.write_text(block.text)
    command = [sys.executable, "-m", "nas_tuners.cli", "check", file.name]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_is_a_start_page() -> None:
    """Its trial has at most 20 lines of code, its configuration at most 10, and it is the quickstart's."""
    assert len(README.read_text().splitlines()) <= 150
    (trial,) = (block for block in blocks_of(README) if block.language == "python")
    code = [line for line in trial.text.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) <= 20
    (config,) = (block for block in blocks_of(README) if block.language == "yaml")
    assert len(config.text.splitlines()) <= 10
    shipped = yaml.safe_load((ROOT / "examples" / "quickstart" / "config.yml").read_text())
    assert yaml.safe_load(config.text) == shipped


@pytest.mark.slow
def test_the_first_trial_writes_its_search_space(tmp_path: Path) -> None:
    (trial,) = (block for block in blocks_of(README) if block.language == "python")
    (tmp_path / "trial.py").write_text(trial.text)
    command = [sys.executable, "-m", "nas_tuners.cli", "ss-gen", "-o", "space.json", "--", sys.executable, "trial.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    assert Space.load(tmp_path / "space.json").radices == (2, 3, 3, 33)  # stem, body, skip, lr


def test_the_tables_of_public_names_are_what_the_packages_export() -> None:
    """Each package's README lists its names by what they are for: ``| `package` | purpose | names |``."""
    listed: dict[str, list[str]] = {}
    for package in PACKAGES:
        for row in rows(ROOT / package / "README.md", "Public names"):
            listed.setdefault(row[0].strip("`"), []).extend(re.findall(r"`(\w+)`", row[2]))
    for name, names in listed.items():
        if name in OF_EXTRAS and not find_spec(OF_EXTRAS[name]):
            continue
        module = importlib.import_module(name)
        assert sorted(names) == sorted(module.__all__), name
        if name not in NEEDS or find_spec(NEEDS[name]):
            assert all(getattr(module, public) is not None for public in names)
    exporting = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
        if "lazy_names" in path.read_text()
    }
    assert exporting | OF_EXTRAS.keys() == listed.keys()


def test_the_table_of_tuners_is_that_of_the_algorithms() -> None:
    assert [line for line in section(README, "Tuners").splitlines() if line.startswith("| `")] == table_rows()


def test_the_table_of_nets_is_the_registry() -> None:
    listed = [re.findall(r"`(\w+)`", row[0]) for row in rows(ROOT / "search_spaces" / "README.md", "Nets")]
    assert sorted(itertools.chain(*listed)) == sorted(registry.NETS)


def test_the_documented_arguments_are_the_real_ones() -> None:
    """Every argument of a tuner is named in the reference, and the defaults that it gives are its defaults."""
    text = section(ROOT / "nas_tuners" / "README.md", "Tuners")
    shared = next(line for line in text.splitlines() if line.startswith("| every tuner"))
    for class_name, arguments in rows(ROOT / "nas_tuners" / "README.md", "Tuners"):
        module, _, name = class_name.strip("`").rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        named = set(re.findall(r"`(\w+)`", shared + arguments))
        assert parameters.keys() <= named, parameters.keys() - named
        for argument, default in re.findall(r"`(\w+)` \(`?([\w.]+)`?[,)]", shared + arguments):
            assert str(parameters[argument].default).lower() == default, argument


def test_every_command_is_in_the_tables_and_every_option_on_its_page() -> None:
    from nas_tuners.cli import _make_parser

    (commands,) = (action.choices for action in _make_parser()._actions if action.choices)
    assert isinstance(commands, dict)
    start = set(re.findall(r"`nas ([\w-]+)`", section(README, "From a clone to a network")))
    assert start == set(commands)
    text = (ROOT / "nas_tuners" / "README.md").read_text()
    for name, parser in commands.items():
        (row,) = re.findall(rf"^\| `nas {name}.*$", text, re.MULTILINE)
        for action in parser._actions:
            options = [option for option in action.option_strings if option not in ("-h", "--help")]
            assert not options or any(f"{option}" in row for option in options), f"nas {name}: {options}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    """Links; files and folders, by their path from the top, a package or the page, or by their name alone; modules."""
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|yml|toml|txt))`", text):
        assert is_there(path, page) or any(made in path for made in MADE), path
    for path in re.findall(r"(?<![\w/])(?:examples|tests)/[\w/]+\.\w+", text):  # in commands
        assert (ROOT / path).is_file() or any(made in path for made in MADE), path
    for module in re.findall(r"-m (tests(?:\.\w+)+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for dotted in re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\(.*?\))?`", text):
        with warnings.catch_warnings():
            if page.name == "CHANGELOG.md":  # it names what has moved
                warnings.simplefilter("ignore", DeprecationWarning)
            assert resolves(dotted) or dotted in MADE, dotted


def is_there(path: str, page: Path) -> bool:
    if "/" not in path:
        return (
            any(next((ROOT / folder).rglob(path), None) for folder in (*PACKAGES, "examples", "tests"))
            or (ROOT / path).exists()
        )
    return any((place / path).exists() for place in (ROOT, page.parent, *(ROOT / package for package in PACKAGES)))


def resolves(dotted: str) -> bool:
    """Tell whether a dotted name is a module, or what one defines."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            if not hasattr(value, name):
                return False
            value = getattr(value, name)
        return True
    return False
