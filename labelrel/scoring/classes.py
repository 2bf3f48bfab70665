"""Answers as class indices with label probabilities: the shape that classifiers' tools want.

Items fall into groups with the same classes. Where an item's number of choices K is known and its
answers are indices 0..K-1, they are the classes; one group per K. All other answers (open questions,
class names from outside) are classes by their text, one group for the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.errors import InputError
from labelrel.scoring.logprobs import choice_probs, mean_probs

Source = Literal["choice_logprobs", "vote_shares"]

_MOST_CELLS = 50_000_000  # of one dense matrix: 400 MB of float64


@dataclass(frozen=True)
class ClassGroup:
    """Items that share their classes, in order of item id.

    Attributes:
        item_ids: (N,) text.
        classes: (K,) the answer that each class index stands for.
        probs: (N, K) label probabilities, rows sum to 1; K is at least 2, of which the last is
            nobody's where only one class is known.
        votes: one row per parsed answer: `item` in 0..N-1, `annotator` in 0..M-1 (a pair of
            annotator and variant), `label` in 0..K-1, in order of (item, annotator).
    """

    item_ids: pl.Series
    classes: list[str]
    probs: npt.NDArray[np.float64]
    votes: pl.DataFrame


def label_probs_source(answers: pl.DataFrame) -> Source:
    """Say where label probabilities come from.

    Args:
        answers: an answers table.

    Returns:
        `choice_logprobs` where every item with a parsed answer has them on at least one row: then
        the probability of a class is the mean of exp(choice_logprobs) over the item's rows.
        Otherwise `vote_shares`, which makes a method that combines votes with probabilities
        (crowdlab) circular: it sees the votes twice.
    """
    if "choice_logprobs" not in answers.columns:
        return "vote_shares"
    lacking = (
        answers.lazy()
        .group_by("item_id")
        .agg(pl.col("answer").count() > 0, pl.col("choice_logprobs").count() == 0)
        .select((pl.col("answer") & pl.col("choice_logprobs")).any())
    )
    return "vote_shares" if lacking.collect().item() else "choice_logprobs"


def class_groups(answers: pl.DataFrame, items: pl.DataFrame | None, choices: int | None = None) -> list[ClassGroup]:
    """Split a table into groups of items with the same classes.

    Args:
        answers: a checked answers table, with `choice_logprobs` or without.
        items: `item_id` and `choices`, or None.
        choices: the number of classes of every item that `items` does not tell of. Answers that are
            all indices below it are the classes 0..choices-1; the names of classes that nobody
            named are not known, so of other answers only those that were given are classes.

    Returns:
        Groups by ascending K, the one of text classes last; items without a parsed answer are in
        none of them. The order of rows does not matter, to the last bit.

    Raises:
        InputError: log-probabilities that are none, or for another number of choices than the
            item has, or too many classes for a dense matrix.
    """
    answers = answers.sort("item_id", "annotator_id", "variant_id")
    source = label_probs_source(answers)
    rows = answers.filter(pl.col("answer").is_not_null()).join(
        num_choices(answers, items, choices), on="item_id", how="left", maintain_order="left"
    )
    index = pl.col("answer").cast(pl.Int64, strict=False)
    is_index = (index.cast(pl.String) == pl.col("answer")) & index.is_between(0, pl.col("num_choices") - 1)
    rows = rows.with_columns(is_index.fill_null(False).all().over("item_id").alias("indexed"))
    if source == "choice_logprobs":
        _require_indexed(rows)
    # a user's word is for the whole table: with answers "1".."4" for 4 classes no item has indices
    elif not rows.select((pl.col("indexed") | ~pl.col("by_hand")).all()).item():
        rows = rows.with_columns(pl.col("indexed") & ~pl.col("by_hand"))
    known, text = rows.filter("indexed"), rows.filter(~pl.col("indexed"))
    groups = []
    for size in known["num_choices"].unique().sort().to_list():
        members = known.filter(pl.col("num_choices") == size)
        classes = [str(label) for label in range(size)]
        groups.append(_group(members.with_columns(index.alias("label")), classes, answers, source))
    if text.height:
        classes = text["answer"].unique().sort().to_list()
        groups.append(_group(text.with_columns(_code("answer").alias("label")), classes, answers, source))
    return groups


def _code(column: str) -> pl.Expr:
    """0-based rank of a value among the distinct ones: the same whatever the order of rows."""
    return pl.col(column).rank("dense").cast(pl.Int64) - 1


def _group(rows: pl.DataFrame, classes: list[str], answers: pl.DataFrame, source: Source) -> ClassGroup:
    pair = pl.concat_str("annotator_id", pl.lit("\x1f"), "variant_id").alias("pair")
    votes = rows.with_columns(pair).select(
        _code("item_id").alias("item"), _code("pair").alias("annotator"), pl.col("label")
    )
    item_ids = rows["item_id"].unique().sort()
    num_classes = max(2, len(classes))
    require_dense(len(item_ids), num_classes, "classes")
    if source == "choice_logprobs":
        probs = _mean_probs(answers.filter(pl.col("item_id").is_in(item_ids.implode())), num_classes)
    else:
        cells = votes["item"].to_numpy() * num_classes + votes["label"].to_numpy()
        counts = np.bincount(cells, minlength=len(item_ids) * num_classes).reshape(-1, num_classes)
        probs = counts / counts.sum(axis=1, keepdims=True)
    return ClassGroup(item_ids, classes, probs, votes)


def require_dense(num_items: int, width: int, what: str) -> None:
    """Refuse a matrix that would not fit, with a way out.

    Raises:
        InputError: more cells than fit.
    """
    if num_items * width > _MOST_CELLS:
        raise InputError(
            f"{num_items} items with {width} {what} are too many for a method that needs a full matrix; "
            "use methods that read votes only (share, entropy, margin, reliability)."
        )


def _mean_probs(answers: pl.DataFrame, num_classes: int) -> npt.NDArray[np.float64]:
    """Mean over an item's rows of exp(choice_logprobs), (N, K) in order of item id."""
    item_ids = answers["item_id"].unique(maintain_order=True)
    item = answers["item_id"].rle_id().to_numpy().astype(np.int32)
    starts, probs = mean_probs(choice_probs(item, item_ids, answers["choice_logprobs"]), len(item_ids))
    dense = np.zeros((len(item_ids), num_classes))
    size = np.diff(starts)
    dense[np.repeat(np.arange(len(size)), size), np.arange(len(probs)) - np.repeat(starts[:-1], size)] = probs
    return dense


def num_choices(answers: pl.DataFrame, items: pl.DataFrame | None, choices: int | None = None) -> pl.DataFrame:
    """Return how many choices every answered item has.

    Args:
        answers: an answers table, with `choice_logprobs` or without.
        items: `item_id` and `choices`, or None.
        choices: the number for every item that `items` does not tell of.

    Returns:
        `item_id`, `num_choices`, null where it is not known, and `by_hand`: known from `choices` alone.

    Raises:
        InputError: an item with log-probabilities of another number of choices.
    """
    if "choice_logprobs" in answers.columns and answers.schema["choice_logprobs"] != pl.Null():
        listed = pl.col("choice_logprobs").list.len().max().cast(pl.Int64)
    else:
        listed = pl.lit(None, pl.Int64)
    known = answers.group_by("item_id").agg(listed.alias("listed"))
    if items is None:
        known = known.with_columns(pl.lit(None, pl.Int64).alias("told"))
    else:
        told = pl.col("choices").cast(pl.List(pl.String)).list.len().cast(pl.Int64).alias("told")
        known = known.join(items.select("item_id", told), on="item_id", how="left")
    size = pl.coalesce("told", pl.lit(choices, pl.Int64))
    other = known.filter(pl.col("listed") != size).with_columns(size=size)
    if other.height:
        row = other.sort("item_id").row(0, named=True)
        raise InputError(
            f"item {row['item_id']} has {row['size']} choices but choice_logprobs of {row['listed']} "
            f"({other.height} such items); one log-probability per choice is expected."
        )
    return known.select(
        "item_id",
        pl.coalesce(size, "listed").alias("num_choices"),
        (pl.col("told").is_null() & pl.col("listed").is_null() & size.is_not_null()).alias("by_hand"),
    )


def choice_indices(answers: pl.Series) -> npt.NDArray[np.int64]:
    """Return the choice index that each text is, written as "0", "1", …; -1 where it is none."""
    index = answers.cast(pl.Int64, strict=False)
    plain = (index.cast(pl.String) == answers) & (index >= 0)
    return index.set(~plain.fill_null(False), -1).fill_null(-1).to_numpy()


def no_index(item_id: str, answer: str, num_choices: int, num_items: int) -> InputError:
    """Return the error about `num_items` items whose answers do not name one of their choices by its index."""
    return InputError(
        f"item {item_id} has choice_logprobs but answers that are no choice index, such as {answer!r} "
        f"({num_items} such items); name a choice by its index, 0 to {num_choices - 1}, or leave choice_logprobs out."
    )


def _require_indexed(rows: pl.DataFrame) -> None:
    other = rows.filter(~pl.col("indexed"))
    if other.height:
        row = other.row(0, named=True)
        raise no_index(row["item_id"], row["answer"], row["num_choices"] or 1, other["item_id"].n_unique())
