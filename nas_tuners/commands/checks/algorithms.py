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

from nas_tuners.hosts.nni.tuner import SearchTuner
from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces import Space
from search_spaces.checks import one_of
from search_spaces.resolve import FAILURES, reason_of, resolve

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
_HOME = "nas_tuners.tuners"
_OURS = {algorithm.registered: f"nas_tuners.{algorithm.tuner}" for algorithm in ALGORITHMS.values()}
_ASSESSOR = "nas_tuners.SearchAssessor"
Vouch = Callable[[str], None]
"""Gets what a configuration names, and raises a TrustError unless somebody vouches for it."""


class AlgorithmError(ValueError):
    """There is no such tuner or assessor; the message is one problem."""


def check_tuner(folder: Path, tuner: object, space: Space | None, vouch: Vouch) -> tuple[object, list[str]]:
    """Return a tuner with its space, as in a configuration in a folder, and what is wrong with it.

    Of NNI's own tuners none is made: None is returned. Raises TrustError if it is another's, and nobody vouches for it.
    """
    if not isinstance(tuner, Mapping):
        return None, [f"tuner is {tuner!r}, wanted a mapping with className or name"]
    made, problems = make_algorithm("tuner", folder, tuner, vouch)
    if made is None or problems or space is None:
        return made, problems
    try:
        with _importing_from(folder / str(tuner.get("codeDirectory", ".")), type(made).__module__ == _HOME):
            made.update_search_space(space.to_json())
    except FAILURES as error:  # whatever a tuner raises here would stall the experiment later
        return made, [f"tuner.classArgs: {_describe(error)}"]
    return made, []


def check_assessor(folder: Path, assessor: object, tuner: object, made: object, vouch: Vouch) -> list[str]:
    """Return what is wrong with the assessor of a configuration, also beside its tuner; None is no assessor.

    Args:
        tuner: the tuner's part of the configuration.
        made: the tuner itself, if it could be made.
        vouch: see :data:`Vouch`.

    Raises TrustError if it is another's, and nobody vouches for it.
    """
    if assessor is None:
        if not isinstance(made, SearchTuner) or not made.stops_early:
            return []
        how = f"assessor: {{className: {_ASSESSOR}, codeDirectory: .}}"
        return [f"the tuner's early_stopping needs an assessor, by which NNI asks it: write {how}"]
    if not isinstance(assessor, Mapping):
        return [f"assessor is {assessor!r}, wanted a mapping with name or className"]
    found, problems = make_algorithm("assessor", folder, assessor, vouch)
    if not problems and not isinstance(found, Assessor):
        problems = [f"assessor: {type(found).__name__} is not derived from nni.assessor.Assessor"]
    return problems or _compare_modes(assessor, type(found), tuner)


def mode_of(entry: Mapping[str, Any], made_of: type | None) -> str | None:
    """Return what a tuner or an assessor optimizes, ``maximize`` or ``minimize``; None if it does not say."""
    default = None
    if made_of is not None:
        parameter = inspect.signature(made_of).parameters.get("optimize_mode")
        default = None if parameter is None else parameter.default
    mode = (entry.get("classArgs") or {}).get("optimize_mode", default)
    return mode if isinstance(mode, str) else None


def _compare_modes(assessor: Mapping[str, Any], made_of: type, tuner: object) -> list[str]:
    only_up = made_of.__name__ == "CurvefittingAssessor"  # it stops what stays below the best, and has no such argument
    mode = "maximize" if only_up else mode_of(assessor, made_of)
    wanted = mode_of(tuner, None) if isinstance(tuner, Mapping) else None
    wanted = wanted or "maximize"
    if mode is None or mode == wanted:
        return []
    cure = "report the negative metric, and maximize" if only_up else f"write optimize_mode: {wanted} in both"
    return [f"the tuner is to {wanted}, the assessor to {mode}: it would stop the best trials; {cure}"]


def make_algorithm(role: Role, folder: Path, entry: Mapping[str, object], vouch: Vouch) -> tuple[Any, list[str]]:
    """Return a tuner or an assessor of a configuration, and what is wrong; None for one of NNI's own tuners.

    Raises TrustError if it is another's, and nobody vouches for it.
    """
    arguments = entry.get("classArgs") or {}
    if not isinstance(arguments, Mapping):
        return None, [f"{role}.classArgs is {arguments!r}, wanted a mapping"]
    code = folder / str(entry.get("codeDirectory", "."))
    try:
        name, validator = _name_class(role, code, entry)
    except AlgorithmError as error:
        return None, [str(error)]
    if name is None:
        return None, []
    known = name in (*_OURS.values(), _ASSESSOR) or validator is not None
    if not known:
        vouch(f"{name!r} in {str(code.resolve())!r} to be called")
    else:  # NNI would find files by its sys.path
        if isinstance(table := arguments.get("cost_table"), str):
            arguments = {**arguments, "cost_table": _beside(code, table)}
        if isinstance(runs := arguments.get("warm_start"), list):
            arguments = {**arguments, "warm_start": [_beside(code, run) for run in runs]}
    with _importing_from(code, known):
        try:
            found, check = (resolve(one, separator=".") if one else None for one in (name, validator))
        except ValueError as error:
            return None, [f"{role}.className: {error}"]
        assert found is not None
        parameters = inspect.signature(found).parameters
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            problems = [one for given in arguments for one in one_of(f"a name in {role}.classArgs", given, parameters)]
            if problems:
                return None, problems
        try:
            if check is not None:
                check().validate_class_args(**arguments)
            return found(**arguments), []
        except FAILURES as error:  # whatever it raises here would end the experiment
            return None, [f"{role}.classArgs: {_describe(error)}"]


def _beside(folder: Path, given: Any) -> Any:
    """Return the path of a file or folder in ``folder``, if it is there."""
    return str(folder / given) if isinstance(given, str) and (folder / given).exists() else given


def _describe(error: BaseException) -> str:
    """Return what an algorithm says of its arguments; of errors that are no answer to them, also where they arose."""
    return " ".join(str(error).split()) if isinstance(error, (ValueError, AssertionError)) else reason_of(error)


@contextmanager
def _importing_from(folder: Path, known: bool) -> Iterator[None]:
    """Look for modules in the ``codeDirectory`` of a tuner or an assessor too, as NNI does, if it is another's.

    What is ours or NNI's needs none of it, and would find there what it imports if that is installed.
    """
    before = sys.path
    sys.path = sys.path if known else [*sys.path, str(folder.resolve())]
    try:
        yield
    finally:
        sys.path = before


def _name_class(role: Role, folder: Path, entry: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the full name of a class, which is not imported, and that of NNI's check of its arguments, if it is NNI's.

    None for one of NNI's own tuners.
    """
    name, class_name, validator = entry.get("name"), entry.get("className"), None
    if (name is None) == (class_name is None):
        raise AlgorithmError(f"{role}: wanted exactly one of className and name")
    if name is not None:
        meta = _find_registered(role, str(name))
        if role == "tuner" and meta.is_builtin:
            return None, None
        class_name, validator = meta.class_name, meta.validator_class_name if meta.is_builtin else None
    elif "codeDirectory" not in entry:
        raise AlgorithmError(f"{role}.codeDirectory is missing: NNI wants it beside className; write: codeDirectory: .")
    if not folder.is_dir():
        raise AlgorithmError(f"{role}.codeDirectory: {folder} is not a folder")
    if "." not in str(class_name):
        example = "nas_tuners.AnnealingTuner" if role == "tuner" else "my_module.MyAssessor"
        raise AlgorithmError(f"{role}.className is {class_name!r}, wanted module.Class, such as {example}")
    if str(class_name).startswith("nas_tuners."):  # of ours, these alone: others could do anything
        problems = one_of(f"{role}.className", class_name, list(_OURS.values()) if role == "tuner" else [_ASSESSOR])
        if problems:
            raise AlgorithmError(problems[0])
    return str(class_name), validator


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
    (problem,) = one_of(f"{role}.name", name, list(_OURS) if role == "tuner" else there_are)
    raise AlgorithmError(problem)
