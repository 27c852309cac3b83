"""Make the elastic layers of a conversion, and report what each layer became."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import get_parameters
from mutators.elastic.conversion.growth import find_place, grow_layer
from mutators.elastic.conversion.layers import LayerUse, explain_no_kind, kernel_of, kind_of
from mutators.elastic.conversion.options import Options
from mutators.elastic.conversion.report import Row
from mutators.elastic.conversion.stages import DepthStage
from mutators.elastic.conversion.ties import Layout
from mutators.elastic.conversion.widths import Widths
from mutators.elastic.layers.width import Channels


class Maker:
    """A maker of elastic layers, once the widths are decided."""

    def __init__(self, widths: Widths, options: Options) -> None:
        self._widths, self._options = widths, options
        self._generator = torch.Generator().manual_seed(0)
        self._kernels: dict[str, tuple[int, ...]] = {}
        self._why: dict[str, str] = {}

    def make(self, use: LayerUse, problems: list[str]) -> nn.Module | None:
        """Return the elastic layer, with its choices; None: the layer stays."""
        kernels = None if use.stays else self._kernel_sizes(use)
        elastic = any(map(self._widths.is_elastic, (use.ins, use.outs, use.decides)))
        if use.stays or not (elastic or kernels):
            return None
        module, ins, outs = use.module, self._channels(use.ins), self._channels(use.outs)
        if use.outs is use.ins:
            outs = ins
        if any(map(self._widths.has_grown, (use.ins, use.outs))):
            before = self._widths.before
            module = grow_layer(module, find_place(ins, before), find_place(outs, before), self._generator)
        layer = self._layer(use, module, ins, outs, kernels, problems) if kernels else None
        if layer is None and elastic:
            layer = self._layer(use, module, ins, outs, None, problems)
        decision = self._widths.decisions.get(id(use.module))
        if layer is not None and decision is not None:
            layer.add_module(decision.name, decision.choice)
        return layer

    def _layer(
        self,
        use: LayerUse,
        module: nn.Module,
        ins: Channels | None,
        outs: Channels | None,
        kernels: tuple[int, ...] | None,
        problems: list[str],
    ) -> nn.Module | None:
        kind = kind_of(use.module)
        assert kind is not None
        heads = self._widths.width(self._widths.ties.root(use.own)) if use.own is not None else None
        try:
            layer = kind.make(module, ins, outs, kernels, heads)
        except ElasticError as error:
            asked = kernels is None or "kernel_size" in self._options.layers.get(use.path, {})
            if asked:
                problems.append(f"{use.path}: {error}")
            self._why[use.path] = str(error)
            return None
        if kernels is not None:
            self._kernels[use.path] = kernels
        return layer

    def _channels(self, layout: Layout | None) -> Channels | None:
        return None if layout is None else self._widths.channels(layout)

    def _kernel_sizes(self, use: LayerUse) -> tuple[int, ...] | None:
        """Return the kernels to choose from, with the layer's own where it is the largest; None: there is no choice."""
        wanted, size = self._options.kernels(use.path), kernel_of(use.module)
        asked = "kernel_size" in self._options.layers.get(use.path, {})
        if wanted is None or size is None or (max(size) == 1 and not asked):
            return None
        sizes = tuple(sorted({*map(int, wanted), *([max(size)] if max(size) > max(wanted) else [])}))
        return None if sizes == (max(size),) else sizes

    def rows(self, net: nn.Module, uses: Sequence[LayerUse], stages: Sequence[DepthStage]) -> tuple[Row, ...]:
        """Return a row for each layer, each stage, and all else with parameters of its own, in definition order."""
        by_id, deep = {id(use.module): use for use in uses}, {id(stage.module): stage for stage in stages}
        rows: list[Row] = []
        inner: set[int] = set()
        for path, module in net.named_modules():
            name = type(module).__name__
            if id(module) in deep:
                stage = deep[id(module)]
                why_not = {} if stage.dropped is None else {"depth": stage.dropped}
                rows.append(Row(path, name, {"depth": _numbers(stage.depths)}, why_not))
            elif kind_of(module) is not None and id(module) not in inner:
                inner |= {id(child) for child in module.modules()}
                use = by_id.get(id(module))
                unseen = Row(path, name, {}, {"all": "forward did not run it"})
                rows.append(unseen if use is None else self._row(use, name))
            elif any(p is not None for p in get_parameters(module).values()) and id(module) not in inner:
                rows.append(Row(path, name, {}, {"all": explain_no_kind(module)}))
        return tuple(rows)

    def _row(self, use: LayerUse, name: str) -> Row:
        if use.stays:
            return Row(use.path, name, {}, {"all": use.stays})
        elastic: dict[str, str] = {}
        why_not: dict[str, str] = {}
        if use.path in self._kernels:
            elastic["kernel_size"] = _numbers(self._kernels[use.path])
        elif use.path in self._why:
            why_not["kernel_size"] = self._why[use.path]
        what = "heads" if isinstance(use.module, nn.MultiheadAttention) else "width"
        parts = [node for node, _ in self._widths.ties.parts(use.decides)]
        chosen = {id(width): width for width in map(self._widths.width, parts) if width.choices}
        if chosen:
            elastic[what] = ", ".join(
                f"{_numbers(width.offered)} by {self._widths.keys[key]}" for key, width in chosen.items()
            )
        reasons = {node.fixed: None for node in parts if node.fixed}
        if reasons:
            why_not[what] = ", ".join(map(str, reasons))
        if id(use.module) in self._widths.dropped:
            why_not[self._widths.decisions[id(use.module)].name] = self._widths.dropped[id(use.module)]
        return Row(use.path, name, elastic, why_not)


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(map(str, values))
