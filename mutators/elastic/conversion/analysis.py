"""Run a model once and record what happens to its channels.

The graph comes from ``torch.fx``, which sees all of a forward that does not depend on its input; a forward that it
cannot trace is recorded while it runs on the example, so that only the branches taken there are known.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from types import FunctionType
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from mutators.choices.torch_private import BatchNorm, get_buffers, get_children, get_parameters, has_hooks
from mutators.elastic.conversion.calls import Arguments, Call, Named, fix_all, fix_unknown, tensors_in
from mutators.elastic.conversion.example import Example, describe_error, kept_state
from mutators.elastic.conversion.layers import LayerUse, kind_of
from mutators.elastic.conversion.rules import RULES
from mutators.elastic.conversion.ties import Dim, Ties


class Analysis:
    """A record of what the layers and blocks of a model do with their channels.

    Args:
        model: run in both modes, with its batch norms always in evaluation, and otherwise left as it is.
        example: what it runs on.

    Attributes:
        uses: by ``id`` of the layer: those that can be elastic and did run.
        passed: by ``id`` of a module: (input, output) for each time that it ran.
        recorded: why the graph does not come from torch.fx; None: it does.
        unseen: why the model could not be run in training mode; None: it could.
    """

    def __init__(self, model: nn.Module, example: Example) -> None:
        self.ties = Ties()
        self.uses: dict[int, LayerUse] = {}
        self.passed: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        self.recorded: str | None = None
        self.unseen: str | None = None
        self._owners = find_owners(model)
        self._plain = {id(m): find_obstacle(m, self._owners) for m in model.modules()}  # before hooks are added here
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._kept: list[Any] = [example]  # so that no id is used again
        with kept_state(model):
            self._run(model.eval(), example)
            model.train()
            for module in model.modules():
                if isinstance(module, BatchNorm):
                    module.eval()
            try:
                self._run(model, example)
            except Exception as error:  # a model may raise anything
                self.unseen = describe_error(error)
        for use in self.uses.values():
            if use.stays:
                self.ties.fix((*(use.ins or ()), *(use.outs or ())), f"{use.path} stays as it is: {use.stays}")

    @property
    def notes(self) -> list[str]:
        """Remarks on how the model was analysed."""
        recorded = f"Recorded on the example, so other branches are unknown; torch.fx: {self.recorded}."
        unseen = f"Not seen in training mode: {self.unseen}."
        return [recorded] * bool(self.recorded) + [unseen] * bool(self.unseen)

    def _run(self, model: nn.Module, example: Example) -> None:
        leaves = {id(module) for module in model.modules() if _is_leaf(module)}
        try:
            if id(model) in leaves or not _takes_all_of(model, example):
                raise ValueError("it is a single layer, or the example leaves out arguments of forward")
            tracer = _Tracer(leaves)
            runner = _Runner(self, fx.GraphModule(model, tracer.trace(model)))
            example = example.copy()
        except Exception as error:  # whatever a forward does with a symbol that it takes for a tensor
            self.recorded = describe_error(error)
            out = _run_recorded(self, model, leaves, example)
        else:
            out = runner.run(*example.args)
            for module, given, made in tracer.blocks:
                self.record_block(module, runner.env[given], runner.env[made])
            if example.args:
                self.record_block(model, example.args[0], out)
        self._kept.append(out)
        fix_all(self.ties, tensors_in(out), "it is the model's output")

    def record_function(self, name: str, args: Arguments, kwargs: Named, out: Any) -> Any:
        """Record the call of a function. Returns: its result, where sizes of a tensor know their layouts."""
        for tensor in tensors_in((args, kwargs)):
            for module, parameter in self._owners.get(id(tensor), ()):
                use = self.uses.setdefault(id(module), LayerUse(self._paths[id(module)], module))
                use.stays = use.stays or f"{name} uses its {parameter} directly"
        self._kept.append((args, out))
        if name in ("shape", "size") and isinstance(args[0], torch.Tensor):
            layouts = self.ties.read(args[0])
            sizes = [Dim.of(n, layouts[dim]) if dim in layouts else n for dim, n in enumerate(args[0].shape)]
            return torch.Size(sizes) if isinstance(out, torch.Size) else sizes[kwargs.get("dim", args[-1])]
        call = Call(self.ties, name, args, kwargs, out)
        if call.tensors and tensors_in(out):
            RULES.get(name, fix_unknown)(call)
        return out

    def record_layer(self, module: nn.Module, args: Arguments, kwargs: Named, out: Any) -> None:
        """Record the call of a layer."""
        kind, path, inputs = kind_of(module), self._paths[id(module)], tensors_in((args, kwargs))
        self._kept.append((args, kwargs, out))
        if kind is None:
            fix_all(self.ties, inputs, f"it goes into {path}, a {type(module).__name__}, which cannot be elastic")
            return
        use = self.uses.setdefault(id(module), LayerUse(path, module))
        use.stays = use.stays or self._plain[id(module)]
        kind.record(self.ties, use, inputs, tensors_in(out)[0])

    def record_block(self, module: nn.Module, given: Any, made: Any) -> None:
        """Record the call of a module that contains layers."""
        if isinstance(module, nn.Transformer):
            fix_all(self.ties, tensors_in((given, made)), f"{self._paths[id(module)]}, a Transformer, checks its width")
        if isinstance(given, torch.Tensor) and isinstance(made, torch.Tensor):
            self.passed[id(module)].append((given, made))
            self._kept.append((given, made))


Owners = Mapping[int, list[tuple[nn.Module, str]]]


def find_owners(model: nn.Module) -> Owners:
    """Return by ``id`` of a parameter the layers that have it, with the name that it has there."""
    owners: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
    for module in model.modules():
        if kind_of(module) is not None:
            for name, parameter in module.named_parameters():
                owners[id(parameter)].append((module, name))
    return owners


def find_obstacle(module: nn.Module, owners: Owners) -> str | None:
    """Return why a layer cannot be replaced; None: it can."""
    if has_hooks(module):
        return "it has hooks"
    if hasattr(module, "parametrizations"):
        return "its weight is computed (parametrizations)"
    names = (*get_parameters(module), *get_buffers(module), *get_children(module))
    if kind_of(module) is not None and (others := [name for name in names if name not in _STANDARD]):
        return f"it has {', '.join(others)} besides what a layer of its kind has"
    for name, parameter in get_parameters(module).items():
        if parameter is not None and len({id(owner) for owner, _ in owners[id(parameter)]}) > 1:
            return f"its {name} is shared with another layer"
    return None


_STANDARD = (
    *("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    *("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "bias_k", "bias_v"),
    "out_proj",
)
"""Parameters, buffers and modules of torch's layers that can be elastic."""


def _is_leaf(module: nn.Module) -> bool:
    own = type(module).__module__.startswith("torch.nn.modules") and bool(get_parameters(module))
    return not isinstance(module, nn.PReLU) and (own or kind_of(module) is not None)


def _takes_all_of(model: nn.Module, example: Example) -> bool:
    """Return whether the example gives each argument by position, so that no default decides a branch."""
    parameters = inspect.signature(model.forward).parameters.values()
    plain = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return plain and len(parameters) == len(example.args)


class _Tracer(fx.Tracer):
    """A tracer that stops at the layers, and keeps the inputs and outputs of the blocks around them."""

    def __init__(self, leaves: set[int]) -> None:
        super().__init__()
        self.blocks: list[tuple[nn.Module, fx.Node, fx.Node]] = []
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return id(m) in self._leaves

    def call_module(self, m: nn.Module, forward: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        out = super().call_module(m, forward, args, kwargs)
        if args and isinstance(args[0], fx.Proxy) and isinstance(out, fx.Proxy):
            self.blocks.append((m, args[0].node, out.node))
        return out


class _Runner(fx.Interpreter):
    """An interpreter of a traced graph that records every call in the analysis."""

    def __init__(self, analysis: Analysis, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._analysis = analysis

    def call_function(self, target: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        if isinstance(target, FunctionType) and not target.__module__.startswith("torch."):  # marked by torch.fx.wrap
            with _Recorder(self._analysis):
                return super().call_function(target, args, kwargs)
        out = super().call_function(target, args, kwargs)
        name = args[1] if target is getattr else _name(target)
        return self._analysis.record_function(name, args[:1] if target is getattr else args, kwargs, out)

    def call_method(self, target: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        out = super().call_method(target, args, kwargs)
        return self._analysis.record_function(str(target).strip("_"), args, kwargs, out)

    def call_module(self, target: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        out = super().call_module(target, args, kwargs)
        self._analysis.record_layer(self.fetch_attr(target), args, kwargs, out)
        return out


class _Recorder(TorchFunctionMode):
    """A mode that records in the analysis each function that is called outside of the layers."""

    def __init__(self, analysis: Analysis) -> None:
        super().__init__()
        self.inside = 0
        self._analysis = analysis

    def __torch_function__(self, func: Any, types: Any, args: Arguments = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return out if self.inside else self._analysis.record_function(_name(func), args, kwargs or {}, out)


def _name(function: Any) -> str:
    """Return a function's name as rules have it: without underscores, and that of a property's getter."""
    name = getattr(function, "__name__", type(function).__name__)
    return str(function.__self__.__name__ if name == "__get__" else name.strip("_"))


def _run_recorded(analysis: Analysis, model: nn.Module, leaves: set[int], example: Example) -> Any:
    with ExitStack() as stack:
        recorder = _Recorder(analysis)

        def enter(module: nn.Module, args: Arguments) -> None:
            recorder.inside += id(module) in leaves

        def leave(module: nn.Module, args: Arguments, kwargs: Named, out: Any) -> None:
            if recorder.inside <= (id(module) in leaves):
                recorder.inside += 1  # calls of the analysis itself are not the forward's
                if id(module) in leaves:
                    analysis.record_layer(module, args, kwargs, out)
                elif args:
                    analysis.record_block(module, args[0], out)
                recorder.inside -= 1
            recorder.inside -= id(module) in leaves

        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave, with_kwargs=True).remove)
        with recorder:
            return example.run(model)
