"""An embedding with elastic features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.visitor import Extraction
from mutators.elastic.layers.layer import Axis, Elastic, Size, fill, full_size
from mutators.elastic.layers.width import take


class ElasticEmbedding(Elastic):
    """An ``Embedding`` that runs with its first features. Its own choice: ``channel``.

    Args:
        num_embeddings: as for ``nn.Embedding``.
        embedding_dim: a number, several to choose from, or a width that other layers share.
        padding_idx: as for ``nn.Embedding``.
    """

    def __init__(self, num_embeddings: int, embedding_dim: Size, padding_idx: int | None = None) -> None:
        self._adopt(nn.Embedding(num_embeddings, full_size(embedding_dim), padding_idx), embedding_dim)

    @classmethod
    def of(cls, embedding: nn.Embedding, embedding_dim: Size | None = None) -> Self:
        """Return an elastic layer that takes over the weights of ``embedding``; None: its features.

        Raises:
            ElasticError: ``embedding_dim`` does not fit, or ``embedding`` limits the norm of what it looks up.
        """
        layer = cls.__new__(cls)
        layer._adopt(embedding, embedding_dim)
        return layer

    def _adopt(self, embedding: nn.Embedding, features: Size | None) -> None:
        nn.Module.__init__(self)
        self.weight, self.padding_idx = embedding.weight, embedding.padding_idx
        self.scale_grad_by_freq, self.sparse = embedding.scale_grad_by_freq, embedding.sparse
        self.features = self._own("channel", features)
        if self.features is not None and self.features.full != embedding.embedding_dim:
            given = self.features.full
            raise ElasticError(f"features are {given} at most, but the embedding has {embedding.embedding_dim}.")
        if embedding.max_norm is not None:
            raise ElasticError("the embedding has max_norm, which would rescale features that are not in use.")
        self._follow(embedding)

    @property
    def num_embeddings(self) -> int:
        """Number of embeddings."""
        return self.weight.shape[0]

    @property
    def embedding_dim(self) -> int:
        """Number of features in use."""
        return self.weight.shape[1] if self.features is None else self.features.size()

    def axes(self) -> Iterator[Axis]:
        if self.features is not None:
            yield Axis("weight", 1, self.features)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Look up (...) integers. Returns: (..., features in use)."""
        weight = self._slice(None)
        sparse = self.sparse and weight is self.weight
        return F.embedding(tokens, weight, self.padding_idx, None, 2.0, self.scale_grad_by_freq, sparse)

    def _slice(self, plan: Any) -> torch.Tensor:
        return self.weight if self.features is None else take(self.weight, 1, self.features.spans(plan))

    def _extracted(self, extraction: Extraction) -> nn.Module:
        weight = self._slice(extraction.plan)
        n, size = weight.shape
        plain = nn.Embedding(n, size, self.padding_idx, None, 2.0, self.scale_grad_by_freq, self.sparse, device="meta")
        return fill(plain, {"weight": weight}, self)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
