"""Hold the results of an earlier run, to warm-start a search: plain data that the search's own journal keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_tuners.search.model.distances import FloatArray, IntArray
from search_spaces import Space, Tokens
from search_spaces.checks import is_number, one_of
from search_spaces.errors import SpaceError
from search_spaces.renumbering import renumber

_MODES = ("maximize", "minimize")


@dataclass(frozen=True)
class Earlier:
    """Hold architectures of a space, perhaps another one, and their scores as they were reported.

    Attributes:
        space: of that run.
        tokens: of each architecture.
        scores: of each architecture.
        optimize_mode: of that run, ``maximize`` or ``minimize``.
    """

    space: Space
    tokens: Sequence[Tokens]
    scores: Sequence[float]
    optimize_mode: str = "maximize"

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain JSON."""
        tokens, scores = [list(row) for row in self.tokens], list(self.scores)
        return {"space": self.space.to_json(), "tokens": tokens, "scores": scores, "optimize_mode": self.optimize_mode}

    @classmethod
    def read(cls, given: object) -> Earlier:
        """Read what :meth:`to_json` gives.

        Raises:
            ValueError: it is something else.
        """
        if isinstance(given, Earlier):
            return given
        wanted = "wanted the results of a run: earlier_results(RUN)"
        if not isinstance(given, Mapping) or given.keys() != {"space", "tokens", "scores", "optimize_mode"}:
            raise ValueError(f"warm_start has {given!r:.80}, {wanted}")
        tokens, scores, problems = given["tokens"], given["scores"], one_of("its mode", given["optimize_mode"], _MODES)
        if problems:
            raise ValueError(f"warm_start: {problems[0]}")
        if len(tokens) != len(scores) or not all(map(is_number, scores)):
            raise ValueError(f"warm_start has {len(tokens)} architectures and {len(scores)} scores, {wanted}")
        try:
            space = Space.from_json(given["space"])
            for row in tokens:
                space.decode(row)
        except SpaceError as error:
            raise ValueError(f"warm_start: {error}") from None
        return cls(space, [tuple(row) for row in tokens], [float(score) for score in scores], given["optimize_mode"])

    def translate(self, space: Space) -> tuple[IntArray, FloatArray]:
        """Return the architectures that another space has too, (n, keys), and their scores, (n,), higher is better.

        A key that the other space has not counts as not there; of one that is new, nothing is known, so that nothing
        fits.
        """
        found: dict[Tokens, float] = {}
        for row, score in zip(self.tokens, self.scores, strict=True):
            choices = {key: choice for key, choice in self.space.decode(row).items() if key in space.domains}
            choices = renumber(choices, space)
            if not space.problems(choices):
                found[space.encode(choices)] = score
        sign = 1.0 if self.optimize_mode == "maximize" else -1.0
        rows = np.array(list(found), dtype=np.int64).reshape(-1, len(space))
        return rows, sign * np.array(list(found.values()), dtype=np.float64)
