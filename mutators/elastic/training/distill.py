"""Distil a teacher into a supernet's sub-networks, by its layers or by its outputs.

After PaddleSlim's ``DistillConfig``. Differs: the teacher runs in evaluation mode, without gradients and once a batch;
``mapping_op="conv"`` works as it is documented, and so does ``distill_fn``; layers are paired by name, in any order;
a layer that a sub-network leaves out adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.extracting import extract
from mutators.choices.torch_private import get_version, tree_leaves
from mutators.elastic.notation import to_choices
from mutators.elastic.training.config import DistillConfig
from mutators.elastic.training.mapping import apply_mapping, make_mapping
from mutators.inputs import match_parameters
from mutators.weights import read_state


class Distiller(nn.Module):
    """A teacher, and a comparison of its layers with the student's. Its own parameters are the mapping layers'.

    Raises:
        ElasticError: the teacher is the supernet, a layer is missing in one of them, or no mapping can be made; all are
            named, with near names.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, config: DistillConfig) -> None:
        super().__init__()
        self.config = config
        self.pairs = [
            (pair, pair) if isinstance(pair, str) else (pair[0], pair[1]) for pair in config.mapping_layers or ()
        ]
        problems = []
        if {*map(id, student.parameters())} & {*map(id, teacher.parameters())}:
            problems = [
                "teacher_model has the supernet's own parameters, which would be frozen: leave it out to learn from a "
                "frozen copy of the largest sub-network, or give a copy.deepcopy"
            ]
        problems += [problem for pair in self.pairs for problem in _check_layers(student, teacher, *pair)]
        if problems:
            raise ElasticError("the teacher cannot be followed like this:", problems)
        self._layers = [(student.get_submodule(ours), teacher.get_submodule(theirs)) for ours, theirs in self.pairs]
        self.mappings = self._mappings(student)
        teacher.requires_grad_(False)
        # A teacher made from the supernet is saved with it, or a training that goes on would learn from another one.
        self.own = teacher if config.teacher_model is None and config.teacher_model_path is None else None
        self._teacher = [teacher]  # in a list: no child
        self._seen: dict[int, dict[int, torch.Tensor]] = {}  # outputs by pair, of the student (0) and the teacher (1)
        self._batch: tuple[Stamp, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last batch: outputs of it have a graph, which cannot be copied."""
        return {**self.__dict__, "_seen": {}, "_batch": None}

    @property
    def teacher(self) -> nn.Module:
        """Return the network to learn from."""
        return self._teacher[0]

    @property
    def idle(self) -> bool:
        """Return whether the teacher adds nothing to the loss."""
        return not self.pairs and not self.config.lambda_logits

    def teach(self, inputs: tuple[Any, ...], others: Mapping[str, Any]) -> Any:
        """Run the teacher on a batch, once for the same tensors. Returns: its outputs."""
        stamp = Stamp((inputs, dict(others)))
        if self._batch is None or self._batch[0] != stamp:
            self.teacher.eval()
            device = next((x.device for x in stamp.leaves if isinstance(x, torch.Tensor)), None)
            if device is not None:
                self.teacher.to(device)
            with torch.no_grad(), self.watching(1):
                self._batch = (stamp, self.teacher(*inputs, **others))
        return self._batch[1]

    @contextmanager
    def watching(self, which: int = 0) -> Iterator[None]:
        """Keep the outputs of the layers of the student (0) or the teacher (1) while it runs, and drop those before."""
        seen = self._seen[which] = {}

        def keep(pair: int, _: nn.Module, __: Any, output: Any) -> None:
            seen[pair] = output[0] if isinstance(output, tuple) else output

        with ExitStack() as hooks:
            for i, layer in enumerate(self._layers):
                hooks.enter_context(layer[which].register_forward_hook(partial(keep, i)))
            yield

    def forget(self) -> None:
        """Drop the batch and the outputs kept of it."""
        self._batch = None
        self._seen.clear()

    def of_layers(self) -> torch.Tensor:
        """Return the layers' loss of the last forward of both, weighted: (). A layer that did not run adds nothing."""
        if not self.pairs:
            raise ElasticError("there are no mapping_layers to compare: name some, or set lambda_logits.")
        if len(self._seen) < 2:
            raise ElasticError("the supernet and the teacher did not run: call the model first.")
        losses = [self._of_pair(i) for i in range(len(self.pairs)) if i in self._seen[0]]
        total = torch.stack(losses).sum() if losses else torch.zeros(())
        return total if self.config.lambda_distill is None else total * self.config.lambda_distill

    def _of_pair(self, i: int) -> torch.Tensor:
        (name, other), ours, theirs = self.pairs[i], self._seen[0][i], self._seen[1].get(i)
        if theirs is None:
            raise ElasticError(f"the teacher's {other!r} did not run, but {name!r} did: map another layer.")
        if len(self.mappings):
            ours = apply_mapping(self.mappings[i], ours, name)
        if ours.shape != theirs.shape:
            raise ElasticError(
                f"{name!r} gives {tuple(ours.shape)} and the teacher's {other!r} {tuple(theirs.shape)}: "
                "set mapping_op to 'conv' or 'linear'."
            )
        loss: torch.Tensor = (self.config.distill_fn or F.mse_loss)(ours, theirs)
        return loss

    def _mappings(self, student: nn.Module) -> nn.ModuleList:
        """Return a mapping for each pair, of the student's device and type; none without a mapping_op."""
        made, problems = nn.ModuleList(), []
        if self.config.mapping_op is not None:
            for (ours, theirs), layers in zip(self.pairs, self._layers, strict=True):
                try:
                    made.append(make_mapping(self.config.mapping_op, *layers))
                except ElasticError as error:
                    problems.append(f"{ours!r} to the teacher's {theirs!r}: {error}")
        if problems:
            raise ElasticError("these layers cannot be mapped:", problems)
        return match_parameters(student, made)


class Stamp:
    """A mark of a forward's arguments: equal to another one of the same tensors, if none was written to since."""

    def __init__(self, given: Any) -> None:
        self.leaves = tree_leaves(given)  # kept, so that no other object gets the id of one
        self._marks = [(id(leaf), _version(leaf)) for leaf in self.leaves]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stamp) and self._marks == other._marks

    __hash__ = None  # type: ignore[assignment]  # tensors change


def _version(leaf: Any) -> int | None:
    return get_version(leaf) if isinstance(leaf, torch.Tensor) and not leaf.is_inference() else None


def _check_layers(student: nn.Module, teacher: nn.Module, ours: str, theirs: str) -> list[str]:
    problems = []
    for whose, model, name in (("supernet", student, ours), ("teacher", teacher, theirs)):
        _, *paths = [path for path, _ in model.named_modules()]
        if name and name not in paths:
            close = [path for path in paths if path.rpartition(".")[2] == name.rpartition(".")[2]]
            there = close or paths
            more = f" and {len(there) - 8} more" if len(there) > 8 else ""
            problems.append(f"the {whose} has no layer {name!r}; it has {', '.join(there[:8])}{more}")
    return problems


def make_teacher(model: nn.Module, config: DistillConfig) -> nn.Module:
    """Return the network that ``config`` says to learn from. Raises an ElasticError if its file does not fit it."""
    teacher = config.teacher_model
    if teacher is None:
        teacher = extract(model, to_choices(model, {}))
    if config.teacher_model_path is not None:
        state = read_state(config.teacher_model_path, ElasticError)
        try:
            teacher.load_state_dict(state)
        except RuntimeError as error:
            raise ElasticError(
                f"the teacher's weights cannot be taken from {config.teacher_model_path}: "
                f"{type(error).__name__}: {str(error).splitlines()[0]} Wanted a state dict of {type(teacher).__name__}."
            ) from error
    return teacher
