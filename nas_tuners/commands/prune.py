"""``nas prune``: prune the weights of a network that a search has found, from one saved folder to another.

Gradually while it trains on (:class:`mutators.pruning.GMPUnstructuredPruner`), or at once without a training. If it
was killed, the same command goes on where it was.
"""

from __future__ import annotations

import copy
import json
import reprlib
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import nn

from mutators import load_subnet, save_subnet
from mutators.oneshot import OneShotError, TrainConfig, train_supernet
from mutators.pruning import GMPUnstructuredPruner, PruningError, UnstructuredPruner, iterations, sparsity_report
from mutators.subnet.folder import ARCH, WEIGHTS
from nas_tuners.commands import CommandError
from search_spaces.files import write_atomically
from search_spaces.resolve import FAILURES, look_in, reason_of, resolve
from search_spaces.trust import TrustError

JOB, CHECKPOINT, SPARSE = "prune.json", "checkpoint.pt", "sparse"
_TRAINING = {"loader", "config", "loss", "step", "optimizer"}  # what --train may return
_NEEDED = {"loader", "config"}


@dataclass(frozen=True)
class Plan:
    """The options that say what to prune and when: a training goes on only if all of them are the same."""

    ratio: float
    conv1x1_only: bool = False
    local: bool = False
    skip: str | None = None
    train: str | None = None
    stable_epochs: int = 0
    pruning_epochs: int | None = None
    pruning_steps: int | None = None


def execute(options: Namespace) -> int:
    """Prune a saved network; print its sparsity, the sizes of the files, and its score before and after.

    The output folder gets the pruned network, and in ``sparse/`` the same in fewer bytes; a checkpoint while it trains.
    """
    plan = Plan(**{field: getattr(options, field) for field in Plan.__dataclass_fields__})
    folder, output, evaluate, model = options.folder, options.output, options.evaluate, options.model
    functions = [name for name in (plan.skip, plan.train, evaluate) if name is not None]
    if functions or model is not None or options.trust_code:  # else nothing here may run, whatever it is called
        look_in(Path.cwd())
    for name in functions:
        resolve(name)
    _check_output(output, plan)
    try:
        network = load_subnet(folder, model, options.trust_code)
    except TrustError as error:
        ways = (f"{options.typed} --model MODULE:FUNCTION", f"{options.typed} --trust-code")
        raise TrustError(error.file, error.named, ways) from None
    before = None if evaluate is None else _score(evaluate, network)
    if plan.train is None:
        _prune_at_once(network, plan)
    else:
        _prune_in_training(network, plan, plan.train, folder, output)
    network.eval()
    sizes = _save(network, folder, output, model)
    print(f"{sparsity_report(network)}\n{sizes}")
    if evaluate is not None:
        print(f"{evaluate}: {before} before, {_score(evaluate, network)} after")
    return 0


def _check_output(output: Path, plan: Plan) -> None:
    """Check that no file, no network and no other training is in the way."""
    nearest = next(path for path in (output, *output.absolute().parents) if path.exists() or path.is_symlink())
    if not nearest.is_dir():
        raise CommandError(f"-o {output}: {nearest} is a file, wanted a folder, which may be new.")
    if (output / ARCH).exists():
        raise CommandError(f"{output} holds a network already: give another folder, or delete it.")
    if (output / WEIGHTS).exists() and not (output / JOB).exists():
        raise CommandError(f"{output / WEIGHTS} is in the way, and left as it is: give another folder.")
    rest = [name for name in (JOB, CHECKPOINT) if (output / name).exists()]
    if rest and plan.train is None:
        raise CommandError(
            f"a training was begun in {output}, which holds {' and '.join(rest)}: to go on with it, repeat its "
            "command; to prune at once, give another folder, or delete this one."
        )


def _score(evaluate: str, network: nn.Module) -> float:
    """Return the number that ``--evaluate`` gives a copy of the network."""
    score = _call("--evaluate", evaluate, copy.deepcopy(network))
    if hasattr(score, "tolist"):  # of NumPy's or torch's
        score = score.tolist()
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise CommandError(f"--evaluate {evaluate} returned {reprlib.repr(score)}, wanted a number.")
    return score


def _prune_at_once(network: nn.Module, plan: Plan) -> None:
    unfit = {"stable_epochs": 0, "pruning_epochs": None, "pruning_steps": None}
    given = [f"--{name.replace('_', '-')}" for name, default in unfit.items() if getattr(plan, name) != default]
    if given:
        raise CommandError(
            f"{', '.join(given)}: for a training only: give --train, or leave them out to prune at once."
        )
    pruner: UnstructuredPruner = UnstructuredPruner(network, ratio=plan.ratio, **_pruner_arguments(plan))
    pruner.step()
    pruner.remove()


def _pruner_arguments(plan: Plan) -> dict[str, Any]:
    skip = plan.skip
    function: Callable[[nn.Module], Any] | None = None if skip is None else lambda net: _call("--skip", skip, net)
    kind = "conv1x1_only" if plan.conv1x1_only else None
    return {"prune_params_type": kind, "skip_params_func": function, "local_sparsity": plan.local}


def _prune_in_training(network: nn.Module, plan: Plan, train: str, folder: Path, output: Path) -> None:
    """Train the network while it is pruned; go on from the checkpoint if there is one."""
    training = _call_for_training(train, network)
    pruner = _make_pruner(network, plan, training)
    job = {**asdict(plan), "weights": sha256((folder / WEIGHTS).read_bytes()).hexdigest()}
    _write_or_compare(output / JOB, job)
    try:
        train_supernet(network, **training, pruner=pruner, checkpoint=output / CHECKPOINT)
    except (OneShotError, PruningError):  # they say themselves what to do
        raise
    except FAILURES as error:  # whatever the user's data or loss raises
        raise CommandError(f"the training by {train} failed: {reason_of(error)}") from error
    pruner.remove()


def _call_for_training(train: str, network: nn.Module) -> dict[str, Any]:
    """Return what ``--train`` returns, checked."""
    training = _call("--train", train, network)
    wanted = 'wanted {"loader": batches, "config": TrainConfig(...)} and perhaps "loss", "step" and "optimizer"'
    if not isinstance(training, Mapping) or not _NEEDED <= training.keys() <= _TRAINING:
        got = sorted(map(str, training)) if isinstance(training, Mapping) else f"a {type(training).__name__}"
        raise CommandError(f"--train {train} returned {got}, {wanted}.")
    if not isinstance(training["config"], TrainConfig):
        raise CommandError(f"--train {train} returned a config of type {type(training['config']).__name__}, {wanted}.")
    return dict(training)


def _make_pruner(network: nn.Module, plan: Plan, training: dict[str, Any]) -> GMPUnstructuredPruner:
    epochs, steps = training["config"].epochs, training["config"].steps_per_epoch
    rest = epochs - plan.stable_epochs
    pruning = -(-rest // 2) if plan.pruning_epochs is None else plan.pruning_epochs
    if not 1 <= pruning <= rest:
        raise CommandError(
            f"--stable-epochs {plan.stable_epochs} and {pruning} pruning epochs do not fit into the {epochs} epochs of "
            f"the config that --train {plan.train} returned."
        )
    try:
        steps = steps or len(training["loader"])
    except TypeError:
        raise CommandError("the loader has no length: set steps_per_epoch in the TrainConfig.") from None
    phases = {"stable_epochs": plan.stable_epochs, "pruning_epochs": pruning, "tunning_epochs": rest - pruning}
    configs = iterations(steps, **phases)
    if plan.pruning_steps is not None:
        configs["pruning_steps"] = plan.pruning_steps
    return GMPUnstructuredPruner(network, plan.ratio, **_pruner_arguments(plan), configs=configs)


def _write_or_compare(path: Path, job: dict[str, Any]) -> None:
    """Write the file that says what is pruned in a folder; if it exists, check that it says the same."""
    try:
        begun = json.loads(path.read_text())
    except FileNotFoundError:
        write_atomically(path, (json.dumps(job, indent=2) + "\n").encode())
        return
    except ValueError:
        raise CommandError(f"{path} is damaged: delete the folder to start anew.") from None
    old = begun if isinstance(begun, dict) else {}
    others = [f"{name} {job[name]!r}, begun with {old.get(name)!r}" for name in job if job[name] != old.get(name)]
    if others:
        raise CommandError(f"another pruning was begun in {path.parent}: {'; '.join(others)}.")


def _save(network: nn.Module, folder: Path, output: Path, model: str | None) -> str:
    """Write the network, dense and sparse, and delete the checkpoint. Returns: a line with the sizes."""
    arch = json.loads((folder / ARCH).read_text())  # load_subnet has checked it
    call = arch["factory"] or {"call": None, "args": None}
    about = {"factory": model or call["call"], "factory_args": call["args"]}
    save_subnet(output / SPARSE, network, arch["choices"], **about, sparse=True)
    save_subnet(output, network, arch["choices"], **about)
    (output / CHECKPOINT).unlink(missing_ok=True)
    dense, sparse = ((place / WEIGHTS).stat().st_size for place in (output, output / SPARSE))
    return f"{output / WEIGHTS}: {dense:,} bytes; {output / SPARSE / WEIGHTS}: {sparse:,} bytes, {sparse / dense:.0%}"


def _call(option: str, name: str, network: nn.Module) -> Any:
    """Return what a user's function returns for the network; whatever it raises is a CommandError."""
    try:
        return resolve(name)(network)
    except FAILURES as error:
        raise CommandError(f"{option} {name} failed: {reason_of(error)}") from error
