"""``nas check``: everything that is wrong with a space file or an experiment's configuration, before it is started."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import yaml

from nas_tuners.commands import CommandError
from nas_tuners.commands.register import TUNERS
from search_spaces import Space, SpaceError

# NNI's own tuners that cannot search layer_choice and input_choice; NNI finds out when the trials fail.
_NOT_FOR_NAS = {
    "random",
    "tpe",
    "evolution",
    "anneal",
    "gridsearch",
    "smac",
    "batch",
    "hyperband",
    "bohb",
    "gp",
    "metis",
}


def check(path: Path) -> str:
    """Check a file. Returns: a line that says what it is.

    Raises:
        CommandError: something is wrong; all problems are listed.
        SpaceError: the same, of a space file.
    """
    if path.suffix.lower() not in (".yml", ".yaml"):
        return told(Space.load(path))
    config = _read_yaml(path)
    problems, space = _check_config(path, config)
    if problems:
        raise CommandError(f"{path} cannot be run ({len(problems)} wrong):" + "".join(f"\n  {p}" for p in problems))
    assert space is not None
    limit = config.get("maxTrialNumber")
    if isinstance(limit, int) and space.size < limit:
        return f"{told(space)}; the experiment ends after {space.size} trials, not {limit}"
    return told(space)


def told(space: Space) -> str:
    """The number of keys, the exact size, and the digest."""
    digits = space.size.bit_length() * 0.30103
    size = f"{space.size}" if digits < 4000 else f"about 10^{digits:.0f}"  # Python's own limit of text
    about = f" (about {space.size:.1e})" if 7 < digits < 300 else ""
    return f"{len(space)} choices, {size} architectures{about}, digest {space.digest}"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise CommandError(
            f"{path} is not an experiment's configuration: wanted a mapping with trialCommand, tuner ..."
        )
    return config


def _check_config(path: Path, config: dict[str, Any]) -> tuple[list[str], Space | None]:
    space, problems = _check_space(path, config)
    problems += _check_tuner(path, config.get("tuner"), space)
    return problems or _check_with_nni(path), space


def _check_space(path: Path, config: dict[str, Any]) -> tuple[Space | None, list[str]]:
    inline, file = config.get("searchSpace"), config.get("searchSpaceFile")
    if (inline is None) == (file is None):
        return None, ["wanted exactly one of searchSpaceFile and searchSpace"]
    try:
        if file is None:
            return Space.from_json(inline), []
        space_path = path.parent / str(file)
        space = Space.load(space_path)
    except SpaceError as error:
        return None, str(error).splitlines() if error.problems else [str(error)]
    try:  # NNI reads the file as YAML, not as JSON5
        yaml.safe_load(space_path.read_text(encoding="utf-8").replace("\t", " "))
    except yaml.YAMLError:
        return space, [f"{space_path} is JSON5, which NNI cannot read: write plain JSON"]
    return space, []


def _check_tuner(path: Path, tuner: Any, space: Space | None) -> list[str]:
    if not isinstance(tuner, dict):
        return [f"tuner is {tuner!r}, wanted a mapping with className or name"]
    arguments = tuner.get("classArgs") or {}
    if not isinstance(arguments, dict):
        return [f"tuner.classArgs is {arguments!r}, wanted a mapping"]
    folder = path.parent / str(tuner.get("codeDirectory", "."))
    sys.path.append(str(folder.resolve()))  # as NNI does
    try:
        cls = _tuner_class(folder, tuner)
        return [] if cls is None else _check_arguments(cls, arguments, space)
    except CommandError as error:
        return [str(error)]
    finally:
        sys.path.pop()


def _check_arguments(cls: Any, arguments: dict[str, Any], space: Space | None) -> list[str]:
    known = inspect.signature(cls).parameters
    unknown = [name for name in arguments if name not in known and not _takes_any(known)]
    if unknown:
        return [f"tuner.classArgs.{name} is unknown{_meant(name, list(known))}" for name in unknown]
    try:
        made = cls(**arguments)
        if space is not None:
            made.update_search_space(space.to_json())
    except Exception as error:  # whatever a tuner raises here would stall the experiment later
        return [f"tuner.classArgs: {error}"]
    return []


def _tuner_class(folder: Path, tuner: dict[str, Any]) -> Any:
    """The tuner's class, or None where it is one of NNI's own."""
    name, class_name = tuner.get("name"), tuner.get("className")
    if (name is None) == (class_name is None):
        raise CommandError("tuner: wanted exactly one of className and name")
    if name is not None:
        if str(name).lower() in _NOT_FOR_NAS:
            raise CommandError(f"tuner.name: NNI's {name} cannot search architectures; ours are {', '.join(TUNERS)}")
        class_name = _registered(str(name))
        if class_name is None:
            return None
    elif "codeDirectory" not in tuner:
        raise CommandError("tuner.codeDirectory is missing: NNI wants it beside className; write: codeDirectory: .")
    if not folder.is_dir():
        raise CommandError(f"tuner.codeDirectory: {folder} is no folder")
    module, _, attribute = str(class_name).rpartition(".")
    if not module:
        raise CommandError(f"tuner.className is {class_name!r}, wanted module.Class, such as nas_tuners.AnnealingTuner")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise CommandError(f"tuner.className: cannot import {class_name}: {error}") from None


def _registered(name: str) -> str | None:
    """The class behind a registered name; None for one of NNI's own."""
    from nni.tools.package_utils import get_algo_meta

    meta = get_algo_meta(name)
    if meta is None:
        ours = {ours.lower(): ours for ours in TUNERS}
        hint = ": run nas register first" if name.lower() in ours else _meant(name, list(TUNERS))
        raise CommandError(f"tuner.name {name!r} is not known to NNI in this environment{hint}")
    return None if meta.is_builtin else str(meta.class_name)


def _check_with_nni(path: Path) -> list[str]:
    """What NNI itself says of the rest of the file."""
    from nni.experiment.config import ExperimentConfig

    try:
        ExperimentConfig.load(str(path)).validate()
    except Exception as error:
        return [f"NNI: {' '.join(str(error).split()) or type(error).__name__}"]
    return []


def _takes_any(parameters: Any) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _meant(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}"
