"""``nas run``: check an experiment's configuration and run it to the end: under NNI, without it, or on a cluster."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from nni.tools.package_utils import create_builtin_class_instance
from nni.tuner import Tuner

from nas_tuners.commands import CommandError
from nas_tuners.commands.check import read_config
from nas_tuners.commands.checks.algorithms import make_algorithm, mode_of
from nas_tuners.commands.checks.configuration import check_config, load_config
from nas_tuners.commands.checks.secrets import EXPOSED
from nas_tuners.commands.search import conclude
from nas_tuners.hosts.local import following
from nas_tuners.hosts.nni.assessor import SearchAssessor
from nas_tuners.hosts.nni.guest import Guest
from nas_tuners.hosts.nni.launch import Launched
from nas_tuners.hosts.nni.resume import find_port
from nas_tuners.hosts.nni.tuner import SearchTuner
from nas_tuners.hosts.nni.watch import watch_experiment
from nas_tuners.hosts.ray.pool import prepare_pool as on_ray
from nas_tuners.hosts.slurm.options import read_options
from nas_tuners.hosts.slurm.pool import prepare_pool as on_slurm
from nas_tuners.hosts.trials.assessing import Assessing
from nas_tuners.hosts.trials.loop import MakePool, run_trials
from nas_tuners.hosts.trials.plan import TrialPlan, check_command
from nas_tuners.hosts.trials.pool import Pool
from nas_tuners.runs.journal import JOURNAL, Event, JournalError, has_begun
from nas_tuners.runs.latest import make_folder, remember
from nas_tuners.runs.run import Run, arguments_in, load
from search_spaces.trust import is_signed, require_trust

_SLURM, _RAY = "slurm", "ray"  # in the header of a journal, beside them: what --slurm and --cpus gave
_KEPT = (  # of a configuration, in the header of a journal
    *("searchSpace", "trialCommand", "trialCodeDirectory", "trialConcurrency", "trialGpuNumber", "maxTrialNumber"),
    *("maxExperimentDuration", "maxTrialDuration", "tuner", "assessor", _SLURM, _RAY),
)
_OF_SERVICE = ("platform", "gpuIndices", "maxTrialNumberPerGpu")
_NEEDED = {"searchSpace": dict, "trialCommand": str, "trialCodeDirectory": str, "tuner": dict}
_NEW = {"maxTrialNumber": "trials", "trialConcurrency": "workers", "maxTrialDuration": "trial_timeout"}  # of a resume
_PORT = 8080  # NNI's
LOG = "nas.log"  # in the folder of a run: what the tuner says


def execute(options: Namespace) -> int:
    """Run an experiment, and print its best."""
    path = options.config
    _, doubts = check_config(path, read_config(path), trusted=True, way="")
    for doubt in doubts:
        sys.stderr.write(f"nas: warning: {doubt}\n")
    config = load_config(path)
    if options.slurm and options.on != "slurm":
        raise CommandError(f"--slurm is for --on slurm, not for --on {options.on}.")
    if options.cpus is not None and options.on != "ray":
        raise CommandError(f"--cpus is for --on ray, not for --on {options.on}.")
    if options.on == "nni":
        if options.output is not None:
            raise CommandError(
                "-o is for --on local, ray and slurm: NNI keeps experiments in experimentWorkingDirectory."
            )
        service = config["trainingService"]  # a list, where there are several
        if isinstance(service, dict) and service["platform"] == "local":
            check_command(config["trialCommand"], config["trialCodeDirectory"])
        return _run_under_nni(config, options.port)
    if options.port is not None:
        raise CommandError(f"--port is for --on nni: --on {options.on} has none.")
    config = _keep(config)
    if options.on == "slurm":
        config[_SLURM] = read_options(options.slurm)
    elif options.on == "ray":
        config[_RAY] = {"cpus": 1 if options.cpus is None else options.cpus}
    plan, make_pool = _choose_host(config)
    check_command(plan.command, plan.folder)
    return _run_here(config, plan, make_pool, _make_folder(options.output))


def _run_under_nni(config: Mapping[str, Any], port: int | None) -> int:
    """Start an experiment under NNI, follow it to its end, and stop it."""
    free = find_port(port or _PORT)
    if port is not None and free != port:
        raise CommandError(f"--port is {port}, where something else listens: give another one, or none.")
    with Launched(config, free) as experiment:
        print(f"experiment {experiment.id}: http://localhost:{free}\nnote: {EXPOSED[0]}", flush=True)
        try:
            status = watch_experiment(experiment.id)
            while status == "STOPPED" and experiment.is_running:  # it was too busy to answer
                status = watch_experiment(experiment.id)
        except KeyboardInterrupt:
            how = f"Go on with: nas resume {experiment.id}"
            raise KeyboardInterrupt(f"interrupted; every result so far is kept. {how}") from None
    if status != "DONE":
        log, how = experiment.folder / "log", f"nas resume {experiment.id}"
        raise CommandError(f"the experiment is {status}; its logs: {log}\nmend what is told above, then: {how}")
    journal = experiment.folder / "checkpoint" / JOURNAL
    if not journal.is_file():
        print(f"the experiment is {status}; its results: nnictl experiment export {experiment.id} --type json -f FILE")
        return 0
    run, header = load(journal)
    return conclude(run, arguments_in(header), journal, experiment.id)


def resume(header: Event, path: Path, options: Namespace) -> int:
    """Go on with an experiment, and print its best."""
    config = header["command"].get("config")
    named = f"{config.get('trialCommand')!r} to be run" if isinstance(config, dict) else "no command to run"
    trusted = is_signed(header) or options.trust_code
    way = f"{options.typed} --trust-code"
    require_trust(trusted, path, f"{named}, and is not as you have begun it on this machine", way)
    given = {name: getattr(options, option) for name, option in _NEW.items()}
    try:
        config = _keep(config)
        if not all(isinstance(config[name], kind) for name, kind in _NEEDED.items()):
            raise TypeError
        news = {name: value for name, value in given.items() if value is not None}
        plan, make_pool = _choose_host({**config, **news})
    except (KeyError, TypeError, AttributeError):
        raise JournalError(f"{path}, line 1: wanted the header of a run of nas run.") from None
    return _run_here(config, plan, make_pool, path.parent)


def _keep(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resume needs of a configuration; passwords, for one, are not."""
    service = config.get("trainingService") or {}
    kept = {name: config[name] for name in _KEPT if config.get(name) is not None}
    return kept | {"trainingService": {name: service[name] for name in _OF_SERVICE if name in service}}


def _choose_host(config: Mapping[str, Any]) -> tuple[TrialPlan, MakePool]:
    """Return what a configuration says of its trials, and what runs them; check that it is there."""
    for host, prepare_pool in ((_RAY, on_ray), (_SLURM, on_slurm)):
        if config.get(host) is not None:
            plan = TrialPlan.of(config, here=False)
            return plan, prepare_pool(config[host], plan)
    return TrialPlan.of(config), Pool


def _make_folder(output: Path | None) -> Path:
    """Return the folder for the run, a new one in ``runs`` if none is given."""
    if output is None:
        return make_folder()
    if has_begun(output / JOURNAL):
        raise CommandError(
            f"{output} has a run already: go on with it by nas resume {quote(str(output))}, "
            "or give another folder to -o."
        )
    output.mkdir(parents=True, exist_ok=True)
    return output


def _run_here(config: dict[str, Any], plan: TrialPlan, make_pool: MakePool, folder: Path) -> int:
    """Start an experiment in a folder, or go on with the one that is there."""
    with _being_the_tuner(folder):
        tuner, assessor = _make_tuner(config["tuner"]), _make_assessor(config.get("assessor"))
        tuner.header = {"command": {"name": "run", "config": config}, "experiment": None}
        tuner.update_search_space(config["searchSpace"])
        remember(folder)
        run = tuner.run
        ours = assessor is None or isinstance(assessor, SearchAssessor)
        assessing = None if ours else Assessing(assessor, run)
        with following(run, plan.trials) as show:

            def report(run: Run) -> None:
                show(run)
                if assessing is not None:
                    assessing.settle(run)

            def hear(uid: int, value: Any, sequence: int) -> bool:
                return tuner.results.hear(uid, value, sequence + 1)

            run_trials(tuner.results, plan, folder, report, assessing.hear if assessing else hear, make_pool)
    _say_what_is_left(run, plan, folder)
    return conclude(run, run.search.arguments, folder / JOURNAL)


def _make_tuner(entry: Mapping[str, Any]) -> SearchTuner:
    """Make the tuner of a configuration, for a user who vouches for it."""
    tuner, problems = make_algorithm("tuner", Path(), entry, lambda named: None)
    if problems:
        raise CommandError("\n".join(problems))
    if isinstance(tuner, SearchTuner):
        return tuner
    if tuner is None:  # one of NNI's own
        tuner = create_builtin_class_instance(entry["name"], entry.get("classArgs"), "tuners")
    name = str(entry.get("className") or entry.get("name"))
    if not isinstance(tuner, Tuner):
        raise CommandError(f"tuner: {name} is not derived from nni.tuner.Tuner.")
    return SearchTuner(Guest(name).host(tuner), mode_of(entry, type(tuner)) or "maximize")


def _make_assessor(entry: Mapping[str, Any] | None) -> Any:
    """Make the assessor of a configuration, for a user who vouches for it; None if there is none."""
    if entry is None:
        return None
    assessor, problems = make_algorithm("assessor", Path(), entry, lambda named: None)
    if problems:
        raise CommandError("\n".join(problems))
    return assessor


@contextmanager
def _being_the_tuner(folder: Path) -> Iterator[None]:
    """Let a tuner find its journal in ``folder``, as NNI would; what it logs goes to a file there."""
    name, before = "NNI_CHECKPOINT_DIRECTORY", os.environ.get("NNI_CHECKPOINT_DIRECTORY")
    os.environ[name] = str(folder.absolute())
    logger, handler = logging.getLogger("nas_tuners"), logging.FileHandler(folder / LOG, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagated
        logger.removeHandler(handler)
        handler.close()
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _say_what_is_left(run: Run, plan: TrialPlan, folder: Path) -> None:
    """Print how many trials the end of the experiment's time has cut short."""
    if (pending := run.search.counts.pending) and plan.seconds is not None:
        print(
            f"the experiment's time, {plan.seconds:g} s, is over; trials without a result: {pending}; "
            f"to run them: nas resume {quote(str(folder))}"
        )
