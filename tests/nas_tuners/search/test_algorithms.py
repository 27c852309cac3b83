"""One table of algorithms: tuners, commands and README derive from it, and a line in it is all that a new one needs."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nas_tuners
from nas_tuners.commands.register import TUNERS
from nas_tuners.search.algorithms import ALGORITHMS, SHARED, table_rows
from nas_tuners.search.arguments import Shared

ROOT = Path(__file__).parents[3]
HILL = '''"""Steps away from the best so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_tuners.search.base import Search
from search_spaces import Tokens
from search_spaces.cost.limits import Constraints, Table


class Hill(Search):
    """Hill climbing: changes one key of the best so far."""

    def __init__(
        self,
        step: int = 1,
        seed: int = 0,
        constraints: Constraints | None = None,
        cost_table: Table = None,
        score_key: str = "default",
    ) -> None:
        super().__init__(seed, constraints, cost_table, score_key)
        self.step, self._best_so_far = step, (float("-inf"), ())

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        if not self._best_so_far[1]:
            return self._sample(n)
        return [self.space.neighbour(self._best_so_far[1], self.rng, self.step) for _ in range(n)]

    def _learn(self, tokens: Tokens, score: float) -> None:
        if score > self._best_so_far[0]:
            self._best_so_far = (score, tokens)
'''
LINE = '    "hill": Algorithm("nas_tuners.search.hill:Hill", "HillTuner"),\n'


def test_the_names_that_configurations_hold_stay() -> None:
    assert TUNERS == {
        "NasRandom": "nas_tuners.RandomTuner",
        "NasAnnealing": "nas_tuners.AnnealingTuner",
        "NasEvolution": "nas_tuners.EvolutionTuner",
        "NasBayesian": "nas_tuners.BayesianTuner",
        "NasLocalSearch": "nas_tuners.LocalSearchTuner",
        "NasNSGA2": "nas_tuners.NSGA2Tuner",
        "NasProgressiveShrinking": "nas_tuners.ProgressiveShrinkingTuner",
    }
    assert {algorithm.tuner for algorithm in ALGORITHMS.values()} <= set(nas_tuners.__all__)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_tuner_takes_what_its_search_takes_and_says_so(name: str) -> None:
    tuner = getattr(nas_tuners, ALGORITHMS[name].tuner)
    taken = dict(inspect.signature(tuner).parameters)
    for argument, parameter in ALGORITHMS[name].options.items():
        assert (taken[argument].default, taken[argument].annotation) == (parameter.default, parameter.annotation)
    assert set(SHARED) <= ALGORITHMS[name].options.keys() and set(SHARED) == Shared.__annotations__.keys()
    assert next(iter(taken)) == "optimize_mode" and {"on_failure", "retries"} <= taken.keys()
    assert tuner.__name__ == ALGORITHMS[name].tuner and tuner.__doc__ and tuner.__module__ == "nas_tuners.tuners"
    assert getattr(nas_tuners, tuner.__name__) is tuner


def test_rows_for_readme() -> None:
    rows = table_rows()
    assert [row.split("|")[1:3] for row in rows] == [[f" `{at}` ", f" `{name}` "] for name, at in TUNERS.items()]
    assert rows[0].endswith("draws uniformly among the architectures that are left |  |")
    assert "`reduce_rate` (0.85), `init_choices` |" in rows[1]


@pytest.mark.slow
def test_a_tuner_is_one_file_and_one_line(tmp_path: Path) -> None:
    """In a copy of the sources, which then runs its own conformance tests over the new algorithm."""
    for package in ("nas_tuners", "search_spaces", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "nas_tuners/search/hill.py").write_text(HILL)
    table = tmp_path / "nas_tuners/search/algorithms.py"
    before, opening, after = table.read_text().partition("ALGORITHMS = {\n")
    table.write_text(before + opening + LINE + after)

    def run(*words: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    assert "hill" in run("-m", "nas_tuners.cli", "search", "--help")
    (tmp_path / "space.json").write_text('{"a": {"_type": "choice", "_value": [1, 2, 3]}}')
    (tmp_path / "mine.py").write_text("def evaluate(choices):\n    return choices['a']\n")
    words = [
        "search",
        "space.json",
        "--evaluate",
        "mine:evaluate",
        "--algorithm",
        "hill",
        "--set",
        "step=1",
        "-o",
        "run",
    ]
    assert "best 3 " in run("-m", "nas_tuners.cli", *words)
    (tmp_path / "config.yml").write_text(
        "searchSpaceFile: space.json\ntrialCommand: python t.py\ntrialConcurrency: 1\nmaxTrialNumber: 2\n"
        "tuner:\n  className: nas_tuners.HillTuner\n  codeDirectory: .\n  classArgs: {step: 2}\n"
        "trainingService:\n  platform: local\n"
    )
    assert "is fine" in run("-m", "nas_tuners.cli", "check", "config.yml")
    said = run("-c", "from nas_tuners.search.algorithms import *; from nas_tuners.commands.register import TUNERS\n"
        "print(TUNERS['NasHill'], table_rows()[0])")  # fmt: skip
    assert said.startswith("nas_tuners.HillTuner | `nas_tuners.HillTuner` | `NasHill` | Hill climbing: changes one key")
    tests = ["tests/nas_tuners/search/test_conformance.py", "tests/nas_tuners/hosts/nni/test_tuners.py"]
    ran = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "hill and not two_threads", *tests)
    assert int(ran.split(" passed")[0].split()[-1]) > 40


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_search_that_warms_up_names_the_option_that_says_how_long(name: str) -> None:
    """``nas check`` names it where there are fewer trials."""
    search = ALGORITHMS[name].search()
    assert (search.warm_up > 0) <= (search.warm_up_option in ALGORITHMS[name].options)
    assert not search.warm_up_option or search.warm_up_option in ALGORITHMS[name].options
