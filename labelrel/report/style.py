"""One look for all figures: sizes, colours, and light and dark ground."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.6  # inches; at 144 dots per inch as wide as the page's column on a sharp screen
DPI = 144


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; the series are Okabe and Ito's, which colour-blind readers tell apart.

    Source: Okabe & Ito 2008, "Color Universal Design".
    """

    ground: str
    ink: str
    muted: str
    grid: str
    right: str
    wrong: str
    heat: str
    series: tuple[str, ...]


LIGHT = Theme(
    ground="#ffffff",
    ink="#1f2328",
    muted="#6b7280",
    grid="#e3e6ea",
    right="#0072b2",
    wrong="#d55e00",
    heat="Blues",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f6670"),
)
DARK = Theme(
    ground="#161a20",
    ink="#e6e8eb",
    muted="#9aa3ad",
    grid="#2c323a",
    right="#56b4e9",
    wrong="#e69f00",
    heat="Blues_r",
    series=("#56b4e9", "#e69f00", "#2fbf95", "#e39fc6", "#f0e442", "#ff8a4c", "#b6bec8"),
)

DASHES = ("-", "--", ":")


def line_style(index: int, theme: Theme) -> dict[str, Any]:
    """Return colour and dash of the n-th line; more lines than colours differ by their dash."""
    colours = len(theme.series)
    return {"color": theme.series[index % colours], "linestyle": DASHES[index // colours % len(DASHES)]}


@contextmanager
def look(theme: Theme) -> Iterator[None]:
    """Set sizes and colours for the figures drawn inside the block."""
    import matplotlib

    with matplotlib.rc_context(
        {
            "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure looks the same everywhere
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.titlelocation": "left",
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.frameon": False,
            "figure.facecolor": theme.ground,
            "axes.facecolor": theme.ground,
            "savefig.facecolor": theme.ground,
            "text.color": theme.ink,
            "axes.labelcolor": theme.ink,
            "axes.titlecolor": theme.ink,
            "axes.edgecolor": theme.grid,
            "xtick.color": theme.muted,
            "ytick.color": theme.ink,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": theme.grid,
            "grid.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "lines.linewidth": 1.6,
        }
    ):
        yield


def canvas(height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its panels, row by row; no window system is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
