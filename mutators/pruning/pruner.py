"""Prune single weights: at once, or gradually while the network trains (Zhu & Gupta, arXiv:1710.01878).

The same classes, methods and configuration keys as PaddleSlim's. :mod:`mutators.pruning.prunable` chooses the
parameters, :mod:`~mutators.pruning.ranking` the weights, :mod:`~mutators.pruning.schedule` the ratio at each iteration;
:mod:`~mutators.pruning.masking` keeps zeros at zero.

Differs: exact unless asked to be ``paddle_compatible``; a pruned weight stays pruned; biases and norms never are;
masks are in the pruner's state, not in the model's; a training resumes within a period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import PruningError
from mutators.choices.moved import moved_arguments
from mutators.choices.torch_private import get_compiled
from mutators.pruning import report
from mutators.pruning.masking import Masking, check_state
from mutators.pruning.prunable import CONV1X1, SkipParams, check_kinds, choose_parameters, unwrap, unwrap_all
from mutators.pruning.ranking import WeightRanking, kth_smallest
from mutators.pruning.schedule import as_plain, check_configs, check_ratio, read_schedule

_SKIP = "give skip_params_func=, which takes the model and returns the names of the parameters not to prune"


@moved_arguments(PruningError, skip_params=_SKIP)
class UnstructuredPruner:
    """Prune to a ratio, or below a threshold, at each ``step()``; pruned weights stay zero whatever the training does.

    Export (``torch.export``, ``torch.jit``, ONNX) after :meth:`remove`, which leaves an ordinary model with the zeros.

    Args:
        model: is changed in place: its smallest weights become zero. May be compiled, data parallel, averaged.
        mode: "ratio" or "threshold".
        threshold: magnitude below which weights are pruned, in mode "threshold".
        ratio: share of the weights to prune, in [0, 1), in mode "ratio". May be assigned anew; a lower one reopens
            nothing.
        prune_params_type: "conv1x1_only", or None: all weights of two or more dimensions; never biases and norms.
            See :mod:`mutators.pruning.prunable`.
        skip_params_func: (model) -> names of the parameters not to prune; takes precedence over ``prune_params_type``.
        local_sparsity: prune each tensor to the ratio, not all together.
        sparse_block: (m, n): prune m x n blocks of the first two dimensions as a whole.
        skip_params_type: "exclude_conv1x1" or "include_conv1x1_only": older spellings of ``prune_params_type``.
        exact: prune ``round(ratio * N)`` weights; False is ``paddle_compatible=True``.
        paddle_compatible: prune as many as PaddleSlim does, one fewer; see :mod:`mutators.pruning.ranking`.

    Attributes:
        ratio: the current target.
        iteration: number of calls of ``step()``.

    Raises:
        PruningError: an argument does not fit, the skip function names unknown parameters, or nothing is left to
            prune; all that is wrong is listed, and the model is as it was.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: str = "ratio",
        threshold: float = 0.01,
        ratio: float = 0.55,
        prune_params_type: str | None = None,
        skip_params_func: SkipParams | None = None,
        local_sparsity: bool = False,
        sparse_block: Sequence[int] = (1, 1),
        *,
        skip_params_type: str | None = None,
        exact: bool = True,
        paddle_compatible: bool = False,
    ) -> None:
        compatible = paddle_compatible or not exact
        threshold, block = as_plain(threshold), _as_block(sparse_block)
        ranking = WeightRanking(
            mode=mode, threshold=threshold, local=local_sparsity, block=block, compatible=compatible
        )
        self._attach(model, ranking, (prune_params_type, skip_params_type), skip_params_func, check_ratio(ratio))
        self.ratio = as_plain(ratio)

    def _attach(
        self,
        model: nn.Module,
        ranking: WeightRanking,
        kinds: tuple[str | None, str | None],
        skip: SkipParams | None,
        problems: list[str],
    ) -> None:
        """Check all arguments; then hook the model."""
        problems = [*problems, *ranking.problems(), *check_kinds(kinds)]
        if isinstance(model, nn.Module):
            *wrappers, inner = unwrap_all(model)
            names, unfit = choose_parameters(inner, any(kind in CONV1X1 for kind in kinds), skip)
        else:
            unfit = [f"model is of type {type(model).__name__}, wanted an object of torch.nn.Module"]
        if problems or unfit:
            problems += unfit
            raise PruningError(f"the model cannot be pruned like this ({len(problems)} wrong):", problems)
        self._ranking, self._model = ranking, inner
        self._masking = Masking(inner, names, [wrapper for wrapper in wrappers if get_compiled(wrapper) is not None])
        self._pruned_at: float | None = None  # ratio of the current masks
        self.iteration = 0

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """Return copies of the masks by parameter name: bool tensors of its shape, True where weights are kept."""
        return self._masking.masks()

    @property
    def threshold(self) -> float:
        """Return the magnitude below which all weights are pruned: the given one, or in mode "ratio" the least kept."""
        if self._ranking.mode == "threshold":
            return float(self._ranking.threshold)
        weights = self._masking.weights()
        kept = [weights[name].detach()[mask].abs().min() for name, mask in self.masks.items() if mask.any()]
        return float(min(kept, default=0.0))

    @property
    def skip_params(self) -> set[str]:
        """Return the names of the model's parameters that are not pruned."""
        pruned = {id(weight) for weight in self._masking.weights().values()}
        parameters = self._model.named_parameters(remove_duplicate=False)
        return {name for name, parameter in parameters if id(parameter) not in pruned}

    def step(self) -> None:
        """Prune to the current target and set pruned weights to zero. Call it after each ``optimizer.step()``.

        Raises:
            PruningError: an assigned ratio does not fit, weights are NaN, or the pruner was removed.
        """
        self._check_not_removed("step")
        if problems := check_ratio(self.ratio):  # it may have been assigned anew
            raise PruningError(problems[0] + ".")
        self._masking.zero()
        ratio = float(self.ratio)
        if self._ranking.mode == "threshold" or ratio != self._pruned_at:
            self._masking.close(self._ranking.keep(self._masking.weights(), self.masks, ratio))
            self._pruned_at = ratio if self._ranking.mode == "ratio" else None
        self.iteration += 1

    def _check_not_removed(self, method: str) -> None:
        if self._masking.removed:
            raise PruningError(f"{method}() after remove(), which ended the masks: make a new pruner to prune on.")

    def update_params(self) -> None:
        """Set pruned weights to zero now. Forwards and ``state_dict()`` do it themselves."""
        self._check_not_removed("update_params")
        self._masking.zero()

    def set_static_masks(self) -> None:
        """Prune every weight that is zero now, to train a sparse network on with the same zeros.

        Differs: only parameters of this pruner; biases and norms that are zero can still change.
        """
        self._check_not_removed("set_static_masks")
        self._masking.zero()
        self._masking.close({name: weight != 0 for name, weight in self._masking.weights().items()})

    def remove(self) -> None:
        """Turn the model into an ordinary one with zeros in it: masks end, and training may change pruned weights."""
        self._masking.remove()

    def summarize_weights(self, model: nn.Module, ratio: float = 0.1) -> float:
        """Return the threshold that prunes this ratio: the largest of the smallest ``ratio`` of magnitudes.

        Args:
            model: with parameters of this pruner's names.
            ratio: in [0, 1]; 1 gives the largest magnitude.

        Raises:
            PruningError: the ratio does not fit, or the model lacks parameters that this pruner prunes.
        """
        parameters = dict(unwrap(model).named_parameters(remove_duplicate=False))
        problems = check_ratio(ratio) if ratio != 1 else []
        names = list(self._masking.weights())
        problems += [f"the model has no parameter {name!r}" for name in names if name not in parameters]
        if problems:
            raise PruningError("weights cannot be summarised:", problems)
        magnitudes = torch.cat([parameters[name].detach().abs().flatten().float() for name in names])
        return float(kth_smallest(magnitudes, max(round(ratio * magnitudes.numel()), 1)))

    @staticmethod
    def total_sparse(model: nn.Module) -> float:
        """Return the share of zeros among all parameters, biases and norms too; see :mod:`mutators.pruning.report`."""
        return report.total_sparse(model)

    @staticmethod
    def total_sparse_conv1x1(model: nn.Module) -> float:
        """Return the share of zeros among the weights of 1x1 convolutions; 0 if there are none."""
        return report.total_sparse_conv1x1(model)

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration, the masks and their ratio: plain data and tensors, for ``weights_only=True``."""
        return {"iteration": self.iteration, "masks": self.masks, "pruned_at": self._pruned_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` returned. Weights may be loaded before or after.

        A pruner of a higher ratio prunes the rest at its next ``step()``.

        Raises:
            PruningError: the state is of another model or of no pruner; all problems are listed.
        """
        self._check_not_removed("load_state_dict")
        if problems := check_state(state, self._masking.weights()):
            raise PruningError(f"this is no state of this pruner ({len(problems)} wrong):", problems)
        self.iteration = int(state["iteration"])
        self._masking.replace(state["masks"])
        self._pruned_at = state.get("pruned_at", self.ratio if self.iteration else None)  # older states lack it


@moved_arguments(
    PruningError,
    skip_params=_SKIP,
    mode="it goes by a ratio; UnstructuredPruner takes mode='threshold'",
    threshold="it goes by a ratio; UnstructuredPruner(model, 'threshold', threshold=...) prunes all below one",
)
class GMPUnstructuredPruner(UnstructuredPruner):
    """Prune gradually: ``ratio`` rises by a cubic schedule while the network trains, one ``step()`` an iteration.

    To resume, load the model's weights and the pruner's state, which holds the exact masks::

        pruner = GMPUnstructuredPruner(model, 0.75, configs=configs)
        model.load_state_dict(checkpoint["model"])
        pruner.load_state_dict(checkpoint["pruner"])

    From weights alone, ``configs={..., "resume_iteration": n}`` prunes as many zeros of the weights as the schedule has
    pruned by then. Load the weights before or after, but before the first forward or ``step()``, and before masks or
    state are read. The masks are the same unless a weight that is kept happens to be exactly zero.

    Args:
        model: as in :class:`UnstructuredPruner`.
        ratio: the target, in [0, 1).
        prune_params_type, skip_params_func, local_sparsity, sparse_block: as in :class:`UnstructuredPruner`.
        configs: see :class:`~mutators.pruning.schedule.PruningSchedule`; all keys have defaults:
            pruning_strategy "gmp", stable_iterations 0, pruning_iterations 1000, tunning_iterations 1000,
            resume_iteration 0, pruning_steps 100 (or pruning_iterations, if fewer),
            initial_ratio 0.15 (or ratio, if less).
            :func:`~mutators.pruning.iterations` gives the phases from epochs.
        skip_params_type, exact: as in :class:`UnstructuredPruner`.
        paddle_compatible: also round the stable phase to periods, as PaddleSlim does.

    Attributes:
        ratio: the current target, of the last ``step()``; 0 before the first.
        schedule: made of ``configs``.

    Raises:
        PruningError: as in :class:`UnstructuredPruner`, or ``configs`` has unknown keys or values that do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        ratio: float = 0.55,
        prune_params_type: str | None = None,
        skip_params_func: SkipParams | None = None,
        local_sparsity: bool = False,
        sparse_block: Sequence[int] = (1, 1),
        configs: Mapping[str, Any] | None = None,
        *,
        skip_params_type: str | None = None,
        exact: bool = True,
        paddle_compatible: bool = False,
    ) -> None:
        compatible = paddle_compatible or not exact
        ranking = WeightRanking(
            mode="ratio", threshold=0.0, local=local_sparsity, block=_as_block(sparse_block), compatible=compatible
        )
        problems = check_configs(configs, ratio)
        self._attach(model, ranking, (prune_params_type, skip_params_type), skip_params_func, problems)
        self.schedule = read_schedule(configs, ratio, compatible)
        self._go_to(self.schedule.resume_iteration)
        if self.iteration:
            self._masking.take_from_weights(partial(ranking.keep_nonzero, ratio=self.ratio))

    def step(self) -> None:
        """Set the ratio of this iteration, prune if it is a new one, and set pruned weights to zero."""
        self.ratio = self.schedule.ratio_at(self.iteration)
        super().step()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._go_to(self.iteration)
        if "pruned_at" in state:  # maybe of another schedule: the next step() prunes the rest
            self.ratio = self._pruned_at = state["pruned_at"] or 0.0

    def _go_to(self, iteration: int) -> None:
        self.iteration = iteration
        self.ratio = self._pruned_at = self.schedule.ratio_at(iteration - 1) if iteration else 0.0


def _as_block(block: Any) -> Any:
    return tuple(block) if isinstance(block, list) else block
