"""Draw searches beside each other: mean regret against trials, a panel for each task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas_tuners.show.style import COLOURS, INK, check_picture, drawing_plain_text, set_style, write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Lines = Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
"""By search, the mean over its runs after each trial, and the standard error of that."""

_ACROSS = 4  # panels side by side
_FIRST = 10  # trials, from where on it is drawn: before that all draw at random
_WIDTH, _HEIGHT, _LEGEND = 3.4, 3.2, 0.5  # inches of a panel; the legend's height


def draw_curves(panels: Mapping[str, Lines], path: Path, unit: str = "regret") -> None:
    """Draw the lines of each task to a file, with a band of one standard error.

    Raises:
        PlotError: the suffix is unknown, or matplotlib is missing.
        FileExistsError: another kind of file would be lost.
    """
    check_picture(path)
    with drawing_plain_text():
        from matplotlib.figure import Figure

        across = min(len(panels), _ACROSS)
        rows = -(-len(panels) // across)
        figure = Figure(figsize=(_WIDTH * across, _HEIGHT * rows + _LEGEND), layout="constrained")
        grid = figure.subplots(rows, across, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        styles = _choose_styles(panels)
        for axes, (task, lines) in zip(grid.flat, panels.items(), strict=False):
            _draw_panel(axes, task, lines, styles, unit)
        handles = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
        write_picture(figure, path)


def _draw_panel(axes: Axes, task: str, lines: Lines, styles: Mapping[str, tuple[str, str]], unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

    for name, (mean, error) in lines.items():
        first = min(_FIRST, len(mean)) - 1
        at, low, high = np.arange(first + 1, len(mean) + 1), (mean - error)[first:], (mean + error)[first:]
        colour, dash = styles[name]
        axes.plot(at, mean[first:], color=colour, ls=dash, lw=1.5, label=name)
        axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="trials", ylabel=unit)
    axes.set_title(task, fontsize=9, loc="left", color=INK)
    least = min((float(mean[-1]) for mean, _ in lines.values()), default=0.0)
    threshold = max(1e-4, least)  # below it the scale is linear: regrets of 0 are good ones
    axes.set_yscale("symlog", linthresh=threshold)
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold, subs=[1, 2, 5]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # by itself it would be a formula
    axes.set_ylim(bottom=0)
    set_style(axes, legend=False)


def _choose_styles(panels: Mapping[str, Lines]) -> dict[str, tuple[str, str]]:
    """Return the colour and the dashes of each search, the same in all panels."""
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    dashes = ("-", "--", ":")
    return {
        name: (COLOURS[at % len(COLOURS)], dashes[at // len(COLOURS) % len(dashes)]) for at, name in enumerate(names)
    }
