"""``nas rank``: how far the scores of a supernet can be trusted to rank architectures, and whether costs rank as well.

Kendall's tau between its scores and those of the same architectures trained alone, and of rivals in the same run: the
metrics of the cost table, and functions that score in another way. ``ranking.py`` has the statistics.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas_tuners.commands import CommandError
from nas_tuners.commands.checks.spaces import load_space
from nas_tuners.commands.ranking import (
    COVERAGE,
    compare_rankings,
    describe_rankers,
    describe_verdict,
    rank_correlation,
)
from nas_tuners.commands.search import search_of
from nas_tuners.hosts.local import Job
from nas_tuners.runs.evaluation import NamedFunction
from nas_tuners.runs.journal import Event
from nas_tuners.runs.run import Run
from nas_tuners.search.random import RandomSearch
from nas_tuners.search.records import Trial, as_metrics
from nas_tuners.show.text import describe_choices, describe_failures, shorten_list
from search_spaces import Choices, Space, Tokens
from search_spaces.checks import is_number
from search_spaces.cost.limits import constraints_of
from search_spaces.cost.table import CostTable


@dataclass(frozen=True)
class Scores:
    """An evaluation by several functions: a supernet's score, its rivals', and that of the network trained alone."""

    score: NamedFunction
    retrain: NamedFunction
    rivals: Mapping[str, NamedFunction] = field(default_factory=dict)  # by what the journal calls their metric

    def __call__(self, choices: Choices) -> dict[str, float]:
        functions = {"score": self.score, **self.rivals, "default": self.retrain}  # the long one comes last
        return {name: _call_for_number(function, choices) for name, function in functions.items()}


def _call_for_number(function: NamedFunction, choices: Choices) -> float:
    value: float = as_metrics(function(choices))["default"]
    if not math.isfinite(value):
        raise ValueError(f"{function.name} returned {value}, wanted a finite number")
    return value


def execute(options: Namespace) -> int:
    """Score random architectures by each function, and print how well the orders agree."""
    rivals = options.rival or []
    problems = [f"--rival {name} is given {n} times." for name, n in Counter(rivals).items() if n > 1]
    if options.trials < 3:
        problems.append(f"-n is {options.trials}, wanted at least 3 architectures.")
    if problems:
        raise CommandError("\n".join(problems))
    search = RandomSearch(options.seed, constraints_of(options.constraint or []), options.cost_table)
    functions = {"score": options.score, "retrain": options.retrain, **{name: name for name in rivals}}
    job = Job("rank", functions, "random", options.trials, options.workers, str(Path.cwd()), options.trial_timeout)
    space = load_space(options.space)
    _arrange_costs(search.cost_table, space)
    mode = "minimize" if options.minimize else "maximize"
    return _finish(job, job.start(search, space, options.output, mode))


def resume(job: Job, header: Event, path: Path) -> int:
    """Go on with a run of ``nas rank``, and print what it prints."""
    return _finish(job, job.resume(search_of(job, header, path), path))


def _arrange_costs(table: CostTable | None, space: Space) -> CostTable | None:
    """Return the cost table in the order of ``space``, ready to be asked. Raises CostError if it is of another one."""
    if table is None:
        return None
    arranged = table.arranged(space)
    for metric in arranged.metrics:
        arranged.terms(metric)
    return arranged


def _finish(job: Job, run: Run) -> int:
    """Run to the end, and print the architectures by their scores, Kendall's tau of at least three, and its rivals'."""
    table = _arrange_costs(run.search.cost_table, run.space)  # what is wrong with it is said before the work begins
    job.finish(run, Scores(job.function("score"), job.function("retrain"), {r: job.function(r) for r in job.rivals}))
    trials, failures = _sort_trials(job, run), describe_failures(run)
    _print_trials(trials, _sign_of(run))
    scores, truths = (_metrics_of(trials, name) for name in ("score", "default"))
    tau, low, high = rank_correlation(scores, truths, run.search.seed)
    agreement = f"{tau:.3f}, {100 * COVERAGE:.0f} % interval {low:.2f} to {high:.2f}"
    undefined = "is undefined: all scores of a kind are equal"
    of = ", ".join([f"{len(trials)} architectures", *_describe_missing(run, len(trials))])
    print(*failures, f"Kendall's tau {undefined if math.isnan(tau) else agreement} ({of})", sep="\n")
    if rivals := _rivals_of(job, table, trials, _sign_of(run)):
        macs = None if table is None or "macs" not in table.metrics else table.costs("macs", _tokens_of(trials))
        rankers = compare_rankings(scores, rivals, truths, macs, run.search.seed)
        print(*describe_rankers(rankers), describe_verdict(rankers), sep="\n")
    return 0


def _sort_trials(job: Job, run: Run) -> list[Trial]:
    """Return the trials that have all numbers, the best score first. Raises CommandError if there are fewer than 3."""
    names = ("score", "default", *job.rivals)
    told = [trial for trial in run.search.trials.values() if trial.state == "told"]
    trials = [trial for trial in told if all(is_number((trial.metrics or {}).get(name)) for name in names)]
    if len(trials) < 3:
        message = f"{len(trials)} architectures have {'all' if job.rivals else 'both'} scores, wanted at least 3."
        more = f"nas show {Path(str(run.path)).parent}"
        raise CommandError("\n".join([message, *shorten_list(describe_failures(run), 2, more)]))
    return sorted(trials, key=lambda t: -_sign_of(run) * _metric_of(t, "score"))


def _sign_of(run: Run) -> float:
    return 1.0 if run.optimize_mode == "maximize" else -1.0


def _metric_of(trial: Trial, name: str) -> float:
    return float((trial.metrics or {})[name])


def _metrics_of(trials: Sequence[Trial], name: str) -> list[float]:
    return [_metric_of(trial, name) for trial in trials]


def _tokens_of(trials: Sequence[Trial]) -> list[Tokens]:
    return [trial.tokens for trial in trials]


def _describe_missing(run: Run, whole: int) -> list[str]:
    """Return how many architectures have failed, and how many that were imported lack a score."""
    counts = run.search.counts
    lacking = counts.told - whole
    return [f"{n} {what}" for n, what in ((counts.failed, "failed"), (lacking, "without all scores")) if n]


def _rivals_of(job: Job, table: CostTable | None, trials: Sequence[Trial], sign: float) -> dict[str, list[float]]:
    """Return by name the numbers of the rivals: of costs, more is better, whichever way the scores go."""
    tokens = _tokens_of(trials)
    costs = {} if table is None else {name: (sign * table.costs(name, tokens)).tolist() for name in table.metrics}
    return costs | {name: _metrics_of(trials, name) for name in job.rivals}


def _print_trials(trials: Sequence[Trial], sign: float) -> None:
    """Print trials that are sorted by their scores, each with its place by both scores."""
    by_truth = sorted(trials, key=lambda t: -sign * _metric_of(t, "default"))
    places = {trial.uid: place for place, trial in enumerate(by_truth, 1)}
    print(f"{'rank':>4} {'retrained':>9} {'score':>11} {'retrained':>11} {'uid':>4}  choices")
    for place, trial in enumerate(trials, 1):
        score, truth = _metric_of(trial, "score"), _metric_of(trial, "default")
        numbers = f"{place:>4} {places[trial.uid]:>9} {score:>11.6g} {truth:>11.6g} {trial.uid:>4}"
        print(f"{numbers}  {describe_choices(trial)}")
