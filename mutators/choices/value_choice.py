"""The decision of an elastic layer: one of several numbers, as a module without parameters.

It stands in the model where its key says: the choice of ``stage1.conv.kernel_size`` is the child ``kernel_size`` of the
layer ``stage1.conv``. So whatever handles layer choices handles an elastic network too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mutators.choices.mutables import Mutable
from mutators.elastic.layers.errors import ElasticError
from search_spaces.checks import is_number
from search_spaces.domains import LayerDomain

Plan = Mapping[int, tuple[int, ...]] | None
"""What an extraction chooses, ``{id(choice): (index,)}``; None: what is applied now."""


class ValueChoice(Mutable):
    """One of several numbers; at first the largest.

    Args:
        values: at least one, distinct; ints, or floats for fractions.
        key: see :class:`mutators.choices.mutables.Mutable`.

    Raises:
        ElasticError: there are none, or they are no numbers, below 0, or not distinct.

    >>> choice = ValueChoice((3, 5, 7))
    >>> choice.set(5)
    >>> choice.value
    5
    """

    def __init__(self, values: Sequence[float], key: str | None = None) -> None:
        super().__init__(key)
        self.values = tuple(values)
        wrong = [value for value in self.values if not (is_number(value) and value >= 0)]
        if not self.values or wrong or len(set(self.values)) < len(self.values):
            raise ElasticError(f"the options are {list(values)}, wanted at least one, distinct numbers, none below 0.")
        self._active = self.values.index(max(self.values))

    @property
    def domain(self) -> LayerDomain:
        """The numbers as names."""
        return LayerDomain(tuple(map(str, self.values)))

    @property
    def index(self) -> int:
        """Of the number that counts now: the bound mutator's, or else the one that is applied."""
        return self._active if self._mutator is None else self._mutator.on_elastic_choice(self)

    @property
    def value(self) -> float:
        """The number that counts now."""
        return self.values[self.index]

    @property
    def chosen(self) -> tuple[int, ...]:
        """The index of the number that is applied, as a tuple of one."""
        return (self._active,)

    def index_in(self, plan: Plan) -> int:
        """The index under a plan."""
        return self.index if plan is None else plan[id(self)][0]

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
        """What is wrong with a number; None if it is on offer."""
        if is_number(value) and value in self.values:
            return None
        return f"{value!r} is not on offer, wanted one of {list(self.values)}"

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.values))

    def _plain(self, indices: tuple[int, ...], memo: dict[int, Any]) -> None:  # type: ignore[override]
        """Nothing: a plain network has no options. Its parent keeps the attribute, as None."""
        return None
