"""The whole report as one HTML file that needs nothing else: no script, no font, no address."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from labelrel.report.collect import Comparison
from labelrel.report.figures import Picture
from labelrel.report.sentence import best_method
from labelrel.report.table import COLUMNS, cells, headings

SCORE_HEADINGS = {
    "method": "scoring method",
    "num_items": "items",
    "num_scored": "scored",
    "label_accuracy": "labels right",
    "auroc": "AUROC",
    "aurc": "AURC",
    "augrc": "AUGRC",
}

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1f2328; --muted: #5c6570; --line: #e3e6ea;
  --card: #f6f7f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ground: #161a20; --ink: #e6e8eb; --muted: #9aa3ad;
  --line: #2c323a; --card: #1d222a; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 44px 0 8px; }
p { margin: 8px 0; }
.muted, figcaption, dd { color: var(--muted); font-size: 14px; }
.answer { border-left: 4px solid var(--accent); background: var(--card); padding: 14px 18px; margin: 22px 0;
  font-size: 17px; border-radius: 0 6px 6px 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px 6px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th.text, th.prose, td.text { text-align: left; }
td.prose { text-align: left; white-space: normal; }
tr.best td { font-weight: 650; }
tr.floor td, tr.ceiling td, tr.control td { color: var(--muted); }
figure { margin: 0; max-width: 920px; }
img { width: 100%; height: auto; display: block; border-radius: 6px; }
dt { font-weight: 600; font-size: 14px; margin-top: 8px; }
dd { margin: 0; }
pre { background: var(--card); padding: 12px 16px; border-radius: 6px; overflow-x: auto; font-size: 13px; }
summary { cursor: pointer; color: var(--muted); font-size: 14px; margin: 10px 0; }
"""


def page(
    comparison: Comparison,
    *,
    answer: str,
    scores: pl.DataFrame,
    examples: pl.DataFrame,
    pictures: Sequence[Picture],
    about: Mapping[str, str],
) -> str:
    """Return the report as HTML; every text that comes from data is escaped.

    Args:
        comparison: the table and what it rests on.
        answer: the answer in plain words.
        scores: as `labels.score_table` returns it.
        examples: as `labels.examples` returns it.
        pictures: the figures.
        about: what a reader needs to get the same numbers, such as version and commit.
    """
    title = f"Which labels aligned the strong model best: {comparison.task}"
    basis = (
        f"Strong model {comparison.model}, {comparison.num_test_items} test items, "
        f"intervals at {comparison.confidence:.0%}."
    )
    sections = [
        f"<h1>{escape(title)}</h1><p class=muted>{escape(basis)}</p>",
        f"<p class=answer>{escape(answer)}</p>",
        _comparison_table(comparison),
        _columns(comparison.confidence),
        *(_figure(picture) for picture in pictures),
        _score_section(scores),
        _example_section(examples),
        _reproduce(comparison, about),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def _comparison_table(comparison: Comparison) -> str:
    rows = [row.as_dict() for row in comparison.rows]
    best = best_method(comparison)
    styles = ["best" if best is not None and row is best else row.role for row in comparison.rows]
    names = [column.text for column in COLUMNS]
    return _table(headings(comparison.confidence), cells(rows), names, styles)


def _columns(confidence: float) -> str:
    entries = "".join(
        f"<dt>{escape(heading)}</dt><dd>{escape(column.meaning)}</dd>"
        for column, heading in zip(COLUMNS, headings(confidence), strict=True)
    )
    return f"<details><summary>What each column means</summary><dl>{entries}</dl></details>"


def _figure(picture: Picture) -> str:
    light, dark = (base64.b64encode(image).decode() for image in (picture.light, picture.dark))
    return (
        f"<h2>{escape(picture.title)}</h2><figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,{dark}">'
        f'<img alt="{escape(picture.title)}" src="data:image/png;base64,{light}"></picture>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _score_section(scores: pl.DataFrame) -> str:
    if scores.is_empty():
        return ""
    rows = [[_text(value) for value in row] for row in scores.select(list(SCORE_HEADINGS)).iter_rows()]
    return (
        "<h2>How well the scores tell right labels from wrong ones</h2>"
        "<p class=muted>On the weak-labelled items whose gold label is known, which serves for this table only. "
        "AUROC: the chance that a right label scores above a wrong one, .5 says nothing. AURC and AUGRC: lower is "
        "better.</p>"
        + _table(list(SCORE_HEADINGS.values()), rows, [True] + [False] * (len(SCORE_HEADINGS) - 1), [""] * len(rows))
    )


def _example_section(examples: pl.DataFrame) -> str:
    if examples.is_empty():
        return ""
    rows = [[_text(value) for value in row] for row in examples.iter_rows()]
    names = ["item", "question", "weak label", "gold label", "vote share"]
    return (
        "<h2>Wrong labels that the votes agree on</h2>"
        "<p class=muted>Unanimous is not certain: the more the votes agree on a wrong label, the less can a score made "
        "from votes alone find it.</p>" + _table(names, rows, [True] * 4 + [False], [""] * len(rows), prose=(1, 2, 3))
    )


def _reproduce(comparison: Comparison, about: Mapping[str, str]) -> str:
    facts = _table(["", ""], [[name, value] for name, value in about.items()], [True, True], [""] * len(about))
    params = [[key, json.dumps(value, ensure_ascii=False)] for key, value in sorted(comparison.params.items())]
    shared = _table(["parameter", "value"], params, [True, True], [""] * len(params))
    return (
        "<h2>How to get these numbers again</h2><pre>dvc repro          # runs what has changed since\n"
        "labelrel report    # this page alone\nlabelrel ui        # the same runs in MLflow</pre>"
        + (facts if about else "")
        + (f"<details><summary>Parameters that all runs share</summary>{shared}</details>" if params else "")
    )


def _table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    texts: Sequence[bool],
    styles: Sequence[str],
    *,
    prose: Sequence[int] = (),
) -> str:
    """Return a table; `texts` says which columns align left, `prose` which ones may wrap."""
    kinds = ["prose" if place in prose else "text" if text else "" for place, text in enumerate(texts)]
    head = "".join(f'<th class="{kind or "number"}">{escape(n)}</th>' for kind, n in zip(kinds, names, strict=True))
    body = "".join(
        f'<tr class="{escape(style)}">'
        + "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in zip(kinds, row, strict=True))
        + "</tr>"
        for row, style in zip(rows, styles, strict=True)
    )
    header = f"<thead><tr>{head}</tr></thead>" if any(names) else ""
    return f"<div class=wide><table>{header}<tbody>{body}</tbody></table></div>"


def _text(value: Any) -> str:
    """Show one number of a table; null is empty."""
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
