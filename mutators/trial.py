"""Talk to NNI as a trial: emit the space, receive an architecture, report results and failures.

The only file on the model's side that imports nni, and only where a trial really talks to it: a dry run and a
standalone run that reports nothing do without.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from mutators.choices.applying import apply_choices
from mutators.choices.notation import is_decision
from mutators.choices.walk import decisions, drop_idle, search_space_of, walk
from mutators.declarations import defaults, dry_run, end_dry_run
from mutators.watch import Witness, watch_this_trial
from search_spaces.current import current_parameters, report_current
from search_spaces.domains import Choice, Domain, InputDomain
from search_spaces.fixing import FixedDomain
from search_spaces.schema import Choices, Space


def get_and_apply_next_architecture(model: nn.Module) -> dict[str, Any]:
    """Apply to ``model`` the architecture that this trial should train, in place.

    - ``NNI_GEN_SEARCH_SPACE`` is set (``nas ss-gen``): adds its search space to the file of this path, and goes on as
      without an experiment. The dry run ends by ``SystemExit(0)`` at the first forward of such a model, step of an
      optimizer, or report: so a trial may have several models, and hyper-parameters.
    - No experiment (``NNI_PLATFORM`` unset, or "unittest" with nothing to receive): applies the first candidate of
      each layer choice, and of the inputs all (any number), the first k, or as many of the first as may be.
    - In an experiment: applies what the tuner proposed. Nothing is asked for twice: a second model of the same
      process gets the same parameters, also if the script called ``nni.get_next_parameter()`` before. From then on a
      trial that ends by an uncaught exception, or without a final metric, tells the tuner so by the final metric
      ``{"default": NaN, "_uid": uid, "_failed": reason}``; what a killed process cannot say is not covered. A tuner
      that gives no ``_uid`` is none of ours, and is told nothing that plain NNI would not say.

    In a function that ``nas search`` calls it applies what that was given.

    Returns: the parameters as received: the choices, hyper-parameters that were searched beside them, and the tuner's
        own keys, which begin with ``_``. In a standalone run: the choices, and the hyper-parameters declared before.

    Raises:
        ChoiceError: the model's choices do not fit together, or the parameters do not fit the model.
        SpaceError: there is no choice in the model, and its search space was to be written; or one of its keys has
            other candidates elsewhere in this trial, or the file to be written is something else.
        RuntimeError: there are no parameters for this trial, or this is a child process, which would take another
            trial's.

    Differs: NNI 1.9 returns nothing, ends a dry run at once, takes new parameters at each call, and leaves it to NNI to
    notice failures, which cannot say which trial it was.
    """
    run = dry_run()
    if run is not None:
        run.declare_architecture(search_space_of(model), model)
    elif parameters := receive():
        apply_choices(model, parameters)
        return parameters
    sites = walk(model)
    choices = drop_idle(sites, {key: _first(domain) for key, domain in decisions(sites).items()})
    apply_choices(model, choices)
    return {**defaults, **choices}


def get_next_architecture(space: Space, initial: Choices | None = None) -> dict[str, Any]:
    """Return the architecture that this trial should train, where no model holds the choices.

    As :func:`get_and_apply_next_architecture`, but for applying it: nets of tokens are built from what is returned.

    Args:
        space: what can be chosen, such as ``search_spaces.space_of("MobileNetV2Space")``.
        initial: of a standalone run; None: the first of everything.

    Raises:
        SpaceError: the parameters, or ``initial``, are not in the space, or see there.
        RuntimeError: see :func:`get_and_apply_next_architecture`.
    """
    run = dry_run()
    if run is not None:
        run.declare_architecture(space.to_json())
    elif parameters := receive():
        space.encode(
            {key: value for key, value in parameters.items() if key in space.domains or is_decision(key, value)}
        )
        return parameters
    tokens = space.encode(initial or {key: _first(domain) for key, domain in space.domains.items()})
    choices = initial or space.decode(tokens)
    return {**defaults, **choices}


def report_intermediate(metric: Any) -> None:
    """Report a result on the way, such as an epoch's accuracy, once an epoch: by their number trials are compared.

    In a function that ``nas search`` calls, a trial that its search stops early ends here, by an exception that no
    ``except Exception`` catches. Under NNI the trial is interrupted.

    Args:
        metric: a number, or a tensor or array of one element. NaN is passed on.

    Raises:
        TypeError: it is no number.
        RuntimeError: in an experiment, before the parameters were received.
    """
    number = to_number(metric)
    end_dry_run()
    if report_current(number):
        return
    import nni

    if _in_experiment():
        _uid()
    nni.report_intermediate_result(number)


def report_final(metric: Any, **others: Any) -> None:
    """Report this trial's result, once.

    Sends ``{"default": metric, "_uid": uid, **others}`` to a tuner of ours. Another tuner gives no ``_uid``, and gets
    what plain NNI sends: the number, or ``{"default": metric, **others}`` where there are others.

    Args:
        metric: a number, or a tensor or array of one element. NaN is passed on.
        **others: what else to keep, as JSON: numbers (one-element tensors too), texts, lists, dicts.

    Raises:
        TypeError: the metric is no number, or something else is no JSON; all are named.
        ValueError: a name is "default" or begins with ``_``.
        RuntimeError: in an experiment, before the parameters were received.
    """
    number, kept = to_number(metric), check_others(others)
    end_dry_run()
    import nni

    kept = {**(_uid() if _in_experiment() else {}), **kept}
    nni.report_final_result({"default": number, **kept} if kept else number)


def to_number(metric: Any) -> float | int:
    """Return a Python number for a number, or for a tensor, array or NumPy scalar of one element.

    Raises:
        TypeError: it is something else.
    """
    value = _item(metric)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        shape = f" of shape {tuple(metric.shape)}" if hasattr(metric, "shape") else ""
        raise TypeError(
            f"the metric is a {type(metric).__name__}{shape}, wanted a number or a tensor of one element; "
            "report_final takes what else there is to say as keywords."
        )
    return value


def check_others(others: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is reported beside the metric, tensors of one element as numbers.

    Raises:
        ValueError: a name is "default" or begins with ``_``; all are named.
        TypeError: a value cannot be written as JSON; all are named.
    """
    reserved = [name for name in others if name == "default" or name.startswith("_")]
    if reserved:
        raise ValueError(f"these names are kept for the tuner: {reserved}. Give the results others.")
    values = {name: _item(value) for name, value in others.items()}
    wrong = [f"{name} ({type(value).__name__})" for name, value in values.items() if not _is_json(value)]
    if wrong:
        raise TypeError(f"these results cannot be written as JSON: {', '.join(wrong)}. Report numbers, texts or lists.")
    return values


def _item(value: Any) -> Any:
    """Return the one element of a tensor, an array or a NumPy scalar; anything else as it is."""
    size = value.numel() if hasattr(value, "numel") else getattr(value, "size", None)
    return value.item() if hasattr(value, "item") and size == 1 else value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _in_experiment() -> bool:
    return os.environ.get("NNI_PLATFORM") not in (None, "", "unittest")


def receive() -> dict[str, Any] | None:
    """Return this trial's parameters, asked for once; None or {} in a standalone run.

    Raises:
        RuntimeError: see :func:`get_and_apply_next_architecture`.
    """
    current = current_parameters()
    if current is not None:
        return current
    if not os.environ.get("NNI_PLATFORM"):
        return None
    import nni
    from nni.runtime import trial_command_channel as channels

    if not _in_experiment():
        with warnings.catch_warnings():  # nni's advice to those who run without an experiment
            warnings.simplefilter("ignore", RuntimeWarning)
            received: dict[str, Any] | None = nni.get_next_parameter()
        return received
    parameters = nni.get_current_parameter()
    if parameters is None:
        if multiprocessing.parent_process() is not None:
            raise RuntimeError(
                "get_and_apply_next_architecture was called in a child process, which would take the parameters of "
                'another trial: put the script\'s work under if __name__ == "__main__":, and hand what children need '
                "to them as arguments."
            )
        parameters = nni.get_next_parameter()
    if parameters is None:
        raise RuntimeError("NNI has no parameters for this trial: see the tuner's log for why it proposed none.")
    uid = _uid_in(parameters)
    if uid:  # another tuner would take what we say of a failure for a result
        channel = channels.get_default_trial_command_channel()
        if not isinstance(channel, Witness):
            channel = channels.set_default_trial_command_channel(Witness(channel))
        watch_this_trial(channel, nni.report_final_result, uid)
    return dict(parameters)


def _uid() -> dict[str, Any]:
    """Return ``_uid`` and its ``_run`` of the parameters that this process received, or {} if the tuner gave none."""
    import nni

    parameters = nni.get_current_parameter()
    if parameters is None:
        raise RuntimeError("a metric before the parameters: call get_and_apply_next_architecture(model) first.")
    return _uid_in(parameters)


def _uid_in(parameters: Any) -> dict[str, Any]:
    if not isinstance(parameters, dict) or "_uid" not in parameters:
        return {}
    return {key: parameters[key] for key in ("_uid", "_run") if key in parameters}


def _first(domain: Domain | FixedDomain) -> Choice:
    """Return the choice of a standalone run."""
    if not isinstance(domain, InputDomain):
        return domain.choice(0)
    count = domain.bounds[1]
    return {"_value": list(domain.candidates[:count]), "_idx": list(range(count))}
