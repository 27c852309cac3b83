"""Check that a search repeats itself: from its seed, in another process, from its journal, as a copy."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nas_tuners.runs.run import Run
from nas_tuners.testing.driving import Make, as_reported, history, pickled, proposed, ready, score
from nas_tuners.testing.expecting import expect, expect_error, expect_same, reporting
from nas_tuners.testing.processes import history_elsewhere
from nas_tuners.testing.spaces import named_space

_STOPS = (0, 1, 2, 13, 30, 47)  # events, after which a run is killed


@reporting
def check_seed(make: Make) -> None:
    """Propose the same again, made with the same arguments."""
    expect_same("proposals of a second search", history(ready(make), 60), history(ready(make), 60))


@reporting
def check_fresh_process(make: Make) -> None:
    """Propose the same in a fresh process."""
    search = make()
    there = history_elsewhere(search, trials=40)
    expect_same("proposals in a fresh process", there, history(ready(lambda: search), 40))


@reporting
def check_global_generators(make: Make) -> None:
    """Neither read nor change the global random generators."""
    undisturbed, search = history(ready(make), 40), ready(make)
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        seeded = _global_states()
        seen = history(search, 40)
        expect("whether the global generators are as they were", _global_states() == seeded, True)
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
    expect_same("proposals after the global generators were seeded", seen, undisturbed)


def _global_states() -> tuple[Any, ...]:
    state: Any = np.random.get_state()  # noqa: NPY002
    return random.getstate(), state[1].tolist()


@reporting
def check_copies(make: Make) -> None:
    """Go on as the original, as a copy and when it was pickled."""
    search, made = ready(make), make()
    expect_same("proposals of a copy", history(ready(lambda: copy.deepcopy(made)), 20), history(search, 20))
    copies = {"a copy": copy.deepcopy(search), "a pickled copy": pickled(search)}
    for how, copied in copies.items():
        kept = [(one.arguments, one.counts, one.best) for one in (copied, search)]
        expect(f"arguments, counts and best of {how}", *kept)
    wanted = history(search, 20)
    for how, copied in copies.items():
        expect_same(f"proposals of {how} that was made in the middle", history(copied, 20), wanted)


@reporting
def check_options(make: Make) -> None:
    """Keep options as JSON, from which the same search is made again."""
    search = make()
    read = json.loads(json.dumps(search.arguments))
    expect("options, written as JSON and read again", read, search.arguments)
    wanted = history(ready(make), 30)
    expect_same("proposals of a search of these options", history(ready(lambda: type(search)(**read)), 30), wanted)
    used = ready(make)
    history(used, 10)
    expect_same("proposals of fresh()", history(ready(used.fresh), 30), wanted)


@reporting
def check_setup(make: Make) -> None:
    """Search one space, in a mode that there is."""
    expect_error("ask() before setup()", lambda: make().ask(), RuntimeError)
    expect_error("the optimize_mode 'max'", lambda: make().setup(named_space(), "max"), ValueError)
    expect_error("a second setup()", lambda: ready(make).setup(named_space()), RuntimeError)


@reporting
def check_resume(make: Make) -> None:
    """Go on token for token when it is killed, and resumed from its journal."""
    with TemporaryDirectory(prefix="nas-check-") as folder:
        path = Path(folder, "journal.jsonl")
        run = Run.start(make(), named_space(), path=path)
        events = _drive(run)
        wanted, lines = run.search, path.read_bytes().splitlines(keepends=True)
        for stop in [at for at in _STOPS if at <= len(events)]:
            copied = Path(folder, f"killed_{stop}.jsonl")
            copied.write_bytes(b"".join(lines[: 1 + stop]))  # the header is first
            resumed = Run.resume(make(), copied)
            for event in events[stop:]:
                _repeat(resumed, event)
            what = f"after a kill at event {stop}"
            expect_same(f"proposals {what}", proposed(resumed.search), proposed(wanted))
            expect(f"counts {what}", resumed.search.counts, wanted.counts)
            expect(f"best {what}", resumed.search.best, wanted.best)
            resumed.close()
        run.close()


Event = tuple[str, int]
"""``ask`` with a number, ``report``, ``tell`` or ``fail`` with a uid."""


def _drive(run: Run) -> list[Event]:
    """Ask for a while, with three pending, results out of order, and failures among them. Returns: each event."""
    events: list[Event] = []
    for i in range(30):
        if not run.search.finished:
            events.append(("ask", 2 if i % 5 == 0 else 1))
            _repeat(run, events[-1])
        pending = run.search.pending
        if len(pending) > 3:
            for what in ("report", "fail" if i % 6 == 4 else "tell"):
                events.append((what, pending[i % 3].uid))
                _repeat(run, events[-1])
    return events


def _repeat(run: Run, event: Event) -> None:
    what, number = event
    if what == "ask":
        run.ask(number)
    elif what == "fail":
        run.fail(number, "crashed")
    elif what == "report":
        run.report(number, as_reported(run.search, score(run.search.trials[number].tokens) / 2), 1)
    else:
        run.tell(number, as_reported(run.search, score(run.search.trials[number].tokens)))
