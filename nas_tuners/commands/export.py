"""``nas export``: the best architecture of a run as files, and as a network where the weights are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from nas_tuners.commands import CommandError
from nas_tuners.commands.show import unfinished
from nas_tuners.runs.run import load
from search_spaces.files import write_atomically


def export(journal: Path, folder: Path, model: str | None = None, weights: Path | None = None) -> list[Path]:
    """Write the best architecture to ``folder``.

    Args:
        journal: of the run.
        folder: gets ``choices.json``, which :func:`mutators.extract` takes, and ``choices.yml``, which lists names.
        model: ``module:function`` that builds the model with its choices.
        weights: a state dict of the extracted network, or of the whole model; with ``model`` the network is
            saved as well, for :func:`mutators.load_subnet`.

    Returns: the files.

    Raises:
        CommandError: the run has no result yet, or only one of ``model`` and ``weights`` is given.
    """
    if (model is None) != (weights is None):
        raise CommandError("--model and --weights go together: the one builds the network, the other fills it.")
    run, _ = load(journal)
    best = run.search.best
    if best is None:
        why = unfinished(run)
        raise CommandError(f"{journal} has no result yet: nothing to export{': ' * bool(why)}{why}.")
    choices = dict(best.choices)
    files = [folder / "choices.json", folder / "choices.yml"]
    write_atomically(files[0], (json.dumps(choices, indent=2) + "\n").encode())
    named = {key: {"chosen": _names(choice)} for key, choice in choices.items()}
    write_atomically(files[1], yaml.safe_dump(named, sort_keys=False).encode())
    if model is not None and weights is not None:
        files += _save_network(folder, model, weights, choices)
    return files


def _names(choice: Any) -> list[Any]:
    value = choice["_value"] if isinstance(choice, dict) and "_value" in choice else choice
    return value if isinstance(value, list) else [value]


def _save_network(folder: Path, model: str, weights: Path, choices: dict[str, Any]) -> list[Path]:
    import torch

    from mutators import extract, save_subnet
    from mutators.subnet.trust import call_factory

    sys.path.insert(0, "")  # as `python -c` has it: MODULE is looked for in the current folder first
    whole = call_factory(model, {})
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CommandError(f"cannot read the weights {weights}: {error.strerror}.") from None
    except Exception as error:  # torch and pickle raise all sorts of things at a file that is no state dict
        raise CommandError(f"{weights} is not a state dict of tensors: {' '.join(str(error).split())[:200]}") from None
    network = extract(whole, choices)
    target = network if state.keys() == network.state_dict().keys() else whole
    try:
        target.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CommandError(f"{weights} does not fit {model}: {' '.join(str(error).split())[:500]}") from None
    save_subnet(folder, network if target is network else extract(whole, choices), choices, factory=model)
    return [folder / "arch.json", folder / "weights.pt"]
