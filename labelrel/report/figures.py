"""The report's figures: each a function of small tables, drawn once per theme."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from labelrel.report.answer_figures import MOST_CHOICES, entropy, heat, heat_open, num_choices, positions
from labelrel.report.collect import Comparison, Row
from labelrel.report.labels import Diagram
from labelrel.report.runs import Runs
from labelrel.report.score_figures import MOST_CURVES, diagrams, risk
from labelrel.report.style import DARK, LIGHT, Theme, canvas, line_style, look, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


@dataclass(frozen=True, kw_only=True)
class LabelTables:
    """What the figures about answers and scores are drawn from; an empty one is not drawn.

    Attributes:
        aurocs: scoring method → AUROC.
        bars: as `labels.entropy_bars` returns them.
        cells: as `labels.reliability_cells` returns them.
        opened: as `labels.open_reliability` returns it.
        words: the choices, where all items have the same ones.
        curves: as `labels.risk_curves` returns them.
        bands: as `labels.risk_bands` returns them, for some of the curves.
        diagrams: title → as `labels.diagram` returns it.
        positions: as `positions.position_shares` returns them.
    """

    aurocs: Mapping[str, float | None] = field(default_factory=dict)
    bars: pl.DataFrame = field(default_factory=pl.DataFrame)
    cells: pl.DataFrame = field(default_factory=pl.DataFrame)
    opened: pl.DataFrame = field(default_factory=pl.DataFrame)
    words: Sequence[str] | None = None
    curves: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    bands: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    diagrams: Mapping[str, Diagram] = field(default_factory=dict)
    positions: pl.DataFrame = field(default_factory=pl.DataFrame)


def draw_all(comparison: Comparison, tables: LabelTables) -> list[Picture]:
    """Draw every figure that there are data for."""
    losses = loss_curves(comparison.runs)
    pictures = [
        _picture(
            "methods",
            "Which labels gave the best strong model",
            f"Test accuracy and PGR with {comparison.confidence:.0%} bootstrap intervals over "
            f"{comparison.num_test_items} test items. Dashed lines: floor and ceiling.",
            lambda theme: forest(comparison, theme),
        ),
        *_answer_pictures(tables, comparison.confidence),
        *_score_pictures(tables, comparison.confidence),
    ]
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


def _answer_pictures(tables: LabelTables, confidence: float) -> Iterator[Picture]:
    words = tables.words
    if tables.bars.height:
        yield _picture(
            "entropy",
            "Do answers that agree tend to be right",
            "Supervisor's answers by the vote entropy of their question (0: all agree); the number above a bar is "
            "the share of right answers in it. A question counts once per answer.",
            lambda theme: entropy(tables.bars, theme),
        )
    if 0 < num_choices(tables.cells) <= MOST_CHOICES:
        yield _picture(
            "reliability",
            "How sure the votes are of right and wrong answers",
            "Mean reliability of the supervisor's answers per answer and gold label, with the number of answers. "
            "Right ones lie on the diagonal.",
            lambda theme: heat(tables.cells, theme, words),
        )
    elif tables.opened.height:
        yield _picture(
            "reliability",
            "How sure the votes are of right and wrong answers",
            "Mean reliability of the supervisor's answers, with the number of answers. The questions are open, so "
            "there are no few labels to set against each other.",
            lambda theme: heat_open(tables.opened, theme),
        )
    if 0 < tables.positions.height <= 2 * MOST_CHOICES:
        yield _picture(
            "positions",
            "Does the supervisor favour a position",
            f"How often each position is answered, beside how often the right answer stands there, with "
            f"{confidence:.0%} Wilson intervals; the unit is the item. Bars of a pair that are apart show a bias.",
            lambda theme: positions(tables.positions, theme, words),
        )


def _score_pictures(tables: LabelTables, confidence: float) -> Iterator[Picture]:
    if tables.curves:
        yield _picture(
            "risk_coverage",
            "What each score would keep, and how wrong that is",
            "Share of wrong labels among the kept ones as less and less is kept, right to left; lower is better. "
            f"Bands: {confidence:.0%} bootstrap intervals over items, of the best score by AUROC and of entropy. "
            "Dashed: every label of the vote kept (of the best score, where entropy was not scored). At most "
            f"{MOST_CURVES} curves are drawn, the best ones; the table below has every score.",
            lambda theme: risk(tables.curves, tables.bands, tables.aurocs, theme),
        )
    if tables.diagrams:
        yield _picture(
            "calibration",
            "Do the scores mean what they say",
            "Label quality against the share of right labels, in bins of about equal size that keep ties whole, with "
            f"{confidence:.0%} Wilson intervals; grey bars: share of the labels in the bin. On the dashed line a score "
            "could be read as a probability. Scores are none as they come: far from the line they still rank labels, "
            "but need calibration on gold labels before a number is put on them.",
            lambda theme: diagrams(tables.diagrams, theme),
        )


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
