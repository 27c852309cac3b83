"""Apply choices to a model, in place: until others are applied, or for good.

Differs: in NNI 1.9 this is a mutator that stays bound; here it is a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.layer_choice import LayerChoice
from mutators.choices.notation import indices_of, read_choices, to_choice
from mutators.choices.visitor import replace_choices
from mutators.choices.walk import Site, decisions, refuse_bound, walk
from search_spaces.domains import Choice
from search_spaces.files import read_file
from search_spaces.schema import Choices
from search_spaces.validate import Malformed, parse


def apply_choices(model: nn.Module, choices: Choices) -> None:
    """Set ``model`` to ``choices``, in place. Checks everything before it changes anything; may be repeated.

    Args:
        model: with choices, and without a mutator.
        choices: ``{key: {"_value": name, "_idx": index}}``, for an input choice lists of both. ``_idx`` decides;
            ``_value`` may be left out. Keys that begin with ``_`` are ignored, and so are hyper-parameters that were
            searched beside the network: bare values such as ``"lr": 0.1`` under a key that the model does not have.

    Raises:
        ChoiceError: keys are missing or unknown, or a choice is not on offer (all of them are named), or a mutator is
            bound to the model: it would have precedence, so ``release()`` it first. The model is as it was.

    Differs: NNI 1.9 refuses all keys that are not the model's, hyper-parameters too; it calls its mutator, which can
    be applied only once.
    """
    sites = walk(model)
    wanted = read_choices(decisions(sites), choices)
    refuse_bound(sites)
    _apply(sites, wanted)


def apply_fixed_architecture(model: nn.Module, fixed: Mapping[str, Any] | str | PathLike[str]) -> dict[str, Choice]:
    """Fix ``model`` to an architecture for good, in place: chosen layers take the place of their choices.

    Input choices stay, with the choice applied, and so do layer choices that do more than their chosen layer: those
    that return a mask or a list, have a forward of their own, or hooks.

    Args:
        model: with choices, and without a mutator.
        fixed: a mapping or the path of a JSON file: ``{key: value}``, where a value is an index, a name, a list of
            them, a list of one bool a candidate, or ``{"_value", "_idx"}``.

    Returns: the choices, as :func:`apply_choices` takes them.

    Raises:
        ChoiceError: the file cannot be read, keys are missing or unknown, or a value does not fit. All that is wrong
            is listed, and the model is as it was.

    Differs: a layer choice is fixed to exactly one candidate; returns choices where NNI 1.9 returns a mutator.
    """
    given = _read(fixed) if isinstance(fixed, (str, PathLike)) else fixed
    sites = walk(model)
    choices = read_choices(decisions(sites), given, to_choice, lambda key, value: not str(key).startswith("_"))
    refuse_bound(sites)
    _apply(sites, choices)
    layers = [choice for site in sites if isinstance(choice := site.mutable, LayerChoice)]
    plain = [choice for choice in layers if choice.is_bare and choice.is_plain]
    replace_choices(model, {id(choice): indices_of(choices[choice.key]) for choice in plain})
    return choices


def _apply(sites: list[Site], choices: dict[str, Choice]) -> None:
    for site in sites:
        site.mutable.bind(None, site.key)
        if site.domain is not None:
            site.mutable.choose(indices_of(choices[site.key]))


def _read(path: str | PathLike[str]) -> Any:
    try:
        return parse(read_file(Path(path)).decode())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ChoiceError(f"cannot read the architecture {fspath(path)}: {reason}.") from None
    except Malformed as error:
        raise ChoiceError(f"{fspath(path)} is not JSON: {error}.") from None
