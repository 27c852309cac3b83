"""The commands of ``nas``, one a file. Each has ``execute(options)``, which prints and returns the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.resolve import look_in

if TYPE_CHECKING:
    from torch import nn


class CommandError(RuntimeError):
    """A command cannot do what it was asked for. The message says why, and what to do."""


def build_model(name: str) -> nn.Module:
    """Build the model that ``MODULE:FUNCTION`` names, in the current folder first, or raise FactoryError."""
    from mutators.subnet.trust import call_factory

    look_in(Path.cwd())
    return call_factory(name, {})
