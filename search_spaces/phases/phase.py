"""Phases as data: which options of a space are open when; :mod:`.schedule` draws in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from search_spaces.checks import is_int, whole
from search_spaces.errors import PhaseError
from search_spaces.schema import Space

OpenOptions = int | Literal["all"] | tuple[str, ...]
"""The options of a key that a phase opens: its n largest, all of them, or those named."""

TASKS: dict[str, tuple[str, ...]] = {
    "kernel_size": ("kernel_size",),
    "width": ("expand_ratio", "channel", "width", "w"),
    "expand_ratio": ("expand_ratio",),
    "channel": ("channel",),
    "depth": ("depth",),
}
"""Tasks: by name, the last parts of the keys that belong to them."""

DEFAULT_ORDER = ("kernel_size", "width", "depth")
"""The order of tasks in PaddleSlim's documentation."""


@dataclass(frozen=True)
class Phase:
    """The options that one phase opens. A key that it does not name keeps what was open.

    A key that only a later phase names has its largest option until then; a key that no phase names is always open.

    Args:
        name: of the phase.
        open: pairs of a pattern and what it opens; the first pattern that fits a key decides. A pattern is the name of
            a task, or in the style of ``fnmatch`` the key or the last part of it: ``kernel_size``, ``stage1.*``.
        budget: how long it lasts: in epochs for a trainer, in results for a tuner. None: for ever; the last one only.
        task: what its phases have in common; the same as ``name`` where none is given.

    Raises:
        PhaseError: one of these is malformed; all problems are listed.

    >>> Phase.from_json({"name": "depth 0", "open": {"depth": 2, "stage1.*": "all"}, "budget": 25}).open
    (('depth', 2), ('stage1.*', 'all'))
    """

    name: str
    open: tuple[tuple[str, OpenOptions], ...]
    budget: int | None = None
    task: str = ""

    def __post_init__(self) -> None:
        if not self.task:
            object.__setattr__(self, "task", self.name)
        pairs = isinstance(self.open, tuple) and all(isinstance(one, tuple) and len(one) == 2 for one in self.open)
        problems = _check_json(self.to_json()) if pairs else [f"open is {self.open!r}, wanted a tuple of pairs"]
        if problems:
            raise PhaseError(f"phase {self.name!r} is malformed:", problems)

    @classmethod
    def from_json(cls, obj: Any) -> Self:
        """Build a phase from ``{"name": ..., "open": {pattern: n | "all" | [names]}, "budget": ..., "task": ...}``.

        Raises:
            PhaseError: something is wrong; all problems are listed.
        """
        problems = _check_json(obj)
        if problems:
            raise PhaseError("not a valid phase:", problems)
        opened = tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in obj["open"].items())
        return cls(obj["name"], opened, obj.get("budget"), obj.get("task", ""))

    def to_json(self) -> dict[str, Any]:
        """Return the phase as JSON."""
        opened = {pattern: list(v) if isinstance(v, tuple) else v for pattern, v in self.open}
        return {"name": self.name, "task": self.task, "open": opened, "budget": self.budget}

    def options(self, key: str) -> OpenOptions | None:
        """Return what it opens of ``key``; None if it does not name it."""
        return next((options for pattern, options in self.open if fits(key, pattern)), None)


def phases_from_json(entries: object) -> tuple[Phase, ...]:
    """Build phases from a list of phases, or of their JSON.

    Raises PhaseError if something is wrong; the problems of all of them are listed, each with its place.
    """
    if not isinstance(entries, (list, tuple)):
        raise PhaseError(f"phases are {entries!r}, wanted a list of objects with name, open and budget.")
    plain = [entry.to_json() if isinstance(entry, Phase) else entry for entry in entries]
    problems = [f"[{i}] {problem}" for i, entry in enumerate(plain) for problem in _check_json(entry)]
    if problems:
        raise PhaseError("phases are malformed:", problems)
    return tuple(map(Phase.from_json, plain))


def fits(key: str, pattern: str) -> bool:
    """Return whether a pattern of a phase means a key.

    >>> fits("stage1.0.conv.kernel_size", "kernel_size"), fits("stage1.depth", "stage2.*"), fits("a.channel", "width")
    (True, False, True)
    """
    names = TASKS.get(pattern, (pattern,))
    return any(fnmatchcase(key, name) or fnmatchcase(key.rpartition(".")[2], name) for name in names)


def find_tasks(space: Space) -> dict[str, list[str]]:
    """Return, for each task, those of its parts that end a key of ``space``."""
    ends = {key.rpartition(".")[2] for key in space.keys}
    return {task: [part for part in parts if part in ends] for task, parts in TASKS.items()}


def find_elastic_parts(space: Space) -> list[str]:
    """Return the parts that end a key of ``space``, of all tasks."""
    present = find_tasks(space)
    return [part for task in DEFAULT_ORDER for part in present[task]]


def match_keys(space: Space, pattern: str) -> list[str]:
    """Return the keys of ``space`` that a pattern means."""
    return [key for key in space.keys if fits(key, pattern)]


def shorten_keys(keys: Sequence[str]) -> str:
    """Return the first keys as text, for an error message."""
    return ", ".join(map(repr, keys[:5])) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


def check_tasks(tasks: object, space: Space | None = None) -> list[str]:
    """Check a list of tasks, and that ``space`` has them if one is given."""
    if not isinstance(tasks, (list, tuple)) or not tasks:
        return [f"got {tasks!r}, wanted a list of tasks, of {', '.join(TASKS)}"]
    known = [task for task in tasks if isinstance(task, str) and task in TASKS]
    found = [f"task {task!r} is unknown, wanted one of {', '.join(TASKS)}" for task in tasks if task not in known]
    if space is not None:
        present = find_tasks(space)
        absent = [task for task in known if not present[task]]
        found += [
            f"task {task!r} has no key in this space, whose keys are {shorten_keys(space.keys)}" for task in absent
        ]
    parts = [part for task in known for part in TASKS[task]]
    twice = sorted({part for part in parts if parts.count(part) > 1})
    return found + [f"{part} is in more than one task of {list(tasks)}" for part in twice]


def _check_json(obj: object) -> list[str]:
    if not isinstance(obj, Mapping):
        return [f"got {obj!r}, wanted an object with name, open and budget"]
    found = [f"{key!r} is unknown, wanted name, open, budget or task" for key in obj if key not in _FIELDS]
    name, opened, task = obj.get("name"), obj.get("open"), obj.get("task", "")
    found += [] if isinstance(name, str) and name else [f"name is {name!r}, wanted a text"]
    found += [] if isinstance(task, str) else [f"task is {task!r}, wanted a text"]
    found += whole("budget", obj.get("budget"), 1, optional=True)
    if not isinstance(opened, Mapping):
        return [*found, f"open is {opened!r}, wanted an object {{pattern: options}}"]
    wanted = 'wanted a whole number from 1 up, "all", or a list of names'
    found += [f"open: pattern {p!r} is no text" for p in opened if not isinstance(p, str)]
    return found + [f"open: {p!r} is {v!r}, {wanted}" for p, v in opened.items() if not _is_options(v)]


_FIELDS = ("name", "open", "budget", "task")


def _is_options(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)
    return value == "all" if isinstance(value, str) else is_int(value) and value > 0
