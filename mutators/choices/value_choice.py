"""The choice of a number, such as a kernel size, as a module without parameters. After NNI 3.0's ``ValueChoice``.

It stands in the model where its key says: the choice of ``stage1.conv.kernel_size`` is the child ``kernel_size`` of the
layer ``stage1.conv``. So all that handles layer choices handles an elastic network too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.mutable import Mutable
from mutators.choices.visitor import Extractable, Extraction, Plan
from search_spaces.checks import is_number
from search_spaces.domains import LayerDomain


class ValueChoice(Mutable, Extractable):
    """One of several numbers; at first the largest.

    Args:
        values: at least one, distinct; ints, or floats for fractions.
        key: see :class:`mutators.choices.mutable.Mutable`.

    Raises:
        ElasticError: there are none, or they are no numbers, below 0, or not distinct.

    >>> choice = ValueChoice((3, 5, 7))
    >>> choice.set(5)
    >>> choice.value
    5
    """

    feeds_layers = False  # set by what reads it in place of the model: a width, a depth

    def __init__(self, values: Sequence[float], key: str | None = None) -> None:
        super().__init__(key)
        self.values = tuple(values)
        wrong = [value for value in self.values if not (is_number(value) and value >= 0)]
        if not self.values or wrong or len(set(self.values)) < len(self.values):
            raise ElasticError(f"the options are {list(values)}, wanted at least one, distinct numbers, none below 0.")
        self._active = self.values.index(max(self.values))

    @property
    def domain(self) -> LayerDomain:
        """Return what can be chosen: the numbers, as names."""
        return LayerDomain(tuple(map(str, self.values)))

    @property
    def index(self) -> int:
        """Return the index of the number in use: the bound mutator's, or else the one that is applied."""
        return self._active if self._mutator is None else self._mutator.on_forward_value_choice(self)

    @property
    def value(self) -> float:
        """Return the number in use."""
        return self.values[self.index]

    @property
    def applied_indices(self) -> tuple[int, ...]:
        """Return the index of the number that is applied, as a tuple of one, also while a mutator steers."""
        return (self._active,)

    @property
    def chosen(self) -> tuple[int, ...]:
        """Return the index of the number in use, as a tuple of one."""
        return (self.index,)

    def index_in(self, plan: Plan | None) -> int:
        """Return the index that an extraction has planned; what it leaves alone keeps the number in use."""
        return self.index if plan is None or id(self) not in plan else plan[id(self)][0]

    def choose(self, indices: Sequence[int]) -> None:
        """Set the number by index. Checks nothing: use :func:`mutators.apply_choices` or :meth:`set`."""
        (self._active,) = indices

    def set(self, value: float) -> None:
        """Set the number.

        Raises:
            ElasticError: it is not on offer.
        """
        problem = self.problem(value)
        if problem:
            raise ElasticError(f"{self.described()}: {problem}.")
        self._active = self.values.index(value)

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a number; None if it is on offer."""
        if is_number(value) and value in self.values:
            return None
        return f"{value!r} is not on offer, wanted one of {list(self.values)}"

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.values))

    def extracted(self, extraction: Extraction) -> ChosenValue | None:
        """Return what still says the number; None where layers of ours alone read it, which are plain then."""
        return None if self.feeds_layers else ChosenValue(self.values, self.index_in(extraction.plan))


class ChosenValue(nn.Module):
    """The place of a :class:`ValueChoice` in an extracted network, for a forward that reads it."""

    def __init__(self, values: tuple[float, ...], index: int) -> None:
        super().__init__()
        self.values, self.index, self.chosen = values, index, (index,)
        self.value = values[index]

    def extra_repr(self) -> str:
        return str(self.value)
