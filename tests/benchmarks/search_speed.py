"""How fast are the searches? Ask and tell, flatness, replay, proposals under constraints, limits that nothing keeps.

A limit that nothing keeps is to be told within five seconds of processor time.

python -m tests.benchmarks.search_speed --trials 100000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nas_tuners.runs.run import load, make_header
from nas_tuners.search import Annealing, ConstraintError, Evolution, RandomSearch, Search
from search_spaces import Space
from search_spaces.cost import CostTable

SPACE = Space.from_json({f"k{i}": {"_type": "layer_choice", "_value": list("abcd")} for i in range(20)})
SEARCHES: dict[str, Callable[[], Search]] = {
    "RandomSearch": RandomSearch,
    "Annealing": Annealing,
    "Evolution": Evolution,
    "Evolution generation": lambda: Evolution(mode="generation"),
    "Evolution regularized": lambda: Evolution(regularized=True),
}


def costs() -> CostTable:
    """About ShuffleNet's multiply-adds: 38.6 M fixed, 270 to 399 M in all, four options in each of twenty blocks."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(20, 8.0))
    rows = np.outer(shares, [231.4e6, 275.1e6, 301.8e6, 360.4e6]) * rng.uniform(0.99, 1.01, (20, 4))
    options = {key: list(map(int, row)) for key, row in zip(SPACE.keys, rows, strict=True)}
    return CostTable(SPACE, {"macs": 38_555_648}, {"macs": options})


def ask_and_tell(search: Search, trials: int) -> tuple[float, float]:
    """Returns: trials a second, and how many times longer the last tenth took than the second."""
    search.setup(SPACE)
    marks = [time.perf_counter()]
    for _ in range(10):
        for _ in range(trials // 10):
            proposal = search.ask(1)[0]
            search.tell(proposal.uid, float(sum(proposal.tokens)))
        marks.append(time.perf_counter())
    return trials / (marks[-1] - marks[0]), (marks[-1] - marks[-2]) / (marks[2] - marks[1])


def replay_seconds(search: Search) -> float:
    """Seconds to read the journal of a search that has ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        events = [{"event": "header", "format": 1, **make_header(search, "maximize")}]
        for trial in search.trials.values():
            events.append({"event": "ask", "uid": trial.uid, "tokens": [trial.tokens]})
            events.append({"event": "tell", "uid": trial.uid, "metrics": trial.metrics, "job": None})
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        began = time.perf_counter()
        run, _ = load(path)
        assert run.search.counts.told == search.counts.told
        return time.perf_counter() - began


def constrained(limit: float, table: CostTable, tell: bool) -> str:
    """Proposals a second, asked for in batches of 1,000."""
    search = Evolution(constraints={"macs": limit}, cost_table=table)
    began = time.perf_counter()
    search.setup(SPACE)
    ready, spent, asked = time.perf_counter() - began, 0.0, 0
    for _ in range(50):
        began = time.perf_counter()
        proposals = search.ask(1000)
        spent += time.perf_counter() - began
        asked += len(proposals)
        assert (table.costs("macs", [p.tokens for p in proposals]) <= limit).all()
        if tell:
            for proposal in proposals:
                search.tell(proposal.uid, float(sum(proposal.tokens)))
    told = "with results" if tell else "none told   "
    what = f"macs <= {limit / 1e6:.1f} M, share {search.feasible_share:.3g}, {told}"
    return f"{what} {asked / spent:10,.0f}/s, set-up {ready:.2f} s"


def chain() -> CostTable:
    """Twenty keys of five options; each costs together with the next."""
    space = _space(20)
    pairs = zip(space.keys, space.keys[1:], strict=False)
    rng = np.random.default_rng(0)
    return CostTable(space, {"macs": 0}, {}, joint={"macs": [(p, rng.integers(1, 10**7, (5, 5))) for p in pairs]})


def dense() -> CostTable:
    """25 keys of five options, and 20 terms of any four of them."""
    space, rng = _space(25), np.random.default_rng(0)
    quads = [[space.keys[key] for key in rng.choice(25, 4, replace=False)] for _ in range(20)]
    options = {"macs": {key: list(range(5)) for key in space.keys}}
    joint = {"macs": [(quad, rng.integers(0, 10**6, (5,) * 4)) for quad in quads]}
    return CostTable(space, {"macs": 0}, options, joint=joint)


def _space(keys: int, options: str = "abcde") -> Space:
    return Space.from_json({f"k{i}": {"_type": "layer_choice", "_value": list(options)} for i in range(keys)})


def summing(table: CostTable) -> str:
    """Microseconds for one cost, and costs a second in batches of 1,000."""
    rows = table.space.sample_tokens(np.random.default_rng(1), 1000)
    row = tuple(rows[0].tolist())
    one = min(timeit.repeat(lambda: table.cost("macs", row), number=10_000, repeat=5)) / 10_000
    many = min(timeit.repeat(lambda: table.costs("macs", rows), number=20, repeat=5)) / 20
    return f"{len(table.space)} keys, {len(table.terms('macs'))} terms: {1e6 * one:.2f} us, {1000 / many:,.0f}/s"


def jointly(table: CostTable, deviations: float) -> str:
    """Proposals a second of RandomSearch, for a limit so many standard deviations below the mean."""
    sums = table.costs("macs", table.space.sample_tokens(np.random.default_rng(1), 2**17))
    limit = float(sums.mean() - deviations * sums.std())
    search = RandomSearch(constraints={"macs": limit}, cost_table=table)
    began = time.perf_counter()
    search.setup(table.space)
    ready = time.perf_counter()
    asked = [proposal.tokens for _ in range(5) for proposal in search.ask(1000)]
    spent = time.perf_counter() - ready
    assert (table.costs("macs", asked) <= limit).all() and len(set(asked)) == 5000
    return f"share {search.feasible_share:.3g} {len(asked) / spent:10,.0f}/s, set-up {ready - began:.2f} s"


def impossible(table: CostTable, limits: Mapping[str, float | list[float | None]]) -> str:
    """Processor time until a search says that nothing keeps the limits, or hardly anything."""
    began = time.process_time()
    try:
        RandomSearch(constraints=limits, cost_table=table).setup(table.space)
    except ConstraintError as error:
        return f"{time.process_time() - began:.2f} s: {error}"
    raise AssertionError(f"something keeps {limits}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    options = parser.parse_args()
    print(f"{'20 keys x 4, ask(1) and tell':32}{'trials/s':>12}{'last/second tenth':>20}{'replay s':>10}")
    for name, make in SEARCHES.items():
        search = make()
        rate, ratio = ask_and_tell(search, options.trials)
        print(f"{name:32}{rate:12,.0f}{ratio:20.2f}{replay_seconds(search):10.1f}", flush=True)
    print("\nEvolution under constraints, batches of 1,000")
    table = costs()
    sums = table.costs("macs", SPACE.sample_tokens(np.random.default_rng(1), 2**17))
    for limit in (330e6, float(sums.mean() - 4.6 * sums.std())):
        for tell in (False, True):
            print(constrained(limit, table, tell), flush=True)
    print("\nJoint costs: one, and many; RandomSearch under a limit, batches of 1,000")
    for made in (chain(), dense()):
        print(summing(made), flush=True)
        for deviations in (0, 3.0, 4.5):
            print(f"  {jointly(made, deviations)}", flush=True)
    print("\nLimits that nothing keeps, or hardly anything")
    nine, rng = _space(25, "abcdefghi"), np.random.default_rng(1)
    wide = {key: rng.integers(10**5, 3 * 10**7, 9).tolist() for key in nine.keys}
    apart = {"macs": {key: [0, 1, 2, 3] for key in SPACE.keys}, "params": {key: [3, 2, 1, 0] for key in SPACE.keys}}
    for made, limits in (
        (table, {"macs": table.bounds("macs").low - 1}),
        (CostTable(nine, {"macs": 0}, {"macs": wide}), {"macs": [300_000_000, 300_000_001]}),
        (CostTable(SPACE, {"macs": 0, "params": 0}, apart), {"macs": 20, "params": 20}),
        *((made, {"macs": made.bounds("macs").low - 1}) for made in (chain(), dense())),
        *((made, {"macs": [made.bounds("macs").high + 1, None]}) for made in (chain(), dense())),
    ):
        print(impossible(made, limits), flush=True)


if __name__ == "__main__":
    main()
