from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from mutators import search_space_of
from search_spaces import Space
from tests.mutators import models

torch.set_num_threads(1)  # networks this small only wait for each other's threads on a busy machine


@pytest.fixture(params=sorted(models.MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str) -> nn.Module:
    return models.build(name)


@pytest.fixture
def drawn(model: nn.Module) -> Iterator[dict]:
    """Twenty architectures of the model."""
    space = Space.from_json(search_space_of(model))
    rng = np.random.default_rng(0)
    return iter([space.decode(space.sample(rng)) for _ in range(20)])
