"""What a trial declares that it wants to have chosen: emitted in a dry run, remembered when it runs by itself.

A dry run goes on after a declaration, so that all models of a trial and all its hyper-parameters are found. It ends by
``SystemExit(0)`` where the trial begins to work: at the first forward of a model that was declared, the first step of
an optimizer, or the first report. Forwards of other networks do not count: building the next model may need one.

Differs: NNI 1.9 ends it at the first model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from search_spaces.emitting import added_by_hand, space_before, write_space
from search_spaces.errors import ProblemsError, SpaceError
from search_spaces.resolve import reason_of

defaults: dict[str, object] = {}
"""The hyper-parameters that this process has declared without an experiment, and their values."""

_VARIABLE = "NNI_GEN_SEARCH_SPACE"
_dry_runs: dict[str, DryRun] = {}
_hooks: list[RemovableHandle] = []


class DryRun:
    """The search space that a trial has declared so far, in the file that asks for it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.entries: dict[str, object] = {}
        self.has_architecture = False
        self.modules: set[nn.Module] = set()
        self.ended = False
        self._before = space_before(file)

    def declare_architecture(self, entries: Mapping[str, object], model: nn.Module | None = None) -> None:
        """Add the decisions of an architecture, and of the model that holds it; see :meth:`declare`."""
        self.declare(entries)
        self.has_architecture = True
        self.modules.update([] if model is None else model.modules())

    def declare(self, entries: Mapping[str, Any]) -> None:
        """Add decisions, and write the file: it holds what was declared, however the trial goes on.

        Raises:
            SpaceError: a key has other candidates than before, the space is not valid, or the file is something else.
        """
        clashes = [
            f"key {key!r} is {self.entries[key]}, and then {entry}: one key is one decision"
            for key, entry in entries.items()
            if self.entries.get(key, entry) != entry
        ]
        if clashes:
            raise SpaceError("what this trial declares does not fit together:", clashes)
        now = {**self.entries, **entries}
        write_space(self.file, now | added_by_hand(self._before, now))
        self.entries = now

    def end(self) -> None:
        """End the trial; if it goes on nevertheless, with a message and exit code 1."""
        if self.ended:
            sys.stderr.write(
                "this trial catches SystemExit, by which a dry run ends, and goes on: let it through "
                "(except Exception: does), so that nas ss-gen does not train.\n"
            )
            sys.stderr.flush()
            os._exit(1)  # whatever is raised would be caught again
        self.ended = True
        raise SystemExit(0)


def dry_run() -> DryRun | None:
    """Return the dry run that this process is; None if it is none."""
    file = os.environ.get(_VARIABLE)
    if not file:
        return None
    if file not in _dry_runs:
        if not _dry_runs:
            _hooks.append(register_module_forward_pre_hook(_end_at_forward))
            _hooks.append(register_optimizer_step_pre_hook(lambda *_: end_dry_run()))
            sys.excepthook = _ExceptHook(sys.excepthook)
        _dry_runs[file] = DryRun(Path(file))
    return _dry_runs[file]


def end_dry_run() -> None:
    """End the trial if it is a dry run that has declared something."""
    run = _current()
    if run is not None and run.entries:
        run.end()


def forget() -> None:
    """Forget what this process has declared, and hook nothing any more, so that it can be another trial."""
    defaults.clear()
    _dry_runs.clear()
    while _hooks:
        _hooks.pop().remove()
    if isinstance(sys.excepthook, _ExceptHook):
        sys.excepthook = sys.excepthook.previous


def _end_at_forward(module: nn.Module, arguments: object) -> None:
    run = _current()
    if run is not None and module in run.modules:
        run.end()


def _current() -> DryRun | None:
    return _dry_runs.get(os.environ.get(_VARIABLE, ""))


class _ExceptHook:
    """Ends a dry run where the trial cannot go on, such as without its data, once it has asked for an architecture."""

    def __init__(self, previous: Any) -> None:
        self.previous = previous

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        run = _current()
        is_trials_own = isinstance(error, Exception) and not isinstance(error, ProblemsError)
        if run is None or not run.has_architecture or not is_trials_own:
            self.previous(kind, error, trace)
            return
        sys.stderr.write(
            f"the dry run ended by {reason_of(error)}; what the trial would declare after that is not in its space.\n"
        )
        raise SystemExit(0)
