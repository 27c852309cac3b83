"""Test that the table is what its page says: its networks, their costs, its noise; and that its script goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import search_spaces
from mutators.costs import measure_cost
from tests.benchmarks.nas_bench_fashion import make
from tests.benchmarks.nas_bench_fashion.images import FOLDER, read_images
from tests.benchmarks.nas_bench_fashion.table import PATH, read_table
from tests.sampling import sampled

TABLE = read_table()


def test_networks_are_those_that_the_script_draws() -> None:
    assert TABLE.tokens.tolist() == [list(tokens) for tokens in make.draw(len(TABLE.tokens))]
    assert TABLE.test.shape == (400, 2, 4)


@pytest.mark.slow
def test_costs_are_exact() -> None:
    costs = measure_cost(search_spaces.build(make.NET), (1, 14, 14))
    assert costs.costs("macs", TABLE.tokens).tolist() == TABLE.macs.tolist()
    assert costs.costs("params", TABLE.tokens).tolist() == TABLE.params.tolist()


def test_the_architecture_explains_most_of_what_a_training_reaches() -> None:
    assert TABLE.explained() > 0.7
    assert np.quantile(TABLE.truth, 0.95) - np.quantile(TABLE.truth, 0.05) > 10 * TABLE.noise()


def test_a_row_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    text = PATH.read_text()
    whole = make._read(PATH)
    for end in (len(text) - 1, len(text) - 30):
        (tmp_path / "table.csv").write_text(text[:end])
        assert make._read(tmp_path / "table.csv") == whole[:-1]
    assert make._text(whole) == text
    assert make._read(tmp_path / "none.csv") == []


@pytest.mark.nightly
@pytest.mark.skipif(not Path(FOLDER).is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist")
def test_a_training_gives_its_row_again() -> None:
    """As far as another machine does the same: within the noise between two seeds."""
    (at,) = sampled(range(len(TABLE.tokens)), 1)
    torch.set_num_threads(1)
    _, row = make.train_alone(tuple(TABLE.tokens[at].tolist()), 0, read_images())
    assert int(row["macs"]) == TABLE.macs[at]
    assert float(row["test_4"]) == pytest.approx(TABLE.test[at, 0, -1], abs=5 * TABLE.noise())
