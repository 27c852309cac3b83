"""PaddleSlim's SANAS for PyTorch: simulated annealing on lists of tokens, in a loop that is yours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from nas_tuners.sanas.sanas import SANAS as SANAS
    from nas_tuners.sanas.sanas import SANASError as SANASError
    from nas_tuners.sanas.sanas import SearchFinished as SearchFinished

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".sanas": (
            "SANAS",
            "SANASError",
            "SearchFinished",
        ),
    },
)
