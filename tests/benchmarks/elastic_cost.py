"""How long do a table of an elastic network's costs and one look into it take? And how well do its milliseconds fit?

python -m tests.benchmarks.elastic_cost [--latency] [--size 224]
"""

from __future__ import annotations

import argparse
import time
import timeit

import numpy as np
import torch

import search_spaces
from mutators import extract
from mutators.costs import count_macs, count_params
from mutators.costs.elastic_table import cost_table
from nas_tuners.search import Evolution
from search_spaces.cost import CostTable

LIMITS_US = 5.0


def looking_up(table: CostTable, metric: str) -> str:
    """Microseconds for one sub-network by itself, and each of a thousand at once."""
    rows = table.space.sample_tokens(np.random.default_rng(1), 1000)
    row = tuple(rows[0].tolist())
    one = min(timeit.repeat(lambda: table.cost(metric, row), number=10_000, repeat=5)) / 10_000
    many = min(timeit.repeat(lambda: table.costs(metric, rows), number=20, repeat=5)) / 20
    verdict = "ok" if 1e6 * one <= LIMITS_US else "TOO SLOW"
    return f"  {metric:10} {1e6 * one:6.2f} us one ({verdict}, at most {LIMITS_US:g}), {1e3 * many:6.2f} us of many"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", action="store_true", help="measure milliseconds, too")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = (3, options.size, options.size)
    for name in ("ofa_mobilenet_v3", "ofa_resnet50"):
        net = search_spaces.build(name, num_classes=10)
        began = time.perf_counter()
        table = cost_table(net, shape, checks=0)
        spent = time.perf_counter() - began
        wrong = 0
        for tokens in table.space.sample_tokens(np.random.default_rng(2), 10).tolist():
            plain = extract(net, table.space.decode(tokens))
            wrong += table.cost("macs", tokens) != count_macs(plain, shape)
            wrong += table.cost("params", tokens) != count_params(plain)
        print(f"{name}: table in {spent:.1f} s, {wrong} of 20 costs of extracted networks differ", flush=True)
        if options.latency:
            began = time.perf_counter()
            table = cost_table(net, shape, ("macs", "params", "latency_ms"), checks=0, threads=1)
            held_out = table.about["latency_ms"]["held_out"]
            low, high = held_out["measured_range_ms"]
            print(
                f"  milliseconds in {time.perf_counter() - began:.0f} s, off by "
                f"{held_out['mean_absolute_error_percent']:.1f} % on {held_out['architectures']} whole networks of "
                f"{low:.1f} to {high:.1f} ms, rank correlation {held_out['rank_correlation']:.2f}"
            )
        for metric in table.metrics:
            print(looking_up(table, metric), flush=True)
        bounds = table.bounds("macs")
        began = time.perf_counter()
        search = Evolution(50, constraints={"macs": (bounds.low + bounds.high) / 2}, cost_table=table)
        search.setup(table.space)
        ready = time.perf_counter()
        asked = len(search.ask(2000))
        print(
            f"  evolution within half: set up in {ready - began:.2f} s, {asked / (time.perf_counter() - ready):,.0f}/s"
        )


if __name__ == "__main__":
    main()
