"""Figures about the supervisor's answers: right ones against wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from labelrel.arrays import Floats
from labelrel.report.style import Theme, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CHOICES = 12  # a heat map of more cells than 12 x 12 can no longer be read
_LONGEST_WORD = 18


def entropy(bars: pl.DataFrame, theme: Theme) -> Figure:
    """Draw right and wrong answers per level of vote entropy, the accuracy on top (the paper's figures 3 and 5)."""
    figure, (axes,) = canvas(2.9)
    places = list(range(bars.height))
    right, wrong = bars["right"].to_list(), bars["wrong"].to_list()
    axes.bar(places, right, width=0.72, color=theme.right, label="right")
    axes.bar(places, wrong, width=0.72, bottom=right, color=theme.wrong, label="wrong")
    for place, (good, bad, share) in enumerate(zip(right, wrong, bars["accuracy"], strict=True)):
        axes.annotate(
            f"{share:.2f}", (place, good + bad), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_xticks(places, [f"{level:.2f}" for level in bars["entropy"]])
    _room(axes, bars.height)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("vote entropy (nats)")
    axes.set_ylabel("answers")
    figure.legend(loc="outside right upper")
    return figure


def num_choices(cells: pl.DataFrame) -> int:
    """Return the number of choices that answers and gold labels speak of; 0 without cells."""
    if cells.is_empty():
        return 0
    highest = cells.select(pl.max_horizontal(pl.col("answer", "gold_label").max())).item()
    return 0 if highest is None else int(highest) + 1


def heat(cells: pl.DataFrame, theme: Theme, words: Sequence[str] | None = None) -> Figure:
    """Draw the mean reliability per (answer, gold label), the paper's figures 4 and 6.

    Args:
        cells: as `labels.reliability_cells` returns them.
        theme: the colours.
        words: the choices, where they are the same in every item; null names them by index.
    """
    import numpy as np

    size = max(num_choices(cells), len(words or ()))
    grid = np.full((size, size), np.nan)
    grid[cells["gold_label"].to_numpy(), cells["answer"].to_numpy()] = cells["reliability"].to_numpy()
    figure, (axes,) = canvas(1.2 + 0.45 * size)
    _cells(figure, axes, grid, theme)
    for answer, gold, value, count in cells.select("answer", "gold_label", "reliability", "num_answers").iter_rows():
        _number(axes, (answer, gold), value, count, theme, narrow=size > 6)
    names = [short(word) for word in words] if words else [str(choice) for choice in range(size)]
    axes.set_xticks(range(size), names)
    axes.set_yticks(range(size), names)
    if words and max(map(len, names)) * size > 60:
        _tilt(axes)
    axes.set_xlabel("weak label" if words else "weak label (choice)")
    axes.set_ylabel("gold label" if words else "gold label (choice)")
    return figure


def heat_open(groups: pl.DataFrame, theme: Theme) -> Figure:
    """Draw the mean reliability of right and of wrong answers to open questions.

    Args:
        groups: as `labels.open_reliability` returns them.
        theme: the colours.
    """
    import numpy as np

    grid = np.full((1, 2), np.nan)
    figure, (axes,) = canvas(1.35)
    for correct, value, _ in groups.select("correct", "reliability", "num_answers").iter_rows():
        grid[0, 0 if correct else 1] = value
    _cells(figure, axes, grid, theme)
    for correct, value, count in groups.select("correct", "reliability", "num_answers").iter_rows():
        _number(axes, (0 if correct else 1, 0), value, count, theme)
    axes.set_xticks(range(2), ["right answers", "wrong answers"])
    axes.set_yticks([])
    return figure


def _cells(figure: Figure, axes: Axes, grid: Floats, theme: Theme) -> None:
    shown = axes.imshow(grid, cmap=theme.heat, vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    bar = figure.colorbar(shown, ax=axes, label="mean reliability", pad=0.02)
    bar.outline.set_visible(False)


def _number(
    axes: Axes, place: tuple[int, int], value: float, count: int, theme: Theme, *, narrow: bool = False
) -> None:
    """Write value and count in a cell, in the colour that stands out from its ground."""
    import matplotlib

    red, green, blue, _ = matplotlib.colormaps[theme.heat](value)
    dark_cell = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55  # luma
    text = f"{value:.2f}\n{count:,}" if narrow else f"{value:.2f}  (n {count:,})"
    colour = "#ffffff" if dark_cell else "#111111"
    axes.text(*place, text, ha="center", va="center", fontsize=6 if narrow else 8, color=colour)


def positions(shares: pl.DataFrame, theme: Theme, words: Sequence[str] | None = None) -> Figure:
    """Draw how often each position is answered beside how often it is right, one panel per kind of position.

    Args:
        shares: as `positions.position_shares` returns them.
        theme: the colours.
        words: the choices, where they are the same in every item; null names them by index.
    """
    kinds = shares["kind"].unique(maintain_order=True).to_list()
    figure, panels = canvas(2.7, len(kinds), sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        group = shares.filter(pl.col("kind") == kind)
        for offset, name, label, colour in (
            (-0.2, "answered", "answered", theme.right),
            (0.2, "gold", "gold is there", theme.muted),
        ):
            middle, low, high = (group[f"{name}{end}"].to_list() for end in ("", "_lo", "_hi"))
            places = [position + offset for position in group["position"]]
            axes.bar(places, middle, width=0.36, color=colour, label=label if axes is panels[0] else None)
            spread = [
                [max(m - lo, 0.0) for m, lo in zip(middle, low, strict=True)],
                [max(hi - m, 0.0) for m, hi in zip(middle, high, strict=True)],
            ]
            axes.errorbar(places, middle, yerr=spread, fmt="none", ecolor=theme.ink, elinewidth=1, capsize=2)
        named = kind == "choice" and words is not None
        names = [short(w) for w in words or ()] if named else [str(p + (kind == "place")) for p in group["position"]]
        axes.set_xticks(group["position"].to_list(), names)
        _room(axes, group.height)
        if named and max(map(len, names)) * len(names) * len(kinds) > 60:
            _tilt(axes)
        axes.grid(axis="x", visible=False)
        what = "place in the prompt's list" if kind == "place" else "answer" if named else "choice, in the item's order"
        axes.set_xlabel(f"{what} (n {group['num_items'][0]:,} items)")
    panels[0].set_ylabel("share of items")
    figure.legend(loc="outside right upper")
    return figure


def _room(axes: Axes, bars: int) -> None:
    """Leave room beside one or two bars, so that they do not become walls."""
    middle, half = (bars - 1) / 2, max(bars, 3) / 2 + 0.1
    axes.set_xlim(middle - half, middle + half)


def _tilt(axes: Axes) -> None:
    """Turn the names below an axis, each ending at its tick."""
    for label in axes.get_xticklabels():
        label.set(rotation=35, ha="right", rotation_mode="anchor")


def short(word: str) -> str:
    """Cut a word to what fits beside an axis."""
    return word if len(word) <= _LONGEST_WORD else word[: _LONGEST_WORD - 1] + "…"
