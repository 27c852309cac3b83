"""``nas import``: take the results of another run, or of an NNI export, into a run."""

from __future__ import annotations

import json
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

from nas_tuners.commands import CommandError
from nas_tuners.hosts.nni.experiments import journal_of
from nas_tuners.runs.importing import Result, count_unchecked, import_results, read_rows, results_of
from nas_tuners.runs.journal import read
from nas_tuners.runs.run import Ledger, Run, arguments_in, load


def execute(options: Namespace) -> int:
    """Tell a run what is known of architectures from elsewhere, and print what was taken."""
    target = journal_of(options.into)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a line that was cut short is reported when the journal is opened
        events, _ = read(target)
    if not events:
        raise CommandError(f"{target} is empty: there is no run to tell.")
    header = events[0]
    source, results = _read_source(options.source, target, str(header.get("optimize_mode")))
    known = arguments_in(header)
    ledger = Ledger(0, known.get("constraints"), known.get("cost_table"), known.get("score_key", "default"))
    run = Run.resume(ledger, target)
    try:
        done = import_results(run, results)
        run.note(f"imported from {source}: {done}")
    finally:
        run.close()
    print(f"{source}, number of results {len(results)}: {done}")
    print(f"more: nas show {options.into}; nas resume {options.into}")
    return 0


def _read_source(source: str, target: Path, optimize_mode: str) -> tuple[str, list[Result]]:
    """Return what the source is called, and its results."""
    path = Path(source)
    rows = _read_export(path) if path.is_file() else None
    if rows is not None:
        if unchecked := count_unchecked(rows):
            print(
                f"{unchecked} of the results do not say which trial they are of, and NNI's export pairs such ones "
                "wrongly where trials ran side by side: import the experiment itself, if it was one of ours."
            )
        return str(path), read_rows(rows)
    journal = journal_of(source)
    if journal.resolve() == target.resolve():
        raise CommandError(f"{source} and --into are the same run: there is nothing to import.")
    other, _ = load(journal)
    if other.optimize_mode != optimize_mode:
        raise CommandError(
            f"{source} is of a search to {other.optimize_mode}, --into of one to {optimize_mode}: their metrics do not "
            "mean the same."
        )
    return str(journal), results_of(other)


def _read_export(path: Path) -> list[Any] | None:
    """Return the rows of a file of ``nnictl experiment export --type json``; None if it is no JSON list."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # a journal, or an error that reading it as one will name
    return rows if isinstance(rows, list) else None
