"""Write a network as files that run by themselves: without the source of the model, and without this package."""

from __future__ import annotations

import copy
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from mutators.inputs import Example, Inputs, first_outputs, guess_inputs, inputs_for, random_input
from mutators.oneshot.rng import kept_rng
from mutators.subnet import translate
from mutators.subnet.translate import ProgramError, Sizes
from search_spaces.errors import CostError
from search_spaces.resolve import FAILURES

FILES = {"pt2": "network.pt2", "onnx": "network.onnx"}
TOLERANCE = 1e-4
"""Relative: an output may be off by this times its largest number. A type of less precision has more."""

Attempt = tuple[Inputs, list[dict[int, Any] | None] | None]
"""What to trace a network on, and which of its sizes are free."""

_GIVE = "give an input by example= (nas export: --input)"
_TRANSLATE = {"pt2": translate.to_pt2, "onnx": translate.to_onnx}
_LOAD = {"pt2": translate.load_pt2, "onnx": translate.load_onnx}
_CALLED = {"pt2": "torch.export", "onnx": "onnxruntime"}


@dataclass(frozen=True)
class Program:
    """A file that computes what a network computes in evaluation mode."""

    content: bytes = field(repr=False)
    inputs: Sizes  # a free size is "batch" in the first place and "any" elsewhere
    difference: float  # the largest between its outputs and the network's, absolute
    largest: float  # the largest number in the network's outputs, to judge the difference by
    guessed: bool  # nobody said what the network takes

    def __str__(self) -> str:
        shapes = ", ".join(" x ".join(map(str, shape)) or "a number" for shape in self.inputs)
        hint = ", as guessed" if self.guessed else ""
        parity = f"by at most {self.difference:.2g}, of outputs up to {self.largest:.2g}"
        return f"takes {shapes}{hint}; differs from the network {parity}"

    def to_json(self) -> dict[str, Any]:
        """Return what ``arch.json`` says about the file."""
        parity = {"difference": self.difference, "largest_output": self.largest}
        return {"sha256": sha256(self.content).hexdigest(), "inputs": self.inputs, **parity}


def make_programs(
    network: nn.Module, kinds: bool | Collection[str], example: Example | None = None
) -> dict[str, Program]:
    """Translate a network, and compare each program, read anew, with it, on the example and with free sizes changed.

    The batch is free where that works. Other sizes are as in the example; without an example they are free as well
    where that works, since nobody has said which ones will come.

    Args:
        network: plain; stays as it is.
        kinds: of "pt2" and "onnx"; True: both, False: none.
        example: an input; None: one that suits the network's first layer.

    Returns: programs by the names of their files.

    Raises:
        ProgramError: a kind is unknown or not installed, no input is found or the example does not fit, torch cannot
            translate the network, or outputs differ by more than 1e-4 of the largest.
    """
    wanted = list(FILES) if kinds is True else list(kinds or ())
    if isinstance(kinds, str) or not set(wanted) <= set(FILES):
        raise ProgramError(f"standalone is {kinds!r}, wanted True, False, or some of {list(FILES)}.")
    if not wanted:
        if example is not None:
            raise ProgramError("an example input is given, but no program is to be made: set standalone as well.")
        return {}
    if "onnx" in wanted:
        translate.check_onnx_is_installed()
    network = copy.deepcopy(network).cpu().eval()
    with kept_rng():
        inputs = _find_inputs(network, example)
        attempts = _attempts(network, inputs, example is None)
        made = {kind: _make(kind, network, inputs, attempts) for kind in FILES if kind in wanted}
    return {FILES[kind]: Program(*program, example is None) for kind, program in made.items()}


def _find_inputs(network: nn.Module, example: Example | None) -> Inputs:
    if example is None:
        candidates: list[Inputs] = [(tensor[:1],) for tensor in guess_inputs(network)]
        if not candidates:
            raise ProgramError(f"no input is known that {type(network).__name__} takes: {_GIVE}.")
    else:
        try:
            given = inputs_for(network, example)
        except CostError as error:
            raise ProgramError(str(error)) from None
        if type(example[0]) is int:  # a shape, of which these are zeros: other numbers compare better
            given = [(random_input(network, tensor.shape),) for (tensor,) in given]
        candidates = [tuple(tensor.detach().cpu() for tensor in inputs) for inputs in given]
    try:
        return first_outputs(network, candidates, ProgramError)[0]
    except ProgramError as error:
        raise ProgramError(f"{error}; {_GIVE}.") from error


def _attempts(network: nn.Module, inputs: Inputs, guessed: bool) -> list[Attempt]:
    """Return what may work, most free sizes first."""
    sizes = translate.all_sizes(inputs)
    several = translate.repeat(inputs, sizes, "batch", 2)  # torch takes a batch of 1 for a fixed one
    attempts: list[Attempt] = [(several, translate.free_sizes(sizes)), (inputs, None)]
    if guessed:
        with suppress(*FAILURES):  # then the others are left
            every = translate.free_sizes(translate.all_sizes(inputs, "any"))
            attempts.insert(0, (several, translate.free_sizes(translate.to_pt2(network, several, every)[1])))
    return attempts


def _make(kind: str, network: nn.Module, inputs: Inputs, attempts: list[Attempt]) -> tuple[bytes, Sizes, float, float]:
    """Return the first fields of a Program, by the first attempt that works."""
    failed: BaseException | None = None
    for given, free in attempts:
        try:
            content, sizes = _TRANSLATE[kind](network, given, free)
            return content, sizes, *_compare(kind, content, network, inputs, sizes)
        except FAILURES as error:  # torch's exporters have many
            failed = failed or error
    assert failed is not None
    why = failed if isinstance(failed, ProgramError) else translate.first_line_of(failed)
    raise ProgramError(f"{FILES[kind]} cannot be made of this {type(network).__name__}: {why}") from failed


def _compare(kind: str, content: bytes, network: nn.Module, inputs: Inputs, sizes: Sizes) -> tuple[float, float]:
    """Return the largest difference of a program's outputs, also at other free sizes, and the largest output."""
    others = [translate.repeat(inputs, sizes, name, 3) for name in ("batch", "any") if any(name in s for s in sizes)]
    run, worst, largest = _LOAD[kind](content), 0.0, 0.0
    for given in (inputs, *others):
        _, outputs = first_outputs(network, [given], ProgramError)
        difference = translate.largest_difference(run(given), outputs, _tolerance(network), _CALLED[kind])
        worst, largest = max(worst, difference), max(largest, translate.largest_number(outputs))
    return worst, largest


def _tolerance(network: nn.Module) -> float:
    types = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    return max([TOLERANCE, *(8 * torch.finfo(dtype).eps for dtype in types)])
