"""Private names of torch are used in one file only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.test_layers import FILES, ROOT

HOME = "mutators/choices/torch_private.py"
TORCH = {"torch", "nn", "F", "dist"}  # what torch's modules are called in this repository
ON_SELF = {"_modules", "_parameters", "_buffers"}  # of our own modules: see HOME


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


OF_OBJECTS = {
    *(name for thing in (nn.Module, torch.Tensor) for name in dir(thing) if is_private(name)),
    *(name for name in vars(nn.Module()) if is_private(name)),
    *("_orig_mod", "_dynamo_marked_constant", "_reversed_padding_repeated_twice"),
}
"""Private names of modules, tensors and functions; ``torch.compile`` and convolutions add the last three."""


def private_names(source: str) -> Iterator[str]:
    """List the private names of torch in a file: imported, of its modules and objects, or spelt in a string."""
    tree = ast.parse(source)
    own = {
        *(node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))),
        *(t.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance((t := n).ctx, ast.Store)),
    } - {"_modules", "_parameters", "_buffers", "_orig_mod"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (f"import of {name}" for name in names if is_private(name))
        elif isinstance(node, ast.Import):
            names = [part for a in node.names if a.name.startswith("torch.") for part in a.name.split(".")]
            yield from (f"import of {name}" for name in names if is_private(name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in TORCH:
                yield f"line {node.lineno}: {root.id}...{node.attr}"
            elif node.attr in OF_OBJECTS - own:
                on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
                if not (on_self and node.attr in ON_SELF):
                    yield f"line {node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in OF_OBJECTS - own:
            yield f"line {node.lineno}: {node.value!r}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from torch.nn.modules.conv import _ConvNd", ["import of _ConvNd"]),
        ("import torch._dynamo", ["import of _dynamo"]),
        ("from torch.utils._pytree import tree_map", ["import of _pytree"]),
        ("torch._foreach_copy_(a, b)", ["line 1: torch..._foreach_copy_"]),
        ("x = nn.modules.batchnorm._NormBase", ["line 1: nn..._NormBase"]),
        ("x = module._modules", ["line 1: ._modules"]),
        ("getattr(module, '_orig_mod')", ["line 1: '_orig_mod'"]),
        ("x = self.candidates._modules", ["line 1: ._modules"]),
        ("x = self._modules", []),
        ("self._forward_hooks", ["line 1: ._forward_hooks"]),
        ("torch.__version__", []),
        ("class A:\n  def _apply(self): self._apply()", []),
    ],
)
def test_private_names_are_found(source: str, found: list[str]) -> None:
    assert list(private_names(source)) == found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_of_torch_stand_in_one_file(path: Path) -> None:
    if str(path.relative_to(ROOT)) != HOME:
        assert list(private_names(path.read_text())) == []
