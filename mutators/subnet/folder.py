"""Save a network that a search found as a folder, ``arch.json`` and ``weights.pt``, and load it again.

Beside them may stand ``network.pt2`` and ``network.onnx``, which run without the source of the model
(:mod:`mutators.subnet.programs`). No pickle: ``weights.pt`` holds tensors only and is read with ``weights_only=True``;
``arch.json`` says how the model is built, and by what function, which is called by the rule of
:mod:`search_spaces.trust` only.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import platform
from collections.abc import Collection
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ChoiceError, PruningError
from mutators.choices.extracting import extract
from mutators.choices.walk import search_space_of
from mutators.inputs import Example
from mutators.pruning.packing import pack, unpack
from mutators.subnet.programs import FILES, Program, make_programs
from mutators.subnet.translate import ProgramError
from mutators.subnet.trust import (
    Factory,
    FactoryError,
    call_factory,
    call_named,
    name_factory,
    run_factory,
    to_json_arguments,
)
from mutators.weights import describe_unreadable, load_plain
from search_spaces.files import read_file, write_atomically
from search_spaces.schema import Choices, Space

DENSE, SPARSE = FORMATS = (1, 2)
"""The formats of ``weights.pt``: a state dict, or one that :mod:`mutators.pruning.packing` has packed."""

ARCH, WEIGHTS = "arch.json", "weights.pt"


class SubnetError(ValueError):
    """A subnet cannot be saved, or a folder does not hold one that loads."""


def save_subnet(
    folder: str | PathLike[str],
    model: nn.Module,
    choices: Choices,
    *,
    factory: str | Factory | None = None,
    factory_args: dict[str, Any] | None = None,
    sparse: bool = False,
    standalone: bool | Collection[str] = False,
    example: Example | None = None,
) -> dict[str, Program]:
    """Write a network to a folder, which is made if need be. Each file is replaced as a whole, ``arch.json`` last.

    Args:
        folder: holds ``arch.json`` and ``weights.pt`` afterwards.
        model: with choices, of which the network is then extracted, or the extracted network.
        choices: of the network.
        factory: what builds the model *with* its choices: a class of modules, or a function annotated to return one,
            or its name, "module:function", or one of :func:`search_spaces.names`. Whoever loads the folder names it
            again, unless it is a net of ours.
        factory_args: its keyword arguments, as JSON.
        sparse: store what is mostly zeros in fewer bytes: a pruned network then takes a third or less. Exact.
        standalone: also write ``network.pt2``, a ``torch.export`` program, and ``network.onnx``, which needs
            ``pip install "nas-tuners[onnx]"``; or one of them, ``["pt2"]`` or ``["onnx"]``. They run in evaluation
            mode on the CPU without the source of the model, with any batch size where that works. What an earlier
            save has left of them in the folder is deleted.
        example: an input for them: a shape without the batch, such as (3, 224, 224), a tensor, or one for each
            argument of forward. None: one that suits the network's first layer.

    Returns: what is known about each of these files, by name: ``inputs``, the shapes that it takes,
        ``difference``, the largest between its outputs and the network's, and ``largest``, of these the largest number.

    Raises:
        SubnetError: the factory cannot be named, found or trusted, the choices do not fit or are no JSON, the state
            holds something else than tensors, torch cannot translate the network, a file computes something else than
            the network, or the folder cannot be written.
    """
    try:
        space = search_space_of(model)
        network = extract(model, choices) if space else model
        if factory is None and factory_args:
            raise FactoryError("factory_args are given without a factory.")
        arguments = to_json_arguments(factory_args or {})
        call = None if factory is None else {"call": name_factory(factory), "args": arguments}
        kept = json.loads(json.dumps(dict(choices)))
        programs = make_programs(network, standalone, example)
    except (ChoiceError, FactoryError, ProgramError, TypeError, ValueError) as error:
        raise SubnetError(f"the subnet cannot be saved: {error}") from error
    weights = _weights(network, sparse)
    arch = {
        "format": SPARSE if sparse else DENSE,
        "choices": kept,
        "factory": call,
        "space_digest": Space.from_json(space).unordered_digest if space else None,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "programs": {name: program.to_json() for name, program in programs.items()},
        "versions": _versions(),
    }
    try:
        write_atomically(Path(folder, WEIGHTS), weights)
        for name, program in programs.items():
            write_atomically(Path(folder, name), program.content)
        write_atomically(Path(folder, ARCH), (json.dumps(arch, indent=2) + "\n").encode())
        for name in set(FILES.values()) - programs.keys():
            Path(folder, name).unlink(missing_ok=True)  # it would be of other weights
    except OSError as error:
        raise SubnetError(f"cannot write to {folder}: {error.strerror}.") from error
    return programs


def load_subnet(
    folder: str | PathLike[str], factory: str | Factory | nn.Module | None = None, trust_code: bool = False
) -> nn.Module:
    """Return the network that a folder holds, on the CPU, in eval mode.

    Args:
        folder: as :func:`save_subnet` wrote it.
        factory: what builds the model *with* its choices, as for :func:`save_subnet`, called with the folder's
            ``factory_args``; or a model, with choices or extracted, which is not changed. A folder of one of our nets
            needs none.
        trust_code: whether to import and call what the folder names, without a factory: only if you know where the
            folder comes from.

    Raises:
        SubnetError: files are missing or broken or do not belong together, there is no factory, it cannot be found or
            called, or weights or choices do not fit the model.
        TrustError: the folder names its factory, and the caller neither names one nor trusts it; nothing was imported.
    """
    arch = _read_arch(Path(folder, ARCH))
    state = _read_weights(Path(folder, WEIGHTS), arch)
    try:
        network = _network(arch, factory, trust_code, Path(folder))
    except (ChoiceError, FactoryError, RecursionError) as error:
        raise SubnetError(f"the subnet in {folder} cannot be built: {error}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise SubnetError(f"the weights in {folder} do not fit the model: {error}") from error
    return network.eval()


def _weights(network: nn.Module, sparse: bool) -> bytes:
    state = network.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise SubnetError(f"the subnet cannot be saved: its state has {others}, wanted tensors only.")
    stream = io.BytesIO()
    plain = {name: value.detach().cpu() for name, value in state.items()}
    torch.save(pack(plain) if sparse else plain, stream)
    return stream.getvalue()


def _versions() -> dict[str, str]:
    """Return the versions of Python, torch, and of the package that this module belongs to, if it is installed."""
    ours = metadata.packages_distributions().get(__name__.partition(".")[0], [])
    found = {name: metadata.version(name) for name in ours}
    return {"python": platform.python_version(), "torch": str(torch.__version__), **found}


_FIELDS: dict[str, tuple[type, ...]] = {
    "choices": (dict,),
    "factory": (dict, type(None)),
    "space_digest": (str, type(None)),
    "weights_sha256": (str,),
}


def _read_arch(path: Path) -> dict[str, Any]:
    content = _read(path)
    try:
        arch = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SubnetError(f"{path} is not JSON: {error}.") from None
    if not isinstance(arch, dict) or "format" not in arch:
        raise SubnetError(f"{path} is not the description of a subnet: it has no format.")
    if arch["format"] not in FORMATS:
        wanted = " or ".join(map(str, FORMATS))
        raise SubnetError(f"{path} has format {arch['format']!r}, wanted {wanted}: it is from another version.")
    wrong = [name for name, kinds in _FIELDS.items() if name not in arch or not isinstance(arch[name], kinds)]
    call = arch.get("factory")
    if isinstance(call, dict) and not (isinstance(call.get("call"), str) and isinstance(call.get("args"), dict)):
        wrong.append("factory")
    if wrong:
        raise SubnetError(f"{path} is broken: missing or of the wrong type: {sorted(set(wrong))}.")
    return arch


def _read_weights(path: Path, arch: dict[str, Any]) -> dict[str, torch.Tensor]:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != arch["weights_sha256"]:
        raise SubnetError(
            f"{path} is not the file that {ARCH} beside it describes: it was changed, or a save was interrupted. "
            "Save the subnet again."
        )
    try:
        state = load_plain(io.BytesIO(content))
    except Exception as error:  # unpickling, zip and torch each have their own
        raise SubnetError(f"{path} cannot be read as weights: {describe_unreadable(error)}") from error
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise SubnetError(f"{path} does not hold tensors by name.")
    try:
        return unpack(state) if arch["format"] == SPARSE else state
    except PruningError as error:
        raise SubnetError(f"{path} is broken: {error}") from error


def _network(
    arch: dict[str, Any], factory: str | Factory | nn.Module | None, trust_code: bool, folder: Path
) -> nn.Module:
    """Return a new network of the right architecture, its weights not yet loaded."""
    model = factory if isinstance(factory, nn.Module) else _build(arch["factory"], factory, trust_code, folder)
    space = search_space_of(model)
    if not space:
        return copy.deepcopy(model)
    made, saved = Space.from_json(space), arch["space_digest"]
    digest, of_before = made.unordered_digest, Space(made.whole_domains).unordered_digest  # once without conditions
    if saved not in (None, digest, of_before):
        raise SubnetError(
            f"{folder} was saved from another search space (digest {saved[:12]}) than that of this model "
            f"({digest[:12]}): build the model as it was when the subnet was saved."
        )
    return extract(model, arch["choices"])


def _build(call: dict[str, Any] | None, factory: str | Factory | None, trust_code: bool, folder: Path) -> nn.Module:
    """Return the model that the caller's factory builds, or, if it may, the folder's."""
    arguments = {} if call is None else call["args"]
    if isinstance(factory, str):
        return call_factory(factory, arguments)
    if factory is not None:
        return run_factory(factory, arguments, f"{factory!r}(**{arguments!r})")
    if call is None:
        raise SubnetError(f"{folder} was saved without a factory: give load_subnet(folder, factory) one, or the model.")
    ways = (f'load_subnet("{folder}", factory={call["call"]!r})', f'load_subnet("{folder}", trust_code=True)')
    return call_named(call["call"], arguments, trust_code, folder / ARCH, *ways)


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise SubnetError(f"cannot read {path}: {error.strerror}. A saved subnet is {ARCH} and {WEIGHTS}.") from None
