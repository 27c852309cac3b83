"""Multi-head attention with elastic heads (DynaBERT, Hou et al., NeurIPS 2020, arXiv:2004.04037).

Differs: heads are removed from the last on, as channels are; the embedding keeps its width unless it has a layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extraction
from mutators.elastic.layers.layer import Axis, Elastic, Size, check_size, fill, full_size
from mutators.elastic.layers.linear import ElasticLinear
from mutators.elastic.layers.width import Channels, Width, take


class Attention(nn.Module):
    """A multi-head attention whose heads need not fill the embedding; called as ``nn.MultiheadAttention`` is.

    Args:
        in_proj_weight: (3 * heads * head_dim, embed), for query, key and value, one below the other.
        in_proj_bias: (3 * heads * head_dim,) or None.
        out_proj: from heads * head_dim to embed features.
        head_dim: features of a head.
        dropout: of the attention weights, in training.
        batch_first: whether tensors are (N, L, embed), not (L, N, embed).
    """

    _qkv_same_embed_dim = False  # keeps TransformerEncoderLayer from computing it all by itself, out of our weights

    def __init__(
        self,
        in_proj_weight: nn.Parameter,
        in_proj_bias: nn.Parameter | None,
        out_proj: nn.Module,
        head_dim: int,
        dropout: float,
        batch_first: bool,
    ) -> None:
        super().__init__()
        self.in_proj_weight, self.in_proj_bias, self.out_proj = in_proj_weight, in_proj_bias, out_proj
        self.head_dim, self.dropout, self.batch_first = head_dim, dropout, batch_first

    @property
    def num_heads(self) -> int:
        """Number of heads in use."""
        return self._projection()[0].shape[0] // (3 * self.head_dim)

    @property
    def embed_dim(self) -> int:
        """Number of features in use."""
        return self._projection()[0].shape[1]

    kdim = vdim = embed_dim

    def _projection(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weight and bias of the input projection in use."""
        return self.in_proj_weight, self.in_proj_bias

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention.

        Args:
            query, key, value: (N, L, embed), (N, S, embed) twice; (L, N, embed) unless batch_first; or without N.
            key_padding_mask: (N, S), True or -inf where a key is ignored.
            need_weights: whether to return the attention weights.
            attn_mask: (L, S) or (N * heads, L, S), of all heads of the largest layer; True or -inf forbids.
            average_attn_weights: over the heads.
            is_causal: a hint that attn_mask is causal; ignored, since the mask is used.

        Returns: outputs shaped as query; and weights (N, L, S) or (N, heads, L, S), or None.
        """
        inputs, batched = [query, key, value], query.dim() == 3
        if not batched:
            inputs = [x.unsqueeze(0) for x in inputs]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        weight, bias = self._projection()
        biases: Sequence[torch.Tensor | None] = (None,) * 3 if bias is None else bias.chunk(3)
        heads = weight.shape[0] // (3 * self.head_dim)
        q, k, v = (
            F.linear(x, w, b).view(*x.shape[:2], heads, self.head_dim).transpose(1, 2)
            for x, w, b in zip(inputs, weight.chunk(3), biases, strict=True)
        )
        mask = _mask(attn_mask, key_padding_mask, q, heads)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, dropout) if dropout else weights
            attended = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), weights
        return out if self.batch_first else out.transpose(0, 1), weights


class ElasticMultiheadAttention(Elastic, Attention):
    """A ``MultiheadAttention`` that runs with its first heads. Its choice, unless a width is given: ``heads``.

    :meth:`of` makes one from a plain layer. A sub-network with fewer heads than the largest is extracted as an
    :class:`Attention`, since in torch's the heads always fill the embedding.

    Args:
        embed_dim: of input and output: a number, several to choose from (its choice: ``channel``), or a width.
        num_heads: a number, several to choose from, or a width; the largest divides the largest ``embed_dim``.
        dropout, bias, batch_first: as for ``nn.MultiheadAttention``.
    """

    def __init__(
        self,
        embed_dim: Size,
        num_heads: int | Sequence[int] | Width,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
    ) -> None:
        full, heads = full_size(embed_dim), full_size(num_heads)
        if full % heads:
            raise ElasticError(f"embed_dim {full} at most is no multiple of the {heads} heads: give other numbers.")
        nn.Module.__init__(self)
        plain = nn.MultiheadAttention(full, heads, dropout, bias, batch_first=batch_first)
        self._adopt(plain, None if isinstance(num_heads, int) else num_heads, embed_dim)

    @classmethod
    def of(
        cls, attention: nn.MultiheadAttention, heads: Sequence[int] | Width | None = None, embed: Size | None = None
    ) -> Self:
        """Return an elastic layer that takes over the parameters of ``attention``.

        Args:
            attention: with keys and values as wide as queries, without bias_kv and zero_attn.
            heads: numbers of heads to choose from, or a width; None: all.
            embed: the layout of input and output; None: fixed.

        Raises:
            ElasticError: ``attention`` is of another kind, or sizes do not fit it.
        """
        problems = check_size("embed", embed, attention.embed_dim)
        problems += check_size("heads", heads or None, attention.num_heads)
        if not attention._qkv_same_embed_dim:
            problems.append("keys or values have another width than queries")
        if attention.bias_k is not None or attention.add_zero_attn:
            problems.append("it has add_bias_kv or add_zero_attn")
        if problems:
            raise ElasticError("this attention cannot be elastic like this:", problems)
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._adopt(attention, heads, embed)
        return layer

    def _adopt(self, attention: nn.MultiheadAttention, heads: Sequence[int] | Width | None, embed: Size | None) -> None:
        self.head_dim, self.dropout, self.batch_first = attention.head_dim, attention.dropout, attention.batch_first
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        if heads is not None and not isinstance(heads, Width):
            self.heads = ValueChoice(heads)
            heads = Width.of(self.heads, list(heads))
        part = (Width(attention.num_heads) if heads is None else heads, self.head_dim)
        self.projected, self.embed = Channels(part, part, part), self._own("channel", embed)
        self.out_proj = ElasticLinear.of(attention.out_proj, Channels(part), self.embed)
        self._follow(attention)

    def axes(self) -> Iterator[Axis]:
        yield Axis("in_proj_weight", 0, self.projected)
        if self.in_proj_bias is not None:
            yield Axis("in_proj_bias", 0, self.projected)
        if self.embed is not None:
            yield Axis("in_proj_weight", 1, self.embed, reads=True)

    def _projection(self, plan: Any = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        spans = self.projected.spans(plan)
        weight = take(self.in_proj_weight, 0, spans)
        if self.embed is not None:
            weight = take(weight, 1, self.embed.spans(plan))
        return weight, None if self.in_proj_bias is None else take(self.in_proj_bias, 0, spans)

    def _extracted(self, extraction: Extraction) -> nn.Module:
        weight, bias = self._projection(extraction.plan)
        out: nn.Linear = extraction.copy(self.out_proj)  # type: ignore[assignment]  # it becomes plain, too
        embed, heads = weight.shape[1], weight.shape[0] // (3 * self.head_dim)
        plain: nn.MultiheadAttention | Attention
        if heads * self.head_dim == embed:
            plain = nn.MultiheadAttention(embed, heads, self.dropout, bias is not None, batch_first=self.batch_first)
            plain.out_proj.weight, plain.out_proj.bias = out.weight, out.bias
        else:
            empty = nn.Parameter(torch.empty(0))
            parts = empty, None if bias is None else empty, out
            plain = Attention(*parts, self.head_dim, self.dropout, self.batch_first)
        return fill(plain, {"in_proj_weight": weight, "in_proj_bias": bias}, self)


def _mask(
    attention: torch.Tensor | None, padding: torch.Tensor | None, q: torch.Tensor, heads: int
) -> torch.Tensor | None:
    """Return both masks as one to add to the scores, (N or 1, heads or 1, L or 1, S); None: there is none."""
    found = None if padding is None else _additive(padding, q)[:, None, None]
    if attention is None:
        return found
    mask = _additive(attention, q)
    mask = mask.view(len(q), -1, *mask.shape[1:])[:, :heads] if mask.dim() == 3 else mask[None, None]
    return mask if found is None else mask + found


def _additive(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
