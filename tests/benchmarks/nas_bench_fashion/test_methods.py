"""Test that every method trains and scores, on a few images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.nas_bench_fashion.images import FOLDER, read_images
from tests.benchmarks.nas_bench_fashion.methods import METHODS
from tests.benchmarks.nas_bench_fashion.rank import score, train


@pytest.mark.nightly
@pytest.mark.skipif(not Path(FOLDER).is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist")
@pytest.mark.parametrize("method", METHODS)
def test_a_method_leaves_a_scorer(method: str) -> None:
    images = read_images(train=1000)
    found = score(train(method, 1400, 0, images), (0, 1, 2, 3, 4), images)
    assert 0 < found["accuracy"] < 1
    assert found["log_likelihood"] < 0
    assert found["images"] == 5000
