"""Errors of models: each lists everything that is wrong at once."""

from __future__ import annotations

from search_spaces.errors import ProblemsError


class ChoiceError(ProblemsError):
    """A choice in a model, or what should be applied to it, is wrong.

    Differs: NNI 1.9 has a mix of ``AssertionError`` (gone under ``-O``), ``RuntimeError`` and ``ValueError``.
    """


class ElasticError(ChoiceError):
    """A choice of a number, or an elastic layer, model or configuration that needs one, is wrong."""


class OneShotError(ProblemsError):
    """A supernet, its data, its options or a checkpoint do not fit."""


class PruningError(ProblemsError):
    """A model, options, a skip function or a state do not fit a pruner."""


class QuantizationError(ChoiceError):
    """The numbers of bits of a quantized layer are wrong."""
