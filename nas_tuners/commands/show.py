"""``nas show``: what a run has found, from its journal."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

from nas_tuners.hosts.nni.manager import Manager, ManagerError, experiments, folder_of
from nas_tuners.runs.journal import Event
from nas_tuners.runs.run import Run, load
from nas_tuners.search.records import Trial
from nas_tuners.show.plotdata import option_name


def summary(run: Run, header: Event) -> dict[str, Any]:
    """Everything about a run, as one JSON object."""
    search, best = run.search, run.search.best
    counts = asdict(search.counts)
    return {
        "space_digest": run.space.digest,
        "search": header["search"]["name"],
        "arguments": header["search"]["arguments"],
        "seed": header["search"]["arguments"].get("seed"),
        "optimize_mode": run.optimize_mode,
        "counts": counts,
        "phase": None if run.phase is None else asdict(run.phase),
        "best": None if best is None else _trial(search.trials[best.uid]),
        "trials": [_trial(trial) for trial in search.trials.values()],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    metrics = trial.metrics or {"default": None}
    shown = {
        "uid": trial.uid,
        "choices": trial.space.decode(trial.tokens),
        "metrics": {key: _strict(value) for key, value in metrics.items()},
        "trial_job_id": trial.job,
        "state": trial.state,
    }
    shown |= {"phase": asdict(trial.phase)} if trial.phase else {}
    return shown | ({"reason": trial.reason} if trial.reason else {})


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(run: Run, header: Event, rows: int = 10) -> str:
    """What a person wants to know of a run: its counts and its best architectures."""
    search, counts = run.search, run.search.counts
    size = run.space.size
    lines = [
        f"{header['search']['name']}, {run.optimize_mode}, seed {header['search']['arguments'].get('seed')}; "
        f"{len(run.space)} choices, {_big(size)} architectures, digest {run.space.digest[:12]}",
        f"{counts.asked} asked: {counts.told} told, {counts.failed} failed, {counts.pending} pending"
        + (f", {counts.dropped} dropped" if counts.dropped else "")
        + (f"; {counts.duplicate} duplicate results" if counts.duplicate else "")
        + ("; the space is exhausted" if search.exhausted else ""),
    ]
    lines += _phases(run, header)
    told = [trial for trial in search.trials.values() if trial.state == "told" and not trial.provisional]
    if not told:
        return "\n".join([*lines, "no result yet"])
    told.sort(key=lambda t: (-t.score, t.resolved))
    lines.append(f"{'rank':>4} {'uid':>5} {'metric':>12}  choices")
    for rank, trial in enumerate(told[:rows], start=1):
        assert trial.metrics is not None
        lines.append(f"{rank:>4} {trial.uid:>5} {trial.metrics[search.score_key]:>12.6g}  {one_line(trial)}")
    failed = [t for t in search.trials.values() if t.state == "failed"]
    lines += [f"failed: uid {trial.uid}: {trial.reason}" for trial in failed[-3:]]
    return "\n".join(lines)


def _phases(run: Run, header: Event) -> list[str]:
    """Which phase is open and how far it is, in a search that has phases."""
    phase, states = run.phase, ("told", "failed", "pending")
    if phase is None:
        return []
    own = [trial.state for trial in run.search.trials.values() if trial.phase == phase]
    counted = ", ".join(f"{own.count(state)} {state}" for state in states)
    inner = header["search"]["arguments"].get("inner", "search")
    return [f"{phase}{f' by {inner}' if phase.last else ''}: {counted}" + ("" if phase.last else f"; then {inner}")]


def unfinished(run: Run) -> str:
    """Why there is no best yet, in words; empty where it is only that no trial has a result."""
    phase = run.phase
    return f"still in {phase}: scores count from the last phase on" if phase and not phase.last else ""


def one_line(trial: Trial) -> str:
    """The choices of a trial, such as ``conv=3x3 skip=[a,b]``."""
    choices = trial.space.decode(trial.tokens)
    return " ".join(f"{key}={option_name(choice)}" for key, choice in choices.items())


def _big(number: int) -> str:
    return str(number) if number < 10**6 else f"{number:.2e}" if number < 10**300 else f"10^{len(str(number)) - 1}"


def progress(run: Run, total: int | None, seconds: float, fresh: int | None = None, costs: str = "") -> str:
    """One line: how far, the best so far, and when it will be over.

    Args:
        run: to tell of.
        total: results that it will have; None: unknown.
        seconds: since it began, or was resumed.
        fresh: results in that time; None: all there are.
        costs: of the best, as :func:`costs_of` gives them.
    """
    search, counts, best = run.search, run.search.counts, run.search.best
    total = min(total, run.space.size) if total and run.phase is None else total or None  # in phases some come again
    done = counts.told + counts.failed
    fresh = done if fresh is None else fresh
    parts = [f"{done}{f'/{total}' if total else ''} trials"]
    if total:
        filled = min(10, 10 * done // total)
        parts.insert(0, "[" + "#" * filled + "-" * (10 - filled) + "]")
    if run.phase is not None:
        parts.append(str(run.phase))
    parts.append(f"best {best.score:.4g}{costs and f' ({costs})'}" if best else "no result yet")
    parts.append(f"pending {counts.pending}  failed {counts.failed}  duplicate {counts.duplicate}")
    if search.constraints:
        parts.append(f"infeasible {counts.infeasible}")
    if total and fresh and done < total:
        left = seconds / fresh * (total - done)
        parts.append(f"ETA {int(left) // 60}:{int(left) % 60:02d}")
    return "  ".join(parts)


def costs_of(run: Run) -> str:
    """What the best costs, in the metrics that are limited, such as ``macs 3.221e+08``; empty where none is."""
    search, best = run.search, run.search.best
    if best is None or search.cost_table is None or not search.constraints:
        return ""
    table = search.cost_table.arranged(run.space)
    return ", ".join(f"{limit.metric} {table.cost(limit.metric, best.tokens):.4g}" for limit in search.constraints)


def watch(experiment: str, interval: float = 1.0) -> str:
    """Print progress until an experiment has come to an end. Returns: its status then."""
    journal = folder_of(experiment) / "checkpoint" / "journal.jsonl"  # not there yet when the experiment has just begun
    entry = experiments()[experiment]
    manager = Manager(f"http://localhost:{entry.get('port')}")
    started = float(entry.get("startTime") or time.time() * 1000) / 1000
    total, size = _total(manager), 0
    while True:
        try:
            status, errors = manager.status()
        except ManagerError:
            status, errors = "STOPPED", []
        if journal.exists() and journal.stat().st_size != size:
            size = journal.stat().st_size
            print(progress(load(journal)[0], total, time.time() - started), flush=True)
        if status not in ("INITIALIZED", "RUNNING", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL"):
            for error in errors:
                print(f"error: {error}", flush=True)
            return status
        time.sleep(interval)  # NNI offers no event to wait for


def _total(manager: Manager) -> int | None:
    try:
        limit = manager.get("experiment").get("params", {}).get("maxTrialNumber")
    except (ManagerError, AttributeError):
        return None
    return int(limit) if isinstance(limit, (int, float)) else None
