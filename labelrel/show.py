"""Tables on stdout: drawn in a terminal, aligned text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any


def print_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Print rows that share their keys; numbers to three decimals and to the right, None as nothing.

    Args:
        rows: at least one; the keys of the first are the columns.
        title: a line above.
    """
    columns = list(rows[0])
    cells = [[_text(row[column]) for column in columns] for row in rows]
    right = [all(_is_number(row[column]) for row in rows) for column in columns]
    if sys.stdout.isatty():
        _drawn(title, columns, cells, right)
        return
    if title:
        print(title)
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    for line in [columns, *cells]:
        padded = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        )
        print(("  " + "  ".join(padded)).rstrip())


def _drawn(title: str, columns: list[str], cells: list[list[str]], right: list[bool]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) or None, title_justify="left")
    for column, flush in zip(columns, right, strict=True):
        table.add_column(escape(column), justify="right" if flush else "left")
    for line in cells:
        table.add_row(*map(escape, line))
    Console().print(table)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)
