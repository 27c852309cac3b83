"""Take the plain network of an architecture out of a model with choices.

Differs: NNI 1.9 has only :func:`mutators.apply_fixed_architecture`, which needs the model's code ever after.
"""

from __future__ import annotations

import copy

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.mutable import Mutable
from mutators.choices.notation import indices_of, read_choices
from mutators.choices.visitor import Extraction
from mutators.choices.walk import conditions, decisions, walk
from search_spaces.errors import ProblemsError
from search_spaces.schema import Choices


def extract(model: nn.Module, choices: Choices) -> nn.Module:
    """Return the plain network of ``choices``; ``model`` itself stays as it is, bound or not.

    The chosen module takes the choice's path, so the names of parameters are those of the network written by hand.
    Nothing unchosen is copied. An input choice becomes a selection without parameters; layers that only feed inputs
    which are not selected stay, because forward is the author's. A layer choice that returns a mask or a list keeps a
    thin wrapper, and the chosen module's parameters then stand under ``PATH.chosen``.

    A choice that has hooks, or a subclass with a forward of its own, stays: fixed, with the chosen ones alone, whose
    parameters stand where they stood. The others say as plain modules what they were: ``names``, ``n_candidates``,
    ``chosen``.

    Raises:
        ChoiceError: see :func:`apply_choices`; or a module cannot be copied.
    """
    sites = walk(model)
    wanted = read_choices(decisions(sites), choices, when=conditions(sites))
    plan = {id(site.mutable): indices_of(wanted[site.key]) for site in sites if site.domain is not None}
    try:
        network = Extraction(model, plan).copy(model)
    except ProblemsError:
        raise
    except Exception as error:  # whatever a module's own way to be copied raises
        raise ChoiceError(
            f"{_find_refusing(model)} cannot be copied: {type(error).__name__}: {error}. Give it a "
            "__deepcopy__(self, memo) that passes memo on, or fix the model itself by "
            "apply_fixed_architecture(model, choices), which copies nothing."
        ) from error
    for module in network.modules():
        if isinstance(module, Mutable):  # a scope, or a fixed choice
            module._mutator = None
    return network


def _find_refusing(model: nn.Module) -> str:
    """Return the path of the innermost module that cannot be copied, tried without copies of its tensors."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for path, module in reversed(list(model.named_modules())):
        try:
            copy.deepcopy(module, dict(tensors))
        except Exception:
            return f"{path or 'the model itself'} ({type(module).__name__})"
    return type(model).__name__
