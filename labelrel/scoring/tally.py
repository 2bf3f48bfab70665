"""Answers → votes: one row per item and distinct answer, and which of them is the weak label."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from labelrel.scoring.hashing import stable_hash

Protocol = Literal["default", "paper"]


def tally_votes(answers: pl.DataFrame, *, protocol: Protocol = "default") -> pl.DataFrame:
    """Count the votes of every item.

    The weak label is the answer with most votes. A tie goes to the answer with the smallest hash
    of (item, answer): the same under any order of rows, and no answer is favoured over the table,
    as "0" would be by the alphabet.

    Args:
        answers: a checked answers table; null = abstained or unparsable.
        protocol: `default` counts parsed answers only. `paper` counts "no answer" as one more
            answer, as the published code does for multiple choice: it gets votes, a share, and
            can be the weak label, with `answer` null.

    Returns:
        One row per (item, distinct answer): items by first appearance, then by descending votes,
        then by answer.

        - `item_id`, `answer`: an item without a parsed answer keeps one row with null
          (in `default`), `num_votes` 0, `share` null and `weak_label` false.
        - `num_votes`, `num_answers`: votes for the answer, and counted answers of the item.
        - `share`: votes / counted answers, in (0, 1].
        - `tie`: whether several answers share the most votes; one value per item.
        - `weak_label`: true on one row of every item with a counted answer.

    Source: majority vote; its use for weak labels as in Guo & Yang 2024 (arXiv 2406.19032).
    """
    counts_as_answer = pl.lit(True) if protocol == "paper" else pl.col("answer").is_not_null()
    top = pl.col("num_votes") == pl.col("num_votes").max().over("item_id")
    votes = (
        answers.lazy()
        .select("item_id", "answer")
        .with_row_index("row")
        .group_by("item_id", "answer")
        .agg(pl.len().cast(pl.Int64).alias("num_votes"), pl.col("row").min())
        .with_columns(pl.when(counts_as_answer).then("num_votes").otherwise(0).alias("num_votes"))
        .with_columns(
            pl.col("num_votes").sum().over("item_id").alias("num_answers"),
            pl.col("row").min().over("item_id"),
        )
        .filter((pl.col("num_votes") > 0) | (pl.col("num_answers") == 0))
        .with_columns(top=top & (pl.col("num_votes") > 0))
        .with_columns(
            pl.when(pl.col("num_answers") > 0).then(pl.col("num_votes") / pl.col("num_answers")).alias("share"),
            (pl.col("top").sum().over("item_id") > 1).alias("tie"),
        )
        .sort("row", "num_votes", "answer", descending=[False, True, False], nulls_last=True)
        .collect()
    )
    return votes.with_columns(_weak_label(votes)).drop("row", "top")


def _weak_label(votes: pl.DataFrame) -> pl.Series:
    """The top row of every item; of several, the one with the smallest hash."""
    tied = votes.with_row_index("place").filter("tie", "top")
    text = tied.select(pl.concat_str("item_id", pl.lit("\x1f"), pl.col("answer").fill_null("\x00"))).to_series()
    winners = (
        tied.with_columns(pl.Series("hash", stable_hash(text)))
        .group_by("item_id")
        .agg(pl.col("place").sort_by("hash", "answer").first())
    )
    weak = (votes["top"] & ~votes["tie"]).to_numpy().copy()
    weak[winners["place"].to_numpy().astype(np.intp)] = True
    return pl.Series("weak_label", weak)
