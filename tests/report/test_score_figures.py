"""Figures about scores: which are drawn, under what name, and with which intervals."""

from __future__ import annotations

import polars as pl
import pytest

from labelrel.report.labels import Diagram
from labelrel.report.score_figures import (
    MOST_CURVES,
    MOST_DIAGRAMS,
    alike,
    choose_diagrams,
    diagrams,
    risk,
    with_band,
)
from labelrel.report.style import DARK, LIGHT, look


def curve(*points: tuple[float, float]) -> pl.DataFrame:
    return pl.DataFrame(points, schema=["coverage", "risk"], orient="row")


def band(*points: tuple[float, float, float, float]) -> pl.DataFrame:
    return pl.DataFrame(points, schema=["coverage", "risk", "low", "high"], orient="row")


def drawn(accuracy: float, *, size: int = 4) -> Diagram:
    bins = pl.DataFrame({"bin": [0], "num_labels": [size], "probability": [0.8], "accuracy": [accuracy]})
    return Diagram(bins.with_columns(low=pl.lit(0.1), high=pl.lit(0.9)), abs(0.8 - accuracy), size)


GOOD, BAD = curve((0.5, 0.0), (1.0, 0.4)), curve((0.5, 0.4), (1.0, 0.4))


def test_scores_with_one_curve_are_one() -> None:
    curves = {"a": GOOD, "b": BAD, "c": GOOD.with_columns(pl.col("risk") + 1e-13)}
    assert alike(curves, ["b", "c", "a"]) == [["b"], ["c", "a"]]


@pytest.mark.parametrize(
    ("curves", "chosen"),
    [
        ({"best": GOOD, "entropy": BAD}, ["best", "entropy"]),
        ({"best": GOOD, "entropy": GOOD}, ["best"]),  # the same curve: one band
        ({"best": GOOD, "other": BAD}, ["best"]),
        ({}, []),
    ],
)
def test_the_best_score_and_entropy_get_bands(curves: dict[str, pl.DataFrame], chosen: list[str]) -> None:
    assert with_band(curves, {"best": 0.9, "entropy": 0.8, "other": None}) == chosen


def test_risk_draws_bands_and_the_base_rate() -> None:
    bands = {"entropy": band((0.5, 0.0, 0.0, 0.1), (1.0, 0.4, 0.3, 0.5))}
    with look(LIGHT):
        figure = risk({"entropy": GOOD, "share": BAD}, bands, {"entropy": 0.9, "share": None}, LIGHT)
    (axes,) = figure.axes
    (filled,) = axes.collections
    assert filled.get_paths()[0].contains_point((0.75, 0.25))
    assert not filled.get_paths()[0].contains_point((0.75, 0.35))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "entropy (0.90)",
        "share",
        "all labels kept: 0.40",
    ]
    assert axes.lines[-1].get_ydata() == [0.4, 0.4]
    assert axes.get_ylim()[0] == 0


def test_curves_of_mostly_wrong_labels_fill_the_figure() -> None:
    with look(LIGHT):
        (axes,) = risk({"share": curve((0.5, 0.9), (1.0, 0.95))}, {}, {}, LIGHT).axes
    assert axes.get_ylim()[0] > 0.8


def test_at_most_as_many_curves_as_colours_and_entropy_among_them() -> None:
    curves = {f"s{n}": curve((0.5, n / 100), (1.0, 0.4)) for n in range(12)} | {"entropy": BAD}
    aurocs = {f"s{n}": 0.9 - n / 100 for n in range(12)} | {"entropy": 0.5}
    with look(LIGHT):
        figure = risk(curves, {}, aurocs, LIGHT)
    names = [text.get_text().split()[0] for text in figure.legends[0].get_texts()]
    assert names == [*(f"s{n}" for n in range(MOST_CURVES - 1)), "entropy", "all"]


def test_the_start_of_a_fine_curve_is_not_drawn() -> None:
    fine = pl.DataFrame({"coverage": [n / 100 for n in range(1, 101)], "risk": [1.0] * 4 + [0.1] * 96})
    with look(LIGHT):
        (axes,) = risk({"p": fine}, {}, {"p": 0.6}, LIGHT).axes
    assert axes.lines[0].get_xdata()[0] == 0.05  # four labels say nothing
    assert axes.get_ylim()[1] < 0.5


def test_diagrams_are_the_papers_then_the_best() -> None:
    names = [f"s{n}" for n in range(9)]
    found = {name: drawn(n / 10) for n, name in enumerate(names)}
    found |= {"entropy": drawn(0.95), "reliability": drawn(0.97)}
    chosen = choose_diagrams(found, {"s7": 0.9, "s2": 0.8, "s1": 0.6})
    assert list(chosen)[:5] == ["entropy", "reliability", "s7", "s2", "s1"]
    assert len(chosen) == MOST_DIAGRAMS


def test_scores_that_are_one_number_share_a_diagram() -> None:
    found = {"entropy": drawn(0.5), "margin": drawn(0.5), "share": drawn(0.5), "p": drawn(0.5, size=5)}
    assert list(choose_diagrams(found, {"margin": 0.7, "p": 0.6})) == ["entropy = margin = …", "p"]


def test_diagrams_name_score_error_and_size_once_per_panel() -> None:
    found = {f"s{n}": drawn(0.5, size=1000) for n in range(4)}
    with look(DARK):
        figure = diagrams(found, DARK)
        figure.canvas.draw()
    assert len(figure.axes) == 4  # two places are left empty
    assert figure.axes[0].get_title(loc="left") == "s0\nECE 0.300, n 1,000"
    (line,) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.8], [0.5])
    assert figure.axes[0].patches[0].get_height() == 1.0  # all labels are in the one bin
