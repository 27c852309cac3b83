"""``nas search``: search a space with a user's function, without NNI."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nas_tuners.commands import CommandError
from nas_tuners.commands.checks.spaces import load_space
from nas_tuners.commands.settings import read_settings, read_value
from nas_tuners.hosts.local import Job
from nas_tuners.hosts.nni.experiments import journal_of
from nas_tuners.runs.importing import earlier_results
from nas_tuners.runs.journal import Event, JournalError
from nas_tuners.runs.run import Run
from nas_tuners.search.algorithms import ALGORITHMS, AUTO, Algorithm, choose_algorithm
from nas_tuners.search.arguments import signature_of
from nas_tuners.search.base import Search
from nas_tuners.show.text import (
    describe_best_costs,
    describe_choices,
    describe_early_phase,
    describe_failures,
    describe_front,
    describe_score,
    shorten_list,
)
from search_spaces.checks import one_of
from search_spaces.cost.limits import constraints_of

_ELSEWHERE = {
    "constraints": "use --constraint",
    "cost_table": "use --cost-table",
    "score_key": "use --score-key",
    "seed": "use --seed",
    "warm_start": "use --from",
    "objectives": "use --objective",
    "early_stopping": "use --early-stopping",
    "outcome_constraints": "use --outcome-constraint",
    "noise": "use --noise",
    "repeats": "use --repeats",
}


def execute(options: Namespace) -> int:
    """Search, and print the best."""
    space = load_space(options.space).fix(_read_fixed(options.fix or []))
    name = options.algorithm
    if name == AUTO:
        given = [text.partition("=")[0] for text in options.numbers or []]
        given += ["warm_start"] * bool(options.earlier) + ["objectives"] * bool(options.objective)
        name, why = choose_algorithm(space, options.trials, given)
        print(f"{name}, because {why}")
    algorithm = _find_algorithm(name)
    objectives = _read_objectives(options.objective or [])
    if objectives and "objectives" not in algorithm.own_options:
        raise CommandError(f"--objective is not for {name}, which has one: use --algorithm bayesian or nsga2.")
    mode = "minimize" if options.minimize else objectives.get(options.score_key, "maximize")
    if options.earlier and "warm_start" not in algorithm.own_options:
        raise CommandError(f"--from is not for {name}, which learns from no earlier run: use --algorithm bayesian.")
    earlier = [earlier_results(journal_of(run), options.score_key) for run in options.earlier or []]
    own = read_settings(name, algorithm.own_options, options.numbers or [], _ELSEWHERE)
    own |= ({"warm_start": earlier} if earlier else {}) | ({"objectives": objectives} if objectives else {})
    shared: dict[str, Any] = {
        "seed": options.seed,
        "constraints": constraints_of(options.constraint or []),
        "cost_table": options.cost_table,
        "score_key": options.score_key,
        "early_stopping": read_value(options.early_stopping),
        "outcome_constraints": constraints_of(options.outcome_constraint or []),
        "noise": options.noise,
        "repeats": options.repeats,
    }
    search = algorithm.search(**_keep_taken(name, algorithm, shared), **own)
    functions = {"evaluate": options.evaluate}
    job = Job("search", functions, name, options.trials, options.workers, str(Path.cwd()), options.trial_timeout)
    run = job.start(search, space, options.output, mode)
    return _finish(job, run)


def _keep_taken(name: str, algorithm: Algorithm, shared: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of every search that an algorithm takes: one may be from before there were so many.

    Raises CommandError if one is given that it does not take.
    """
    base = signature_of(Search).parameters
    missing = [given for given in shared if given not in algorithm.options]
    if wanted := [given for given in missing if (shared[given] or None) != (base[given].default or None)]:
        raise CommandError(f"{name} takes no {' and no '.join(wanted)}: leave it out, or use another --algorithm.")
    return {given: value for given, value in shared.items() if given not in missing}


def _find_algorithm(name: str) -> Algorithm:
    if problems := one_of("--algorithm", name, [AUTO, *ALGORITHMS]):
        raise CommandError(f"{problems[0]}.")
    return ALGORITHMS[name]


def _read_objectives(texts: Iterable[str]) -> dict[str, str]:
    """Return the modes of ``metric=mode`` texts, by metric."""
    pairs = [text.partition("=") for text in texts]
    if problems := [
        f"--objective is {''.join(pair)!r}, wanted METRIC=maximize or minimize" for pair in pairs if not pair[1]
    ]:
        raise CommandError("\n".join(problems))
    return {metric: mode for metric, _, mode in pairs}


def _read_fixed(texts: Iterable[str]) -> dict[str, str]:
    """Return the options of ``key=option`` texts, by key."""
    pairs = [(key, option) for key, _, option in (text.partition("=") for text in texts)]
    problems = [f"--fix is {text!r}, wanted KEY=VALUE" for text in texts if "=" not in text]
    problems += [f"--fix {key} is given twice" for key, n in Counter(key for key, _ in pairs).items() if n > 1]
    if problems:
        raise CommandError("\n".join(problems))
    return dict(pairs)


def resume(job: Job, header: Event, path: Path) -> int:
    """Go on with a search, and print the best."""
    return _finish(job, job.resume(search_of(job, header, path), path))


def search_of(job: Job, header: Event, path: Path) -> Search:
    """Return the search of a journal, fresh. Raises JournalError if its arguments are not those of its algorithm."""
    arguments = header["search"]["arguments"]
    try:
        return _find_algorithm(job.algorithm).search(**arguments)
    except (TypeError, LookupError, ArithmeticError) as error:
        raise JournalError(f"{path}, line 1: the arguments of {job.algorithm} do not fit: {error}") from None


def _finish(job: Job, run: Run) -> int:
    job.finish(run, job.function("evaluate"))
    return conclude(run, run.search.arguments, Path(str(run.path)))


def conclude(run: Run, arguments: Mapping[str, Any], path: Path, name: str | None = None) -> int:
    """Print the best of a run that has ended, and what to do next. Raises CommandError if no trial has a result.

    Args:
        arguments: of its search.
        path: of its journal.
        name: what it is called on a command line; None: the journal's folder.
    """
    best, counts, source = run.search.best, run.search.counts, name or str(path.parent)
    ended = f"{counts.ended} trials" + (f", {counts.failed} of them failed" if counts.failed else "")
    if run.search.finished:
        ended += "; there is nothing more to try"
    if best is None:
        reasons = shorten_list(describe_failures(run), 2, f"nas show {source}")
        why = describe_early_phase(run) or "\n".join(["no result", *reasons])
        raise CommandError(f"{ended}; {why}\njournal {path}")
    costs = describe_best_costs(run)
    print(f"best {describe_score(best)} (uid {best.uid}{costs and f', {costs}'}) of {ended}")
    print(describe_choices(run.search.trials[best.uid]))
    for line in shorten_list(describe_front(run, arguments), 11, f"nas show {source}"):
        print(line)
    best_folder = "best" if name else path.parent / "best"
    print(f"journal {path}\nmore: nas show {source}; nas export {source} -o {best_folder}")
    return 0
