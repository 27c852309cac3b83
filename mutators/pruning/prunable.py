"""Choose the parameters to prune: all weights of two or more dimensions, 1x1 convolutions, or by a skip function.

Never pruned, whatever their dimensions:

* biases: "bias" is the parameter's name or, between underscores, a part of it;
* norms: torch's, and modules with "Norm" in the name of their class, unless they are linear layers or convolutions
  (of normed weights, say);
* magnitudes of ``weight_norm``: a zero there would prune a whole row.

A 1x1 convolution's weight has the shape (C_out, C_in / groups, 1, 1), and its module is a convolution, or has "conv" in
the name of its class. A model may also own such weights itself, for ``F.conv2d``; but there (1, C, 1, 1) is a factor
for each channel, as such weights of other modules are.

Differs: biases and norms are never pruned, where PaddleSlim's skip function has to name them; parameters of the model
itself are pruned too; only convolutions have 1x1 weights, where PaddleSlim looks at the shape alone; a skip function
returns names of parameters, not of tensors.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

from mutators.choices.torch_private import ConvNd, NormBase, NormedWeight, get_compiled, get_forward_hooks

SkipParams = Callable[[nn.Module], Iterable[str]]

NORMS = (NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
NO_NORMS = (nn.Linear, nn.Bilinear, nn.Embedding, ConvNd)
"""Weights that are pruned even if "Norm" is in the name of the class."""
CONV1X1 = ("conv1x1_only", "exclude_conv1x1", "include_conv1x1_only")
"""All spellings of "only 1x1 convolutions": PaddleSlim's, and two of older documentation."""


def unwrap_all(model: nn.Module) -> list[nn.Module]:
    """Return the wrappers, outermost first, and the model inside, whose parameters have no prefix of a wrapper."""
    layers = [model]
    while True:
        inner = get_compiled(layers[-1])
        if inner is None and isinstance(layers[-1], (DataParallel, DistributedDataParallel, AveragedModel)):
            inner = layers[-1].module
        if inner is None:
            return layers
        layers.append(inner)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside ``torch.compile``, data parallelism and averaged models."""
    return unwrap_all(model)[-1]


def is_conv1x1(model: nn.Module, module: nn.Module, weight: torch.Tensor) -> bool:
    """Return whether the weight of a module is that of a 1x1 convolution, (C_out, C_in / groups, 1, 1)."""
    if weight.dim() != 4 or weight.shape[2:] != (1, 1):
        return False
    if module is model and not isinstance(module, ConvNd):
        return weight.shape[0] > 1
    return isinstance(module, ConvNd) or "conv" in type(module).__name__.lower()


def find_weights(model: nn.Module) -> dict[str, tuple[nn.Module, nn.Parameter]]:
    """Return the weights that can be pruned and their modules, each once, in definition order: no biases, no norms."""
    found: dict[str, tuple[nn.Module, nn.Parameter]] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            has_values = parameter.dim() >= 2 and parameter.is_floating_point() and parameter.numel() > 0
            if id(parameter) not in seen and has_values and _is_weight(module, name):
                found[name] = (module, parameter)
            seen.add(id(parameter))
    return found


def choose_parameters(model: nn.Module, conv1x1_only: bool, skip: SkipParams | None) -> tuple[list[str], list[str]]:
    """Return the names of the parameters to prune, in definition order, and all problems."""
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        return [], [f"parameters have no shape yet: {lazy}: run one forward pass first"]
    candidates = find_weights(model)
    if skip is None:
        names = [name for name, (m, p) in candidates.items() if not conv1x1_only or is_conv1x1(model, m, p)]
        if names:
            return names, []
        if conv1x1_only:
            return [], ["the model has no 1x1 convolution to prune: leave out prune_params_type, to prune all weights"]
        return [], ["the model has no weight to prune: wanted a parameter of two or more dimensions outside of norms"]
    if not callable(skip):
        return [], [f"skip_params_func is a {type(skip).__name__}, wanted a function of the model"]
    skipped, problems = _read_skipped(model, skip(model))
    names = [name for name, (_, parameter) in candidates.items() if id(parameter) not in skipped]
    if not names and not problems:
        problems = ["skip_params_func leaves no weight to prune: let it name fewer parameters"]
    return names, problems


def _is_weight(module: nn.Module, name: str) -> bool:
    """Return whether a parameter, by its whole name, is no bias, no part of a norm, and no magnitude of weights."""
    *path, own = name.split(".")
    if isinstance(module, ParametrizationList):  # at PATH.parametrizations.NAME, of what the model knows as PATH.NAME
        return "bias" not in path[-1].split("_") and not (own == "original0" and isinstance(module[0], NormedWeight))
    if any(isinstance(hook, WeightNorm) and own == f"{hook.name}_g" for hook in get_forward_hooks(module)):
        return False
    return "bias" not in own.split("_") and not _is_norm(module)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, NORMS) or ("Norm" in type(module).__name__ and not isinstance(module, NO_NORMS))


def _read_skipped(model: nn.Module, answer: Any) -> tuple[set[int], list[str]]:
    """Return the ids of the parameters that a skip function named, by any of their names, and all problems."""
    known = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        return set(), [f"skip_params_func returned {answer!r}, wanted a set of names of parameters"]
    names = list(answer)
    problems = [_unknown_parameter(name, known) for name in sorted(map(str, names)) if name not in known]
    return {known[name] for name in names if name in known}, problems


def _unknown_parameter(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "wanted names as model.named_parameters() gives them"
    return f"skip_params_func names {name!r}, which the model does not have: {hint}"


def check_kinds(kinds: tuple[str | None, str | None]) -> list[str]:
    """Check ``prune_params_type`` and ``skip_params_type``."""
    names = ("prune_params_type", "skip_params_type")
    return [
        f"{name} is {kind!r}, wanted None or {CONV1X1[0]!r}"
        for name, kind in zip(names, kinds, strict=True)
        if kind is not None and kind not in CONV1X1
    ]
