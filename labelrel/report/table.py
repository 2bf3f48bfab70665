"""The comparison as a table: for a terminal, a pipe, a spreadsheet, a program."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.table import Table
from rich.text import Text

Cells = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column as people read it.

    Attributes:
        heading: what stands above it; `{level}` is the confidence of the intervals.
        meaning: one sentence for the page.
        show: row → text; "" where there is nothing to show.
        key: what it sorts by, a column of the row; a list counts as its length.
        text: whether it holds names, which align left.
    """

    heading: str
    meaning: str
    show: Callable[[Cells], str]
    key: str
    text: bool = False

    def value(self, row: Cells) -> float | str | None:
        """Return what the column sorts by."""
        value: float | str | list[int] | None = row.get(self.key)
        return len(value) if isinstance(value, list) else value


def _number(key: str, form: str) -> Callable[[Cells], str]:
    return lambda row: "" if row[key] is None else format(row[key], form)


def _interval(key: str, low: str, high: str, form: str) -> Callable[[Cells], str]:
    def show(row: Cells) -> str:
        if row[key] is None:
            return ""
        ends = "" if row[low] is None else f" [{row[low]:{form}}, {row[high]:{form}}]"
        return f"{row[key]:{form}}{ends}"

    return show


def _pgr(row: Cells) -> str:
    return _interval("pgr", "pgr_lo", "pgr_hi", ".2f")(row) or "undefined"


COLUMNS = (
    Column(
        "method",
        "How the training labels were made from the supervisor's answers.",
        lambda r: r["method"],
        "method",
        True,
    ),
    Column(
        "role",
        "floor: the weak supervisor itself. method: what is compared. control: what a claim must beat "
        "(a random subset) or cannot reach without gold (an oracle). ceiling: the strong model on gold labels.",
        lambda r: r["role"],
        "role",
        True,
    ),
    Column(
        "kept",
        "Share of the weak-labelled items that the method trains on, in its last stage where it looks twice.",
        _number("kept_fraction", ".2f"),
        "kept_fraction",
    ),
    Column(
        "labels right",
        "Share of right labels among those. Gold labels are read for this column only, never by a method.",
        _number("label_accuracy", ".3f"),
        "label_accuracy",
    ),
    Column(
        "test accuracy [{level}]",
        "Accuracy of the aligned model on the test items, mean over seeds, with its bootstrap interval over items "
        "(and seeds, where there are several).",
        _interval("test_accuracy", "accuracy_lo", "accuracy_hi", ".3f"),
        "test_accuracy",
    ),
    Column(
        "PGR [{level}]",
        "Performance gap recovered, (accuracy - floor) / (ceiling - floor): 0 is the weak supervisor, 1 is gold. "
        "Undefined where ceiling - floor is not positive with confidence.",
        _pgr,
        "pgr",
    ),
    Column(
        "vs naive [{level}]",
        "Accuracy minus that of naive labels on the same test items (paired bootstrap). Where the interval includes "
        "0, this run does not tell the two apart. The level holds for each row alone, not for the best of them all.",
        _interval("diff_naive", "diff_naive_lo", "diff_naive_hi", "+.3f"),
        "diff_naive",
    ),
    Column(
        "seconds",
        "Wall time of one run, training and evaluation; shared work is counted once.",
        _number("seconds", ".1f"),
        "seconds",
    ),
    Column("seeds", "Number of training seeds.", lambda r: str(len(r["seeds"])), "seeds"),
    Column("loss", "What training made of the labels.", lambda r: r.get("loss") or "", "loss", True),
)


def columns(rows: Sequence[Cells]) -> list[Column]:
    """Return the columns to show; the loss is one only where methods differ in it."""
    losses = {row.get("loss") for row in rows} - {None}
    return [column for column in COLUMNS if column.key != "loss" or len(losses) > 1]


def headings(shown: Sequence[Column], confidence: float) -> list[str]:
    """Return the headings, with the level of the intervals in them."""
    return [column.heading.format(level=f"{confidence:.0%}") for column in shown]


def cells(shown: Sequence[Column], rows: Sequence[Cells]) -> list[list[str]]:
    """Return the table's texts, row by row."""
    return [[column.show(row) for column in shown] for row in rows]


def as_text(rows: Sequence[Cells], confidence: float) -> str:
    """Return the table as aligned plain text, for a pipe or a log."""
    shown = columns(rows)
    lines = [headings(shown, confidence), *cells(shown, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column.text else text.rjust(width)
            for text, width, column in zip(line, widths, shown, strict=True)
        ).rstrip()
        for line in lines
    )


_GIVEN_UP = ("seeds", "loss", "role", "seconds", "kept_fraction", "label_accuracy", "pgr")
"""The columns that a narrow terminal goes without, the first one first: what decides stays."""


def as_rich(rows: Sequence[Cells], confidence: float, width: int | None = None) -> Table:
    """Return the table for a terminal; the best method stands out, what frames it stands back.

    Args:
        rows: the methods.
        confidence: level of the intervals.
        width: characters of the terminal; columns that do not fit are left out whole, and named below, for half a
            number is none. Null: all columns.
    """
    shown = columns(rows)
    left_out = [] if width is None else _too_wide(shown, rows, confidence, width)
    shown = [column for column in shown if column not in left_out]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column, heading in zip(shown, headings(shown, confidence), strict=True):
        table.add_column(heading, justify="left" if column.text else "right", no_wrap=True)
    best = next((row["method"] for row in rows if row["role"] == "method"), None)
    for row, line in zip(rows, cells(shown, rows), strict=True):  # as Text: a bracket in a name is no markup
        style = "bold green" if row["method"] == best else "dim" if row["role"] != "method" else ""
        table.add_row(*map(Text, line), style=style)
    if left_out:
        names = ", ".join(column.heading.removesuffix(" [{level}]") for column in left_out)
        table.caption = Text(f"too narrow for: {names}", justify="left")
    return table


def _too_wide(shown: Sequence[Column], rows: Sequence[Cells], confidence: float, width: int) -> list[Column]:
    """Return the columns to leave out, in their order."""
    texts = zip(headings(shown, confidence), *cells(shown, rows), strict=True)
    widths = {column.key: max(map(len, column_texts)) + 2 for column, column_texts in zip(shown, texts, strict=True)}
    gone: set[str] = set()
    for key in _GIVEN_UP:
        if sum(size for name, size in widths.items() if name not in gone) - 2 <= width:
            break
        gone.add(key)
    return [column for column in shown if column.key in gone]


def as_csv(rows: Sequence[Cells]) -> str:
    """Return all columns as CSV; null is empty, seeds are separated by spaces."""
    frame = pl.DataFrame([{**row, "seeds": " ".join(map(str, row["seeds"]))} for row in rows], infer_schema_length=None)
    return frame.write_csv()


def as_json(document: Mapping[str, Any]) -> str:
    """Return strict JSON.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def metrics(rows: Sequence[Cells]) -> dict[str, dict[str, float]]:
    """Return method → its finite numbers, which is what `dvc metrics` can read and compare."""
    return {
        row["method"]: {
            key: value
            for key, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        for row in rows
    }
