"""Imports point down only, and what a tuner's process imports is light."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("search_spaces", "mutators", "nas_tuners")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Folders from the lowest to the highest: a file imports from its own folder and from those before it. By floor.
FLOORS = {
    1: ("search_spaces", "search_spaces/cost", "search_spaces/phases"),
    2: ("nas_tuners/search/feasible", "nas_tuners/search/model", "nas_tuners/search", "nas_tuners/runs"),
    3: (
        *("mutators/choices", "mutators", "mutators/elastic/layers", "mutators/elastic"),
        *("mutators/quantization", "mutators/costs", "mutators/oneshot", "mutators/pruning", "mutators/pruning/sparse"),
        *("mutators/subnet", "mutators/mmrazor"),
        *(f"mutators/elastic/{wing}" for wing in ("conversion", "export", "search", "training")),
    ),
    4: ("search_spaces/nets/layers", "search_spaces/paddleslim", "search_spaces/nets", "nas_tuners/sanas"),
    5: (
        *("nas_tuners/show", "nas_tuners/hosts/nni", "nas_tuners/hosts/trials"),
        *("nas_tuners/hosts/ray", "nas_tuners/hosts/slurm", "nas_tuners/hosts"),
        *("nas_tuners/testing", "nas_tuners"),
    ),
    6: ("nas_tuners/commands/checks", "nas_tuners/commands"),
}
ORDER = [folder for folders in FLOORS.values() for folder in folders]
FLOOR_OF = {folder: floor for floor, folders in FLOORS.items() for folder in folders}
EXCEPTIONS: dict[tuple[str, str], str] = {}
# What a floor may import from outside. Anything that is not here may be imported by every floor (numpy, stdlib).
HEAVY = {
    "torch": (3, 4, 6),
    "nni": (5, 6),
    "yaml": (1, 3, 6),
    "psutil": (5,),
    "sklearn": (3,),
    "matplotlib": (5,),
    "pandas": (5,),
    "scipy": (2, 3, 4, 5, 6),
}
LAZY = ("matplotlib", "pandas", "scipy", "sklearn")  # only within functions: slow to import
ONLY = {"optuna": "nas_tuners/hosts/optuna.py"}  # each host's program in its own file
NNI_ALLOWED = {
    "mutators/trial.py",
    *(f"nas_tuners/hosts/nni/{name}.py" for name in ("assessor", "guest", "launch", "tuner")),
}
RAY_ALLOWED = "nas_tuners/hosts/ray"  # within functions; its searcher is loaded lazily


class Import(NamedTuple):
    """One imported module; ``later``: within a function, or for the type checker only."""

    module: str
    later: bool


def imports_of(path: Path) -> list[Import]:
    """List what a file imports, a package's lazy names by the modules that define them."""
    tree = ast.parse(path.read_text())
    later = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.If))
        for inner in ast.walk(node)
        if inner is not node
    }
    found: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, id(node) in later) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [Import(home_of(node.module, alias.name), id(node) in later) for alias in node.names]
    return found


def home_of(module: str, name: str) -> str:
    """Return the module that ``from module import name`` executes: a submodule, or that of a package's lazy name."""
    if module.partition(".")[0] not in PACKAGES:
        return module
    if file_of(f"{module}.{name}"):
        return f"{module}.{name}"
    return faces().get(module, {}).get(name, module)


@functools.cache
def faces() -> dict[str, dict[str, str]]:
    """Map each package's lazy names to the modules that define them, as its stub says."""
    homes: dict[str, dict[str, str]] = {}
    for path in FILES:
        if (stub := path.with_suffix(".pyi")).is_file():
            package = ".".join(path.parent.relative_to(ROOT).parts)
            homes[package] = {
                alias.name: node.module
                for node in ast.parse(stub.read_text()).body
                if isinstance(node, ast.ImportFrom) and node.module
                for alias in node.names
            }
    return homes


def file_of(module: str) -> str | None:
    path = ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return str(candidate.relative_to(ROOT))
    return None


def folder_of(name: str) -> str:
    return str(Path(name).parent)


def test_every_folder_has_its_floor() -> None:
    assert {folder_of(str(path.relative_to(ROOT))) for path in FILES if path.read_text().strip()} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    """Imports within functions and for typing count; a package's lazy names do for whoever imports them."""
    name = str(path.relative_to(ROOT))
    folder = folder_of(name)
    for module, later in imports_of(path):
        top = module.partition(".")[0]
        if top in PACKAGES:
            target = file_of(module)
            assert target is not None, f"{name} imports {module}, which does not exist"
            if (name, folder_of(target)) not in EXCEPTIONS:
                assert ORDER.index(folder_of(target)) <= ORDER.index(folder), f"{name} imports {target}, further up"
        elif top == "nni":
            assert name in NNI_ALLOWED or FLOOR_OF[folder] == 6, f"{name} speaks NNI; only {sorted(NNI_ALLOWED)} do"
        elif top in ONLY:
            assert name == ONLY[top], f"{name} imports {top}; only {ONLY[top]} does"
        elif top == "ray":
            assert folder == RAY_ALLOWED, f"{name} imports ray; only files in {RAY_ALLOWED} do"
            assert later or name == f"{RAY_ALLOWED}/searcher.py", f"{name} imports ray outside of its functions"
        elif top in HEAVY:
            assert FLOOR_OF[folder] in HEAVY[top], f"{name} (floor {FLOOR_OF[folder]}) imports {top}"
            assert later or top not in LAZY, f"{name} imports {top} outside of its functions"


def test_there_is_no_circle() -> None:
    edges = {
        str(path.relative_to(ROOT)): {
            target
            for module, _ in imports_of(path)
            if module.partition(".")[0] in PACKAGES and (target := file_of(module))
        }
        for path in FILES
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle of imports: {' -> '.join([*above, name])}"
        if name not in done:
            for target in edges[name]:
                visit(target, (*above, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_every_exception_is_needed() -> None:
    for name, folder in EXCEPTIONS:
        folders = {folder_of(target) for module, _ in imports_of(ROOT / name) if (target := file_of(module))}
        assert folder in folders, f"{name} no longer imports from {folder}"


def test_no_lazy_name_is_that_of_a_module() -> None:
    """A submodule, once imported, would take the name's place."""
    for package, names in faces().items():
        folder = ROOT / package.replace(".", "/")
        modules = {path.stem for path in folder.glob("*.py")} | {
            path.name for path in folder.iterdir() if path.is_dir()
        }
        assert not modules & set(names), package


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import search_spaces; search_spaces.Space", ("torch", "nni", "pandas")),
        ("import nas_tuners.search", ("torch", "nni", "pandas")),
        ("import nas_tuners; nas_tuners.AnnealingTuner", ("torch", "nni.nas")),
        ("import nas_tuners.testing; nas_tuners.testing.CHECKS", ("torch", "nni", "pandas", "pytest", "hypothesis")),
        ("import mutators", ("torch", "nni")),
        ("import nas_tuners.hosts.ray, nas_tuners.hosts.ray.pool", ("torch", "ray")),
        ("import nas_tuners.cli", ("torch", "nni", "numpy")),
        ("import nas_tuners.runs.loop, nas_tuners.show.plots", ("torch", "nni", "matplotlib")),
    ],
)
def test_what_is_imported_is_light(statement: str, forbidden: tuple[str, ...]) -> None:
    code = f"{statement}\nimport sys\nprint([name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.alone
def test_a_tuner_is_imported_within_the_time_that_nni_gives() -> None:
    """At most 0.3 s on top of ``import nni``, by the interpreter's own account; NNI gives up after ten seconds."""
    command = [sys.executable, "-X", "importtime", "-c", "import nni, nas_tuners; nas_tuners.AnnealingTuner"]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stderr for _ in range(3)]
    ours = [sum(_own_microseconds(line) for line in run.splitlines()) for run in runs]
    assert min(ours) < 300_000, f"{ours} us"


def _own_microseconds(line: str) -> int:
    """A line of -X importtime: ``import time: self [us] | cumulative | name``; what is not NNI's or Python's."""
    own, _, name = (part.strip() for part in line.removeprefix("import time:").split("|"))
    return int(own) if name.startswith((*PACKAGES, "json5")) and own.isdigit() else 0
