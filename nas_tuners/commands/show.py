"""``nas show``: what a run has found, as text, JSON or a picture, or while it goes on."""

from __future__ import annotations

import json
from argparse import Namespace

from nas_tuners.hosts.nni.experiments import describe_failures_beside, experiment_of, folder_of, journal_of
from nas_tuners.hosts.nni.watch import watch_experiment
from nas_tuners.runs.run import load
from nas_tuners.show.plots import plot
from nas_tuners.show.text import describe_run, summarize
from search_spaces.errors import printable


def execute(options: Namespace) -> int:
    """Print or draw a run, or follow an experiment to its end."""
    if options.watch:
        experiment = experiment_of(options.source)
        status = watch_experiment(experiment)
        print(f"the experiment is {status}; its logs: {folder_of(experiment) / 'log'}")
        return int(status == "ERROR")
    journal = journal_of(options.source)
    run, header = load(journal)
    if options.plot is not None:
        print(plot(run, header, options.plot, options.cost))
    elif options.json:
        print(json.dumps(summarize(run, header), indent=2, allow_nan=False))
    else:
        known = [trial.reason for trial in run.search.trials.values() if trial.reason]
        print(printable("\n".join([describe_run(run, header), *describe_failures_beside(journal, known)])))
    return 0
