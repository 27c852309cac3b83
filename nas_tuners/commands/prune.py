"""``nas prune``: the last step of compression for a network that a search has found, from one saved folder to another.

Gradually while it trains on (:class:`mutators.pruning.GMPUnstructuredPruner`), or at once without a training. Killed
and started again in the same way, it goes on where it was.
"""

from __future__ import annotations

import copy
import json
import reprlib
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
from nas_tuners.commands.model import built, look_in_current_folder
from nas_tuners.runs.evaluation import Imported, reason_of
from search_spaces.files import write_atomically

JOB, CHECKPOINT, SPARSE = "prune.json", "checkpoint.pt", "sparse"
_TRAINING = {"loader", "config", "loss", "step", "optimizer"}  # what --train may return
_NEEDED = {"loader", "config"}


@dataclass(frozen=True)
class Plan:
    """What to prune and when: all that has to be the same for a training to go on.

    Attributes:
        ratio: share of the weights, in [0, 1).
        conv1x1_only: prune 1x1 convolutions only.
        local: prune each tensor to the ratio, not all together.
        skip: ``module:function`` that takes the network and returns the names of parameters not to prune.
        train: ``module:function`` that takes the network, returns arguments of ``train_supernet``; None: no training.
        stable_epochs: in which nothing is pruned.
        pruning_epochs: in which the ratio rises; None: half of those that are left, the longer half.
        pruning_steps: in how many steps it rises; None: 100, or fewer.
    """

    ratio: float
    conv1x1_only: bool = False
    local: bool = False
    skip: str | None = None
    train: str | None = None
    stable_epochs: int = 0
    pruning_epochs: int | None = None
    pruning_steps: int | None = None


def prune(
    folder: Path, output: Path, plan: Plan, *, evaluate: str | None = None, model: str | None = None
) -> list[str]:
    """Prune the network that ``folder`` holds.

    Args:
        folder: as ``save_subnet`` wrote it.
        output: gets the pruned network, and ``sparse/`` the same in fewer bytes; while it trains, a checkpoint.
        plan: what to prune and when.
        evaluate: ``module:function`` that takes a network, a copy, and returns a number, for the report.
        model: ``module:function`` that builds the model, for a folder that was saved without a factory.

    Returns: where the zeros are, the sizes of the files, and the number before and after.

    Raises:
        ValueError, RuntimeError: whatever is wrong; what is wrong with the arguments, before anything is written.
    """
    look_in_current_folder()
    functions = [name for name in (plan.skip, plan.train, evaluate) if name is not None]
    for name in functions:
        Imported(name).find()
    _check_output(output, plan)
    network = load_subnet(folder, None if model is None else built(model))
    before = None if evaluate is None else _score(evaluate, network)
    if plan.train is None:
        _prune_at_once(network, plan)
    else:
        _prune_in_training(network, plan, plan.train, folder, output)
    network.eval()
    sizes = _save(network, folder, output, model)
    lines = [str(sparsity_report(network)), sizes]
    if evaluate is not None:
        lines.append(f"{evaluate}: {before} before, {_score(evaluate, network)} after")
    return lines


def _check_output(output: Path, plan: Plan) -> None:
    """See that nothing is in the way there.

    Raises:
        CommandError: a file, a network, or a training that this is not.
    """
    nearest = next(path for path in (output, *output.absolute().parents) if path.exists() or path.is_symlink())
    if not nearest.is_dir():
        raise CommandError(f"-o {output}: {nearest} is a file, wanted a folder, which is made if need be.")
    if (output / ARCH).exists():
        raise CommandError(f"{output} holds a network already: give another folder, or delete it.")
    begun = [name for name in (JOB, CHECKPOINT) if (output / name).exists()]
    if begun and plan.train is None:
        raise CommandError(
            f"a training was begun in {output}, which holds {' and '.join(begun)}: to go on with it, give --train and "
            "all else as then; to prune at once, give another folder, or delete this one."
        )


def _score(evaluate: str, network: nn.Module) -> float:
    """What ``--evaluate`` says of the network, of which it gets a copy: it may do to it what it likes.

    Raises:
        CommandError: it failed, or returned no number.
    """
    score = _called("--evaluate", evaluate, copy.deepcopy(network))
    if hasattr(score, "tolist"):  # of NumPy's or torch's
        score = score.tolist()
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise CommandError(f"--evaluate {evaluate} returned {reprlib.repr(score)}, wanted a number.")
    return score


def _prune_at_once(network: nn.Module, plan: Plan) -> None:
    unfit = {"stable_epochs": 0, "pruning_epochs": None, "pruning_steps": None}
    given = [f"--{name.replace('_', '-')}" for name, default in unfit.items() if getattr(plan, name) != default]
    if given:
        raise CommandError(f"{', '.join(given)}: of a training: give --train, or leave them out to prune at once.")
    pruner: UnstructuredPruner = UnstructuredPruner(network, ratio=plan.ratio, **_what(plan))
    pruner.step()
    pruner.remove()


def _what(plan: Plan) -> dict[str, Any]:
    skip = plan.skip
    function: Callable[[nn.Module], Any] | None = None if skip is None else lambda net: _called("--skip", skip, net)
    kind = "conv1x1_only" if plan.conv1x1_only else None
    return {"prune_params_type": kind, "skip_params_func": function, "local_sparsity": plan.local}


def _prune_in_training(network: nn.Module, plan: Plan, train: str, folder: Path, output: Path) -> None:
    """Train the network, which becomes sparse; go on from the checkpoint if there is one."""
    training = _training(train, network)
    pruner = _pruner(network, plan, training)
    job = {**asdict(plan), "weights": sha256((folder / WEIGHTS).read_bytes()).hexdigest()}
    _begin(output / JOB, job)
    try:
        train_supernet(network, **training, pruner=pruner, checkpoint=output / CHECKPOINT)
    except (OneShotError, PruningError):  # they say themselves what to do
        raise
    except Exception as error:  # of the author's data or loss
        raise CommandError(f"the training by {train} failed: {reason_of(error)}") from error
    pruner.remove()


def _training(train: str, network: nn.Module) -> dict[str, Any]:
    """What ``--train`` returned.

    Raises:
        CommandError: it failed, or returned something else than wanted.
    """
    training = _called("--train", train, network)
    wanted = 'wanted {"loader": batches, "config": TrainConfig(...)} and perhaps "loss", "step" and "optimizer"'
    if not isinstance(training, Mapping) or not _NEEDED <= training.keys() <= _TRAINING:
        got = sorted(map(str, training)) if isinstance(training, Mapping) else f"a {type(training).__name__}"
        raise CommandError(f"--train {train} returned {got}, {wanted}.")
    if not isinstance(training["config"], TrainConfig):
        raise CommandError(f"--train {train} returned a config of type {type(training['config']).__name__}, {wanted}.")
    return dict(training)


def _pruner(network: nn.Module, plan: Plan, training: dict[str, Any]) -> GMPUnstructuredPruner:
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
    return GMPUnstructuredPruner(network, plan.ratio, **_what(plan), configs=configs)


def _begin(path: Path, job: dict[str, Any]) -> None:
    """Write down what is done here, or see that it is what was begun.

    Raises:
        CommandError: another pruning was begun here; the differences are named.
    """
    try:
        begun = json.loads(path.read_text())
    except FileNotFoundError:
        write_atomically(path, (json.dumps(job, indent=2) + "\n").encode())
        return
    except ValueError:
        raise CommandError(f"{path} is damaged: delete the folder to start anew.") from None
    old = begun if isinstance(begun, dict) else {}
    differences = [f"{name} {job[name]!r}, begun with {old.get(name)!r}" for name in job if job[name] != old.get(name)]
    if differences:
        raise CommandError(f"another pruning was begun in {path.parent}: {'; '.join(differences)}.")


def _save(network: nn.Module, folder: Path, output: Path, model: str | None) -> str:
    """Write the network, dense and sparse, and drop the checkpoint. Returns: how large they are."""
    arch = json.loads((folder / ARCH).read_text())  # which load_subnet has read and checked
    call = arch["factory"] or {"call": model, "args": None}
    about = {"factory": call["call"], "factory_args": call["args"]}
    save_subnet(output / SPARSE, network, arch["choices"], **about, sparse=True)
    save_subnet(output, network, arch["choices"], **about)
    (output / CHECKPOINT).unlink(missing_ok=True)
    dense, sparse = ((place / WEIGHTS).stat().st_size for place in (output, output / SPARSE))
    return f"{output / WEIGHTS}: {dense:,} bytes; {output / SPARSE / WEIGHTS}: {sparse:,} bytes, {sparse / dense:.0%}"


def _called(option: str, name: str, network: nn.Module) -> Any:
    """What a function of the author's makes of the network.

    Raises:
        CommandError: whatever it raised, but for Ctrl-C.
    """
    function: Callable[[Any], Any] = Imported(name).find()
    try:
        return function(network)
    except (Exception, SystemExit) as error:
        raise CommandError(f"{option} {name} failed: {reason_of(error)}") from error
