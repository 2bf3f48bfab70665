"""Open answers: which of them mean the same, and how far the answers of an item differ in meaning.

Who decides whether two answers mean the same is a function from outside (`labelrel.models.meaning`
has two); here is the clustering, and the score that reads the clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.errors import InputError
from labelrel.plugin import Params
from labelrel.schema import require_columns
from labelrel.scoring.base import Inputs, method, optional
from labelrel.scoring.encode import Column
from labelrel.scoring.probabilities import best_rows, tie_names
from labelrel.scoring.votes import unanimity

Same = Callable[[list[tuple[str, str, str | None]]], list[bool]]
"""(answer, answer, question or None) of many pairs → whether the two answers mean the same."""

_DECIMALS = 12  # see tally.py


@method("semantic_entropy", unit="item", higher_is_better=False, needs=("answers", "meanings"))
def semantic_entropy(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Discrete semantic entropy: entropy of the shares of clusters of answers that mean the same, in nats.

    `score` = - sum_c p_c ln p_c over the clusters named in column `meaning`, in [0, ln n] for n
    answers with a meaning; answers without one are left out, and an item without any has null.
    The weak label is the most voted answer of the largest cluster. Its `label_quality` is
    1 - score / ln n, and null for n = 1, where there is nothing to differ from.

    Source: Farquhar, Kossen, Kuhn & Gal 2024, "Detecting hallucinations in large language models
    using semantic entropy" (Nature 630), discrete variant; Kuhn, Gal & Farquhar 2023
    (arXiv 2302.09664), section 3.
    """
    votes, counts = inputs.votes, inputs.counts
    if "meaning" not in votes.extra.columns:
        raise InputError(
            "scoring method 'semantic_entropy' needs a column 'meaning' (which answers of an item mean the same) and "
            "answers has none; name an embedding or entailment model with --embedder / --entailment, add the "
            "column, or leave the method out."
        )
    column = Column(in_order=False)
    column.add(votes.extra["meaning"])
    meaning, meanings = column.finish()
    rows = np.flatnonzero((votes.answer >= 0) & (meaning >= 0))
    # clusters ascend by item, and (cluster, answer) by cluster, so both are grouped by item
    key = votes.item[rows] * np.int64(max(len(meanings), 1)) + meaning[rows]
    clusters, cluster, size = np.unique(key, return_inverse=True, return_counts=True)
    cluster_item = clusters // max(len(meanings), 1)
    width = np.int64(max(len(votes.answers), 1))
    said, num_votes = np.unique(cluster * width + votes.answer[rows], return_counts=True)
    owner, answer = cluster_item[said // width], said % width

    def names(at: npt.NDArray[np.int64]) -> pl.Series:
        return tie_names(votes.item_ids.gather(owner[at]), votes.answers.gather(answer[at]))

    best = best_rows(owner, size[said // width].astype(np.float64), num_votes, names)
    label = np.full(votes.num_items, -1, dtype=np.int64)
    label[owner[best]] = answer[best]
    weak = np.where(label[counts.item] >= 0, counts.answer == label[counts.item], counts.weak_label)

    n = np.bincount(cluster_item, weights=size, minlength=votes.num_items)
    share = size / n[cluster_item]
    entropy = np.abs(np.bincount(cluster_item, weights=share * np.log(share), minlength=votes.num_items))
    entropy = np.where(n > 0, np.round(entropy, _DECIMALS), np.nan)
    return inputs.tally.with_columns(
        score=optional(counts.spread(entropy)),
        label_quality=optional(np.where(weak, counts.spread(unanimity(entropy, n)), np.nan)),
        weak_label=pl.Series(weak, dtype=pl.Boolean),
    )


def cluster_answers(answers: pl.DataFrame, same: Same) -> pl.Series:
    """Say which answers of an item mean the same.

    Greedy: the distinct answers of an item, by descending votes, then text, each join the first
    cluster whose first member means the same, or found one. Answers of different items are never
    compared, and equal texts share a cluster without being asked about. All items are asked about
    together, in as many rounds as the item with most clusters has.

    Args:
        answers: `item_id`, `answer` (null = abstained) and maybe `question`, the same on all rows
            of an item.
        same: asked about the pairs of one round.

    Returns:
        `meaning`, one text per row: the cluster's number within the item, in the order in which
        they were founded; null where the answer is. The order of rows does not matter.

    Raises:
        InputError: a missing column.

    Source: Kuhn, Gal & Farquhar 2023 (arXiv 2302.09664), algorithm 1.

    Example:
        >>> answers = pl.DataFrame({"item_id": ["q"] * 4, "answer": ["Paris", "paris.", "Rome", "Paris"]})
        >>> def alike(pairs):
        ...     return [a.lower()[:5] == b.lower()[:5] for a, b, _ in pairs]
        >>> cluster_answers(answers, alike).to_list()
        ['0', '0', '1', '0']
    """
    require_columns(answers, ["item_id", "answer"], "answers")
    asked = pl.col("question").first() if "question" in answers.columns else pl.lit(None, pl.String)
    distinct = (
        answers.filter(pl.col("answer").is_not_null())
        .group_by("item_id", "answer")
        .agg(pl.len(), asked.cast(pl.String).alias("question"))
        .sort("item_id", "len", "answer", descending=[False, True, False])
    )
    item = distinct["item_id"].rle_id().to_numpy().astype(np.int64)
    text, question = distinct["answer"], distinct["question"]
    cluster = np.full(len(item), -1, dtype=np.int64)
    number = 0
    while len(left := np.flatnonzero(cluster < 0)):
        opens = np.diff(item[left], prepend=-1) > 0
        first, others = left[opens], left[~opens]
        cluster[first] = number
        leader = first[np.cumsum(opens)[~opens] - 1]
        if len(others):
            pairs = zip(text.gather(leader), text.gather(others), question.gather(others), strict=True)
            cluster[others[np.asarray(same(list(pairs)), dtype=bool)]] = number
        number += 1
    names = distinct.select("item_id", "answer", pl.Series("meaning", cluster).cast(pl.String))
    return answers.join(names, on=["item_id", "answer"], how="left", maintain_order="left")["meaning"]
