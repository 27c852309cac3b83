"""The arguments of a search as plain JSON, so that a journal can bring it back."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from search_spaces.checks import is_int, is_number
from search_spaces.cost.limits import Constraints, Table, limits_of
from search_spaces.cost.table import CostTable


class Shared(TypedDict, total=False):
    """The arguments of every search, which a class takes as ``**shared`` and passes on: see ``Search``."""

    seed: int
    constraints: Constraints | None
    cost_table: Table
    score_key: str
    early_stopping: str | Mapping[str, Any]
    outcome_constraints: Constraints | None
    noise: str
    repeats: int


def signature_of(cls: type) -> inspect.Signature:
    """Return the signature of a class's ``__init__``, with the arguments that it passes on as ``**shared``."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    signature = inspect.signature(owner.__init__)  # type: ignore[misc]
    own = list(signature.parameters.values())
    if own[-1].kind is not inspect.Parameter.VAR_KEYWORD or own[-1].name != "shared":
        return signature
    following = owner.__mro__[1]
    passed = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(signature_of(following).parameters.values())[1:]
        if parameter.name not in signature.parameters
    ]
    return signature.replace(parameters=[*own[:-1], *passed])


class Recorded(ABCMeta):
    """A class whose objects keep the arguments they were made with, as JSON: ``made.arguments``.

    Copying and unpickling do not come through here.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object.

        Raises TypeError if the arguments do not fit, or ``__init__`` does not call that of the base class; ValueError
        if an argument cannot be written as JSON.
        """
        signature = signature_of(cls)
        try:
            bound = signature.bind(None, *args, **kwargs)
        except TypeError as error:
            takes = ", ".join(map(str, list(signature.parameters.values())[1:])) or "no arguments"
            raise TypeError(f"{cls.__name__}: {error}. It takes {takes}.") from None
        bound.apply_defaults()
        made = super().__call__(*args, **kwargs)
        if not hasattr(made, "trials"):
            raise TypeError(f"{cls.__name__}.__init__ never calls super().__init__(seed): let it begin with that.")
        given = dict(list(bound.arguments.items())[1:])
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(name)
        made.arguments = to_json(cls.__name__, given)
        return made


def check_made(search: object) -> None:
    """Check that this is a search, ready to be set up. Raises TypeError if it is a class, or something else."""
    if isinstance(search, Recorded):
        raise TypeError(f"the search is the class {search.__name__}, wanted an object: write {search.__name__}(...).")
    if not isinstance(type(search), Recorded):
        raise TypeError(f"the search is {search!r}, wanted an object of a class derived from nas_tuners.search.Search.")


def to_json(owner: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as plain JSON: paths as absolute texts, NumPy's values as Python's, objects by ``to_json``.

    Raises ValueError if one cannot be written as JSON; it is named.
    """
    plain = {name: _to_argument(f"{owner}: {name}", value) for name, value in arguments.items()}
    for name in ("constraints", "outcome_constraints"):
        if name in plain:
            plain[name] = {limit.metric: limit.to_json() for limit in limits_of(plain[name])} or None
    if isinstance(plain.get("cost_table"), str):
        plain["cost_table"] = str(Path(plain["cost_table"]).resolve())
    return plain


def _to_argument(where: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, CostTable):
        return value.to_json()
    if isinstance(value, PathLike):
        return str(Path(value).resolve())
    if isinstance(value, (np.ndarray, np.generic)):
        return _to_argument(where, value.tolist())
    if is_number(value) or is_int(value):
        return value
    if not isinstance(value, type) and callable(getattr(value, "to_json", None)):
        return _to_argument(where, value.to_json())
    if isinstance(value, (list, tuple)):
        return [_to_argument(f"{where}[{at}]", item) for at, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_argument(f"{where}[{key!r}]", item) for key, item in value.items()}
    raise ValueError(
        f"{where} is {value!r}, wanted a number, a text, a list or an object {{name: value}}: "
        "the journal keeps it as JSON, to resume the search with it."
    )
