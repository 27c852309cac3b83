"""MMRazor 0.3's ``OneShotOP``, ``DifferentiableOP`` and ``DifferentiableEdge``, which placeholders become.

Differs: they are this package's own choices under a ``space_id``, so every mutator, tuner and ``extract`` works with
them; what a forward does is up to the bound mutator or the applied choice, and a choice that nobody made is an error,
where MMRazor's ``OneShotOP`` sums all candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn

from mutators.choices.candidates import Candidates, named_candidates
from mutators.choices.errors import ChoiceError
from mutators.choices.input_choice import InputChoice
from mutators.choices.layer_choice import LayerChoice
from mutators.choices.mutable import ForwardChoice
from mutators.choices.notation import indices_of
from mutators.choices.selection import combine, ordered_inputs
from mutators.choices.torch_private import get_children
from mutators.choices.visitor import Extraction, replace_choices
from mutators.mmrazor.mutable_cfg import read_subnet
from search_spaces.domains import InputDomain


class _Exportable(ForwardChoice):
    """A choice that can be made, and then taken as a plain module, by names."""

    def export(self, chosen: str | Sequence[str]) -> nn.Module:
        """Choose, and return the plain module of it: the layer itself, or :class:`ChosenEdges` with these very edges.

        Raises:
            ChoiceError: a name is not on offer, or there are too few or too many.

        Differs: MMRazor drops the other candidates and accepts any name.
        """
        assert self.domain is not None
        name = self.given_key or type(self).__name__
        indices = indices_of(read_subnet({name: self.domain}, {name: {"chosen": chosen}})[name])
        self.choose(indices)
        return replace_choices(self, {id(self): indices})


class OneShotOP(_Exportable, LayerChoice):
    """One of several layers.

    Args:
        space_id: key of the decision; the same on several modules is one decision. Weights are not shared.
        choices: modules that take the same input, by name.
        num_chosen: 1.

    Raises:
        ChoiceError: num_chosen is not 1, or there is no candidate, or a name cannot be a module's.
        TypeError: a candidate is no module.
    """

    def __init__(self, space_id: str, choices: Mapping[str, nn.Module], num_chosen: int = 1) -> None:
        super().__init__(dict(choices), key=space_id)
        if num_chosen != 1:
            raise ChoiceError(f"{self.described()} has num_chosen={num_chosen!r}, wanted 1: a layer is one of several.")
        self.num_chosen = 1

    @property
    def choices(self) -> list[str]:  # type: ignore[override]  # what LayerChoice has under this name is deprecated
        """Return the candidates' names, in order."""
        return self.names


class DifferentiableOP(OneShotOP):
    """One of several layers, by the name that mappings for differentiable search use.

    Differs: holds no architecture parameters and needs none at forward; :class:`~mutators.DartsMutator` has them.
    """


class DifferentiableEdge(_Exportable, InputChoice):
    """Some of several edges, each a layer with an input of its own; their outputs are reduced.

    Only the edges that are chosen run. An extracted network holds these alone, under the path of the choice.

    Args:
        space_id: key of the decision.
        choices: one module an edge, by name. Where an edge is itself a choice, name it by its key: DARTS ranks edges
            by the best operation of the layer choice that has the edge's name.
        num_chosen: k; or (lowest, highest); or None for any number.
        reduction: "sum", "mean", "concat" (dim 1), or "none" for a list.

    Raises:
        ChoiceError: the numbers do not fit together, or a name cannot be a module's.
        TypeError: an edge is no module.

    Differs: MMRazor computes all edges; it has architecture parameters of edges too (``with_arch_param``).
    """

    def __init__(
        self,
        space_id: str,
        choices: Mapping[str, nn.Module],
        num_chosen: int | tuple[int, int] | None = 2,
        reduction: str = "sum",
    ) -> None:
        edges = named_candidates(dict(choices))
        super().__init__(len(edges), n_chosen=num_chosen, reduction=reduction, key=space_id)
        self.candidates = Candidates(edges)

    @property
    def choices(self) -> list[str]:
        """Return the edges' names, in order."""
        return list(get_children(self.candidates))

    @property
    def num_chosen(self) -> int | tuple[int, int] | None:
        """Return how many edges are to be chosen."""
        return self.n_chosen

    @property
    def domain(self) -> InputDomain:
        """Return what can be chosen: a subset of :attr:`choices`."""
        return InputDomain(tuple(self.choices), self.n_chosen)

    def forward(self, optional_inputs: Any) -> Any:
        """Run the chosen edges and reduce.

        Args:
            optional_inputs: one input an edge, as a list or tuple, or a dict by the edges' names. The edge of an
                input that is None contributes nothing.

        Returns: what ``InputChoice`` returns for the edges' outputs.

        Raises:
            ChoiceError: the inputs do not fit, or nothing was chosen and no mutator is bound.
        """
        outputs = _Outputs(self.candidates, ordered_inputs(optional_inputs, self.choices, self.described()))
        if self._mutator is not None:
            out, _ = self._mutator.on_forward_input_choice(self, cast(list[Any], outputs))
            return out
        if self._active is None:
            raise self._not_chosen()
        return combine([outputs[i] for i in self._active], self.reduction)

    def make_plain(self, indices: tuple[int, ...], extraction: Extraction) -> nn.Module:
        names = self.choices
        edges = {names[i]: extraction.copy(get_children(self.candidates)[names[i]]) for i in indices}
        network = ChosenEdges(names, cast(dict[str, nn.Module], edges), self.reduction, self.n_chosen)
        network.__dict__["training"] = self.training  # not train(): that would reach into the edges
        return network


class ChosenEdges(Candidates):
    """The chosen edges, by name: a :class:`DifferentiableEdge` in an extracted network."""

    def __init__(
        self,
        names: Sequence[str],
        edges: dict[str, nn.Module],
        reduction: str,
        num_chosen: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__({})
        self.choices, self.n_candidates = list(names), len(names)
        self.reduction, self.num_chosen = reduction, num_chosen
        self.chosen = tuple(index for index, name in enumerate(names) if name in edges)
        self._modules.update(edges)  # last: an edge may be called as one of the attributes above

    def forward(self, optional_inputs: Any) -> Any:
        """Run and reduce. ``optional_inputs``: as for the :class:`DifferentiableEdge`."""
        outputs = _Outputs(self, ordered_inputs(optional_inputs, self.choices, "ChosenEdges"), self.choices)
        return combine([outputs[i] for i in self.chosen], self.reduction)


class _Outputs(Sequence[Any]):
    """The edges' outputs, each computed when it is asked for."""

    def __init__(self, edges: nn.Module, inputs: Sequence[Any], names: Sequence[str] | None = None) -> None:
        self.edges, self.inputs = get_children(edges), inputs
        self.names = list(self.edges) if names is None else names

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Any) -> Any:
        edge, given = self.edges[self.names[index]], self.inputs[index]
        return None if given is None or edge is None else edge(given)
