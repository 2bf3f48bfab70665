"""Labels worth a look: the least reliable ones that were kept, the most reliable ones that were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from labelrel.files import read_table
from labelrel.report.collect import Comparison, Row
from labelrel.report.labels import SPLIT, cut, in_words
from labelrel.report.runs import Sources
from labelrel.schema import require_columns

MOST = 20
MOST_ANSWERS = 6  # distinct answers whose votes are spelt out; open questions may have one per vote


@dataclass(frozen=True)
class Doubts:
    """Where one method's choice is closest to having gone the other way.

    Attributes:
        method: whose choice.
        score: the scoring method that it read, or that stands in where it read none.
        read: whether it read it.
        kept: at most `MOST` labels in its training set, the least reliable first: `item_id, question, answer,
            gold_label, votes` (answers in words with their number of votes), `label_quality, weight`.
        dropped: likewise what is not in it, the most reliable first; `weight` is null.
        num_dropped: weak labels that are not in it.
        looks_again: whether the method chooses a second time, which is not shown.
    """

    method: str
    score: str
    read: bool
    kept: pl.DataFrame
    dropped: pl.DataFrame
    num_dropped: int
    looks_again: bool


def doubts(comparison: Comparison, sources: Sources, items: pl.DataFrame, scores: pl.DataFrame) -> Doubts | None:
    """Return the doubtful choices of the best method that drops labels, or of the best one where none does.

    Args:
        comparison: the rows, best methods first.
        sources: where the training sets are.
        items: the items table.
        scores: the scores table.

    Returns:
        Null where no method has a training set, or nothing was scored.

    Raises:
        InputError: a training set cannot be read.
    """
    there = set(scores["method"].unique())
    rows = [row for row in comparison.with_role("method") if _file(sources, row).is_file()]
    dropping = [row for row in rows if row.kept_fraction is not None and row.kept_fraction < 1]
    # a rule without a score, such as "the first answer", has nothing that its labels could be ranked by
    ranked = sorted([*dropping, *rows], key=lambda row: comparison.score_of(row.method) not in there)
    if not ranked or not there:
        return None
    row = ranked[0]
    name = comparison.score_of(row.method)
    score = name if name in there else str(scores["method"][0])
    training = read_table(_file(sources, row))
    require_columns(training, ["item_id", "answer", "weight"], str(_file(sources, row)))
    weights = training.group_by("item_id").agg(pl.col("weight").mean())
    labels = _labels(items, scores.filter(pl.col("method") == score)).join(weights, on="item_id", how="left")
    kept, dropped = labels.filter(pl.col("weight").is_not_null()), labels.filter(pl.col("weight").is_null())
    return Doubts(
        row.method,
        score,
        name in there,
        _worded(_first(kept, descending=False), items, scores),
        _worded(_first(dropped, descending=True), items, scores),
        dropped.height,
        bool(comparison.training.get(row.method, {}).get("then")),
    )


def _file(sources: Sources, row: Row) -> Path:
    return sources.training / f"{row.method}.parquet"


def _labels(items: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Return the weak labels of the weak-labelled items that have a label quality."""
    weak = scores.filter(pl.col("weak_label") & pl.col("label_quality").is_not_null() & pl.col("answer").is_not_null())
    known = items.filter(pl.col("split") == SPLIT).select("item_id")
    return weak.select("item_id", "answer", "label_quality", "reliability").join(known, on="item_id", how="inner")


def _first(labels: pl.DataFrame, *, descending: bool) -> pl.DataFrame:
    """Return the first labels by quality; equal ones by the reliability of their votes, then by item."""
    keys = ["label_quality", "reliability", "item_id"]
    return labels.sort(keys, descending=[descending, descending, False], nulls_last=True).head(MOST)


def _worded(labels: pl.DataFrame, items: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Give each label its question, gold label and votes, choices in words and long texts cut."""
    known = items.select("item_id", "question", "choices", "gold_label")
    votes = (
        scores.filter((pl.col("method") == scores["method"][0]) & (pl.col("num_votes") > 0))
        .join(labels.select("item_id"), on="item_id", how="semi")
        .join(known.select("item_id", "choices"), on="item_id", how="left")
        .sort("item_id", "num_votes", "answer", descending=[False, True, False])
        .with_columns(text=pl.format("{} x{}", cut(in_words("answer"), 60).fill_null("no answer"), "num_votes"))
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("text").head(MOST_ANSWERS), more=pl.len().cast(pl.Int64) - MOST_ANSWERS)
        .select("item_id", votes=pl.col("text").list.join(", ") + _more(pl.col("more")))
    )
    return (
        labels.join(known, on="item_id", how="left", maintain_order="left")
        .join(votes, on="item_id", how="left", maintain_order="left")
        .select(
            "item_id",
            cut(pl.col("question")).alias("question"),
            cut(in_words("answer")).alias("answer"),
            cut(in_words("gold_label")).alias("gold_label"),
            "votes",
            "label_quality",
            "weight",
        )
    )


def _more(count: pl.Expr) -> pl.Expr:
    return pl.when(count > 0).then(pl.format(", … ({} more)", count)).otherwise(pl.lit(""))
