"""``nas export``: write the best architecture of a run to files, and its network if the model is given."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nas_tuners.commands import CommandError, build_model
from nas_tuners.hosts.nni.experiments import journal_of
from nas_tuners.runs.front import front_of
from nas_tuners.runs.run import arguments_in, load
from nas_tuners.show.text import describe_early_phase, describe_no_result
from search_spaces import Choices
from search_spaces.files import check_replaceable, write_atomically

if TYPE_CHECKING:
    from torch import nn


def execute(options: Namespace) -> int:
    """Write ``choices.json``, which ``mutators.extract`` takes, and ``choices.yml``, of the best or of a front.

    With a model also the folder's ``arch.json`` and ``weights.pt``, for ``mutators.load_subnet``, and with ``--pt2`` or
    ``--onnx`` what runs without the model's source.
    """
    shape = _check_options(options)
    journal, folder = journal_of(options.source), options.output
    run, header = load(journal)
    best = run.search.best
    if best is None:
        why = describe_early_phase(run)
        raise CommandError(f"{journal} has {describe_no_result(run)}; nothing to export{': ' * bool(why)}{why}.")
    wanted = {folder: dict(best.choices)}
    if options.front:
        front = front_of(run, arguments_in(header))
        if not front:
            raise CommandError(f"{journal} is of a search with one objective: it has no front; leave out --front.")
        wanted = {folder / str(trial.uid): dict(trial.proposal.choices) for trial, _ in front}
    for place in wanted:
        _check_output(place, options.model is not None)
    for place, choices in wanted.items():
        _write(place, options, choices, shape)
    return 0


def _write(folder: Path, options: Namespace, choices: Choices, shape: tuple[int, ...] | None) -> None:
    """Write one architecture, and its network; print the files."""
    saved = [] if options.model is None else _save_network(folder, options, choices, shape)
    write_atomically(folder / "choices.json", (json.dumps(choices, indent=2) + "\n").encode())
    names = {key: {"chosen": _names_of(choice)} for key, choice in choices.items()}
    write_atomically(folder / "choices.yml", yaml.safe_dump(names, sort_keys=False).encode())
    print(f"{folder / 'choices.json'}\n{folder / 'choices.yml'}", *saved, sep="\n")


def _check_options(options: Namespace) -> tuple[int, ...] | None:
    """Return the shape of the input, if one is given; raise a CommandError for options that have no effect."""
    programs = [name for name in ("pt2", "onnx") if getattr(options, name)]
    needs = [f"--{name}" for name in ("weights", *programs) if getattr(options, name)]
    if needs and options.model is None:
        raise CommandError(f"{', '.join(needs)}: of which network? Give --model MODULE:FUNCTION, which builds it.")
    if options.input is None:
        return None
    if not programs:
        raise CommandError("--input is for --pt2 and --onnx: give one of them as well.")
    from nas_tuners.commands.cost import parse_shape

    return parse_shape(options.input)


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


def _save_network(folder: Path, options: Namespace, choices: Choices, shape: tuple[int, ...] | None) -> list[str]:
    """Write the network. Returns: what to print about its files."""
    from mutators import save_subnet

    network = _build_network(options, choices)
    kinds = [name for name in ("pt2", "onnx") if getattr(options, name)]
    if kinds:
        print(f"translating to {' and '.join(kinds)}, and comparing ...", file=sys.stderr, flush=True)  # takes a while
    programs = save_subnet(folder, network, choices, factory=options.model, standalone=kinds, example=shape)
    hint = f": those that {options.model} gives it, untrained unless it loads some; --weights FILE gives others"
    said = [f"{folder / 'arch.json'}", f"{folder / 'weights.pt'}{hint * (options.weights is None)}"]
    return said + [f"{folder / name}: {program}" for name, program in programs.items()]


def _build_network(options: Namespace, choices: Choices) -> nn.Module:
    """Return the network with the weights of a file, which are its own or those of the whole model, if one is given."""
    from mutators import extract
    from mutators.weights import read_state

    whole = build_model(options.model)
    network = extract(whole, choices)
    if options.weights is None:
        return network
    state = read_state(options.weights, CommandError)
    target = network if state.keys() == network.state_dict().keys() else whole
    try:
        target.load_state_dict(state)
    except RuntimeError as error:
        raise CommandError(f"{options.weights} does not fit {options.model}: {_shorten(error)}") from None
    return network if target is network else extract(whole, choices)


def _shorten(error: Exception) -> str:
    """Return an error's message in one line; of a long list of keys the beginning."""
    said = " ".join(str(error).split())
    return said if len(said) <= 500 else f"{said[:500]} ..."
