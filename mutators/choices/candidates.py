"""The container of a choice's candidates, and the check of what is offered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.visitor import Extraction


class Candidates(nn.Module):
    """Named modules, in order.

    Not an ``nn.ModuleDict``: that refuses names such as ``keys``, ``type`` or ``forward``. The names here live in
    ``_modules`` only and are never looked up as attributes, so they cannot clash with anything.
    """

    def __init__(self, modules: Mapping[str, nn.Module | None]) -> None:
        super().__init__()
        self._modules.update(modules)

    def train(self, mode: bool = True) -> Candidates:
        """Set the mode, also if a candidate is called "training", where ``nn.Module.train`` fails."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be a bool, got {mode!r}")
        self.__dict__["training"] = mode
        for module in self.children():
            module.train(mode)
        return self

    def copied(self, indices: Sequence[int], extraction: Extraction) -> Candidates:
        """Return a container with copies of some of the modules; of the others it has the names."""
        kept = {name: i in indices for i, name in enumerate(self._modules)}
        copied = Candidates({name: extraction.copy(self._modules[name]) if kept[name] else None for name in kept})
        copied.__dict__["training"] = self.training
        return copied

    def drop_others(self, indices: Sequence[int]) -> None:
        """Keep some of the modules; of the others only the names."""
        for index, name in enumerate(self._modules):
            if index not in indices:
                self._modules[name] = None

    def forward(self, *_: Any) -> Any:
        """Refuse: the choice calls its candidates."""
        raise NotImplementedError("call the LayerChoice, not the container of its candidates")


def rename_weights(choice: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename, in a state dict that is about to be loaded, the candidates' weights of NNI 1.9 and MMRazor 0.3.

    There they are ``CHOICE.NAME.weight`` and ``CHOICE.choices.NAME.weight``, here ``CHOICE.candidates.NAME.weight``.
    """
    candidates = choice.get_submodule("candidates")
    names = [name for name, _ in candidates.named_children()]
    if any(key.startswith(f"{prefix}candidates.{name}.") for key in state for name in names):
        return
    for key in [key for key in state if key.startswith(prefix)]:
        inner = key.removeprefix(prefix)
        for former in ("choices.", ""):
            if inner.startswith(tuple(f"{former}{name}." for name in names)):
                state[f"{prefix}candidates.{inner.removeprefix(former)}"] = state.pop(key)
                break


def named_candidates(offered: Any) -> dict[str, nn.Module]:
    """Return candidates by name: those of a dict, or of a list by "0", "1", and so on.

    Raises:
        TypeError: it is neither, or a candidate is no module, or a name is no text; all of them are named.
        ChoiceError: there is no candidate, or a name is empty or holds a dot; all of them are named.
    """
    if not isinstance(offered, (list, dict)):
        raise TypeError(f"op_candidates is a {type(offered).__name__}, wanted a list or a dict of modules.")
    if not offered:
        raise ChoiceError("op_candidates is empty, wanted at least one module.")
    named = dict(offered) if isinstance(offered, dict) else {str(i): module for i, module in enumerate(offered)}
    wrong = [
        f"the name {name!r} is a {type(name).__name__}, wanted a str" for name in named if not isinstance(name, str)
    ]
    for name, module in named.items():
        if not isinstance(module, nn.Module):
            kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
            wrong.append(f"candidate {name!r} is {kind}, wanted an nn.Module")
    if wrong:
        raise TypeError("op_candidates do not fit: " + "; ".join(wrong) + ".")
    unusable = [f"{name!r}, wanted a name without dots" for name in named if not name or "." in name]
    if unusable:
        raise ChoiceError("op_candidates cannot be modules under these names:", unusable)
    return named
