"""Start a search of SANAS in an empty folder, or resume one from its journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_tuners.runs.journal import JOURNAL, Event, JournalError, has_begun, read
from nas_tuners.runs.run import Run, replay
from nas_tuners.sanas.nets import Nets, SANASError
from nas_tuners.search import Annealing, ConstraintError
from search_spaces import Space, SpaceError, Tokens
from search_spaces.cost.limits import Limit, Table, limits_of, table_of
from search_spaces.cost.table import CostTable
from search_spaces.cost.table_checks import compare_spaces
from search_spaces.files import write_atomically


def start_run(
    nets: Nets, numbers: dict[str, Any], cost_table: Table, input_shape: tuple[int, int, int] | None, save: Path | None
) -> Run:
    """Start a search; its journal goes to ``save``, if that is given."""
    if save is not None and has_begun(save):
        raise JournalError(
            f"{save} holds a search already: go on with load_checkpoint={str(save.parent)!r}, "
            "or give another save_checkpoint."
        )
    limits, given = limits_of(numbers["constraints"]), numbers["init_choices"] is not None
    if limits and cost_table is None:
        cost_table = nets.cost_table(input_shape)
    start = nets.space.encode(numbers["init_choices"]) if given else nets.initial_tokens()
    table = table_of(cost_table)
    missed = "" if table is None else _limits_missed(limits, table.arranged(nets.space), start)
    if missed and given:
        raise ConstraintError(f"init_tokens cost {missed}. Give others, or None to begin at random.")
    numbers = {**numbers, "init_choices": None if missed else nets.space.decode(start)}
    if numbers["init_temperature"] is None:
        numbers["init_temperature"] = 1.0 if given else 10.0
    search = Annealing(**numbers, cost_table=cost_table)
    return Run.start(search, nets.space, path=save, sanas=nets.to_json())


def _limits_missed(limits: Sequence[Limit], table: CostTable, tokens: Tokens) -> str:
    """Return the limits that an architecture does not keep, as text."""
    costs = [(limit, table.cost(limit.metric, tokens)) for limit in limits]
    return ", ".join(
        f"{cost:.10g} {limit.metric}, wanted {limit}" for limit, cost in costs if not limit.low <= cost <= limit.high
    )


def resume_run(nets: Nets, numbers: dict[str, Any], cost_table: Table, load: Path, save: Path | None) -> Run:
    """Resume a search from ``load``: in place, in a copy at ``save``, or without writing if ``save`` is None."""
    if not load.exists():
        raise JournalError(
            f"there is no search in {load.parent}: no {JOURNAL}. Leave load_checkpoint out to begin one."
        )
    events, size = read(load)
    _check_same_nets(nets, events[0], load)
    arguments = _merge_arguments(nets, numbers, cost_table, events[0], load)
    if save is None or save.resolve() != load.resolve():
        run = replay(_make_search(arguments, load), events, load)
        if save is None:
            return run
        if has_begun(save):
            raise JournalError(f"{save} holds a search already: give another save_checkpoint to go on with {load}.")
        write_atomically(save, load.read_bytes()[:size])
    return Run.resume(_make_search(arguments, save), save)


def _make_search(arguments: dict[str, Any], path: Path) -> Annealing:
    try:
        return Annealing(**arguments)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise JournalError(f"{path}, line 1: the arguments of the search do not fit: {error}") from None


def _check_same_nets(nets: Nets, header: Event, path: Path) -> None:
    saved, wanted = header.get("sanas"), nets.to_json()
    if saved is None:
        raise JournalError(f"{path} is a search, but not one of SANAS.")
    problems = [] if saved == wanted else [f"configs were {saved} in the checkpoint, {wanted} here"]
    try:
        space = Space.from_json(header["space"])
    except SpaceError as error:
        raise JournalError(f"{path}, line 1: the header does not fit: {error}") from None
    problems += compare_spaces(space, nets.space, "the checkpoint")
    if not problems and space.keys != nets.space.keys:
        problems = [f"the keys stand in another order in the checkpoint: {list(space.keys)}"]
    if problems:
        raise JournalError(f"{path} is of another search space:" + "".join(f"\n  {problem}" for problem in problems))


def _merge_arguments(
    nets: Nets, numbers: dict[str, Any], cost_table: Table, header: Event, path: Path
) -> dict[str, Any]:
    """Return the arguments of the search in a checkpoint, which those that are given again have to equal."""
    saved: dict[str, Any] = header["search"]["arguments"]
    missing = [name for name in numbers if name not in saved]
    if missing:
        raise JournalError(f"{path}, line 1: the header does not fit: its search has no {', '.join(missing)}.")
    usual = {"reduce_rate": 0.85, "seed": 0}
    other = [
        f"{name} was {saved[name]!r} in the checkpoint, is {value!r} here"
        for name, value in numbers.items()
        if value != usual.get(name) and value != saved[name]
    ]
    if other:
        raise SANASError(f"{path} brings its numbers with it: leave them out, or begin a new search.", other)
    return saved | ({} if cost_table is None else {"cost_table": table_of(cost_table)})
