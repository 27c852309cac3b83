"""Read the table: what each network reached in each of its two trainings; and print what the table itself shows.

Run: python -m tests.benchmarks.nas_bench_fashion.table
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

EPOCHS = 4
PATH = Path(__file__).parent / "table.csv"
COLUMNS = (
    "tokens",
    "seed",
    "macs",
    "params",
    "seconds",
    *(f"{part}_{epoch}" for part in ("valid", "test") for epoch in range(1, EPOCHS + 1)),
)


@dataclass(frozen=True)
class Table:
    """N networks, drawn at random and in the order of drawing, each trained from S seeds.

    Attributes:
        tokens: (N, 5), the operations, as in ``nas_bench_fashion.OPTIONS``.
        macs, params: (N,).
        seconds: (N, S), of one core, for the training alone.
        valid, test: (N, S, epochs), the share of the images that is classified rightly after each epoch.
    """

    tokens: np.ndarray
    macs: np.ndarray
    params: np.ndarray
    seconds: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """(N,): the accuracy on test images after the last epoch, as a mean over the seeds."""
        return self.test[:, :, -1].mean(axis=1)

    def noise(self) -> float:
        """Return the standard deviation between two trainings of one network."""
        return float(np.sqrt(self.test[:, :, -1].var(axis=1, ddof=1).mean()))

    def explained(self) -> float:
        """Return the share of the variance of a training's accuracy that the architecture explains (ICC(1))."""
        final = self.test[:, :, -1]
        between = final.mean(axis=1).var(ddof=1) - self.noise() ** 2 / final.shape[1]
        return float(between / (between + self.noise() ** 2))


def read_table(path: Path = PATH) -> Table:
    """Return the table of a CSV file, whose rows stand together by network."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    seeds = len({row["seed"] for row in rows})
    firsts = rows[::seeds]

    def numbers(part: str) -> np.ndarray:
        values = [[float(row[f"{part}_{epoch}"]) for epoch in range(1, EPOCHS + 1)] for row in rows]
        return np.array(values).reshape(len(firsts), seeds, EPOCHS)

    return Table(
        tokens=np.array([[int(token) for token in row["tokens"].split()] for row in firsts]),
        macs=np.array([int(row["macs"]) for row in firsts]),
        params=np.array([int(row["params"]) for row in firsts]),
        seconds=np.array([float(row["seconds"]) for row in rows]).reshape(len(firsts), seeds),
        valid=numbers("valid"),
        test=numbers("test"),
    )


def main() -> None:
    table = read_table()
    final = table.test[:, :, -1]
    print(
        f"{len(final)} networks, {final.shape[1]} trainings each, {table.seconds.mean():.1f} s of one core a training"
    )
    low, high = np.quantile(table.truth, [0.05, 0.95])
    print(f"accuracy {table.truth.min():.3f} to {table.truth.max():.3f}, nine of ten from {low:.3f} to {high:.3f}")
    print(f"deviation between networks {table.truth.std(ddof=1):.4f}, between two trainings of one {table.noise():.4f}")
    print(f"share of the variance that the architecture explains: {table.explained():.3f}")
    print(f"Kendall's tau between the first training and the second: {kendalltau(*final.T[:2]).statistic:.3f}")
    for name, values in (("macs", table.macs), ("params", table.params)):
        print(f"Kendall's tau of {name} and the mean of both: {kendalltau(values, table.truth).statistic:.3f}")
    for epoch in range(EPOCHS):
        tau = kendalltau(table.valid[:, 0, epoch], table.truth).statistic
        print(f"Kendall's tau of one training's validation accuracy after epoch {epoch + 1}: {tau:.3f}")


if __name__ == "__main__":
    main()
