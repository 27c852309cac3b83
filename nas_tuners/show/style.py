"""What all pictures have in common: colours, axes, how they are written. matplotlib is imported to draw only."""

from __future__ import annotations

from contextlib import AbstractContextManager, chdir
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.files import check_replaceable, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
INK = "#222222"
# Okabe and Ito's colours, which the colour-blind tell apart, then lighter ones; an eighth option is rare.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")


class PlotError(ValueError):
    """A picture cannot be drawn; the message says why, and what to do."""


def check_picture(path: Path) -> None:
    """Check the suffix of a picture. Raises PlotError if it is unknown."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlotError(f"cannot draw to {path}: wanted a file that ends in {', '.join(SUFFIXES)}.")


def check_drawing(path: Path) -> None:
    """Check that a picture can be drawn and written, long before it is.

    Raises PlotError if the suffix is unknown or matplotlib is missing, FileExistsError if another file would be lost.
    """
    check_picture(path)
    if find_spec("matplotlib") is None:
        raise PlotError(_MISSING)
    _check_other(path)


def drawing_plain_text() -> AbstractContextManager[None]:
    """Draw names as they are: in those of a file, dollars are no formulas, and nothing of them is for TeX to run."""
    try:
        with chdir(Path(__file__).parent):  # matplotlib looks for its settings in the current folder: also of others
            from matplotlib import rc_context
    except ImportError:
        raise PlotError(_MISSING) from None
    return rc_context({"text.usetex": False, "text.parse_math": False})


def write_picture(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all. Raises FileExistsError if another kind of file would be lost."""
    _check_other(path)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=150, format=path.suffix.lower().removeprefix("."))
    write_atomically(path, drawn.getvalue())


def set_style(axes: Axes, legend: bool = True) -> None:
    """Give axes a light grid and small labels, and a legend above."""
    axes.grid(color="#e6e8eb", lw=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.spines[["top", "right"]].set_visible(False)
    if not legend:
        return
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    above = axes.legend(once.values(), once.keys(), loc="lower left", fontsize=8, frameon=False, ncols=5)
    above.set_bbox_to_anchor((-0.01, 0.97), axes.transAxes)


_MISSING = 'drawing needs matplotlib: pip install "nas-tuners[plots]"'


def _check_other(path: Path) -> None:
    check_replaceable(path, "picture of matplotlib's", lambda content: b"atplotlib" in content)
