"""One table, four readers."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest
from rich.console import Console

from labelrel.report.table import as_csv, as_json, as_rich, as_text, columns, metrics


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    def row(method: str, role: str, **entries: Any) -> dict[str, Any]:
        nothing = dict.fromkeys(
            [
                "kept_fraction",
                "label_accuracy",
                "pgr",
                "pgr_lo",
                "pgr_hi",
                "diff_naive",
                "diff_naive_lo",
                "diff_naive_hi",
            ]
        )
        return {
            "method": method,
            "role": role,
            **nothing,
            "test_accuracy": 0.5,
            "accuracy_lo": 0.25,
            "accuracy_hi": 0.75,
            "pgr_reason": "no gap",
            "seconds": 12.345,
            "seeds": [42, 43],
            **entries,
        }

    best = {"kept_fraction": 0.5, "pgr": 0.5, "pgr_lo": -0.25, "pgr_hi": 1.0, "pgr_reason": None}
    return [row("floor", "floor"), row("filter", "method", **best)]


def test_plain_text_is_aligned(rows: list[dict[str, Any]]) -> None:
    lines = as_text(rows, 0.9).splitlines()
    assert lines[0].split("  ")[0].strip() == "method"
    assert "test accuracy [90%]" in lines[0]
    assert "0.500 [0.250, 0.750]" in lines[1]
    assert "undefined" in lines[1]
    assert "0.50 [-0.25, 1.00]" in lines[2]
    assert lines[0].index("kept") + len("kept") == lines[2].index("0.50") + len("0.50")  # numbers end with the heading


def test_terminal_table_shows_intervals_as_they_are(rows: list[dict[str, Any]]) -> None:
    rows[1]["method"] = "a[bold]b"
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(as_rich(rows, 0.95))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.500 [0.250, 0.750]" in shown
    assert "a[bold]b" in shown  # brackets are no markup
    assert "test accuracy [95%]" in shown


@pytest.mark.parametrize("width", [70, 80, 100, 200])
def test_narrow_terminal_shows_whole_numbers_or_none(rows: list[dict[str, Any]], width: int) -> None:
    rows[1] |= {"method": "forward_correction", "diff_naive": 0.1, "diff_naive_lo": 0.0, "diff_naive_hi": 0.25}
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(as_rich(rows, 0.95, width))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert "0.500 [0.250, 0.750]" in shown
    assert "+0.100 [+0.000, +0.250]" in shown
    assert ("0.50 [-0.25, 1.00]" in shown) == (width > 80)
    assert ("too narrow for: role, kept, labels right, PGR, seconds, seeds" in shown) == (width <= 80)
    assert ("too narrow" in shown) == (width < 200)


def test_csv_has_every_column_and_empty_nulls(rows: list[dict[str, Any]]) -> None:
    floor, best = csv.DictReader(io.StringIO(as_csv(rows)))
    assert floor["pgr"] == ""
    assert (best["pgr"], best["seeds"]) == ("0.5", "42 43")
    assert list(floor) == list(rows[0])


def test_loss_is_a_column_where_methods_differ_in_it(rows: list[dict[str, Any]]) -> None:
    rows[1]["loss"] = "cross_entropy"
    assert "loss" not in as_text(rows, 0.95)
    third = as_text([*rows, {**rows[1], "method": "doubt", "loss": "confidence"}], 0.95).splitlines()[3]
    assert third.split()[0] == "doubt"
    assert third.split()[-1] == "confidence"


def test_columns_sort_by_the_number_not_its_text(rows: list[dict[str, Any]]) -> None:
    values = {column.heading: column.value(rows[1]) for column in columns(rows)}
    assert values["PGR [{level}]"] == 0.5
    assert values["seeds"] == 2
    assert values["vs naive [{level}]"] is None


def test_json_is_strict() -> None:
    assert json.loads(as_json({"a": None}), parse_constant=pytest.fail) == {"a": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"a": math.nan})


def test_metrics_are_finite_numbers_only(rows: list[dict[str, Any]]) -> None:
    rows[1]["label_accuracy"] = math.nan
    assert metrics(rows) == {
        "floor": {"test_accuracy": 0.5, "accuracy_lo": 0.25, "accuracy_hi": 0.75, "seconds": 12.345},
        "filter": {
            "kept_fraction": 0.5,
            "pgr": 0.5,
            "pgr_lo": -0.25,
            "pgr_hi": 1.0,
            "test_accuracy": 0.5,
            "accuracy_lo": 0.25,
            "accuracy_hi": 0.75,
            "seconds": 12.345,
        },
    }
