"""What the networks of a net of tokens cost, exactly, for all of them at once and without torch."""

from __future__ import annotations

from typing import Any

from search_spaces.cost.table import CostTable
from search_spaces.errors import NetError
from search_spaces.paddleslim.codec import configured_net
from search_spaces.paddleslim.layers import Layers, cost
from search_spaces.paddleslim.quantities import Number, Table, factors
from search_spaces.paddleslim.space import at_least, spanned

Factors = tuple[int, list[tuple[tuple[str, ...], Table]]]
"""A constant, and tables by the keys of their axes; an architecture's cost is the sum of its entries."""


def cost_factors(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int | None = 1000,
    paddle_compatible: bool = False,
    **config: Any,
) -> dict[str, Factors]:
    """Return ``macs`` and ``params`` of a net of tokens as sums of few tables, exact for every architecture.

    Args:
        name: one of PaddleSlim's, such as "MobileNetV2Space".
        input_shape: (C, H, W); C is the net's ``in_channels``.
        num_classes: None: no linear layer.
        paddle_compatible: cost PaddleSlim's own networks.
        config: arguments of the net, as of :func:`search_spaces.build`.

    Raises:
        NetError: the name or an argument is unknown, or arguments do not fit; all that is wrong is listed.
    """
    net, made = configured_net(name, {"in_channels": input_shape[0], **config})
    problems = at_least("num_classes", num_classes, 1) if num_classes is not None else []
    problems += [problem for size in input_shape[1:] for problem in at_least("a size of input_shape", size, 1)]
    if made.in_channels != input_shape[0]:
        problems.append(f"in_channels is {made.in_channels}, but input_shape {input_shape} has {input_shape[0]}")
    if problems:
        raise NetError(f"{name} cannot be costed like this:" + "".join(f"\n  {problem}" for problem in problems))
    values = {token.key: token.quantity() for token in net.tokens(made)}
    network = net.network(values, made, paddle_compatible)
    layers: Layers = tuple(layer for _, stage in network.stages for layer in stage)
    total = cost(layers, (input_shape[1], input_shape[2]))
    weights: Number = 0 if num_classes is None else network.features * num_classes
    return {"macs": factors(total.macs + weights), "params": factors(total.params + weights + (num_classes or 0))}


def cost_table_of(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int | None = 1000,
    paddle_compatible: bool = False,
    **config: Any,
) -> CostTable:
    """Return the exact table of a net of tokens, ``macs`` and ``params``. Arguments: see :func:`cost_factors`."""
    found = cost_factors(name, input_shape, num_classes, paddle_compatible, **config)
    net, made = configured_net(name, {"in_channels": input_shape[0], **config})
    space = spanned(net.tokens(made))
    ones = {
        metric: {keys[0]: table.tolist() for keys, table in tables if len(keys) == 1}
        for metric, (_, tables) in found.items()
    }
    zeros = {key: [0] * radix for key, radix in zip(space.keys, space.radices, strict=True)}
    options = {metric: zeros | of for metric, of in ones.items()}
    joint = {metric: [term for term in tables if len(term[0]) > 1] for metric, (_, tables) in found.items()}
    about = {
        "model": name,
        "input_shape": list(input_shape),
        "num_classes": num_classes,
        "paddle_compatible": paddle_compatible,
        "config": config,
        "exact": True,
    }
    return CostTable(space, {metric: fixed for metric, (fixed, _) in found.items()}, options, about, joint)
