"""Check the tuner and the assessor of a configuration, as NNI would make them, but before it does."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from nni.assessor import Assessor
from nni.tools.package_utils import get_algo_meta, get_all_algo_meta

from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces import Space
from search_spaces.checks import one_of
from search_spaces.resolve import resolve

Role = Literal["tuner", "assessor"]
# NNI's own tuners that cannot search layer_choice and input_choice; NNI notices when the trials fail.
_NOT_FOR_NAS = (
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
)
_OURS = tuple(algorithm.registered for algorithm in ALGORITHMS.values())


class AlgorithmError(ValueError):
    """There is no such tuner or assessor; the message is one problem."""


def check_tuner(folder: Path, tuner: Any, space: Space | None) -> tuple[Any, list[str]]:
    """Return a tuner with its space, as in a configuration in a folder, and what is wrong with it.

    Of NNI's own tuners none is made: None is returned.
    """
    if not isinstance(tuner, Mapping):
        return None, [f"tuner is {tuner!r}, wanted a mapping with className or name"]
    made, problems = _make("tuner", folder, tuner)
    if made is None or problems or space is None:
        return made, problems
    try:
        with _importing_from(folder, tuner):
            made.update_search_space(space.to_json())
    except Exception as error:  # whatever a tuner raises here would stall the experiment later
        return made, [f"tuner.classArgs: {error}"]
    return made, []


def check_assessor(folder: Path, assessor: Any, tuner: Any) -> list[str]:
    """Return what is wrong with the assessor of a configuration, also beside its tuner; None is no assessor."""
    if assessor is None:
        return []
    if not isinstance(assessor, Mapping):
        return [f"assessor is {assessor!r}, wanted a mapping with name or className"]
    made, problems = _make("assessor", folder, assessor)
    if not problems and not isinstance(made, Assessor):
        problems = [f"assessor: {type(made).__name__} is not derived from nni.assessor.Assessor"]
    return problems or _compare_modes(assessor, type(made), tuner)


def mode_of(entry: Mapping[str, Any], made_of: type | None) -> str | None:
    """Return what a tuner or an assessor optimizes, ``maximize`` or ``minimize``; None if it does not say."""
    default = None
    if made_of is not None:
        parameter = inspect.signature(made_of).parameters.get("optimize_mode")
        default = None if parameter is None else parameter.default
    mode = (entry.get("classArgs") or {}).get("optimize_mode", default)
    return mode if isinstance(mode, str) else None


def _compare_modes(assessor: Mapping[str, Any], made_of: type, tuner: Any) -> list[str]:
    only_up = made_of.__name__ == "CurvefittingAssessor"  # it stops what stays below the best, and has no such argument
    mode = "maximize" if only_up else mode_of(assessor, made_of)
    wanted = mode_of(tuner, None) if isinstance(tuner, Mapping) else None
    wanted = wanted or "maximize"
    if mode is None or mode == wanted:
        return []
    cure = "report the negative metric, and maximize" if only_up else f"write optimize_mode: {wanted} in both"
    return [f"the tuner is to {wanted}, the assessor to {mode}: it would stop the best trials; {cure}"]


def _make(role: Role, folder: Path, entry: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return an object of a class with its arguments, and what is wrong; None for one of NNI's own tuners."""
    arguments = entry.get("classArgs") or {}
    if not isinstance(arguments, Mapping):
        return None, [f"{role}.classArgs is {arguments!r}, wanted a mapping"]
    with _importing_from(folder, entry) as code:
        try:
            found, validator = _find_class(role, code, entry)
        except AlgorithmError as error:
            return None, [str(error)]
        if found is None:
            return None, []
        known = inspect.signature(found).parameters
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known.values()):
            problems = [one for name in arguments for one in one_of(f"a name in {role}.classArgs", name, known)]
            if problems:
                return None, problems
        try:
            if validator is not None:
                validator().validate_class_args(**arguments)
            return found(**arguments), []
        except Exception as error:  # whatever it raises here would end the experiment
            return None, [f"{role}.classArgs: {' '.join(str(error).split())}"]


@contextmanager
def _importing_from(folder: Path, entry: Mapping[str, Any]) -> Iterator[Path]:
    """Look for modules in the ``codeDirectory`` of a tuner or an assessor too, as NNI does. Yields: that folder."""
    code = folder / str(entry.get("codeDirectory", "."))
    sys.path.append(str(code.resolve()))
    try:
        yield code
    finally:
        sys.path.pop()


def _find_class(
    role: Role, folder: Path, entry: Mapping[str, Any]
) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
    """Return a class, and NNI's check of its arguments; None for one of NNI's own tuners."""
    name, class_name, validator = entry.get("name"), entry.get("className"), None
    if (name is None) == (class_name is None):
        raise AlgorithmError(f"{role}: wanted exactly one of className and name")
    if name is not None:
        meta = _find_registered(role, str(name))
        if role == "tuner" and meta.is_builtin:
            return None, None
        class_name, validator = meta.class_name, meta.validator_class_name
    elif "codeDirectory" not in entry:
        raise AlgorithmError(f"{role}.codeDirectory is missing: NNI wants it beside className; write: codeDirectory: .")
    if not folder.is_dir():
        raise AlgorithmError(f"{role}.codeDirectory: {folder} is not a folder")
    if "." not in str(class_name):
        example = "nas_tuners.AnnealingTuner" if role == "tuner" else "my_module.MyAssessor"
        raise AlgorithmError(f"{role}.className is {class_name!r}, wanted module.Class, such as {example}")
    try:
        return resolve(str(class_name), separator="."), validator and resolve(validator, separator=".")
    except ValueError as error:
        raise AlgorithmError(f"{role}.className: {error}") from None


def _find_registered(role: Role, name: str) -> Any:
    """Return NNI's record of a name."""
    if role == "tuner" and name.lower() in _NOT_FOR_NAS:
        raise AlgorithmError(f"tuner.name: NNI's {name} cannot search architectures; ours are {', '.join(_OURS)}")
    meta = get_algo_meta(name)
    if meta is not None and meta.algo_type == role:
        return meta
    if role == "tuner" and name.lower() in map(str.lower, _OURS):
        raise AlgorithmError(f"tuner.name {name!r} is not known to NNI in this environment: run nas register first")
    there_are = [meta.name for meta in get_all_algo_meta() if meta.algo_type == role]
    (problem,) = one_of(f"{role}.name", name, _OURS if role == "tuner" else there_are)
    raise AlgorithmError(problem)
