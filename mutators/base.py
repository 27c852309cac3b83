"""Mutators, which steer a model's choices while it runs: for supernets, and for algorithms of one's own.

After NNI 1.9's ``BaseMutator`` and ``Mutator``. Differs: a mutator is a plain object; one that learns derives from
``nn.Module`` as well. It never shows up among the model's parameters, nor the model among its own; it can be released;
a copied model stays with it. State of its own has mangled names, which a subclass cannot overwrite by chance.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.input_choice import InputChoice
from mutators.choices.layer_choice import LayerChoice
from mutators.choices.mutable import Mutable, MutableScope
from mutators.choices.selection import combine, mask_of
from mutators.choices.tree import MutableTree, make_tree
from mutators.choices.value_choice import ValueChoice
from mutators.choices.walk import decisions, walk
from search_spaces.domains import InputDomain, LayerDomain

Sample = Mapping[str, torch.Tensor]
"""One architecture, or a weighting of all: by key, (number of candidates,) bool or float."""


class BaseMutator:
    """Decides, while it is bound to ``model``, what its mutables run; what is applied to them then does not count.

    A mutator with parameters of its own derives from ``nn.Module`` as well: ``class Learned(Mutator, nn.Module)``.

    Args:
        model: with choices. Its mutables' ``key`` is then the resolved one.

    Raises:
        RuntimeError: a mutator is bound to the model, or a part of it, already.
        ChoiceError: the model's choices do not fit together.
    """

    def __init__(self, model: nn.Module) -> None:
        sites = walk(model)
        bound = next((site for site in sites if site.mutable.mutator is not None), None)
        if bound is not None:
            owner = type(bound.mutable.mutator).__name__
            raise RuntimeError(f"{owner} is bound to this model already (at {bound.key!r}): release() it first.")
        if "training" not in vars(self):  # else a subclass has made itself a module, maybe with parameters
            super().__init__()
        vars(self)["model"] = model  # not as a child, where the mutator is a module
        self.domains = decisions(sites)
        for site in sites:
            site.mutable.bind(self, site.key, site.path)
        self.__tree = make_tree(sites)

    @property
    def mutables(self) -> MutableTree:
        """Return the mutables, scopes included, in definition order; of those that share a key the first."""
        return self.__tree

    @property
    def undedup_mutables(self) -> list[Mutable]:
        """Return all mutables, scopes included, in definition order."""
        return list(self.__tree.traverse(deduplicate=False))

    def release(self, model: nn.Module | None = None) -> None:
        """Unbind from the model, or from ``model``, a copy of it; the choices that are applied to it count again.

        Differs: in NNI 1.9 a mutator is bound for ever.
        """
        for module in (self.model if model is None else model).modules():
            if isinstance(module, Mutable) and module.mutator is self:
                module.bind(None, module.key)

    def on_forward_layer_choice(self, mutable: LayerChoice, *args: Any, **kwargs: Any) -> tuple[Any, torch.Tensor]:
        """Run some of the candidates. Returns: their reduced output, and a mask, (len(mutable),) bool."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a layer choice does")

    def on_forward_input_choice(self, mutable: InputChoice, tensor_list: list[Any]) -> tuple[Any, torch.Tensor]:
        """Select from ``n_candidates`` tensors or None. Returns: the reduced ones, and a mask, (n_candidates,) bool."""
        raise NotImplementedError(f"{type(self).__name__} does not say what an input choice does")

    def on_forward_value_choice(self, mutable: ValueChoice) -> int:
        """Choose a number. Returns: its index."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a value choice does")

    on_elastic_choice = on_forward_value_choice  # its former name, which subclasses may write or call

    def chosen_indices(self, mutable: Mutable) -> tuple[int, ...] | None:
        """Return the indices that the next forward runs, which are the mutable's ``chosen``; None: not known."""
        return None

    def enter_mutable_scope(self, mutable_scope: MutableScope) -> None:
        """Do what a scope's forward needs before it."""

    def exit_mutable_scope(self, mutable_scope: MutableScope) -> None:
        """Do what is to be done after a scope's forward, also if that raised."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        former, current = vars(cls).get("on_elastic_choice"), vars(cls).get("on_forward_value_choice")
        if former is not current and former is not None:
            warnings.warn(
                f"{cls.__name__}.on_elastic_choice is deprecated: call it on_forward_value_choice.",
                DeprecationWarning,
                stacklevel=2,
            )
            cls.on_forward_value_choice = cls.on_elastic_choice  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        if isinstance(self, nn.Module):
            return super().__getattr__(name)  # type: ignore[misc]
        kind, advice = type(self).__name__, ""
        if hasattr(nn.Module, name) and not name.startswith("_"):
            advice = f": it is no nn.Module. Derive from that as well: class {kind}(..., nn.Module)"
        raise AttributeError(f"{kind} has no {name!r}{advice}.", name=name, obj=self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a copied model is steered by the same mutator


class Mutator(BaseMutator):
    """Selects by masks: write :meth:`sample_search` and :meth:`sample_final`; call :meth:`reset` before each forward.

    A bool mask runs only what it chooses. A float mask runs what is not zero and multiplies by it, so that gradients
    flow into it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.__sample: Sample | None = None
        self.__picked: dict[str, list[int]] = {}
        self.__masks: dict[str, torch.Tensor] = {}

    @abstractmethod
    def sample_search(self) -> Sample:
        """Return a tensor for each key, (number of candidates,), bool or float: what the next forwards run."""
        raise NotImplementedError(f"{type(self).__name__} has no sample_search()")

    @abstractmethod
    def sample_final(self) -> Sample:
        """Return a tensor for each key, (number of candidates,), bool or float: the result of the search."""
        raise NotImplementedError(f"{type(self).__name__} has no sample_final()")

    def reset(self) -> None:
        """Draw what the next forwards run.

        Raises:
            ChoiceError: the sample lacks keys or has unknown ones, or a tensor has the wrong shape or type.
        """
        sample = self.__checked(self.sample_search(), "sample_search")
        # Once here and not in every forward: reading a mask waits for its device.
        self.__picked = {key: torch.nonzero(mask.detach()).flatten().tolist() for key, mask in sample.items()}
        self.__masks = {key: mask_of(picked, len(sample[key])) for key, picked in self.__picked.items()}
        self.__sample = sample

    def export(self) -> Sample:
        """Return the result of the search, :meth:`sample_final`, checked.

        Differs: tensors; the readable form is :meth:`export_json`.
        """
        return self.__checked(self.sample_final(), "sample_final")

    def export_json(self) -> dict[str, list[bool] | list[float]]:
        """Return :meth:`export` as lists, for JSON; ``apply_fixed_architecture`` takes both."""
        return {key: mask.detach().tolist() for key, mask in self.export().items()}

    def on_forward_layer_choice(self, mutable: LayerChoice, *args: Any, **kwargs: Any) -> tuple[Any, torch.Tensor]:
        """Run the candidates that the sample does not exclude. Returns: the reduced output, (len(mutable),) bool."""
        mask, picked = self.__of(mutable)
        outputs = [_weighted(mask, i, mutable[i](*args, **kwargs)) for i in picked]
        return combine(outputs, mutable.reduction), self.__masks[mutable.key]

    def on_forward_input_choice(self, mutable: InputChoice, tensor_list: list[Any]) -> tuple[Any, torch.Tensor]:
        """Select the inputs that the sample does not exclude. Returns: the reduced ones, (n_candidates,) bool."""
        mask, picked = self.__of(mutable)
        outputs = [_weighted(mask, i, tensor_list[i]) for i in picked]
        return combine(outputs, mutable.reduction), self.__masks[mutable.key]

    def on_forward_value_choice(self, mutable: ValueChoice) -> int:
        """Choose the one number that the sample does not exclude. Returns: its index."""
        _, picked = self.__of(mutable)
        if len(picked) != 1:
            raise ChoiceError(f"{mutable.described()}: {len(picked)} numbers are chosen, wanted 1: they do not mix.")
        return picked[0]

    on_elastic_choice = on_forward_value_choice

    def chosen_indices(self, mutable: Mutable) -> tuple[int, ...] | None:
        """Return the indices that the sample does not exclude; None before :meth:`reset`."""
        return None if self.__sample is None else tuple(self.__picked.get(mutable.key, ()))

    def status(self) -> dict[str, list[float]]:
        """Return by key what the next forwards run, one number a candidate; empty before :meth:`reset`. NNI 1.9's."""
        return {key: mask.detach().float().tolist() for key, mask in (self.__sample or {}).items()}

    def _last_sample(self) -> Sample | None:
        """Return what :meth:`reset` drew last."""
        return self.__sample

    def _forget_sample(self) -> None:
        """Let the next forward say that :meth:`reset` comes first."""
        self.__sample = None

    def __of(self, mutable: Mutable) -> tuple[torch.Tensor, Sequence[int]]:
        if self.__sample is None:
            raise ChoiceError(f"{type(self).__name__} has drawn nothing yet: call reset() before the model.")
        return self.__sample[mutable.key], self.__picked[mutable.key]

    def __checked(self, sample: Any, source: str) -> Sample:
        where = f"{type(self).__name__}.{source}()"
        if not isinstance(sample, Mapping):
            raise ChoiceError(f"{where} returned a {type(sample).__name__}, wanted a dict {{key: tensor}}.")
        problems = [f"missing {key!r}" for key in self.domains if key not in sample]
        problems += [f"unknown {key!r}" for key in sample if key not in self.domains]
        for key, domain in self.domains.items():
            n = len(domain.names if isinstance(domain, LayerDomain) else domain.candidates)
            if key in sample and not _is_mask(sample[key], n):
                problems.append(f"{key!r}: got {_shown(sample[key])}, wanted a bool or float tensor of shape ({n},)")
        if problems:
            raise ChoiceError(f"{where} does not fit the model:", problems)
        return dict(sample)


class RandomMutator(Mutator):
    """Draws architectures at random: one layer each, and inputs as many as ``n_chosen`` says.

    Of a range of numbers each is equally likely; for "any number" each input is chosen with probability 1/2.

    Args:
        model: see :class:`BaseMutator`.
        seed: of this mutator's own generator; torch's global one is not touched.

    Differs: :meth:`sample_final` is what the last forward ran, where NNI 1.9 draws anew.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        super().__init__(model)
        self.generator = torch.Generator().manual_seed(seed)

    def sample_search(self) -> Sample:
        """Return an architecture, drawn now: by key (number of candidates,) bool."""
        return {key: self.__draw(domain) for key, domain in self.domains.items()}

    def sample_final(self) -> Sample:
        """Return the architecture that :meth:`reset` drew last, or else one drawn now."""
        last = self._last_sample()
        return self.sample_search() if last is None else last

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the generator's state, and of a subclass that is a module the rest: a killed training can go on."""
        rest = super().state_dict(*args, **kwargs) if isinstance(self, nn.Module) else {}  # type: ignore[misc]
        return {**rest, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Put back what :meth:`state_dict` returned."""
        self.generator.set_state(state["generator"])
        if isinstance(self, nn.Module):
            rest = {name: value for name, value in state.items() if name != "generator"}
            super().load_state_dict(rest, *args, **kwargs)  # type: ignore[misc]

    def __draw(self, domain: LayerDomain | InputDomain) -> torch.Tensor:
        if isinstance(domain, LayerDomain):
            return mask_of([self.__integer(0, len(domain.names))], len(domain.names))
        n = len(domain.candidates)
        if domain.n_chosen is None:
            return torch.randint(2, (n,), generator=self.generator).bool()
        low, high = domain.bounds
        order = torch.randperm(n, generator=self.generator)
        return mask_of(order[: self.__integer(low, high + 1)].tolist(), n)

    def __integer(self, low: int, end: int) -> int:
        return int(torch.randint(low, end, (), generator=self.generator))


def _weighted(mask: torch.Tensor, index: int, output: Any) -> Any:
    return output if output is None or mask.dtype == torch.bool else mask[index] * output


def _is_mask(value: Any, n: int) -> bool:
    fits = isinstance(value, torch.Tensor) and value.shape == (n,)
    return fits and (value.dtype == torch.bool or value.dtype.is_floating_point)


def _shown(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
