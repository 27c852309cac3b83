"""Imports point down only, and what a tuner's process imports is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("search_spaces", "mutators", "nas_tuners")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# The first entry that a path begins with is its floor. What is not named here does not belong anywhere yet.
FLOORS = [
    ("search_spaces/cost/table", 1),
    ("search_spaces/cost/__init__", 1),
    *[(f"search_spaces/cost/{name}.py", 2) for name in ("about", "count", "example", "latency", "trace")],
    ("search_spaces/cost/", 4),
    *[
        (f"search_spaces/{name}.py", 1)
        for name in (
            "__init__",
            "domains",
            "files",
            "phases",
            "registry",
            "schedule",
            "schema",
            "shrinking",
            "validate",
        )
    ],
    *[
        (f"search_spaces/{name}.py", 1)
        for name in ("block_space", "layers", "quantities", "token_codec", "token_cost", "token_space")
    ],
    *[
        (f"search_spaces/{net}.py", 1)
        for net in (
            "darts_widths",
            "inception_a_block",
            "inception_c_block",
            "mobilenet_v1",
            "mobilenet_v1_block",
            "mobilenet_v2",
            "mobilenet_v2_block",
            "resnet",
            "resnet_block",
        )
    ],
    ("search_spaces/", 4),
    ("nas_tuners/search/", 2),
    ("mutators/", 3),
    *[(f"nas_tuners/{name}.py", 5) for name in ("cli", "loop", "sanas")],
    ("nas_tuners/commands/", 5),
    ("nas_tuners/", 4),
]
# What a floor may import from outside. Anything that is not here may be imported by every floor (numpy, stdlib).
HEAVY = {
    "torch": (2, 3, 4, 5),
    "nni": (4, 5),
    "yaml": (3, 5),
    "psutil": (5,),
    "sklearn": (3, 5),
    "matplotlib": (4,),
}
LAZY = ("matplotlib", "sklearn")  # only within functions: slow to import
NNI_ALLOWED = {"mutators/trial.py", "nas_tuners/hosts/nni/tuner.py"}


def floor(path: str) -> int:
    found = [level for prefix, level in FLOORS if path.startswith(prefix)]
    assert found, f"{path} has no floor: give it one in FLOORS"
    return found[0]


def imported(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, and whether only for the type checker or within a function."""
    tree = ast.parse(path.read_text())
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.If))
        for inner in ast.walk(node)
        if inner is not node
    }
    names: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, id(node) in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append((node.module, id(node) in lazy))
    return names


def file_of(module: str) -> str | None:
    path = ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return str(candidate.relative_to(ROOT))
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    level = floor(name)
    for module, lazy in imported(path):
        top = module.partition(".")[0]
        if top in PACKAGES:
            target = file_of(module)
            assert target is not None, f"{name} imports {module}, which does not exist"
            if not (lazy and name.endswith("__init__.py")):
                assert floor(target) <= level, f"{name} (floor {level}) imports {target} (floor {floor(target)})"
        elif lazy and path.name in ("__init__.py", "registry.py"):
            continue  # names that load on first use, and their types
        elif top == "nni":
            assert name in NNI_ALLOWED or level == 5, f"{name} speaks NNI; only {sorted(NNI_ALLOWED)} and commands do"
        elif top in HEAVY:
            assert level in HEAVY[top], f"{name} (floor {level}) imports {top}"
            assert lazy or top not in LAZY, f"{name} imports {top} outside of its functions"


def test_there_is_no_circle() -> None:
    edges = {
        str(path.relative_to(ROOT)): {
            target
            for module, lazy in imported(path)
            if not lazy and module.partition(".")[0] in PACKAGES and (target := file_of(module))
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


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import search_spaces; search_spaces.Space", ("torch", "nni", "pandas")),
        ("import nas_tuners.search", ("torch", "nni", "pandas")),
        ("import nas_tuners; nas_tuners.AnnealingTuner", ("torch", "nni.nas")),
        ("import mutators", ("torch", "nni")),
        ("import nas_tuners.cli", ("torch", "nni", "numpy")),
        ("import nas_tuners.runs.loop, nas_tuners.show.plots", ("torch", "nni", "matplotlib")),
    ],
)
def test_what_is_imported_is_light(statement: str, forbidden: tuple[str, ...]) -> None:
    code = f"{statement}\nimport sys\nprint([name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow  # not that it is: it is timed, and wants the machine for itself
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
