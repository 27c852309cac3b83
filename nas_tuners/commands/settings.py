"""Read what ``--set`` gives an algorithm."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from nas_tuners.commands import CommandError
from search_spaces.checks import one_of


def read_settings(
    owner: str, known: Mapping[str, Any], texts: Iterable[str], elsewhere: Mapping[str, str]
) -> dict[str, Any]:
    """Return the arguments that ``name=value`` texts give; values are JSON, or else texts.

    Args:
        owner: what takes the arguments, for the messages.
        known: its arguments, by name.
        texts: one an argument.
        elsewhere: arguments that are given in another way, and how.

    Raises:
        CommandError: a text is no pair, or a name is not known; all problems are named.
    """
    given, problems = {}, []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--set is {text!r}, wanted name=value")
        elif name in elsewhere:
            problems.append(f"--set {name} is not for this: {elsewhere[name]}")
        elif not known:
            problems.append(f"--set {name}: {owner} takes no arguments")
        else:
            problems += one_of(f"the name in --set {text}", name, known)
        given[name] = read_value(value)
    if problems:
        raise CommandError("\n".join(problems))
    return given


def read_value(text: str) -> Any:
    """Return the JSON that a text is, or else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
