"""Read YAML that somebody else may have written."""

from __future__ import annotations

from typing import Any

_LONGEST = 1 << 20  # characters: yaml reads some 100,000 a second
_MOST = 1_000_000  # nodes, aliases counted as often as they stand


def load_yaml(text: str) -> Any:
    """Return what YAML of plain data says.

    Raises:
        yaml.YAMLError: it is no such, is longer than a million characters, or its aliases blow a short text up to more
            than a million values.
        RecursionError: it is nested too deeply.
    """
    import yaml

    if len(text) > _LONGEST:
        raise yaml.YAMLError(f"it has {len(text)} characters, wanted at most {_LONGEST}: write it as JSON")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None and _count(node, {}) > _MOST:
        raise yaml.YAMLError(f"its aliases make more than {_MOST} values of it: write out what is meant")
    return yaml.safe_load(text)


def _count(node: Any, known: dict[int, int]) -> int:
    """Return the number of values in a node, one in itself counted as endless; ``known``: by ``id`` of a node."""
    if id(node) not in known:
        known[id(node)] = _MOST + 1  # while it is counted: a node that holds itself has no end
        children = node.value if isinstance(node.value, list) else []
        inner = (part for child in children for part in (child if isinstance(child, tuple) else (child,)))
        known[id(node)] = 1 + sum(_count(part, known) for part in inner)
    return known[id(node)]
