"""Check what a search proposes: architectures of its space, within its limits, none twice, until there are no more."""

from __future__ import annotations

import json

from nas_tuners.testing.driving import Make, as_reported, history, most, proposed, ready, score
from nas_tuners.testing.expecting import expect, expect_distinct, reporting
from nas_tuners.testing.spaces import SPACES, named_space
from search_spaces.cost.table import CostTable

_SMALL = 100  # architectures, up to which a space is exhausted
_LIMITS = (10, 20)


@reporting
def check_proposals(make: Make) -> None:
    """Propose architectures of the space, and none twice, whatever nests in it."""
    for name in SPACES:
        space = named_space(name)
        search = ready(make, space)
        seen = history(search, 60)
        expect_distinct(f"proposals in the space {name!r}", seen)
        expect(f"number of proposals in the space {name!r}", len(seen), most(search, 60))
        search.ask()
        for trial in search.trials.values():
            choices = json.loads(json.dumps(trial.proposal.choices))
            expect(f"tokens of {choices} in the space {name!r}", trial.tokens, space.encode(choices))


@reporting
def check_exhaustion(make: Make) -> None:
    """Propose all of a small space, then nothing more."""
    for name in SPACES:
        space = named_space(name)
        if space.size > _SMALL:
            continue
        search, where = ready(make, space), f"in the space {name!r}"
        while proposals := search.ask(3):
            for proposal in proposals:
                search.tell(proposal.uid, as_reported(search, score(proposal.tokens)))
        wanted = most(search, space.size)
        expect(f"whether it is finished {where}", search.finished, True)
        expect(f"whether it is exhausted {where}", search.exhausted, wanted == space.size)
        expect(f"distinct architectures {where}", len(set(proposed(search))), wanted)
        expect(f"results {where}", search.counts.told, wanted)
        expect(f"proposals after the last one {where}", search.ask() + search.ask(5), [])
        best = max(map(score, proposed(search)))
        expect(f"best score {where}", search.best and search.best.score, best)


@reporting
def check_limits(make: Make) -> None:
    """Keep limits on costs, if it takes ``constraints`` and a ``cost_table``."""
    made, space = make(), named_space()
    if not {"constraints", "cost_table"} <= made.arguments.keys():
        return
    table = CostTable(space, {"macs": 0}, {"macs": {key: [0, 1, 2, 3] for key in space.keys}})
    limited = {**made.arguments, "constraints": {"macs": list(_LIMITS)}, "cost_table": table}
    search = ready(lambda: type(made)(**limited))
    seen = history(search, 60)
    expect("number of proposals within limits", len(seen), most(search, 60))
    low, high = _LIMITS
    expect(f"proposals that do not cost {low} to {high}", [t for t in seen if not low <= sum(t) <= high], [])


@reporting
def check_batches(make: Make) -> None:
    """Propose as many at once as it is asked for."""
    search = ready(make)
    for size in (1, 7, 60):
        wanted = most(search, search.counts.asked + size) - search.counts.asked
        batch = search.ask(size)
        expect(f"number of proposals of ask({size})", len(batch), wanted)
        for proposal in batch:
            search.tell(proposal.uid, as_reported(search, score(proposal.tokens)))
    expect_distinct("proposals in batches", proposed(search))


@reporting
def check_pending(make: Make) -> None:
    """Propose 300 architectures before it is told a result."""
    search = ready(make)
    asked = [proposal for _ in range(300) for proposal in search.ask()]
    wanted = most(search, 300)
    expect("number of proposals before a result", len(asked), wanted)
    expect_distinct("proposals before a result", [proposal.tokens for proposal in asked])
    for proposal in reversed(asked):
        search.tell(proposal.uid, as_reported(search, score(proposal.tokens)))
    counts = search.counts
    expect("trials asked for, told, pending", (counts.asked, counts.told, counts.pending), (wanted, wanted, 0))
