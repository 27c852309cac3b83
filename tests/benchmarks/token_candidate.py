"""How long a candidate of SANAS's MobileNetV2Space takes: built, counted and run once at 224 x 224; and its cost table.

Run: python -m tests.benchmarks.token_candidate            (seconds)
Prints the fastest of several, in processor time. Wanted: a candidate in at most 0.25 s, a table in 1 s, a cost out of
it in 5 us.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

import search_spaces
from mutators.costs import count_macs
from search_spaces import paddleslim
from search_spaces.cost import CostTable


def fastest(runs: int, function: Callable[[], object]) -> float:
    """Seconds of processor time."""
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)
    return min(seconds)


def main() -> None:
    torch.set_num_threads(1)
    tokens, image = paddleslim.initial_tokens("MobileNetV2Space"), torch.rand(1, 3, 224, 224)

    @torch.no_grad()
    def candidate() -> None:
        net = search_spaces.build("MobileNetV2Space", tokens)
        count_macs(net, (3, 224, 224))
        net.eval()(image)

    def table() -> CostTable:
        return paddleslim.cost_table_of("MobileNetV2Space", (3, 224, 224))

    made, row = table(), tuple(tokens)
    print(f"a candidate of MobileNetV2Space: {fastest(20, candidate):.3f} s")
    print(f"its cost table: {fastest(3, table):.3f} s")
    one = fastest(50, lambda: [made.cost("macs", row) for _ in range(500)]) / 500
    print(f"a cost out of that: {1e6 * one:.2f} us")


if __name__ == "__main__":
    main()
