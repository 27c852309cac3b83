"""Differentiable architecture search: DARTS (Liu et al., ICLR 2019, arXiv:1806.09055).

After NNI 1.9's ``DartsMutator`` and MMRazor 0.3's of the same name. Differs: "none" is a candidate like the others and
by default not exported, where NNI adds one to every choice; it comes with the search's two gradients; what it
exports can be applied as it is, since every layer choice keeps one layer, also on edges that are not selected.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection

import torch
from torch import Tensor, nn

from mutators.base import Mutator, Sample
from mutators.choices.selection import mask_of
from mutators.inputs import device_of
from mutators.unrolled import Loss, first_order_gradient, second_order_gradient, unchanged_buffers
from search_spaces.domains import Choice, InputDomain, LayerDomain


class DartsMutator(Mutator):
    """Mixes all candidates of a layer choice by the softmax of its architecture parameters; all inputs are used.

    The parameters are this mutator's and not the model's: hand :meth:`parameters` to an optimizer of their own. Before
    each forward of one's own call :meth:`reset`.

    Args:
        model: with choices; put it on its device first.
        seed: of the parameters' initial values, normal with deviation 1e-3.
        ignore: names of candidates that are never exported where there is another.

    Attributes:
        alphas: an ``nn.ParameterDict``, (number of candidates,) each, for ``state_dict`` and the like; its names are
            keys in which dots are escaped. :meth:`alpha` takes the keys as they are.

    Raises:
        RuntimeError, ChoiceError: see :class:`~mutators.BaseMutator`.
    """

    def __init__(self, model: nn.Module, seed: int = 0, ignore: Collection[str] = ("none", "zero")) -> None:
        if isinstance(ignore, str):
            raise TypeError(f"ignore is the text {ignore!r}, wanted a list of names.")
        super().__init__(model)
        self.ignore = frozenset(ignore)
        self.__layers = {key: domain for key, domain in self.domains.items() if isinstance(domain, LayerDomain)}
        generator = torch.Generator().manual_seed(seed)
        device = device_of(model)
        self.alphas = nn.ParameterDict()
        for key, domain in self.__layers.items():
            self.alphas[_escape(key)] = nn.Parameter((1e-3 * torch.randn(domain.radix, generator=generator)).to(device))

    def parameters(self, recurse: bool = True) -> list[nn.Parameter]:
        """Return the architecture parameters, in the order of the keys; of a subclass that is a module, all it has."""
        if isinstance(self, nn.Module):
            return list(super().parameters(recurse))
        return self.__parameters()

    def __parameters(self) -> list[nn.Parameter]:
        return [self.alpha(key) for key in self.__layers]

    def alpha(self, key: str) -> nn.Parameter:
        """Return the architecture parameters of a layer choice, (number of candidates,).

        Raises:
            KeyError: no layer choice has this key.
        """
        parameter: nn.Parameter = self.alphas[_escape(key)]
        return parameter

    def sample_search(self) -> Sample:
        """Return by key the candidates' weights, (number of candidates,) float; True for each input."""
        return {
            key: torch.softmax(self.alpha(key), 0)
            if isinstance(domain, LayerDomain)
            else torch.ones(len(domain.candidates), dtype=torch.bool)
            for key, domain in self.domains.items()
        }

    def sample_final(self) -> Sample:
        """Return by key the strongest inputs and the best layers, (number of candidates,) bool.

        A layer that is an input of input choices, and of none that keeps it, is not kept: all are False. An input's
        strength is the weight of its best layer, "none" and the like not counted; one that comes from no layer choice
        has strength 0. Any number of inputs (``n_chosen=None``) keeps all, a range the highest.
        """
        inputs = {key: self.__strongest(key, d) for key, d in self.domains.items() if isinstance(d, InputDomain)}
        named = {name for key in inputs for name in self.__names(key)}
        kept = {self.__names(key)[i] for key, chosen in inputs.items() for i in chosen}
        final = {key: mask_of(chosen, len(self.__names(key))) for key, chosen in inputs.items()}
        for key, domain in self.__layers.items():
            final[key] = mask_of([] if key in named - kept else [self.__best(key)], domain.radix)
        return {key: final[key] for key in self.domains}

    def export_choices(self) -> dict[str, Choice]:
        """Return the result of the search as ``apply_choices`` and ``extract`` take it.

        Layer choices on edges that are not kept have their best layer all the same.
        """
        choices: dict[str, Choice] = {}
        for key, domain in self.domains.items():
            index = self.__best(key) if isinstance(domain, LayerDomain) else self.__strongest(key, domain)
            choices[key] = domain.choice(domain.token({"_idx": index}))
        return choices

    def first_order_backward(self, valid_loss: Loss) -> Tensor:
        """Set the parameters' ``grad`` to that of the validation loss at the current weights.

        Weights, their ``grad`` and buffers stay as they are. Step the parameters' optimizer afterwards.

        Args:
            valid_loss: runs the model on a batch and returns a scalar; :meth:`reset` is called before it.

        Returns: the loss, detached.
        """
        with unchanged_buffers(self.model):
            loss, gradients = first_order_gradient(self.__fresh(valid_loss), self.__parameters())
        return self.__set(loss, gradients)

    def second_order_backward(self, train_loss: Loss, valid_loss: Loss, optimizer: torch.optim.SGD) -> Tensor:
        """Set ``grad`` as :meth:`first_order_backward`, at the weights after a step of ``optimizer`` on ``train_loss``.

        Args:
            train_loss: called three times, always on the same batch.
            valid_loss: called once.
            optimizer: of the weights; SGD with momentum and weight decay. It is not stepped.

        Returns: the validation loss after that step, detached.

        Raises:
            ValueError: the optimizer does something else.
        """
        with unchanged_buffers(self.model):
            loss, gradients = second_order_gradient(
                self.__fresh(train_loss), self.__fresh(valid_loss), optimizer, self.__parameters()
            )
        return self.__set(loss, gradients)

    def __fresh(self, loss: Loss) -> Loss:
        def compute() -> Tensor:
            self.reset()
            return loss()

        return compute

    def __set(self, loss: Tensor, gradients: list[Tensor]) -> Tensor:
        for parameter, gradient in zip(self.__parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._forget_sample()  # its graph is used up: who forgets reset() is told so
        return loss

    def __names(self, key: str) -> tuple[str, ...]:
        domain = self.domains[key]
        return domain.candidates if isinstance(domain, InputDomain) else domain.names

    def __best(self, key: str) -> int:
        """Return the index of the best layer, an ignored one only if there is no other; of equals the first."""
        alpha, names = self.alpha(key).tolist(), self.__names(key)
        return max(range(len(names)), key=lambda i: (names[i] not in self.ignore, alpha[i], -i))

    def __strongest(self, key: str, domain: InputDomain) -> list[int]:
        """Return the indices of the inputs that are kept, ascending; of equals the first."""
        strengths = [self.__strength(name) for name in domain.candidates]
        unknown = [name for name, strength in zip(domain.candidates, strengths, strict=True) if strength is None]
        count = domain.bounds[1]
        if unknown and count < len(strengths):
            warnings.warn(
                f"inputs {unknown} of {key!r} come from no layer choice: they count as the weakest.", stacklevel=4
            )
        order = sorted(range(len(strengths)), key=lambda i: (-(strengths[i] or 0.0), i))
        return sorted(order[:count])

    def __strength(self, name: str) -> float | None:
        if name not in self.__layers:
            return None
        weight = torch.softmax(self.alpha(name).detach(), 0)[self.__best(name)]
        return 0.0 if self.__names(name)[self.__best(name)] in self.ignore else float(weight)


def _escape(key: str) -> str:
    """Return a name that a module can have: no dots, and none of a ParameterDict's own attributes."""
    return "alpha_" + key.replace("%", "%25").replace(".", "%2E")
