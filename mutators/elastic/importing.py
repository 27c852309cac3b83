"""Weights of other systems' supernets."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mutators.elastic.errors import ElasticError

_MATRIX = "_matrix"


def load_weights(net: nn.Module, state: Mapping[str, torch.Tensor], transposed_matrices: bool = False) -> None:
    """Load a state dict into an elastic network, in place; names and shapes are the network's own.

    Args:
        net: elastic.
        state: tensors by name.
        transposed_matrices: the kernels' matrices are PaddleSlim's, which multiplies the filter by M from the right
            where Once-for-all's authors, and this package, have M.T. As identities, which they begin as, the two are
            the same, so that a wrong answer shows only after training.

    Raises:
        ElasticError: names or shapes differ; all of them are named, and the network is as it was.
    """
    own = net.state_dict()
    problems = [
        f"missing {name!r}" for name, value in own.items() if isinstance(value, torch.Tensor) and name not in state
    ]
    problems += [f"unknown {name!r}" for name in state if name not in own]
    problems += [
        f"{name!r} has shape {tuple(value.shape)}, wanted {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and own[name].shape != value.shape
    ]
    if problems:
        raise ElasticError(f"the weights do not fit this {type(net).__name__} ({len(problems)} wrong):", problems)
    turned = {
        name: value.T if transposed_matrices and name.endswith(_MATRIX) else value for name, value in state.items()
    }
    net.load_state_dict(turned)
