"""Make the elastic layers of a conversion, and report what each layer became."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import get_parameters
from mutators.elastic.conversion.growth import find_place, grow_layer
from mutators.elastic.conversion.layers import LayerUse, explain_no_kind, kind_of
from mutators.elastic.conversion.options import Options
from mutators.elastic.conversion.report import Row
from mutators.elastic.conversion.stages import DepthStage
from mutators.elastic.conversion.widths import Widths


class Maker:
    """A maker of elastic layers, once the widths are decided."""

    def __init__(self, widths: Widths, options: Options) -> None:
        self._widths, self._options = widths, options
        self._generator = torch.Generator().manual_seed(0)
        self._kernels: dict[str, tuple[int, ...]] = {}
        self._why: dict[str, str] = {}

    def make(self, use: LayerUse, problems: list[str]) -> nn.Module | None:
        """Return the elastic layer, with its choices; None: the layer stays."""
        kind, module, widths = kind_of(use.module), use.module, self._widths
        assert kind is not None
        kernels = None if use.stays else self._kernel_sizes(use)
        elastic = any(map(widths.is_elastic, (use.ins, use.outs, use.decides)))
        if use.stays or not (elastic or kernels):
            return None
        ins, outs = widths.channels(use.ins), widths.channels(use.outs)
        if use.outs is use.ins:
            outs = ins
        if any(map(widths.has_grown, (use.ins, use.outs))):
            places = find_place(ins, widths.before), find_place(outs, widths.before)
            module = grow_layer(module, *places, self._generator)
        heads = None if use.own is None else widths.width(widths.ties.root(use.own))
        for sizes in (kernels, None) if kernels and elastic else (kernels,):
            try:
                layer = kind.make(module, ins, outs, sizes, heads)
            except ElasticError as error:
                if sizes is None or self._has_own_kernels(use):
                    problems.append(f"{use.path}: {error}")
                self._why[use.path] = str(error)
                continue
            if sizes is not None:
                self._kernels[use.path] = sizes
            decision = widths.decisions.get(id(use.module))
            if decision is not None:
                layer.add_module(decision.name, decision.choice)
            return layer
        return None

    def _has_own_kernels(self, use: LayerUse) -> bool:
        return "kernel_size" in self._options.layers.get(use.path, {})

    def _kernel_sizes(self, use: LayerUse) -> tuple[int, ...] | None:
        """Return the kernels to choose from, with the layer's own where it is the largest; None: there is no choice."""
        wanted = self._options.kernels(use.path)
        if wanted is None or not isinstance(use.module, (nn.Conv2d, nn.ConvTranspose2d)):
            return None
        own = max(use.module.kernel_size)
        if own == 1 and not self._has_own_kernels(use):
            return None
        sizes = tuple(sorted({*map(int, wanted), max(own, *map(int, wanted))}))
        return None if sizes == (own,) else sizes

    def rows(self, net: nn.Module, uses: Sequence[LayerUse], stages: Sequence[DepthStage]) -> tuple[Row, ...]:
        """Return a row for each layer, each stage, and all else with parameters of its own, in definition order."""
        by_id, deep = {id(use.module): use for use in uses}, {id(stage.module): stage for stage in stages}
        rows, inner = list[Row](), set[int]()
        for path, module in net.named_modules():
            name = type(module).__name__
            if id(module) in deep:
                stage = deep[id(module)]
                why_not = {"depth": stage.dropped} if stage.dropped else {}
                rows.append(Row(path, name, {"depth": _join(stage.depths)}, why_not))
            elif kind_of(module) is not None and id(module) not in inner:
                inner |= {id(child) for child in module.modules()}
                unseen = LayerUse(path, module, stays="forward did not run it")
                rows.append(self._row(by_id.get(id(module), unseen), name))
            elif any(p is not None for p in get_parameters(module).values()) and id(module) not in inner:
                rows.append(Row(path, name, {}, {"all": explain_no_kind(module)}))
        return tuple(rows)

    def _row(self, use: LayerUse, name: str) -> Row:
        if use.stays:
            return Row(use.path, name, {}, {"all": use.stays})
        elastic, why_not = dict[str, str](), dict[str, str]()
        if use.path in self._kernels:
            elastic["kernel_size"] = _join(self._kernels[use.path])
        elif use.path in self._why:
            why_not["kernel_size"] = self._why[use.path]
        what = "heads" if isinstance(use.module, nn.MultiheadAttention) else "width"
        parts = [node for node, _ in self._widths.ties.parts(use.decides)]
        chosen = dict.fromkeys(width for width in map(self._widths.width, parts) if width.choices)
        if chosen:
            elastic[what] = _join(f"{_join(width.offered)} by {self._widths.keys[id(width)]}" for width in chosen)
        if reasons := dict.fromkeys(node.fixed for node in parts if node.fixed):
            why_not[what] = _join(reasons)
        decision = self._widths.decisions.get(id(use.module))
        if decision is not None and decision.dropped:
            why_not[decision.name] = decision.dropped
        return Row(use.path, name, elastic, why_not)


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
