"""The error of elastic layers, under the name by which it was always imported."""

from __future__ import annotations

from mutators.choices.errors import ElasticError as ElasticError
