"""Check an experiment's configuration, part by part. Imports NNI, which takes a second or more."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from nni.experiment.config import ExperimentConfig
from nni.experiment.config.utils import camel_case, case_insensitive, unset_base_path

from nas_tuners.commands.checks.algorithms import check_assessor, check_tuner
from nas_tuners.commands.checks.numbers import check_budget, check_numbers
from nas_tuners.commands.checks.old_format import find_old_names
from nas_tuners.commands.checks.spaces import check_space
from nas_tuners.hosts.nni.tuner import SearchTuner
from nas_tuners.show.text import describe_space
from search_spaces.trust import TrustError, require_trust

_ADVISOR = (
    "advisor: NNI 3 takes a tuner and an assessor instead, and its Hyperband and BOHB cannot search architectures; "
    "write tuner: {className: nas_tuners.EvolutionTuner, codeDirectory: .} and, to stop trials early, "
    "assessor: {name: Medianstop}"
)


class CheckError(ValueError):
    """A configuration cannot be run; the message lists all that is wrong."""


def check_config(path: Path, config: dict[str, object], trusted: bool, way: str) -> tuple[str, list[str]]:
    """Return what a configuration describes, and what its tuner cannot do with it. Raises CheckError.

    Args:
        trusted: whether the user vouches for the classes that it names; else only ours and NNI's are imported.
        way: what to type to vouch for them.
    """
    config = _name_as_nni_does(config)
    if hints := find_old_names(config):
        raise CheckError(f"{path} is a configuration of NNI 1:" + "".join(f"\n  {hint}" for hint in hints))
    space, problems = check_space(path.parent, config)
    tuner, left = None, ""

    def vouch(named: str) -> None:
        require_trust(trusted, path, named, way)

    if "advisor" in config:
        problems.append(_ADVISOR)
    else:
        try:
            tuner, wrong = check_tuner(path.parent, config.get("tuner"), space, vouch)
            problems += wrong
        except TrustError as error:
            left += f"\nbut the classArgs of the tuner are not checked: {error}"
    try:
        problems += check_assessor(path.parent, config.get("assessor"), config.get("tuner"), tuner, vouch)
    except TrustError as error:
        left += f"\nbut the classArgs of the assessor are not checked: {error}"
    problems += check_numbers(config)
    problems = problems or _check_with_nni(path)
    if problems:
        raise CheckError(f"{path} cannot be run ({len(problems)} wrong):" + "".join(f"\n  {p}" for p in problems))
    if isinstance(tuner, SearchTuner):
        space = tuner.run.space  # without what its classArgs fix
    assert space is not None
    limit = config.get("maxTrialNumber")
    ends = isinstance(limit, int) and space.size < limit
    end = f"; the experiment ends after {space.size} trials, not {limit}" if ends else ""
    return describe_space(space) + end + left, check_budget(config, tuner)


def load_config(path: Path) -> dict[str, Any]:
    """Return a configuration that was checked as NNI writes it out: with its space, all paths absolute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config: dict[str, Any] = _load(path).json()
    return config


def _load(path: Path) -> ExperimentConfig:
    """Load a configuration by NNI, which refuses all others in this process once it has refused one."""
    try:
        return ExperimentConfig.load(str(path))
    finally:
        unset_base_path()


def _name_as_nni_does(config: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration under the names of NNI, which takes search_space_file for searchSpaceFile, too."""
    names = {case_insensitive(field.name): camel_case(field.name) for field in fields(ExperimentConfig)}
    return {names.get(case_insensitive(str(name)), name): value for name, value in config.items()}


def _check_with_nni(path: Path) -> list[str]:
    """Return what NNI itself says of the rest of the file."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "SSH password")  # nas check warns of it itself
            _load(path).validate()
    except Exception as error:
        said = " ".join(str(error).split())
        if not said and isinstance(error, AssertionError):  # the only thing that tells what was asserted
            said = f"wanted what it asserts: {traceback.extract_tb(error.__traceback__)[-1].line}"
        return [f"NNI: {said or type(error).__name__}"]
    return []
