"""The whole report as one HTML file that needs nothing else: no font, no address, and no script to be read."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import polars as pl

from labelrel.report.assets import SCRIPT, STYLE, policy
from labelrel.report.collect import Comparison
from labelrel.report.doubts import Doubts
from labelrel.report.figures import Picture
from labelrel.report.html import Head, Shown, anchor, details, note, section, table
from labelrel.report.origin import origin
from labelrel.report.sections import (
    annotator_section,
    cost_section,
    doubt_section,
    example_section,
    origin_section,
    score_section,
)
from labelrel.report.sentence import best_method
from labelrel.report.table import columns, headings


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the page shows beside the comparison; what is empty or null is left out.

    Attributes:
        scores: as `labels.score_table` returns it.
        examples: as `labels.examples` returns it.
        doubts: as `doubts.doubts` returns it.
        annotators: `annotator_id` or `variant_id` → as `annotators.annotator_table` returns it.
        pictures: the figures.
        about: what a reader needs to get the same numbers, such as version and commit.
    """

    scores: pl.DataFrame = field(default_factory=pl.DataFrame)
    examples: pl.DataFrame = field(default_factory=pl.DataFrame)
    doubts: Doubts | None = None
    annotators: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    about: Mapping[str, str] = field(default_factory=dict)


def page(comparison: Comparison, answer: str, evidence: Evidence) -> str:
    """Return the report as HTML; every text that comes from data is escaped.

    Args:
        comparison: the table and what it rests on.
        answer: the answer in plain words.
        evidence: what else is shown.
    """
    title = f"Which labels aligned the strong model best: {comparison.task}"
    basis = (
        f"Strong model {comparison.model}, {comparison.num_test_items} test items, "
        f"intervals at {comparison.confidence:.0%}."
    )
    figures = {picture.name: _figure(picture) for picture in evidence.pictures}
    sections = {
        "The methods": section("The methods", _comparison_table(comparison)),
        **{picture.title: section(picture.title, figures[picture.name]) for picture in evidence.pictures},
        **score_section(evidence.scores),
        **annotator_section(evidence.annotators, comparison.confidence),
        **doubt_section(evidence.doubts),
        **example_section(evidence.examples),
        **cost_section(comparison),
        **origin_section(origin(comparison, evidence.about), comparison.params, evidence.about),
    }
    there = {name: text for name, text in sections.items() if text}
    links = " ".join(f'<a href="#{anchor(name)}">{escape(name)}</a>' for name in there)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>\n<body><main>\n'
        f'<header><div><h1>{escape(title)}</h1>{note(basis)}</div><button id="theme" type="button" hidden></button>'
        f'</header>\n<p class="answer">{escape(answer)}</p>\n<nav aria-label="Contents">{links}</nav>\n'
        + "\n".join(there.values())
        + f"\n</main><script>{SCRIPT}</script></body></html>\n"
    )


def _comparison_table(comparison: Comparison) -> str:
    rows = [row.as_dict() for row in comparison.rows]
    best = best_method(comparison)
    styles = ["best" if best is not None and row is best else row.role for row in comparison.rows]
    shown = columns(rows)
    names = headings(shown, comparison.confidence)
    heads = [Head(name, "text" if column.text else "number") for name, column in zip(names, shown, strict=True)]
    cells = [[Shown(column.show(row), column.value(row)) for column in shown] for row in rows]
    meanings = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(column.meaning)}</dd>" for name, column in zip(names, shown, strict=True)
    )
    return table("The methods", heads, cells, styles) + details("What each column means", f"<dl>{meanings}</dl>")


def _figure(picture: Picture) -> str:
    images = "".join(
        f'<img class="{theme}" alt="{escape(picture.title)}" src="data:image/png;base64,{_base64(image)}">'
        for theme, image in (("light", picture.light), ("dark", picture.dark))
    )
    return (
        f'<figure><div class="wide" tabindex="0" role="region" aria-label="{escape(picture.title)}">{images}</div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _base64(image: bytes) -> str:
    return base64.b64encode(image).decode()
