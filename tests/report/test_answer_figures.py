"""Figures about answers: the numbers stand where they belong, and can be read."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest

from labelrel.report.answer_figures import entropy, heat, heat_open, positions, short
from labelrel.report.style import DARK, LIGHT, Theme, look

BOTH = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
WORDS = ["acceptable", "unacceptable", "neither of these two", "impossible to tell", "wrong", "right", "other"]


def shares(kinds: tuple[str, ...], size: int) -> pl.DataFrame:
    row = {"answered": 0.4, "answered_lo": 0.3, "answered_hi": 0.6, "gold": 0.2, "gold_lo": 0.1, "gold_hi": 0.25}
    rows = [{"kind": kind, "position": p, **row, "num_items": 1234} for kind in kinds for p in range(size)]
    return pl.DataFrame(rows)


def test_entropy_bars_carry_their_accuracy() -> None:
    bars = pl.DataFrame({"entropy": [0.0, 0.67], "right": [10, 3], "wrong": [5, 2], "accuracy": [10 / 15, 3 / 5]})
    with look(LIGHT):
        (axes,) = entropy(bars, LIGHT).axes
    assert [(t.get_text(), t.xy) for t in axes.texts] == [("0.67", (0, 15)), ("0.60", (1, 5))]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.00", "0.67"]
    assert axes.get_xlim() == pytest.approx((-1.1, 2.1))  # two bars stand in the middle


@BOTH
def test_heat_map_puts_gold_in_rows_and_stays_readable(theme: Theme) -> None:
    cells = pl.DataFrame({"answer": [0, 1], "gold_label": [0, 0], "reliability": [1.0, 0.0], "num_answers": [7, 2000]})
    with look(theme):
        axes = heat(cells, theme).axes[0]
    texts = [(t.get_text(), t.get_position()) for t in axes.texts]
    assert texts == [("1.00  (n 7)", (0, 0)), ("0.00  (n 2,000)", (1, 0))]
    assert axes.images[0].get_array()[0].tolist() == [1.0, 0.0]  # the row of gold label 0
    assert axes.texts[0].get_color() != axes.texts[1].get_color()  # dark on light and light on dark
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]


def test_heat_map_names_shared_choices_even_unused_ones() -> None:
    cells = pl.DataFrame({"answer": [0], "gold_label": [0], "reliability": [1.0], "num_answers": [7]})
    with look(LIGHT):
        axes = heat(cells, LIGHT, WORDS[:2]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == WORDS[:2]
    assert axes.get_xlabel() == "weak label"


def test_many_long_names_do_not_touch() -> None:
    cells = pl.DataFrame({"answer": [0], "gold_label": [0], "reliability": [1.0], "num_answers": [7]})
    with look(LIGHT):
        figures = [heat(cells, LIGHT, WORDS), positions(shares(("choice", "place"), 7), LIGHT, WORDS)]
        for figure in figures:
            figure.canvas.draw()
            labels = figure.axes[0].get_xticklabels()
            assert {label.get_rotation() for label in labels} == {35.0}
            ends = [label.get_window_extent().x1 for label in labels]
            height = labels[0].get_fontsize() * figure.dpi / 72
            assert all(right - left > height for left, right in pairwise(ends))  # a line's height apart
            assert all(label.get_window_extent().y0 > 0 for label in labels)  # none is cut off


@BOTH
def test_open_answers_are_right_or_wrong(theme: Theme) -> None:
    groups = pl.DataFrame({"correct": [True, False], "reliability": [0.9, 0.2], "num_answers": [10, 30]})
    with look(theme):
        both = heat_open(groups, theme).axes[0]
        wrong = heat_open(groups[1:], theme).axes[0]
    assert [(t.get_text(), t.get_position()) for t in both.texts] == [
        ("0.90  (n 10)", (0, 0)),
        ("0.20  (n 30)", (1, 0)),
    ]
    assert [label.get_text() for label in both.get_xticklabels()] == ["right answers", "wrong answers"]
    assert [(t.get_text(), t.get_position()) for t in wrong.texts] == [("0.20  (n 30)", (1, 0))]


def test_positions_show_answered_beside_gold_with_intervals() -> None:
    with look(LIGHT):
        choice, place = positions(shares(("choice", "place"), 4), LIGHT).axes
    assert [bar.get_height() for bar in choice.patches] == [0.4] * 4 + [0.2] * 4
    assert [label.get_text() for label in choice.get_xticklabels()] == ["0", "1", "2", "3"]
    assert [label.get_text() for label in place.get_xticklabels()] == ["1", "2", "3", "4"]
    first = choice.containers[1].lines[2][0].get_segments()[0]  # the error bar of the first "answered"
    assert first[:, 1].tolist() == [pytest.approx(0.3), pytest.approx(0.6)]
    assert choice.get_xlabel().endswith("(n 1,234 items)")


def test_long_words_are_cut() -> None:
    assert short("acceptable") == "acceptable"
    assert short("a very long class name") == "a very long class…"
