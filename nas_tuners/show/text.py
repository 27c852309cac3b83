"""Describe runs, trials and spaces as text and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nas_tuners.runs.front import front_of, measure_front
from nas_tuners.runs.journal import Event
from nas_tuners.runs.run import Run, arguments_in
from nas_tuners.search.noise import NONE as NO_NOISE
from nas_tuners.search.records import Best, Trial
from search_spaces import Choices, Space
from search_spaces.checks import exact_or_rounded, rounded

_STATES = ("told", "stopped", "failed", "pending")
_NOTED = ("pending", "stopped", "failed", "duplicate", "infeasible")  # counts that a progress line shows


def summarize(run: Run, header: Event) -> dict[str, Any]:
    """Return everything about a run as one JSON object."""
    search, best, arguments = run.search, run.search.best, arguments_in(header)
    return {
        "space_digest": run.space.digest,
        "search": header["search"]["name"],
        "arguments": arguments,
        "seed": arguments.get("seed"),
        "optimize_mode": run.optimize_mode,
        "counts": asdict(search.counts),
        "space_changes": run.changes,
        "phase": None if run.phase is None else asdict(run.phase),
        "best": None if best is None else _summarize_trial(search.trials[best.uid]) | _summarize_noise(best),
        **_summarize_front(run, arguments),
        "trials": [_summarize_trial(trial) for trial in search.trials.values()],
    }


def _summarize_noise(best: Best) -> dict[str, Any]:
    return {} if best.error is None else {"mean": best.score, "error": best.error, "results": best.results}


def _summarize_front(run: Run, arguments: Mapping[str, Any]) -> dict[str, Any]:
    if not arguments.get("objectives"):
        return {}
    uids = [trial.uid for trial, _ in front_of(run, arguments)]
    return {"front": uids, "hypervolume": measure_front(run, arguments)}


def _summarize_trial(trial: Trial) -> dict[str, Any]:
    metrics = trial.metrics or {"default": None}
    summary = {
        "uid": trial.uid,
        "choices": trial.space.decode(trial.tokens),
        # NaN and infinity, which JSON does not have, become null
        "metrics": {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()},
        "trial_job_id": trial.job,
        "state": trial.state,
    }
    summary |= {"phase": asdict(trial.phase)} if trial.phase else {}
    more = {"resource": trial.resource, "reason": trial.reason, "violation": trial.violation or None}
    more["again"] = trial.again
    return summary | {name: value for name, value in more.items() if value is not None}


def describe_run(run: Run, header: Event, rows: int = 10) -> str:
    """Return lines about a run: counts, phase, the best architectures, the last failures."""
    search, counts, size = run.search, run.search.counts, run.space.size
    beyond = sum(trial.violation > 0 for trial in search.trials.values())
    lines = [
        f"{header['search']['name']}, {run.optimize_mode}, seed {arguments_in(header).get('seed')}; "
        f"{_count_choices(run.space)}, {size if size < 10**6 else rounded(size)} architectures, "
        f"digest {run.space.digest[:12]}",
        f"{counts.asked} asked: {counts.told} told, {counts.failed} failed, {counts.pending} pending"
        + (f", {counts.stopped} stopped early" if counts.stopped else "")
        + (f", {counts.dropped} dropped" if counts.dropped else "")
        + (f"; {beyond} beyond the outcome constraints" if beyond else "")
        + (f"; {counts.duplicate} duplicate results" if counts.duplicate else "")
        + ("; the space is exhausted" if search.exhausted else ""),
        *_describe_phase(run, header),
        *run.changes,
    ]
    told = [trial for trial in search.trials.values() if trial.state == "told" and not trial.provisional]
    if not told:
        return "\n".join([*lines, describe_no_result(run), *describe_failures(run)])
    lines += _rank_trials(run, told, rows)
    if len(told) > rows:
        lines.append(f"{len(told) - rows} more (nas show --json lists all)")
    lines += describe_front(run, arguments_in(header))
    return "\n".join([*lines, *describe_failures(run)])


def _rank_trials(run: Run, told: list[Trial], rows: int) -> list[str]:
    """Return a line for each of the best results; with ``noise``, for each of the best architectures."""
    search = run.search
    if search.readings.mode != NO_NOISE:
        return _rank_architectures(run, [trial for trial in told if trial.again is None], rows)
    lines = [f"{'rank':>4} {'uid':>5} {'metric':>12}  choices"]
    told = sorted(told, key=lambda t: (t.violation, -t.score, t.resolved))
    for rank, trial in enumerate(told[:rows], start=1):
        metric = (trial.metrics or {})[search.score_key]
        note = "beyond the limits: " if trial.violation else ""
        lines.append(f"{rank:>4} {trial.uid:>5} {metric:>12.6g}  {note}{describe_choices(trial)}")
    return lines


def _rank_architectures(run: Run, firsts: list[Trial], rows: int) -> list[str]:
    """Return a line for each architecture: its posterior mean, the error of that, the mean of its results."""
    readings, sign = run.search.readings, -1.0 if run.optimize_mode == "minimize" else 1.0
    found = [(trial, readings.estimate(trial.tokens)) for trial in firsts if trial.tokens in readings]
    found.sort(key=lambda pair: -pair[1].mean)
    lines = [f"{'rank':>4} {'uid':>5} {'expected':>12} {'+-':>9} {'results':>8} {'their mean':>12}  choices"]
    for rank, (trial, estimate) in enumerate(found[:rows], start=1):
        of_results = f"{estimate.results:>8} {sign * readings.mean(trial.tokens):>12.6g}"
        believed = f"{sign * estimate.mean:>12.6g} {estimate.error:>9.2g}"
        lines.append(f"{rank:>4} {trial.uid:>5} {believed} {of_results}  {describe_choices(trial)}")
    return lines


def describe_front(run: Run, arguments: Mapping[str, Any]) -> list[str]:
    """Return a title, then a line for each result that nothing beats in all objectives; none if there is one only."""
    front = front_of(run, arguments)
    if not front:
        return []
    names = list(arguments["objectives"])
    share = f"hypervolume {measure_front(run, arguments):.4g} of the box between the worst and the best of each"
    lines = [
        f"front, {len(front)} architectures, {share}:",
        "  ".join([f"{'uid':>5}", *(f"{name:>12}" for name in names)]),
    ]
    for trial, row in front:
        cells = "  ".join(f"{value:>12.6g}" for value in row)
        lines.append(f"{trial.uid:>5}  {cells}  {describe_choices(trial)}")
    return lines


def _describe_phase(run: Run, header: Event) -> list[str]:
    """Return a line about the phase that is open, in a search that has phases."""
    phase = run.phase
    if phase is None:
        return []
    own = [trial.state for trial in run.search.trials.values() if trial.phase == phase]
    counts = ", ".join(f"{own.count(state)} {state}" for state in _STATES if state != "stopped" or state in own)
    inner = arguments_in(header).get("inner", "search")
    return [f"{phase}{f' by {inner}' if phase.last else ''}: {counts}" + ("" if phase.last else f"; then {inner}")]


def describe_no_result(run: Run) -> str:
    """Return whether a run without a result has none yet, or has only failures."""
    counts = run.search.counts
    return f"no result: all {counts.failed} trials failed" if counts.failed and not counts.pending else "no result yet"


def describe_failures(run: Run) -> list[str]:
    """Return a line for each reason why trials failed, with their uids."""
    failed = [trial for trial in run.search.trials.values() if trial.state == "failed"]
    return [f"failed: uid {uids}: {why}" for uids, why in group_reasons((str(t.uid), str(t.reason)) for t in failed)]


def group_reasons(failures: Iterable[tuple[str, str]], most: int = 10) -> list[tuple[str, str]]:
    """Group failures, pairs of a trial's name and a reason, by reason: names in one text, of many the first.

    >>> group_reasons([("3", "killed"), ("4", "no memory"), ("7", "killed")])
    [('3, 7', 'killed'), ('4', 'no memory')]
    """
    groups: dict[str, list[str]] = {}
    for name, reason in failures:
        groups.setdefault(reason, []).append(name)
    return [
        (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else ""), reason)
        for reason, names in groups.items()
    ]


def shorten_list(lines: Sequence[str], most: int, how: str) -> list[str]:
    """Return the first lines of a list, and in their place how many are left out, and ``how`` to see them.

    >>> shorten_list(["a", "b", "c"], 2, "nas show run")
    ['a', 'b', '1 more: nas show run']
    """
    return [*lines[:most], *([f"{len(lines) - most} more: {how}"] if len(lines) > most else [])]


def describe_early_phase(run: Run) -> str:
    """Return why a run in an early phase has no best yet; empty outside of such phases."""
    phase = run.phase
    return f"still in {phase}: scores count from the last phase on" if phase and not phase.last else ""


def describe_choices(trial: Trial) -> str:
    """Return the choices of a trial in one line, such as ``conv=3x3 skip=[a,b]``."""
    choices: Choices = trial.space.decode(trial.tokens)
    return " ".join(f"{key}={name_option(choice)}" for key, choice in choices.items())


def name_option(choice: Any) -> str:
    """Return the name of a choice, its number if it has no name, and a list of either for several inputs."""
    if isinstance(choice, dict) and "_name" in choice:  # NNI's nested form
        inside = ",".join(f"{key}={name_option(inner)}" for key, inner in choice.items() if key != "_name")
        return f"{choice['_name']}({inside})" if inside else str(choice["_name"])
    if not (isinstance(choice, dict) and "_idx" in choice):
        return f"{choice:.6g}" if isinstance(choice, float) else str(choice)
    values, indices = choice["_value"], choice["_idx"]
    if isinstance(values, list):
        return "[" + ",".join(value or str(i) for value, i in zip(values, indices, strict=True)) + "]"
    return str(values or indices)


def describe_best_costs(run: Run) -> str:
    """Return the costs of the best in the metrics that are limited, such as ``macs 3.221e+08``; empty if none is."""
    search, best = run.search, run.search.best
    if best is None or search.cost_table is None or not search.constraints:
        return ""
    table = search.cost_table.arranged(run.space)
    return ", ".join(f"{limit.metric} {table.cost(limit.metric, best.tokens):.4g}" for limit in search.constraints)


def describe_score(best: Best, digits: int = 6) -> str:
    """Return a score, such as ``0.93``, or ``0.93 +- 0.004 of 3 results`` where results are noisy."""
    text = f"{best.score:.{digits}g}"
    return (
        text if best.error is None else f"{text} +- {best.error:.2g} of {best.results} result{'s' * (best.results > 1)}"
    )


def describe_best(run: Run) -> str:
    """Return the best so far with its costs, and counts that are not zero: the note of a progress line."""
    best, counts, costs = run.search.best, run.search.counts, describe_best_costs(run)
    phase = [] if run.phase is None else [str(run.phase)]
    found = f"best {describe_score(best, 4)}{costs and f' ({costs})'}" if best else "no result yet"
    parts = [found, *phase] if best else [*phase, found]  # what comes last is the first to be left out
    parts += [f"{name} {count}" for name in _NOTED if (count := getattr(counts, name))]
    return "  ".join(parts)


def expected_results(run: Run, limit: int | None) -> int | None:
    """Return how many results a run will have if it ends after ``limit``; None where that is not known."""
    return min(limit, run.space.size) if limit and run.phase is None else limit or None  # phases repeat some


def _count_choices(space: Space) -> str:
    return f"{len(space)} choices" + (f", {len(space.fixed)} of them fixed" if space.fixed else "")


def describe_space(space: Space) -> str:
    """Return the number of choices, the exact number of architectures, and the digest."""
    size = exact_or_rounded(space.size)
    about = f" (about {rounded(space.size)})" if size.isdecimal() and len(size) > 7 else ""
    return f"{_count_choices(space)}, {size} architectures{about}, digest {space.digest}"
