"""Load the weights of other systems' supernets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from mutators.choices.errors import ElasticError


def load_weights(net: nn.Module, state: Mapping[str, Any], transposed_matrices: bool = False) -> None:
    """Load a state dict into an elastic network, in place; names and shapes are the network's own.

    Args:
        net: elastic, or an ``OFA``, which stays where it is in its training if the state does not say.
        state: tensors or NumPy arrays by name.
        transposed_matrices: the kernels' matrices are PaddleSlim's, which multiplies the filter by M from the right
            where Once-for-all's authors, and this package, have M.T. As identities, which they begin as, the two are
            the same, so that a wrong answer shows only after training.

    Raises:
        ElasticError: names or shapes differ; all of them are named, and the network is as it was.
    """
    own = net.state_dict()
    problems = [f"missing {name!r}" for name in own if isinstance(own[name], torch.Tensor) and name not in state]
    problems += [f"unknown {name!r}" for name in state if name not in own]
    found = {**own, **{name: _like(own[name], value) for name, value in state.items() if name in own}}
    problems += [
        f"{name!r} is a {type(state[name]).__name__}, wanted a tensor or an array of shape {tuple(own[name].shape)}"
        if value is None
        else f"{name!r} has shape {tuple(value.shape)}, wanted {tuple(own[name].shape)}"
        for name, value in found.items()
        if isinstance(own[name], torch.Tensor) and (value is None or value.shape != own[name].shape)
    ]
    if problems:
        raise ElasticError(f"the weights do not fit this {type(net).__name__} ({len(problems)} wrong):", problems)
    net.load_state_dict(
        {name: value.T if transposed_matrices and name.endswith("_matrix") else value for name, value in found.items()}
    )


def _like(own: Any, value: Any) -> Any:
    """Return a value as a tensor where a tensor is wanted, None where it is none. Other state stays as it is."""
    if not isinstance(own, torch.Tensor) or isinstance(value, torch.Tensor):
        return value
    return torch.from_numpy(np.array(value)) if isinstance(value, (np.ndarray, np.generic)) else None
