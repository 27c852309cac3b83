"""Distillation: a supernet's sub-networks learn from a teacher, by its layers or by its outputs.

After PaddleSlim's ``DistillConfig``. Differs: the teacher runs in evaluation mode, without gradients and once a batch;
``mapping_op="conv"`` works as it is documented, and so does ``distill_fn``; layers are paired by name, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.elastic.conv import ElasticConv2d
from mutators.elastic.errors import ElasticError
from mutators.elastic.linear import ElasticLinear
from mutators.elastic.notation import to_choices
from mutators.fixed import extract
from search_spaces.domains import is_number

MAPPING_OPS = ("conv", "conv2d", "linear", None)

DistillFn = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class DistillConfig:
    """What sub-networks learn from a teacher.

    Attributes:
        lambda_distill: weight of the layers' loss; None: 1.
        teacher_model: any network with the layers named; None: one built as the largest sub-network is, with the
            weights in ``teacher_model_path``, or else with those that the supernet has when it is wrapped.
        mapping_layers: paths of layers, the same in the teacher and the supernet, whose outputs are compared; or pairs
            (the supernet's, the teacher's). None: only outputs are compared.
        teacher_model_path: of a file with the teacher's state dict.
        distill_fn: (student's, teacher's) to a scalar; None: mean squared error.
        mapping_op: what a layer's output passes before it is compared: "conv" (or "conv2d"), a 1x1 convolution to the
            teacher's channels, "linear", or None. Needed where a width is elastic.
        lambda_logits: weight of the cross-entropy with the teacher's softened outputs; 0: none. Once-for-all has 1.
        temperature: that softens; the loss is multiplied by its square.

    Raises:
        ElasticError: numbers or names do not fit; all that is wrong is listed.
    """

    lambda_distill: float | None = None
    teacher_model: nn.Module | None = None
    mapping_layers: Sequence[str | tuple[str, str]] | None = None
    teacher_model_path: str | PathLike[str] | None = None
    distill_fn: DistillFn | None = None
    mapping_op: str | None = None
    lambda_logits: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        problems = []
        for name, value in (("lambda_distill", self.lambda_distill), ("lambda_logits", self.lambda_logits)):
            if value is not None and not (is_number(value) and value >= 0):
                problems.append(f"{name} is {value!r}, wanted a number from 0 up")
        if not (is_number(self.temperature) and self.temperature > 0):
            problems.append(f"temperature is {self.temperature!r}, wanted a number above 0")
        if self.mapping_op not in MAPPING_OPS:
            problems.append(f"mapping_op is {self.mapping_op!r}, wanted 'conv' (or 'conv2d'), 'linear' or None")
        if isinstance(self.mapping_layers, str):
            problems.append(f"mapping_layers is {self.mapping_layers!r}, wanted a list of names")
        if self.mapping_op is not None and not self.mapping_layers:
            problems.append("mapping_op is given without mapping_layers, on whose outputs it would work")
        if problems:
            raise ElasticError(f"DistillConfig does not fit ({len(problems)} wrong):", problems)


class Distiller(nn.Module):
    """Watches the layers of student and teacher, and compares them. Its own parameters are the mapping layers'.

    Args:
        student: the supernet.
        teacher: is not trained, nor saved with this module unless it was made from the supernet.
        config: what to compare.

    Raises:
        ElasticError: a layer is missing in one of them, or no mapping can be made; all are named, with near names.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, config: DistillConfig) -> None:
        super().__init__()
        self.config = config
        teacher.requires_grad_(False)
        # A teacher made from the supernet is saved with it, or a training that goes on would learn from another one.
        self.own = teacher if config.teacher_model is None and config.teacher_model_path is None else None
        self._teacher = [teacher]  # in a list: no child
        self.pairs = [
            (pair, pair) if isinstance(pair, str) else (pair[0], pair[1]) for pair in config.mapping_layers or ()
        ]
        layers = [self._pair(student, teacher, *pair) for pair in self.pairs]
        problems = [problem for layer in layers if not isinstance(layer, tuple) for problem in layer]
        if problems:
            raise ElasticError("the teacher cannot be followed like this:", problems)
        self._layers = [layer for layer in layers if isinstance(layer, tuple)]
        made = [_mapping(config.mapping_op, *layer) for layer in self._layers if config.mapping_op is not None]
        self.mappings = nn.ModuleList(made)
        self._seen: dict[tuple[int, int], torch.Tensor] = {}
        self._batch: tuple[Any, Any] | None = None

    @property
    def teacher(self) -> nn.Module:
        """The network that is learnt from."""
        return self._teacher[0]

    def teach(self, inputs: tuple[Any, ...], others: Mapping[str, Any]) -> Any:
        """Run the teacher on a batch, once for the same tensors. Returns: its outputs."""
        given = (*inputs, *others.values())
        if (
            self._batch is None
            or len(self._batch[0]) != len(given)
            or any(a is not b for a, b in zip(self._batch[0], given, strict=True))
        ):
            self.teacher.eval()
            device = next((x.device for x in given if isinstance(x, torch.Tensor)), None)
            if device is not None:
                self.teacher.to(device)
            with torch.no_grad(), self.watching(1):
                self._batch = (given, self.teacher(*inputs, **others))
        return self._batch[1]

    @contextmanager
    def watching(self, which: int = 0) -> Iterator[None]:
        """Keep what the layers of the student (0) or the teacher (1) give, while it runs.

        The hooks go again afterwards, so that no copy of either network carries them away.
        """

        def keep(pair: int) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                self._seen[which, pair] = output[0] if isinstance(output, tuple) else output

            return hook

        handles = [layer[which].register_forward_hook(keep(i)) for i, layer in enumerate(self._layers)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forget(self) -> None:
        """Let go of the batch and what was seen of it."""
        self._batch = None
        self._seen.clear()

    def of_layers(self) -> torch.Tensor:
        """The layers' loss, of the last forward of both, weighted: ().

        Raises:
            ElasticError: there are no mapping_layers, nothing ran yet, or shapes differ.
        """
        if not self.pairs:
            raise ElasticError("there are no mapping_layers to compare: name some, or set lambda_logits.")
        total: torch.Tensor | None = None
        compare = self.config.distill_fn or F.mse_loss
        for i, (name, other) in enumerate(self.pairs):
            ours, theirs = self._seen.get((0, i)), self._seen.get((1, i))
            if ours is None or theirs is None:
                raise ElasticError(f"{name!r} or the teacher's {other!r} did not run: call the model first.")
            ours = self.mappings[i](ours) if len(self.mappings) else ours
            if ours.shape != theirs.shape:
                raise ElasticError(
                    f"{name!r} gives {tuple(ours.shape)} and the teacher's {other!r} {tuple(theirs.shape)}: "
                    "set mapping_op to 'conv' or 'linear'."
                )
            loss = compare(ours, theirs)
            total = loss if total is None else total + loss
        assert total is not None
        return total if self.config.lambda_distill is None else total * self.config.lambda_distill

    def of_outputs(self, outputs: Any, taught: Any) -> torch.Tensor:
        """Cross-entropy with the softened outputs of the teacher, weighted; (N, C) each or tuples of that: ()."""
        return soft_cross_entropy(outputs, taught, self.config.temperature) * self.config.lambda_logits

    def _pair(
        self, student: nn.Module, teacher: nn.Module, ours: str, theirs: str
    ) -> tuple[nn.Module, nn.Module] | list[str]:
        problems = []
        for whose, model, name in (("supernet", student, ours), ("teacher", teacher, theirs)):
            if name not in dict(model.named_modules()):
                close = [
                    path for path, _ in model.named_modules() if path.rpartition(".")[2] == name.rpartition(".")[2]
                ]
                known = close or [path for path, _ in model.named_modules() if path][:8]
                problems.append(f"the {whose} has no layer {name!r}; it has {', '.join(known[:8])}")
        return problems or (student.get_submodule(ours), teacher.get_submodule(theirs))


def teacher_of(model: nn.Module, config: DistillConfig) -> nn.Module:
    """Return the network that ``config`` says to learn from.

    Raises:
        ElasticError: the file cannot be read, or its weights do not fit the network.
    """
    teacher = config.teacher_model
    if teacher is None:
        teacher = extract(model, to_choices(model, {}))
    if config.teacher_model_path is not None:
        try:
            state = torch.load(config.teacher_model_path, map_location="cpu", weights_only=True)
            teacher.load_state_dict(state)
        except Exception as error:  # files, unpickling and keys each have their own
            raise ElasticError(
                f"the teacher's weights cannot be taken from {config.teacher_model_path}: "
                f"{type(error).__name__}: {str(error).splitlines()[0]} Wanted a state dict of {type(teacher).__name__}."
            ) from error
    return teacher


def soft_cross_entropy(outputs: Any, taught: Any, temperature: float = 1.0) -> torch.Tensor:
    """``-sum(softmax(taught / T) * log_softmax(outputs / T)) * T**2``, (N, C) each, mean over N; of tuples the sum."""
    if isinstance(outputs, (tuple, list)):
        parts = [soft_cross_entropy(a, b, temperature) for a, b in zip(outputs, taught, strict=True)]
        return torch.stack(parts).sum()
    soft = torch.softmax(taught.detach() / temperature, 1)
    return F.cross_entropy(outputs / temperature, soft) * temperature**2


def _mapping(kind: str, student: nn.Module, teacher: nn.Module) -> nn.Module:
    """From the student's channels, however many are in use, to the teacher's."""
    ours, theirs = _outputs(student), _outputs(teacher)
    if ours is None or theirs is None:
        wrong = type(student if ours is None else teacher).__name__
        raise ElasticError(f"how many channels a {wrong} gives is not known: map convolutions, linear layers or norms.")
    return ElasticLinear(ours, theirs) if kind == "linear" else ElasticConv2d(ours, theirs, 1)


def _outputs(layer: nn.Module) -> int | None:
    """How many channels or features a layer gives at most."""
    for name in ("outputs", "channels", "out_channels", "out_features", "num_features"):
        found = getattr(layer, name, None)
        if found is not None:
            return found if isinstance(found, int) else int(found.full)
    inner = [_outputs(child) for child in layer.children()]
    weight = getattr(layer, "weight", None)
    if inner:
        return next((n for n in reversed(inner) if n is not None), None)
    return None if weight is None else int(weight.shape[0])
