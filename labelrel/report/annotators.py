"""Who answered: how much, how often right, and how often with the rest."""

from __future__ import annotations

import polars as pl

from labelrel.evaluate.agreement import wilson
from labelrel.report.labels import SPLIT

MOST = 50
"""Rows that a page shows; a crowd has thousands of annotators."""

_WILSON = ["lo", "hi"]


def annotator_table(
    answers: pl.DataFrame, items: pl.DataFrame, scores: pl.DataFrame, by: str, *, confidence: float
) -> pl.DataFrame:
    """Return one row per annotator, or per query variant, on the weak-labelled items.

    The unit is the item, however often it was asked: each counts with the share of the answers to it that
    are right, or that are its weak label. Abstentions are counted and otherwise left out.

    Args:
        answers: the answers table.
        items: the items table.
        scores: the scores table; the weak labels of its first scoring method are read.
        by: `annotator_id` or `variant_id`.
        confidence: level of the intervals, in (0, 1).

    Returns:
        `by`, `num_answers` (parsed or not), `num_abstained`, `num_gold` (items with a gold label and a
        parsed answer), `accuracy`, `accuracy_lo`, `accuracy_hi` (Wilson's interval over items),
        `num_compared`, `agreement`, `agreement_lo`, `agreement_hi`; those with most answers first. The
        numbers are null where there is nothing to compare with.
    """
    first = scores["method"][0] if scores.height else ""
    weak = scores.filter((pl.col("method") == first) & pl.col("weak_label"))
    known = items.filter(pl.col("split") == SPLIT).select("item_id", "gold_label")
    given = (
        answers.select("item_id", by, "answer")
        .join(known, on="item_id", how="inner")
        .join(weak.select("item_id", weak="answer"), on="item_id", how="left")
    )
    if given.is_empty():
        return pl.DataFrame()
    counted = given.group_by(by).agg(num_answers=pl.len(), num_abstained=pl.col("answer").null_count())
    for name, against, number in (("accuracy", "gold_label", "num_gold"), ("agreement", "weak", "num_compared")):
        # null on either side is neither right nor wrong, and `drop_nulls` leaves such an item out
        same = given.with_columns(same=pl.col("answer") == pl.col(against)).drop_nulls("same")
        per_item = same.group_by(by, "item_id").agg(pl.col("same").mean())
        share = per_item.group_by(by).agg(pl.col("same").mean().alias(name), pl.len().alias(number))
        counted = counted.join(share, on=by, how="left", nulls_equal=True)
        ends = [
            None if not count else wilson(part * count, int(count), confidence)
            for part, count in counted.select(name, number).iter_rows()
        ]
        counted = counted.with_columns(
            pl.Series(f"{name}_{end}", [pair and pair[place] for pair in ends], dtype=pl.Float64)
            for place, end in enumerate(_WILSON)
        ).with_columns(pl.col(number).fill_null(0))
    order = [by, "num_answers", "num_abstained"]
    for name, number in (("accuracy", "num_gold"), ("agreement", "num_compared")):
        order += [number, name, f"{name}_lo", f"{name}_hi"]
    return counted.select(order).sort(["num_answers", by], descending=[True, False])
