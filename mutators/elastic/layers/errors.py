"""The error of elastic networks."""

from __future__ import annotations

from search_spaces.errors import ProblemsError


class ElasticError(ProblemsError):
    """An elastic layer, model or configuration is not possible."""
