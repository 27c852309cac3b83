"""What can be wrong with an elastic network."""

from __future__ import annotations

from search_spaces.errors import ProblemsError


class ElasticError(ProblemsError):
    """A layer, a model or a configuration does not fit."""
