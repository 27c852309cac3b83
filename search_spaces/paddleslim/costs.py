"""Exact costs of a net of tokens, for all of its architectures at once and without torch."""

from __future__ import annotations

from typing import Any

from search_spaces.checks import whole
from search_spaces.cost.table import CostTable
from search_spaces.errors import NetError
from search_spaces.paddleslim.codec import configure, make_space
from search_spaces.paddleslim.layers import Layers, compute_cost
from search_spaces.paddleslim.quantities import Factor, Number, factorize


def cost_factors(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int | None = 1000,
    paddle_compatible: bool = False,
    **config: Any,
) -> dict[str, tuple[int, list[Factor]]]:
    """Return ``macs`` and ``params`` of a net of tokens as sums of few tables, exact for every architecture.

    Args:
        name: one of PaddleSlim's, such as "MobileNetV2Space".
        input_shape: (C, H, W); C is the net's ``in_channels``.
        num_classes: None: no linear layer.
        paddle_compatible: cost PaddleSlim's own networks.
        config: arguments of the net, as of :func:`search_spaces.build`.

    Returns: by metric a constant, and tables with the keys of their axes. A cost is the constant and an entry of each.

    Raises:
        NetError: the name or an argument is unknown, or arguments do not fit; all that is wrong is listed.
    """
    net, made = configure(name, {"in_channels": input_shape[0], **config})
    problems = whole("num_classes", num_classes, 1, optional=True)
    problems += [problem for size in input_shape[1:] for problem in whole("a size of input_shape", size, 1)]
    if made.in_channels != input_shape[0]:
        problems.append(f"in_channels is {made.in_channels}, but input_shape {input_shape} has {input_shape[0]}")
    if problems:
        raise NetError(f"{name} cannot be costed like this:", problems)
    values = {token.key: token.quantity() for token in net.tokens(made)}
    network = net.network(values, made, paddle_compatible)
    layers: Layers = tuple(layer for _, stage in network.stages for layer in stage)
    total = compute_cost(layers, (input_shape[1], input_shape[2]))
    weights: Number = 0 if num_classes is None else network.features * num_classes
    return {"macs": factorize(total.macs + weights), "params": factorize(total.params + weights + (num_classes or 0))}


def cost_table_of(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int | None = 1000,
    paddle_compatible: bool = False,
    **config: Any,
) -> CostTable:
    """Return the exact table of a net of tokens, ``macs`` and ``params``. Arguments: see :func:`cost_factors`."""
    found = cost_factors(name, input_shape, num_classes, paddle_compatible, **config)
    space = make_space(name, **{"in_channels": input_shape[0], **config})
    zeros = {key: [0] * radix for key, radix in zip(space.keys, space.radices, strict=True)}
    options = {
        metric: zeros | {keys[0]: table.tolist() for keys, table in tables if len(keys) == 1}
        for metric, (_, tables) in found.items()
    }
    joint = {metric: [term for term in tables if len(term[0]) > 1] for metric, (_, tables) in found.items()}
    about: dict[str, Any] = {"model": name, "input_shape": list(input_shape), "num_classes": num_classes}
    about |= {"paddle_compatible": paddle_compatible, "config": config, "exact": True}
    return CostTable(space, {metric: fixed for metric, (fixed, _) in found.items()}, options, about, joint)
