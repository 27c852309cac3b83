"""Search spaces of PaddleSlim's SANAS: networks that a list of tokens describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from search_spaces.paddleslim.codec import initial_tokens as initial_tokens
    from search_spaces.paddleslim.costs import cost_table_of as cost_table_of

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".codec": ("initial_tokens",),
        ".costs": ("cost_table_of",),
    },
)
