"""The report's figures: each a function of small tables, drawn once per theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from labelrel.report.collect import Comparison, Row, Runs
from labelrel.report.style import DARK, LIGHT, Theme, canvas, line_style, look, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CHOICES = 12  # a heat map of more cells than 12 x 12 can no longer be read
MOST_MARKS = 16


@dataclass(frozen=True)
class Picture:
    """One figure of the report.

    Attributes:
        name: its file name without extension.
        title: what it answers.
        caption: how to read it.
        light: PNG on light ground, the one that is written to disk.
        dark: PNG on dark ground, for a page read in the dark.
    """

    name: str
    title: str
    caption: str
    light: bytes
    dark: bytes


def draw_all(
    comparison: Comparison,
    *,
    bars: pl.DataFrame,
    cells: pl.DataFrame,
    curves: Mapping[str, pl.DataFrame],
    aurocs: Mapping[str, float | None],
) -> list[Picture]:
    """Draw every figure that there are data for.

    Args:
        comparison: the table and its runs.
        bars: as `labels.entropy_bars` returns them.
        cells: as `labels.reliability_cells` returns them.
        curves: as `labels.risk_curves` returns them.
        aurocs: scoring method → AUROC, for the legend.
    """
    losses = loss_curves(comparison.runs)
    pictures = [
        _picture(
            "methods",
            "Which labels gave the best strong model",
            f"Test accuracy and PGR with {comparison.confidence:.0%} bootstrap intervals over "
            f"{comparison.num_test_items} test items. Dashed lines: floor and ceiling.",
            lambda theme: forest(comparison, theme),
        )
    ]
    if bars.height:
        pictures.append(
            _picture(
                "entropy",
                "Do answers that agree tend to be right",
                "Supervisor's answers by the vote entropy of their question (0: all agree); the number above a bar is "
                "the share of right answers in it.",
                lambda theme: entropy(bars, theme),
            )
        )
    if curves:
        pictures.append(
            _picture(
                "risk_coverage",
                "What each score would keep, and how wrong that is",
                "Share of wrong labels among the kept ones as less and less is kept, right to left; lower is better. "
                "A score that says nothing runs flat.",
                lambda theme: risk(curves, aurocs, theme),
            )
        )
    if (
        cells.height
        and int(cells.select(pl.max_horizontal(pl.col("answer", "gold_label").max())).item()) < MOST_CHOICES
    ):
        pictures.append(
            _picture(
                "reliability",
                "How sure the votes are of right and wrong labels",
                "Mean reliability of the weak label per weak label and gold label, with the number of items. Right "
                "labels lie on the diagonal.",
                lambda theme: heat(cells, theme),
            )
        )
    if losses:
        pictures.append(
            _picture(
                "loss",
                "How training went",
                "Training loss by step, smoothed over a twentieth of the run. Each method learns other labels, so the "
                "levels do not rank them.",
                lambda theme: loss(losses, theme),
            )
        )
    return pictures


def forest(comparison: Comparison, theme: Theme) -> Figure:
    """Draw accuracy and, where it is defined, PGR of every method, with intervals."""
    rows = comparison.rows
    defined = [row for row in rows if row.pgr is not None]
    figure, axes = canvas(0.95 + 0.3 * len(rows), 2 if defined else 1, sharey=True)
    _intervals(axes[0], rows, [(r.test_accuracy, r.accuracy_lo, r.accuracy_hi) for r in rows], "{:.3f}", theme)
    axes[0].set_xlabel("test accuracy")
    for row in rows:
        if row.role in ("floor", "ceiling"):
            axes[0].axvline(row.test_accuracy, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    if defined:
        _intervals(axes[1], rows, [(r.pgr, r.pgr_lo, r.pgr_hi) for r in rows], "{:.2f}", theme)
        axes[1].set_xlabel("performance gap recovered")
        for edge in (0, 1):
            axes[1].axvline(edge, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes[0].set_yticks(range(len(rows)), [row.method for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _intervals(
    axes: Axes,
    rows: list[Row],
    values: list[tuple[float | None, float | None, float | None]],
    form: str,
    theme: Theme,
) -> None:
    """Draw a dot, its interval and its number per row; the numbers stand in one column at the right."""
    axes.grid(axis="y", visible=False)
    for place, (row, (value, low, high)) in enumerate(zip(rows, values, strict=True)):
        if value is None:
            continue
        colour = theme.right if row.role == "method" else theme.muted
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(value, place, marker="o" if row.role == "method" else "D", markersize=5, color=colour)
        axes.annotate(
            form.format(value),
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=theme.ink if row.role == "method" else theme.muted,
        )


def entropy(bars: pl.DataFrame, theme: Theme) -> Figure:
    """Draw right and wrong answers per level of vote entropy, the accuracy on top (the paper's figure 3)."""
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
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.12)
    axes.set_xlabel("vote entropy (nats)")
    axes.set_ylabel("answers")
    figure.legend(loc="outside right upper")
    return figure


def risk(curves: Mapping[str, pl.DataFrame], aurocs: Mapping[str, float | None], theme: Theme) -> Figure:
    """Draw the risk-coverage curve of every scoring method."""
    figure, (axes,) = canvas(3.2)
    ranked = sorted(curves, key=lambda name: (-(aurocs.get(name) or 0.0), name))
    for place, name in enumerate(ranked):
        curve, area = curves[name], aurocs.get(name)
        label = name if area is None else f"{name} ({area:.2f})"
        marker = "." if curve.height <= MOST_MARKS else None  # vote scores have few levels, and no points in between
        axes.plot(curve["coverage"], curve["risk"], marker=marker, label=label, **line_style(place, theme))
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage (share of labels kept)")
    axes.set_ylabel("risk (share of wrong labels)")
    figure.legend(loc="outside right upper", title="score (AUROC)", alignment="left", title_fontsize=8)
    return figure


def heat(cells: pl.DataFrame, theme: Theme) -> Figure:
    """Draw the mean reliability per (weak label, gold label)."""
    import matplotlib
    import numpy as np

    size = num_choices(cells)
    grid = np.full((size, size), np.nan)
    grid[cells["gold_label"].to_numpy(), cells["answer"].to_numpy()] = cells["reliability"].to_numpy()
    figure, (axes,) = canvas(1.2 + 0.45 * size)
    shown = axes.imshow(grid, cmap=theme.heat, vmin=0, vmax=1, aspect="auto")
    ramp = matplotlib.colormaps[theme.heat]
    for answer, gold, value, count in cells.select("answer", "gold_label", "reliability", "num_items").iter_rows():
        red, green, blue, _ = ramp(value)
        dark_cell = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55  # luma: what text must stand out from
        text = f"{value:.2f}  (n {count})"
        axes.text(answer, gold, text, ha="center", va="center", fontsize=8, color="#ffffff" if dark_cell else "#111111")
    axes.set_xticks(range(size))
    axes.set_yticks(range(size))
    axes.grid(visible=False)
    axes.set_xlabel("weak label (choice)")
    axes.set_ylabel("gold label (choice)")
    bar = figure.colorbar(shown, ax=axes, label="mean reliability", pad=0.02)
    bar.outline.set_visible(False)
    return figure


def num_choices(cells: pl.DataFrame) -> int:
    """Return the number of choices that weak and gold labels speak of; 0 without cells."""
    highest = cells.select(pl.max_horizontal(pl.col("answer", "gold_label").max())).item()
    return 0 if highest is None else int(highest) + 1


def loss_curves(runs: list[Runs]) -> dict[str, pl.DataFrame]:
    """Return method → mean loss over its seeds by step, smoothed; the supervisor's own training is left out."""
    curves = {}
    for group in runs:
        files = [f / "history.parquet" for f in group.folders if (f / "history.parquet").is_file()]
        if group.role == "floor" or not files:
            continue
        history = pl.concat([pl.read_parquet(file, columns=["step", "loss"]) for file in files])
        by_step = history.filter(pl.col("loss").is_finite()).group_by("step").agg(pl.col("loss").mean()).sort("step")
        window = max(1, by_step.height // 20)
        if by_step.height:
            smooth = pl.col("loss").rolling_mean(window, min_samples=1)
            curves[group.method] = by_step.with_columns(smooth)
    return curves


def loss(curves: Mapping[str, pl.DataFrame], theme: Theme) -> Figure:
    """Draw the loss of every method by step."""
    figure, (axes,) = canvas(3.0)
    for place, (name, curve) in enumerate(curves.items()):
        axes.plot(curve["step"], curve["loss"], label=name, **(line_style(place, theme) | {"linewidth": 1.2}))
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    figure.legend(loc="outside right upper")
    return figure


def _picture(name: str, title: str, caption: str, draw: Callable[[Theme], Figure]) -> Picture:
    images = []
    for theme in (LIGHT, DARK):
        with look(theme):
            images.append(png(draw(theme)))
    return Picture(name, title, caption, *images)
