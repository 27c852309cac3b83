"""The choice of inputs. After NNI 1.9's ``InputChoice``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.mutable import NO_KEY, ForwardChoice
from mutators.choices.selection import SelectedInputs, check_reduction, combine, mask_of, ordered_inputs
from mutators.choices.visitor import Extraction
from search_spaces.checks import is_int, whole
from search_spaces.domains import InputDomain


class InputChoice(ForwardChoice):
    """Some of several inputs.

    Args:
        n_candidates: how many inputs there are; may be left out if ``choose_from`` is given.
        choose_from: one name an input: the key of the mutable (or scope) that it comes from, which has to stand
            before this one in the model, or ``InputChoice.NO_KEY``. None: all are NO_KEY.
        n_chosen: k; or (lowest, highest); or None for any number, none included.
        reduction: "sum", "mean", "concat" (dim 1), or "none" for a list.
        return_mask: return (output, mask), mask (n_candidates,) bool.
        key: see :class:`Mutable`.

    Raises:
        ChoiceError: the numbers do not fit together; all that is wrong is listed.
        ValueError: the reduction is unknown.

    Differs: ranges of n_chosen are new.
    """

    NO_KEY = NO_KEY

    def __init__(
        self,
        n_candidates: int | None = None,
        choose_from: Sequence[str] | None = None,
        n_chosen: int | tuple[int, int] | None = None,
        reduction: str = "sum",
        return_mask: bool = False,
        key: str | None = None,
    ) -> None:
        super().__init__(key)
        self.choose_from = _read_names(n_candidates, choose_from, n_chosen)
        self.n_candidates = len(self.choose_from)
        self.n_chosen = (n_chosen[0], n_chosen[1]) if isinstance(n_chosen, (tuple, list)) else n_chosen
        self.reduction = check_reduction(reduction)
        self.return_mask = return_mask
        self._active: tuple[int, ...] | None = None

    @property
    def domain(self) -> InputDomain:
        """Return what can be chosen: a subset of :attr:`choose_from`."""
        return InputDomain(tuple(self.choose_from), self.n_chosen)

    @property
    def applied_indices(self) -> tuple[int, ...] | None:
        """Return the indices of the inputs that are applied, ascending; None before."""
        return self._active

    def choose(self, indices: Sequence[int]) -> None:
        """Set the inputs. Checks nothing: use :func:`mutators.apply_choices`."""
        self._active = tuple(sorted(indices))

    def make_plain(self, indices: tuple[int, ...], extraction: Extraction) -> nn.Module:
        selected = SelectedInputs(self.choose_from, indices, self.reduction, self.return_mask, self.n_chosen)
        selected.training = self.training
        return selected

    def forward(self, optional_inputs: Any) -> Any:
        """Select and reduce.

        Args:
            optional_inputs: a list or tuple of n_candidates inputs, or a dict of them by the names in choose_from. An
                input may be None: it then contributes nothing.

        Returns: for reduction "none" a list; else one tensor, or None if nothing was selected.

        Raises:
            ChoiceError: the inputs do not fit, or nothing was chosen and no mutator is bound.
        """
        inputs = ordered_inputs(optional_inputs, self.choose_from, self.described())
        if self._mutator is not None:
            out, mask = self._mutator.on_forward_input_choice(self, list(inputs))
            return (out, mask) if self.return_mask else out
        if self._active is None:
            raise self._not_chosen()
        out = combine([inputs[i] for i in self._active], self.reduction)
        return (out, mask_of(self._active, self.n_candidates)) if self.return_mask else out


def _read_names(n_candidates: int | None, choose_from: Sequence[str] | None, n_chosen: Any) -> list[str]:
    """Return the names of an input choice's candidates, or raise a ChoiceError that lists all that is wrong."""
    problems = whole("n_candidates", n_candidates, 1, optional=True)
    names: list[str] = []
    if choose_from is None:
        if n_candidates is None:
            problems.append("neither n_candidates nor choose_from is given, wanted one of them")
        names = [NO_KEY] * (0 if problems else n_candidates or 0)
    elif not isinstance(choose_from, (list, tuple)) or not all(isinstance(name, str) for name in choose_from or [None]):
        problems.append(f"choose_from is {choose_from!r}, wanted a list of at least one key")
    else:
        names = list(choose_from)
        if n_candidates is not None and not problems and n_candidates != len(names):
            problems.append(f"n_candidates is {n_candidates}, but choose_from has {len(names)} keys")
    bounds = n_chosen if isinstance(n_chosen, (tuple, list)) else (n_chosen, n_chosen)
    if n_chosen is not None and not (len(bounds) == 2 and all(is_int(b) for b in bounds)):
        problems.append(f"n_chosen is {n_chosen!r}, wanted an int, two of them (lowest, highest), or None")
    elif n_chosen is not None and names and not 0 <= bounds[0] <= bounds[1] <= len(names):
        problems.append(f"n_chosen is {n_chosen!r}, wanted 0 to {len(names)}, or (lowest, highest) within that")
    if problems:
        raise ChoiceError("this InputChoice cannot be:", problems)
    return names
