"""Draw, set, mutate, cross and deploy subnets of a supernet. After MMRazor 0.3's ``OneShotMutator``.

A subnet is what this package calls choices. Differs: mutation draws among the other options, so that a gene it hits
does change; children share nothing with their parents; one owned seed and no global generator; everything is checked
when it is set or deployed, with names; it binds to nothing, so ``apply_choices`` and ``extract`` go on working.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.notation import indices_of
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import replace_choices
from mutators.choices.walk import Site, conditions, decisions, refuse_bound, search_space_of, walk
from mutators.mmrazor.mutable_cfg import read_subnet
from mutators.mmrazor.placeholder import convert_placeholders, placeholders_in
from search_spaces.checks import between
from search_spaces.domains import Choice, InputDomain, LayerDomain

Subnet = Mapping[str, Any]
"""By key ``{"_value", "_idx"}`` or ``{"chosen": [names]}``; what is returned is always the former."""


class OneShotMutator:
    """A mutator of one supernet at a time, from :meth:`prepare_from_supernet` on.

    Args:
        placeholder_mapping: see :func:`~mutators.convert_placeholders`; None for models without placeholders.
        seed: of this mutator's own generator.
    """

    def __init__(self, placeholder_mapping: Mapping[str, Mapping[str, Any]] | None = None, seed: int = 0) -> None:
        self.placeholder_mapping = placeholder_mapping
        self.rng = random.Random(seed)
        self.model: nn.Module | None = None
        self.search_space: dict[str, Any] = {}
        self._sites: list[Site] = []
        self._domains: dict[str, LayerDomain | InputDomain] = {}

    def prepare_from_supernet(self, model: nn.Module) -> nn.Module:
        """Convert the placeholders, in place, and learn the search space.

        Returns: the model; another one only if it was a placeholder itself.

        Raises:
            ChoiceError: placeholders cannot be converted (the model is as it was), or its choices do not fit together.

        Differs: MMRazor returns nothing and leaves a placeholder that is the whole model.
        """
        if placeholders_in(model):
            model = convert_placeholders(model, self.placeholder_mapping or {})
        self.search_space = self.build_search_space(model)
        self.model, self._sites = model, [site for site in walk(model) if site.domain is not None]
        self._domains = decisions(self._sites)
        for site in self._sites:
            site.mutable.bind(site.mutable.mutator, site.key, site.path)
        return model

    def build_search_space(self, model: nn.Module) -> dict[str, Any]:
        """Return the model's search space as JSON, one entry a ``space_id``, in definition order.

        Raises:
            ChoiceError: a placeholder is left, or the model's choices do not fit together.

        Differs: the project's one format, which tuners take as it is, where MMRazor's holds modules and masks.
        """
        if left := placeholders_in(model):
            raise ChoiceError(
                f"{len(left)} placeholders are left, the first {left[0]}: call prepare_from_supernet(model) first."
            )
        return search_space_of(model)

    def sample_subnet(self) -> dict[str, Choice]:
        """Draw a subnet, uniformly over all subnets of the space.

        Raises:
            ChoiceError: nothing is prepared.
        """
        return {key: d.choice(self.rng.randrange(d.radix)) for key, d in self._prepared().items()}

    def set_subnet(self, subnet: Subnet) -> None:
        """Make the supernet's next forwards run ``subnet`` and nothing else.

        Raises:
            ChoiceError: keys are missing or unknown, names are not on offer, a mutator is bound to the model, or
                nothing is prepared. All that is wrong is named, and the model is as it was.
        """
        choices = read_subnet(self._prepared(), subnet, conditions(self._sites))
        refuse_bound(self._sites)
        for site in self._sites:
            site.mutable.choose(indices_of(choices[site.key]))

    def deploy_subnet(self, model: nn.Module, subnet: Subnet) -> nn.Module:
        """Make ``model`` the plain network of ``subnet``, in place: chosen modules take the place of their choices.

        Nothing is copied: what an optimizer holds stays valid. Names of parameters are those of the network written
        by hand. For a copy, and for models that hold choices elsewhere than as submodules, use ``extract``.

        Args:
            model: the prepared one, or another with the same choices, such as one that is to be retrained.
            subnet: in either form; :func:`~mutators.load_mutable_cfg` reads it from a file.

        Returns: the model; another one only if it is a choice itself.

        Raises:
            ChoiceError: a placeholder is left, keys are missing or unknown, names are not on offer, or a mutator is
                bound. All that is wrong is named, and the model is as it was.
        """
        self.build_search_space(model)
        sites = [site for site in walk(model) if site.domain is not None]
        choices = read_subnet(decisions(sites), subnet, conditions(sites))
        refuse_bound(sites)
        elastic = [site.key for site in sites if isinstance(site.mutable, ValueChoice)]
        if elastic:
            raise ChoiceError(
                f"{elastic[0]!r} is elastic: its layer runs with a part of its weights and cannot be fixed in place. "
                "Take the plain network from mutators.extract(model, choices)."
            )
        network = replace_choices(model, {id(site.mutable): indices_of(choices[site.key]) for site in sites})
        if model is self.model:
            self.model, self._sites, self._domains, self.search_space = None, [], {}, {}
        return network

    def mutation(self, subnet: Subnet, prob: float = 0.1) -> dict[str, Choice]:
        """Return a new subnet in which each gene, with probability ``prob``, is drawn among its other options.

        Raises:
            ChoiceError: the subnet does not fit, or nothing is prepared.
            ValueError: prob is not within 0 and 1.

        Differs: MMRazor draws among all options, so a quarter of its mutations of four options change nothing.
        """
        _check_probability(prob)
        domains = self._prepared()
        child = read_subnet(domains, subnet)
        for key, domain in domains.items():
            if self.rng.random() < prob and domain.radix > 1:
                other = self.rng.randrange(domain.radix - 1)
                child[key] = domain.choice(other + (other >= domain.token(child[key])))
        return child

    def crossover(self, first: Subnet, second: Subnet, prob: float = 0.5) -> dict[str, Choice]:
        """Return a new subnet that has each gene from ``second`` with probability ``prob``, else from ``first``.

        Raises:
            ChoiceError: a subnet does not fit, or nothing is prepared.
            ValueError: prob is not within 0 and 1.
        """
        _check_probability(prob)
        ours, theirs = (read_subnet(self._prepared(), parent) for parent in (first, second))
        return {key: theirs[key] if self.rng.random() < prob else ours[key] for key in ours}

    def _prepared(self) -> dict[str, LayerDomain | InputDomain]:
        if self.model is None:
            raise ChoiceError("this OneShotMutator has no supernet: call prepare_from_supernet(model) first.")
        return self._domains


def _check_probability(prob: float) -> None:
    for problem in between("prob", prob, 0, 1):
        raise ValueError(f"{problem}.")
