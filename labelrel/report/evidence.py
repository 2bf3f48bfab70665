"""From items, scores and answers to the tables that the figures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from labelrel.report import labels, score_figures
from labelrel.report.figures import LabelTables
from labelrel.report.positions import position_shares


def label_tables(
    items: pl.DataFrame,
    scores: pl.DataFrame,
    weak: pl.DataFrame,
    answers: pl.DataFrame | None,
    *,
    aurocs: Mapping[str, float | None],
    confidence: float,
    resamples: int,
    seed: int,
) -> LabelTables:
    """Compute what is drawn about answers and scores.

    Args:
        items: the items table.
        scores: the scores table.
        weak: its weak labels as `labels.with_gold` returns them.
        answers: the answers table; null where there is none, and then no positions.
        aurocs: scoring method → AUROC of its label quality.
        confidence: level of every interval, in (0, 1).
        resamples: number of bootstrap draws of items.
        seed: of the draws.
    """
    votes = labels.with_gold(scores, items)
    curves = labels.risk_curves(weak)
    diagrams = {name: labels.diagram(weak, name, confidence=confidence) for name in curves}
    with_band = score_figures.with_band(curves, aurocs)
    return LabelTables(
        aurocs=aurocs,
        bars=labels.entropy_bars(scores, items),
        cells=labels.reliability_cells(votes),
        opened=labels.open_reliability(votes),
        words=labels.shared_choices(items),
        curves=curves,
        bands=labels.risk_bands(weak, with_band, confidence=confidence, resamples=resamples, seed=seed),
        diagrams=score_figures.choose_diagrams(diagrams, aurocs),
        positions=pl.DataFrame() if answers is None else position_shares(answers, items, confidence=confidence),
    )
