"""Run a sample of a long sweep: another one in each run, by a seed that the run prints.

``make nightly`` runs the whole sweeps. ``NAS_TEST_SEED=1234 python -m pytest ...`` draws the samples of a run again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

Item = TypeVar("Item")

SEED = int(os.environ.setdefault("NAS_TEST_SEED", str(random.SystemRandom().randrange(10**6))))
"""Of this run; worker processes inherit it."""


def sampled(items: Sequence[Item], n: int) -> list[Item]:
    """Return ``n`` of the items in their order, chosen by the run's seed; all of them where there are no more."""
    chosen = random.Random(f"{SEED} {items!r}").sample(range(len(items)), min(n, len(items)))
    return [items[i] for i in sorted(chosen)]


def sweep(items: Sequence[Item], n: int) -> list[Any]:
    """Return two cases to parametrize a slow test with: a sample of the items, and at night all of them."""
    return [
        pytest.param(sampled(items, n), id="sampled", marks=pytest.mark.slow),
        pytest.param(list(items), id="whole", marks=pytest.mark.nightly),
    ]
