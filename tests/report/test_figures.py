"""Figures that can be read: nothing missing, nothing on top of something else, the same bytes each time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from fake_results import write_results, write_run

from labelrel.report import Comparison, Sources, collect, figures
from labelrel.report.score_figures import risk
from labelrel.report.style import DARK, LIGHT, Theme, line_style, look, png


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path / "data")


@pytest.fixture
def comparison(data: Path) -> Comparison:
    for n in range(8):
        write_run(data / "align" / f"rule_{n}-42", f"rule_{n}", "method", [1] * (8 + n) + [0] * (12 - n))
    return collect(Sources.under(data), bootstrap=100)


def test_forest_names_every_method_once_and_apart(comparison: Comparison) -> None:
    with look(LIGHT):
        figure = figures.forest(comparison, LIGHT)
        figure.canvas.draw()
    accuracy, recovered = figure.axes
    labels = accuracy.get_yticklabels()
    assert [label.get_text() for label in labels] == [row.method for row in comparison.rows]
    boxes = [label.get_window_extent() for label in labels]
    assert all(not above.overlaps(below) for above, below in pairwise(boxes))
    numbers = {text.get_text() for text in recovered.texts}
    assert {"0.00", "1.00", "0.69"} <= numbers  # floor, ceiling, filter: (14 - 5) / (18 - 5)


def test_forest_has_no_pgr_panel_where_there_is_no_pgr(data: Path) -> None:
    (data / "align" / "ceiling-42" / "run.json").unlink()
    with look(LIGHT):
        figure = figures.forest(collect(Sources.under(data), bootstrap=100), LIGHT)
    assert len(figure.axes) == 1


def test_loss_is_the_mean_over_seeds_without_the_floor(data: Path) -> None:
    folder = write_run(data / "align" / "naive-43", "naive", "method", [1] * 20, seed=43)
    pl.DataFrame({"step": [1, 2, 3], "loss": [4.0, float("nan"), 1.5]}).write_parquet(folder / "history.parquet")
    curves = figures.loss_curves(collect(Sources.under(data), bootstrap=100).runs)
    assert set(curves) == {"filter", "naive", "random", "ceiling"}
    assert curves["naive"]["loss"].to_list() == [3.0, 1.0, 1.0]  # (2 + 4) / 2, a diverged step left out, (.5 + 1.5) / 2


def test_lines_differ_in_colour_or_dash() -> None:
    styles = [line_style(n, LIGHT) for n in range(3 * len(LIGHT.series))]
    assert len({tuple(style.values()) for style in styles}) == len(styles)


def test_same_figure_same_bytes() -> None:
    curves = {"share": pl.DataFrame({"coverage": [0.5, 1.0], "risk": [0.1, 0.4]})}

    def draw(theme: Theme) -> bytes:
        with look(theme):
            return png(risk(curves, {}, {"share": 0.7}, theme))

    assert draw(LIGHT) == draw(LIGHT)
    assert draw(LIGHT) != draw(DARK)


def test_only_what_there_are_data_for_is_drawn(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "png", lambda figure: b"")
    many = pl.DataFrame({"answer": [20], "gold_label": [0], "reliability": [1.0], "num_answers": [1]})
    comparison = collect(Sources.under(data), bootstrap=100)
    drawn = figures.draw_all(comparison, figures.LabelTables(cells=many))
    assert [picture.name for picture in drawn] == ["methods", "loss"]
