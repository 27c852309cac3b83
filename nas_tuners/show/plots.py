"""Draw a run: its best so far, its metric against a cost, and the options that it tried.

matplotlib is only imported when something is drawn: ``pip install "nas-tuners[plots]"``.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from nas_tuners.runs.front import pareto_front
from nas_tuners.runs.journal import Event
from nas_tuners.runs.run import Run
from nas_tuners.search.records import Trial
from nas_tuners.show.plotdata import (
    Costs,
    Points,
    Shares,
    collect_costs,
    collect_points,
    count_shares,
    expected_best,
    running_best,
    visible_range,
)
from nas_tuners.show.style import COLOURS, INK, PlotError, check_picture, drawing_plain_text, set_style, write_picture
from nas_tuners.show.text import describe_no_result, describe_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_GREY, _BEST, _RED = "#8a8f98", "#0b6e99", "#c0392b"
_COLUMNS, _MOST_KEYS = 5, 40
_DENSE = {"handlelength": 0.7, "labelspacing": 0.25, "handletextpad": 0.4}
_WIDTH, _TOP, _ROW = 12.0, 4.4, 1.75  # inches: the page, the upper panels, a row of keys


def plot(run: Run, header: Event, path: str | PathLike[str], cost: str | None = None) -> Path:
    """Draw a run to a file, which is written whole or not at all.

    Args:
        run: as :func:`nas_tuners.runs.run.load` reads it.
        header: of its journal.
        path: with the suffix .png, .svg or .pdf.
        cost: what to draw the metric against: a number that the trials reported, or a metric of the run's cost table.
            None: of a search with several objectives the first two, with their front; of another the first of macs,
            params, latency_ms and the others that is known; no such panel if none is.

    Returns: the file.

    Raises:
        PlotError: the suffix is unknown, matplotlib is missing, there is no result yet, or ``cost`` is unknown.
    """
    path = Path(path)
    check_picture(path)
    told = sorted((t for t in run.search.trials.values() if t.state == "told"), key=lambda t: t.resolved)
    if not told:
        raise PlotError(f"the run has {describe_no_result(run)}; nothing to draw.")
    counted = [trial for trial in told if not trial.provisional]
    known = collect_costs(run, header, counted)
    if cost is not None and cost not in known:
        there_are = f"known are {', '.join(known)}" if known else "no cost is known of these trials"
        raise PlotError(f"cannot draw against {cost!r}: {there_are}.")
    points = None if cost else collect_points(run, header, counted)
    shown = None if points else known.get(cost or next(iter(known), ""))
    with drawing_plain_text():
        write_picture(_make_figure(run, header, told, shown, points), path)
    return path


def _make_figure(run: Run, header: Event, told: list[Trial], costs: Costs | None, points: Points | None) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = _most_changed(count_shares(run.space, told))
    rows = -(-len(shown) // _COLUMNS)
    heights = [_TOP, 0.9 + rows * _ROW] if rows else [_TOP]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    upper, *lower = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    panels = upper.subplots(1, 1 if costs is None and points is None else 2, squeeze=False)[0]
    upper.suptitle(_title(run, header), fontsize=11, color=INK)
    _draw_progress(panels[0], run, header, told)
    if costs is not None:
        _draw_costs(panels[1], run, [trial for trial in told if not trial.provisional], costs)
    if points is not None:
        _draw_points(panels[1], points)
    if lower:
        _draw_shares(lower[0], run, shown, rows)
    return figure


def _title(run: Run, header: Event) -> str:
    search, counts = header["search"], run.search.counts
    results = f"{counts.told} result{'s' * (counts.told != 1)}"
    failed = f", {counts.failed} failed" if counts.failed else ""
    failed = f", {counts.stopped} stopped early{failed}" if counts.stopped else failed
    best, seed = run.search.best, search["arguments"].get("seed")
    found = f"still in {run.phase}" if best is None else f"best {describe_score(best)} (uid {best.uid})"
    return f"{search['name']}, seed {seed}: {results}{failed}; {found}"


def _draw_progress(axes: Axes, run: Run, header: Event, told: list[Trial]) -> None:
    """Draw every result, the best so far, failures at the foot; for a random search also the expected best."""
    from matplotlib.ticker import MaxNLocator

    sign = _sign(run)
    done = sorted((t for t in run.search.trials.values() if t.resolved > 0), key=lambda t: t.resolved)
    at = {trial.uid: place for place, trial in enumerate(done, 1)}
    values = [sign * trial.score for trial in told]
    low, high = visible_range(values, sign)
    places = [at[trial.uid] for trial in told]
    early = [(at[t.uid], sign * t.score) for t in told if t.provisional]
    counted = [(at[t.uid], sign * t.score) for t in told if not t.provisional]
    if early:
        x, y = zip(*early, strict=True)
        axes.scatter(x, y, s=14, color=_GREY, alpha=0.3, linewidths=0, label="result of a phase")
    if counted:
        x, y = zip(*counted, strict=True)
        axes.scatter(x, y, s=14, color=_GREY, alpha=0.7, linewidths=0, label="result", zorder=2)
    over = [(at[t.uid], sign * t.score) for t in told if t.violation > 0]
    if over:
        x, y = zip(*over, strict=True)
        axes.scatter(x, y, s=26, facecolors="none", edgecolors=_RED, lw=0.8, label="beyond the limits")
    kept = [(at[t.uid], sign * t.score) for t in told if not t.provisional and t.violation == 0]
    if kept:
        x, y = zip(*kept, strict=True)
        best = running_best(y, sign)
        axes.step([*x, len(done)], [*best, best[-1]], where="post", color=_BEST, lw=2, label="best so far", zorder=3)
    if header["search"]["name"] == "RandomSearch" and len(values) > 1:
        expected = expected_best(values, sign)
        axes.plot(places, expected, color=INK, lw=1, ls="--", label="expected best of so many draws")
    failed = [at[trial.uid] for trial in done if trial.state == "failed"]
    _mark(axes, failed, 0.02, "x", f"failed ({len(failed)})")
    stopped = [at[trial.uid] for trial in done if trial.state == "stopped"]
    _mark(axes, stopped, 0.02, "|", f"stopped early ({len(stopped)})")
    beyond = [place for place, value in zip(places, values, strict=True) if not low <= value <= high]
    height, marker = (0.97, "^") if sign < 0 else (0.06, "v")
    _mark(axes, beyond, height, marker, f"worse, off the scale ({len(beyond)})")
    axes.set(xlabel="trials with a result or a failure, in order of time", ylabel=_metric(run), ylim=(low, high))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("Best so far", fontsize=10, loc="left", pad=22)
    set_style(axes)


def _mark(axes: Axes, places: list[int], height: float, marker: str, label: str) -> None:
    if places:
        across = axes.get_xaxis_transform()  # x in trials, y as a share of the panel
        heights = [height] * len(places)
        axes.scatter(places, heights, s=22, marker=marker, color=_RED, lw=1, transform=across, label=label, zorder=4)


def _draw_costs(axes: Axes, run: Run, told: list[Trial], costs: Costs) -> None:
    """Draw every result by its cost, coloured by time; the Pareto front; the limits of the search."""
    sign = _sign(run)
    values, x = [sign * trial.score for trial in told], [cost / costs.scale for cost in costs.values]
    dots = axes.scatter(x, values, s=16, c=range(1, len(x) + 1), cmap="viridis_r", alpha=0.85, linewidths=0, zorder=2)
    axes.figure.colorbar(dots, ax=axes, label="number of the result", pad=0.01, aspect=30)
    kept = [i for i, trial in enumerate(told) if trial.violation == 0]
    ends = [kept[i] for i in pareto_front([x[i] for i in kept], [values[i] for i in kept], sign)]
    along, up = [x[i] for i in ends], [values[i] for i in ends]
    label = f"Pareto front ({len(ends)})"
    axes.step(along, up, where="post", color=_RED, lw=1.5, marker="o", ms=4, label=label, zorder=3)
    if kept:
        best = max(kept, key=lambda i: (told[i].score, -i))
        at = [x[best]], [values[best]]
        axes.scatter(*at, s=130, marker="*", color=_BEST, edgecolors="white", label="best", zorder=4)
    for end in costs.limits:
        axes.axvline(end / costs.scale, color=INK, lw=1, ls=":", label="limit")
    axes.set(xlabel=costs.label, ylabel=_metric(run), ylim=visible_range(values, sign))
    axes.set_title(f"Metric against {costs.name}", fontsize=10, loc="left", pad=22)
    set_style(axes)


def _draw_points(axes: Axes, points: Points) -> None:
    """Draw every result in two objectives, coloured by time, and the front."""
    number = range(1, len(points.x) + 1)
    dots = axes.scatter(points.x, points.y, s=16, c=number, cmap="viridis_r", alpha=0.85, linewidths=0, zorder=2)
    axes.figure.colorbar(dots, ax=axes, label="number of the result", pad=0.01, aspect=30)
    front = sorted((points.x[at], points.y[at]) for at in points.front)
    along, up = zip(*front, strict=True)
    axes.plot(along, up, color=_RED, lw=1.5, marker="o", ms=4, label=f"front ({len(front)})", zorder=3)
    axes.set(xlabel=points.across, ylabel=points.up)
    axes.set_title("Objectives", fontsize=10, loc="left", pad=22)
    set_style(axes)


def _draw_shares(area: SubFigure, run: Run, shown: list[Shares], rows: int) -> None:
    """Draw a small panel for each key: in each quarter of the run, the share of each option."""
    alike = all(shares.names == shown[0].names for shares in shown)
    panels = area.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    for axes, shares in zip(panels, shown, strict=False):
        _draw_key(axes, shares, named=not alike)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    keys = sum(radix > 1 for radix in run.space.radices)
    more = f" ({len(shown)} of {keys} keys: those that changed most)" if len(shown) < keys else ""
    area.suptitle(f"Share of each option among the results of each quarter of the run{more}", fontsize=10, color=INK)
    if alike:
        handles, labels = panels[0].get_legend_handles_labels()
        labels = [short(label, 24) for label in labels]
        area.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)), fontsize=8, frameon=False)


def _draw_key(axes: Axes, shares: Shares, named: bool) -> None:
    quarters = list(range(1, len(shares.table[0]) + 1))
    base = [0.0] * len(quarters)
    for row, name, colour in zip(shares.table, shares.names, COLOURS, strict=False):
        axes.bar(quarters, row, bottom=base, width=0.92, color=colour, label=name, edgecolor="white", linewidth=0.4)
        base = [below + share for below, share in zip(base, row, strict=True)]
    if named:  # from the top, as they stand in the bars
        handles, labels = axes.get_legend_handles_labels()
        labels = [short(label, 14) for label in labels]
        beside = axes.legend(handles[::-1], labels[::-1], loc="upper left", fontsize=6, frameon=False, **_DENSE)
        beside.set_bbox_to_anchor((0.97, 1.04), axes.transAxes)
    right = len(quarters) + 0.55
    axes.set(ylim=(0, 1), xlim=(0.45, right), xticks=quarters, yticks=[0, 0.5, 1], yticklabels=["0", "50 %", "100 %"])
    axes.set_title(short(shares.key, 30), fontsize=8, color=INK)
    axes.tick_params(labelsize=7, length=2, colors=INK)
    axes.spines[:].set_visible(False)


def _most_changed(shown: list[Shares]) -> list[Shares]:
    """Return the keys that changed most, as many as there is room for, in the order of the space."""
    kept = sorted(range(len(shown)), key=lambda i: -shown[i].change)[:_MOST_KEYS]
    return [shown[i] for i in sorted(kept)]


def _sign(run: Run) -> float:
    return -1.0 if run.optimize_mode == "minimize" else 1.0


def _metric(run: Run) -> str:
    key = run.search.score_key
    return f"{'metric' if key == 'default' else key} ({'lower' if _sign(run) < 0 else 'higher'} is better)"


def short(text: str, most: int) -> str:
    """Return ``text`` in at most ``most`` characters, cut in the middle.

    >>> short("backbone.layer1.block3.conv", 15)
    'backbon…k3.conv'
    """
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"
