"""Run a search in a fresh process, which shares neither hashes of texts nor what was imported with this one."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from nas_tuners.search.base import Search
from nas_tuners.testing.driving import history, ready
from search_spaces import Tokens

_CODE = "from nas_tuners.testing.processes import answer; answer()"
_PATIENCE = 300  # seconds
_FRESH = "NAS_TUNERS_FRESH_PROCESS"  # in the environment of such a process


def history_elsewhere(search: Search, trials: int) -> list[Tokens]:
    """Return what a search of the same class and arguments proposes in a fresh process.

    Raises ValueError if its class cannot be imported there, RuntimeError if the process fails, or if this is one: a
    module that checks as soon as it is imported would start one process after the other.
    """
    cls = type(search)
    if _FRESH in os.environ:
        raise RuntimeError(f'{cls.__module__} checks when it is imported: put that under if __name__ == "__main__":')
    if "<locals>" in cls.__qualname__:
        raise ValueError(f"{cls.__qualname__} is defined in a function: no other process, so no resume, can import it.")
    request = {
        "module": cls.__module__,
        "file": getattr(sys.modules[cls.__module__], "__file__", None),
        "class": cls.__qualname__,
        "arguments": search.arguments,
        "trials": trials,
        "path": sys.path,
    }
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
        env={**os.environ, _FRESH: "1", "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": _other_hashes()},
    )
    if done.returncode:
        raise RuntimeError(f"the fresh process failed: {done.stderr.strip().rpartition(chr(10))[2]}")
    return list(map(tuple, json.loads(done.stdout.splitlines()[-1])))


def answer() -> None:
    """Do in the fresh process what stdin says, and write the proposals to stdout."""
    request: dict[str, Any] = json.load(sys.stdin)
    sys.path[:] = request["path"]
    cls: Any = _import(request["module"], request["file"])
    for name in request["class"].split("."):
        cls = getattr(cls, name)
    rows = history(ready(lambda: cls(**request["arguments"])), request["trials"])
    sys.stdout.write("\n" + json.dumps([list(map(int, row)) for row in rows]) + "\n")


def _import(module: str, file: str | None) -> ModuleType:
    """Import a module by its name, or from its file: a script has no name, nor do some modules of tests."""
    try:
        if module != "__main__" and importlib.util.find_spec(module) is not None:
            return importlib.import_module(module)
    except ModuleNotFoundError:  # a package above it
        pass
    spec = importlib.util.spec_from_file_location(f"_{Path(file).stem}", file) if file else None
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{module} cannot be imported there: write the class into a module")
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def _other_hashes() -> str:
    """Return a seed of texts' hashes that is not that of this process."""
    return "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
