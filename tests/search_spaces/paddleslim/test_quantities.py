"""Test arithmetic with numbers that depend on choices: at every choice it equals that of the numbers."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.paddleslim.quantities import Number, Quantity, elementwise, factorize

OPTIONS = {"a": (3, 4, 9), "b": (1, 2), "c": (0, 5, 6, 7)}


def expressions() -> st.SearchStrategy[tuple[str, ...]]:
    """Draw programs for a stack machine: names push an operand, signs take two."""
    leaf = st.sampled_from([("a",), ("b",), ("c",), ("2",)])
    return st.recursive(
        leaf,
        lambda inner: st.tuples(inner, inner, st.sampled_from("+*-m")).map(lambda t: (*t[0], *t[1], t[2])),
        max_leaves=6,
    )


def value(program: tuple[str, ...], values: dict[str, Number]) -> Number:
    stack: list[Number] = []
    for symbol in program:
        if symbol in "abc":
            stack.append(values[symbol])
        elif symbol == "2":
            stack.append(2)
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(
                {
                    "+": lambda x, y: x + y,
                    "*": lambda x, y: x * y,
                    "-": lambda x, y: x - y,
                    "m": lambda x, y: elementwise(np.maximum, x, y),
                }[symbol](left, right)
            )
    return stack[0]


@given(expressions(), st.sampled_from([1, 6, 8192]))
def test_factors_add_up_to_the_value_at_every_choice(program: tuple[str, ...], limit: int) -> None:
    symbolic = value(program, {key: Quantity.of(key, options) for key, options in OPTIONS.items()})
    fixed, tables = factorize(symbolic, limit)
    for indices in itertools.product(*(range(len(options)) for options in OPTIONS.values())):
        at = dict(zip(OPTIONS, indices, strict=True))
        total = fixed + sum(int(table[tuple(at[key] for key in keys)]) for keys, table in tables)
        assert total == value(program, {key: OPTIONS[key][i] for key, i in at.items()})


def test_a_product_of_sums_stays_a_sum() -> None:
    """Multiply two concatenated widths by two: four tables of two keys, none of four."""
    wide = {key: Quantity.of(key, range(23)) for key in "abcd"}
    product = (wide["a"] + wide["b"]) * (wide["c"] + wide["d"])
    assert sorted(map(len, product.terms)) == [2, 2, 2, 2]
    fixed, tables = factorize(product, limit=529)
    assert (fixed, [table.shape for _, table in tables]) == (0, [(23, 23)] * 4)


def test_tables_are_merged_up_to_a_limit() -> None:
    a, b, c = (Quantity.of(key, options) for key, options in OPTIONS.items())
    total = a * b + b * c + a + 5
    assert [set(keys) for keys, _ in factorize(total, limit=24)[1]] == [{"a", "b", "c"}]
    assert sorted(map(sorted, (keys for keys, _ in factorize(total, limit=8)[1]))) == [["a", "b"], ["b", "c"]]
