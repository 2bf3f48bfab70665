"""Tables as HTML: every text escaped, every number with the value that it sorts by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Literal, NamedTuple

Kind = Literal["number", "text", "prose", "digest"]
"""Numbers align right; prose and digests may wrap, the latter anywhere."""


class Head(NamedTuple):
    """One column.

    Attributes:
        name: its heading.
        kind: how its cells align and wrap.
        form: format of its numbers.
    """

    name: str
    kind: Kind = "number"
    form: str = ".3f"


class Shown(NamedTuple):
    """A cell whose text is not what it sorts by.

    Attributes:
        text: what is read.
        value: what it sorts by; null goes last.
    """

    text: str
    value: float | str | None


def table(label: str, heads: Sequence[Head], rows: Iterable[Sequence[Any]], styles: Sequence[str] = ()) -> str:
    """Return a table in a frame that scrolls by itself where the screen is narrow.

    Args:
        label: what the table holds, for those who hear it instead of seeing it.
        heads: its columns; where none has a name there is no heading row, and nothing to sort.
        rows: cells, each a value or `Shown`; null is empty.
        styles: class of each row; fewer than rows means none for the rest.
    """
    body = "".join(_row(heads, row, styles[n] if n < len(styles) else "") for n, row in enumerate(rows))
    named = any(head.name for head in heads)
    line = "".join(f'<th scope="col" class="{head.kind}">{escape(head.name)}</th>' for head in heads)
    head = f"<thead><tr>{line}</tr></thead>" if named else ""
    kind = ' class="sortable"' if named else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table{kind}>{head}<tbody>{body}</tbody></table></div>"
    )


def section(title: str, *parts: str) -> str:
    """Return a section under a heading that can be linked to; "" where there is nothing in it."""
    content = "".join(parts)
    return f'<section id="{anchor(title)}"><h2>{escape(title)}</h2>{content}</section>' if content else ""


def anchor(title: str) -> str:
    """Return the id of a section."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def note(text: str) -> str:
    """Return a paragraph in the smaller, quieter type."""
    return f'<p class="muted">{escape(text)}</p>'


def details(summary: str, *parts: str) -> str:
    """Return what only some readers want, folded away."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def _row(heads: Sequence[Head], cells: Sequence[Any], style: str) -> str:
    shown = [_cell(head, cell) for head, cell in zip(heads, cells, strict=True)]
    return f'<tr class="{escape(style)}">{"".join(shown)}</tr>' if style else f"<tr>{''.join(shown)}</tr>"


def _cell(head: Head, cell: Any) -> str:
    text, value = cell if isinstance(cell, Shown) else (_text(cell, head.form), cell)
    key = "" if value is None else str(value)
    sorts = "" if key == text else f' data-sort="{escape(key)}"'
    return f'<td class="{head.kind}"{sorts}>{escape(text)}</td>'


def _text(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, form)
    return f"{value:,}" if isinstance(value, int) else str(value)
