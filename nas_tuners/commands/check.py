"""``nas check``: list everything that is wrong with a space file or an experiment's configuration, before it starts."""

from __future__ import annotations

import inspect
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from nas_tuners.commands import CommandError
from nas_tuners.commands.register import TUNERS
from nas_tuners.show.text import describe_space
from search_spaces import Space, SpaceError
from search_spaces.checks import one_of
from search_spaces.resolve import resolve
from search_spaces.trust import TrustError, require_trust

# NNI's own tuners that cannot search layer_choice and input_choice; NNI notices when the trials fail.
_NOT_FOR_NAS = set(
    ["random", "tpe", "evolution", "anneal", "gridsearch", "smac", "batch", "hyperband", "bohb", "gp", "metis"]
)


def execute(options: Namespace) -> int:
    """Check a file, and print what it describes. Raises CommandError or SpaceError with all that is wrong."""
    path = options.file
    is_config = path.suffix.lower() in (".yml", ".yaml")
    said = _check_config(path, options) if is_config else describe_space(Space.load(path))
    print(f"{path} is fine: {said}")
    return 0


def _check_config(path: Path, options: Namespace) -> str:
    config = _read_yaml(path)
    space, problems = _check_space(path, config)
    try:
        problems += _check_tuner(path, config.get("tuner"), space, options)
        left = ""
    except TrustError as error:
        left = f"\nbut the classArgs are not checked: {error}"
    problems = problems or _check_with_nni(path)
    if problems:
        raise CommandError(f"{path} cannot be run ({len(problems)} wrong):" + "".join(f"\n  {p}" for p in problems))
    assert space is not None
    limit = config.get("maxTrialNumber")
    ends = isinstance(limit, int) and space.size < limit
    return describe_space(space) + f"; the experiment ends after {space.size} trials, not {limit}" * ends + left


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:  # yaml
        raise CommandError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise CommandError(
            f"{path} is not an experiment's configuration: wanted a mapping with trialCommand, tuner ..."
        )
    return config


def _check_space(path: Path, config: dict[str, Any]) -> tuple[Space | None, list[str]]:
    inline, file = config.get("searchSpace"), config.get("searchSpaceFile")
    if (inline is None) == (file is None):
        return None, ["wanted exactly one of searchSpaceFile and searchSpace"]
    try:
        if file is None:
            return Space.from_json(inline), []
        space_path = path.parent / str(file)
        if space_path.exists() and not space_path.is_file():  # a device would be read for ever
            return None, [f"searchSpaceFile: {space_path} is no file"]
        space = Space.load(space_path)
    except SpaceError as error:
        return None, str(error).splitlines() if error.problems else [str(error)]
    try:  # NNI reads the file as YAML, not as JSON5
        yaml.safe_load(space_path.read_text(encoding="utf-8").replace("\t", " "))
    except yaml.YAMLError:
        return space, [f"{space_path} is JSON5, which NNI cannot read: write plain JSON"]
    return space, []


def _check_tuner(path: Path, tuner: Any, space: Space | None, options: Namespace) -> list[str]:
    if not isinstance(tuner, dict):
        return [f"tuner is {tuner!r}, wanted a mapping with className or name"]
    arguments = tuner.get("classArgs") or {}
    if not isinstance(arguments, dict):
        return [f"tuner.classArgs is {arguments!r}, wanted a mapping"]
    folder = path.parent / str(tuner.get("codeDirectory", "."))
    try:
        name = _name_tuner(folder, tuner)
    except CommandError as error:
        return [str(error)]
    if name is None:
        return []
    if name in TUNERS.values():
        if isinstance(table := arguments.get("cost_table"), str) and (folder / table).is_file():
            arguments = arguments | {"cost_table": str(folder / table)}  # NNI would find it by its sys.path
        return _check_arguments(name, arguments, space)
    named = f"{name!r} in {str(folder.resolve())!r} to be called"
    require_trust(options.trust_code, path, named, f"{options.typed} --trust-code")
    sys.path.append(str(folder.resolve()))  # as NNI does
    try:
        return _check_arguments(name, arguments, space)
    finally:
        sys.path.pop()


def _check_arguments(name: str, arguments: dict[str, Any], space: Space | None) -> list[str]:
    try:
        tuner_class = resolve(name, separator=".")
    except ValueError as error:
        return [f"tuner.className: {error}"]
    known = inspect.signature(tuner_class).parameters
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known.values()):
        problems = [problem for name in arguments for problem in one_of("a name in tuner.classArgs", name, known)]
        if problems:
            return problems
    try:
        tuner = tuner_class(**arguments)
        if space is not None:
            tuner.update_search_space(space.to_json())
    except Exception as error:  # whatever a tuner raises here would stall the experiment later
        return [f"tuner.classArgs: {error}"]
    return []


def _name_tuner(folder: Path, tuner: dict[str, Any]) -> str | None:
    """Return the full name of the tuner's class, which is not imported; None for one of NNI's own."""
    name, class_name = tuner.get("name"), tuner.get("className")
    if (name is None) == (class_name is None):
        raise CommandError("tuner: wanted exactly one of className and name")
    if name is not None:
        if str(name).lower() in _NOT_FOR_NAS:
            raise CommandError(f"tuner.name: NNI's {name} cannot search architectures; ours are {', '.join(TUNERS)}")
        class_name = _find_registered(str(name))
        if class_name is None:
            return None
    elif "codeDirectory" not in tuner:
        raise CommandError("tuner.codeDirectory is missing: NNI wants it beside className; write: codeDirectory: .")
    if not folder.is_dir():
        raise CommandError(f"tuner.codeDirectory: {folder} is not a folder")
    if "." not in str(class_name):
        raise CommandError(f"tuner.className is {class_name!r}, wanted module.Class, such as nas_tuners.AnnealingTuner")
    problems = one_of("tuner.className", class_name, TUNERS.values())
    if problems and str(class_name).startswith("nas_tuners."):  # of ours, the tuners alone: others could do anything
        raise CommandError(problems[0])
    return str(class_name)


def _find_registered(name: str) -> str | None:
    """Return the class behind a registered name; None for one of NNI's own."""
    from nni.tools.package_utils import get_algo_meta

    meta = get_algo_meta(name)
    if meta is not None:
        return None if meta.is_builtin else str(meta.class_name)
    if name.lower() in map(str.lower, TUNERS):
        raise CommandError(f"tuner.name {name!r} is not known to NNI in this environment: run nas register first")
    (problem,) = one_of("tuner.name", name, TUNERS)
    raise CommandError(problem)


def _check_with_nni(path: Path) -> list[str]:
    """Return what NNI itself says of the rest of the file."""
    from nni.experiment.config import ExperimentConfig

    try:
        ExperimentConfig.load(str(path)).validate()
    except Exception as error:
        return [f"NNI: {' '.join(str(error).split()) or type(error).__name__}"]
    return []
