"""How long a candidate of SANAS's MobileNetV2Space takes: built, counted and run once at 224 x 224.

Run: python -m tests.benchmarks.token_candidate            (seconds)
Prints the fastest of several, in processor time. Wanted: at most 0.25 s.
"""

from __future__ import annotations

import time

import torch

import search_spaces
from search_spaces.cost import count_macs


def main() -> None:
    torch.set_num_threads(1)
    tokens, image = search_spaces.initial_tokens("MobileNetV2Space"), torch.rand(1, 3, 224, 224)
    seconds = []
    for _ in range(20):
        started = time.process_time()
        net = search_spaces.build("MobileNetV2Space", tokens)
        count_macs(net, (3, 224, 224))
        with torch.no_grad():
            net.eval()(image)
        seconds.append(time.process_time() - started)
    print(f"a candidate of MobileNetV2Space: {min(seconds):.3f} s, the fastest of {len(seconds)}")


if __name__ == "__main__":
    main()
