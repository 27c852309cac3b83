"""``nas show``: what a run has found, as text, JSON or a picture, or while it goes on."""

from __future__ import annotations

import json
from argparse import Namespace

from nas_tuners.hosts.nni.experiments import experiment_of, journal_of
from nas_tuners.hosts.nni.watch import watch_experiment
from nas_tuners.runs.run import load
from nas_tuners.show.plots import plot
from nas_tuners.show.text import describe_run, summarize


def execute(options: Namespace) -> int:
    """Print or draw a run, or follow an experiment to its end."""
    if options.watch:
        status = watch_experiment(experiment_of(options.source))
        print(f"the experiment is {status}")
        return int(status == "ERROR")
    run, header = load(journal_of(options.source))
    if options.plot is not None:
        print(plot(run, header, options.plot, options.cost))
    elif options.json:
        print(json.dumps(summarize(run, header), indent=2, allow_nan=False))
    else:
        print(describe_run(run, header))
    return 0
