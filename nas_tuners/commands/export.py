"""``nas export``: write the best architecture of a run to files, and its network if the weights are given."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from nas_tuners.commands import CommandError, build_model
from nas_tuners.hosts.nni.experiments import journal_of
from nas_tuners.runs.run import load
from nas_tuners.show.text import describe_early_phase
from search_spaces import Choices
from search_spaces.files import check_replaceable, write_atomically


def execute(options: Namespace) -> int:
    """Write ``choices.json``, which ``mutators.extract`` takes, and ``choices.yml``; print the files.

    With a model and weights also the folder's ``arch.json`` and ``weights.pt``, for ``mutators.load_subnet``.
    """
    if (options.model is None) != (options.weights is None):
        raise CommandError("--model and --weights go together: one builds the network, the other fills it.")
    journal, folder = journal_of(options.source), options.output
    _check_output(folder, options.model is not None)
    run, _ = load(journal)
    best = run.search.best
    if best is None:
        why = describe_early_phase(run)
        raise CommandError(f"{journal} has no result yet: nothing to export{': ' * bool(why)}{why}.")
    choices = dict(best.choices)
    write_atomically(folder / "choices.json", (json.dumps(choices, indent=2) + "\n").encode())
    names = {key: {"chosen": _names_of(choice)} for key, choice in choices.items()}
    write_atomically(folder / "choices.yml", yaml.safe_dump(names, sort_keys=False).encode())
    print(f"{folder / 'choices.json'}\n{folder / 'choices.yml'}")
    if options.model is not None:
        _save_network(folder, options.model, options.weights, choices)
        print(f"{folder / 'arch.json'}\n{folder / 'weights.pt'}")
    return 0


def _check_output(folder: Path, network: bool) -> None:
    """Check that the files to write are new, or of an export before."""
    check_replaceable(folder / "choices.json", "file of nas export", lambda content: content.startswith(b"{"))
    check_replaceable(folder / "choices.yml", "file of nas export", lambda content: b"chosen:" in content)
    if network:
        check_replaceable(folder / "arch.json", "file of nas export", lambda content: b'"weights_sha256"' in content)
        there = (folder / "arch.json").exists()
        check_replaceable(folder / "weights.pt", "file of nas export", lambda _: there)


def _names_of(choice: Any) -> list[Any]:
    value = choice["_value"] if isinstance(choice, dict) and "_value" in choice else choice
    return value if isinstance(value, list) else [value]


def _save_network(folder: Path, model: str, weights: Path, choices: Choices) -> None:
    import torch

    from mutators import extract, save_subnet

    whole = build_model(model)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CommandError(f"cannot read the weights {weights}: {error.strerror}.") from None
    except Exception as error:  # torch and pickle raise all sorts of errors for a file that is not a state dict
        raise CommandError(f"{weights} is not a state dict of tensors: {' '.join(str(error).split())[:200]}") from None
    network = extract(whole, choices)
    target = network if state.keys() == network.state_dict().keys() else whole
    try:
        target.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CommandError(f"{weights} does not fit {model}: {' '.join(str(error).split())[:500]}") from None
    save_subnet(folder, network if target is network else extract(whole, choices), choices, factory=model)
