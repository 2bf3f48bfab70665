"""Figures about the scores: what they would keep, and what they claim against what is so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from labelrel.report.labels import Diagram
from labelrel.report.style import Theme, canvas, line_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 7  # as many as there are colours; more lines can be told apart, but not followed
MOST_DIAGRAMS = 6
MOST_MARKS = 16
_LEAST_COVERAGE = 0.05  # below it a curve shows the luck of its first few labels
_LONGEST_NAME = 28
_PAPER = ("entropy", "reliability")


def best_first(aurocs: Mapping[str, float | None], names: Iterable[str]) -> list[str]:
    """Return scoring methods by AUROC, the best first; those without one last."""
    return sorted(names, key=lambda name: (-(aurocs.get(name) or 0.0), name))


def alike(curves: Mapping[str, pl.DataFrame], ranked: Sequence[str]) -> list[list[str]]:
    """Return scoring methods in groups that have the same curve, in the order of `ranked`.

    Vote scores that rank five votes the same way keep the same labels at every threshold.
    """
    groups: dict[bytes, list[str]] = {}
    for name in ranked:
        points = curves[name].select(pl.col("coverage", "risk").round(9))
        groups.setdefault(points.to_numpy().tobytes(), []).append(name)
    return list(groups.values())


def with_band(curves: Mapping[str, pl.DataFrame], aurocs: Mapping[str, float | None]) -> list[str]:
    """Return the scoring methods whose curve gets an interval: the best by AUROC, and entropy, the paper's.

    More bands than two lie on top of each other.
    """
    groups = alike(curves, best_first(aurocs, curves))
    chosen = [group[0] for group in groups[:1]]
    return chosen + ["entropy" for group in groups[1:] if "entropy" in group]


def choose_diagrams(found: Mapping[str, Diagram], aurocs: Mapping[str, float | None]) -> dict[str, Diagram]:
    """Return the diagrams to draw by their titles: those of the paper's two scores, then the best by AUROC.

    Scores that are the same number get one diagram between them.
    """
    ranked = best_first(aurocs, found)
    ranked = [name for name in _PAPER if name in found] + [name for name in ranked if name not in _PAPER]
    groups: dict[bytes, list[str]] = {}
    for name in ranked:
        points = found[name].bins.select(pl.col("probability", "accuracy", "num_labels").round(9))
        groups.setdefault(points.to_numpy().tobytes(), []).append(name)
    return {_names(group): found[group[0]] for group in list(groups.values())[:MOST_DIAGRAMS]}


def _names(group: Sequence[str]) -> str:
    """Name scores that are one, on two lines where they are long."""
    first, *rest = group
    if not rest:
        return first
    both = f"{first} = {rest[0]}" + (" = …" if len(rest) > 1 else "")
    return both if len(both) <= _LONGEST_NAME else both.replace(" = ", "\n= ", 1)


def risk(
    curves: Mapping[str, pl.DataFrame],
    bands: Mapping[str, pl.DataFrame],
    aurocs: Mapping[str, float | None],
    theme: Theme,
) -> Figure:
    """Draw the risk-coverage curves of the best scoring methods, with intervals where there are any.

    Args:
        curves: scoring method → as `risk_coverage` returns it.
        bands: scoring method → as `risk_coverage_interval` returns it.
        aurocs: scoring method → AUROC, for order and legend.
        theme: the colours.
    """
    figure, (axes,) = canvas(3.4)
    groups = alike(curves, best_first(aurocs, curves))
    paper = [group for group in groups[MOST_CURVES:] if "entropy" in group]
    drawn = groups[: MOST_CURVES - len(paper)] + paper
    for place, group in enumerate(drawn):
        name = next((name for name in group if name in bands), group[0])
        curve, area = curves[name], aurocs.get(name)
        few = curve.height <= MOST_MARKS  # vote scores have few levels, and no points in between
        if not few:
            curve = curve.filter(pl.col("coverage") >= _LEAST_COVERAGE)
        label = _names(group)
        style = line_style(place, theme)
        width = 2.0 if name in bands else 1.2
        axes.plot(
            curve["coverage"],
            curve["risk"],
            marker="." if few else None,
            label=label if area is None else f"{label} ({area:.2f})",
            zorder=2.5 if name in bands else 2,  # near-equal curves do not hide the one the band belongs to
            **(style | {"linewidth": width}),
        )
        if name in bands:
            band = bands[name].drop_nulls(["low", "high"])
            axes.fill_between(
                band["coverage"], band["low"], band["high"], color=style["color"], alpha=0.18, linewidth=0
            )
    # scores that choose other labels than the vote end elsewhere
    plain = "entropy" if "entropy" in curves else drawn[0][0]
    base = float(curves[plain]["risk"][-1])
    axes.axhline(
        base, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label=f"all labels kept: {base:.2f}"
    )
    axes.set_xlim(0, 1.02)
    low, high = axes.get_ylim()
    if low < high / 2:  # where every score is mostly wrong the curves would lie in a strip at the top
        axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage (share of labels kept)")
    axes.set_ylabel("risk (share of wrong labels)")
    figure.legend(loc="outside right upper", title="score (AUROC)", alignment="left", title_fontsize=8)
    return figure


def diagrams(found: Mapping[str, Diagram], theme: Theme) -> Figure:
    """Draw label quality against accuracy, one panel per scoring method.

    Args:
        found: scoring method → its diagram, at most `MOST_DIAGRAMS`.
        theme: the colours.
    """
    rows = math.ceil(len(found) / 3)
    figure, panels = canvas(0.6 + 2.35 * rows, 3, rows, sharex=True, sharey=True)
    for axes, (name, diagram) in zip(panels, found.items(), strict=False):
        bins = diagram.bins
        axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.bar(
            bins["probability"], bins["num_labels"] / diagram.num_labels, width=0.025, color=theme.muted, alpha=0.45
        )
        spread = [(bins["accuracy"] - bins["low"]).to_list(), (bins["high"] - bins["accuracy"]).to_list()]
        axes.errorbar(
            bins["probability"],
            bins["accuracy"],
            yerr=[[max(width, 0.0) for width in side] for side in spread],
            fmt="o-",
            color=theme.right,
            markersize=4,
            linewidth=1.2,
            elinewidth=1.2,
            capsize=2,
        )
        axes.set_title(f"{name}\nECE {diagram.ece:.3f}, n {diagram.num_labels:,}", fontsize=8)
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(0, 1.03)
    for axes in panels[len(found) :]:
        axes.remove()
    for axes in panels[: len(found)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("label quality", fontsize=9)
    figure.supylabel("share of right labels", fontsize=9)
    return figure
