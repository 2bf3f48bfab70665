"""cleanlab's label-quality scores: reshape, call cleanlab, rename. Nothing is computed again here.

Label probabilities are the mean of exp(choice_logprobs) over an item's variants where the table has
them, else the vote shares; `label_probs_source` says which. cleanlab asks for out-of-sample
probabilities of a classifier; the supervisor's own are in-sample to its votes, so read these scores
as a smoother vote.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from labelrel.errors import InputError
from labelrel.plugin import Params
from labelrel.scoring.base import Inputs, Need, method
from labelrel.scoring.classes import ClassGroup, require_dense

_NEEDS: tuple[Need, ...] = ("answers", "label_probs")
# none is item-wise: the classes of texts, and where label probabilities come from, are those of the whole table
_CERTAIN = 1 - 1e-7
_SCORED = {"item_id": pl.String, "answer": pl.String, "score": pl.Float64, "label_quality": pl.Float64}


@method("self_confidence", unit="answer", needs=_NEEDS, item_wise=False)
def self_confidence(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Self-confidence of cleanlab: the label probability of the answer.

    `score` = `label_quality` = p_a, in [0, 1].

    Source: Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068), section 3; `cleanlab.rank`.
    """
    return _ranked(inputs, "self_confidence")


@method("normalized_margin", unit="answer", needs=_NEEDS, item_wise=False)
def normalized_margin(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Normalised margin of cleanlab: how far the answer's probability is above the best other one.

    `score` = `label_quality` = (p_a - max_{b != a} p_b + 1) / 2, in [0, 1]; 1/2 is a tie.

    Source: Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068), section 3; `cleanlab.rank`.
    """
    return _ranked(inputs, "normalized_margin")


@method("confidence_weighted_entropy", unit="answer", needs=_NEEDS, item_wise=False)
def confidence_weighted_entropy(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Confidence-weighted entropy of cleanlab: entropy of the label probabilities over that of the answer.

    With x = (H(p) / ln K) / p_a, `score` is cleanlab's ln(1 + x) / x, to the last digit. For a
    certain answer cleanlab divides 0 by a small constant and returns 0, its worst value, where the
    limit is 1: `label_quality` is 1 there (p_a > 1 - 1e-7), and equal to `score` elsewhere. Select
    by `label_quality`.

    Source: Kuan & Mueller 2022 (DataPerf workshop), "Model-agnostic label quality scoring to detect
    real-world label errors"; `cleanlab.rank`.
    """
    return _ranked(inputs, "confidence_weighted_entropy")


class ConfidentLearning(Params):
    """Parameters of `confident_learning`."""

    filter_by: Literal[
        "prune_by_noise_rate",
        "prune_by_class",
        "both",
        "confident_learning",
        "predicted_neq_given",
        "low_normalized_margin",
        "low_self_confidence",
    ] = Field("prune_by_noise_rate", description="cleanlab's rule for which items are issues")


@method("confident_learning", unit="item", needs=_NEEDS, item_wise=False, params=ConfidentLearning)
def confident_learning(inputs: Inputs, params: ConfidentLearning) -> pl.DataFrame:
    """Confident learning: whether cleanlab finds the weak label, taken as given, an issue.

    `score` is 0 for an issue and 1 for none, one decision per item; `label_quality` of the weak
    label is the same. How many items of a class are issues comes from the joint counts of given
    label and probable label over the whole table. `filter_by` names cleanlab's rule for which.
    Null where all weak labels of the items with the same classes are equal: nothing could be
    confused. With vote shares as probabilities the probable label is the given one, and nothing is
    an issue: this method wants `choice_logprobs`.

    Source: Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068), sections 3.1 and 3.2; `cleanlab.filter`.
    """
    from cleanlab.filter import find_label_issues

    given = inputs.tally.filter(pl.col("weak_label") & pl.col("answer").is_not_null()).select("item_id", "answer")
    parts = [pl.DataFrame(schema=_SCORED).drop("answer", "label_quality")]
    for group in inputs.groups:
        names = group.item_ids.to_frame("item_id").with_row_index("item")
        codes = pl.DataFrame({"answer": group.classes}).with_row_index("label")
        pairs = given.join(names, on="item_id").join(codes, on="answer").sort("item")
        probs, labels = group.probs[pairs["item"].to_numpy()], pairs["label"].to_numpy().astype(np.int64)
        if len(np.unique(labels)) < 2:
            continue  # cleanlab refuses labels that are all the same: null in the table
        with _reproducible():
            issue = find_label_issues(labels, probs, filter_by=params.filter_by, n_jobs=1)
        parts.append(pairs.select("item_id", pl.Series("score", np.where(issue, 0.0, 1.0))))
    rows = inputs.tally.join(pl.concat(parts), on="item_id", how="left", maintain_order="left")
    return rows.with_columns(label_quality=pl.when("weak_label").then("score"))


@method("crowdlab", unit="item", needs=_NEEDS, item_wise=False)
def crowdlab(inputs: Inputs, params: Params) -> pl.DataFrame:
    """CROWDLAB: annotators and a classifier, each weighted by how well it agrees with the rest.

    Each (annotator, variant) is an annotator, the label probabilities are the classifier. `score` is
    the quality of the item's consensus label in [0, 1]; the weak label is that consensus, which may
    differ from the majority, and with probabilities even be an answer without votes (`share` 0,
    `reliability` null). `label_quality` is null for other answers. Wordings of one model are no
    independent annotators, and with vote shares as probabilities the votes count twice.

    Source: Goh, Tkachenko & Mueller 2022 (arXiv 2210.06812); `cleanlab.multiannotator`.
    """
    return _consensus(inputs, "crowdlab", "best_quality")


@method("agreement", unit="item", needs=_NEEDS, item_wise=False)
def agreement(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Share of the annotators that agree with cleanlab's consensus label.

    The consensus is the majority; it differs from that of `share` in the tie-break only: label
    probabilities first, then the rarer class. `score` is per item in [0, 1]; `label_quality` is
    that of the consensus and null for other answers.

    Source: Goh, Tkachenko & Mueller 2022 (arXiv 2210.06812); `cleanlab.multiannotator`.
    """
    # by its definition "best_quality" is the majority here as well, but cleanlab 2.9.0 counts the votes of
    # items that lack a class in the wrong columns there, and names answers that nobody gave
    return _consensus(inputs, "agreement", "majority_vote")


def _ranked(inputs: Inputs, name: str) -> pl.DataFrame:
    """Score every (item, answer) as if the answer were the given label."""
    from cleanlab.rank import get_label_quality_scores

    parts = [pl.DataFrame(schema=_SCORED)]
    for group in inputs.groups:
        pairs = group.votes.select("item", "label").unique(maintain_order=True)
        labels, probs = pairs["label"].to_numpy(), group.probs[pairs["item"].to_numpy()]
        require_dense(len(labels), probs.shape[1], "classes")
        score = get_label_quality_scores(labels, probs, method=name)
        certain = probs[np.arange(len(labels)), labels] > _CERTAIN
        parts.append(_named(group, pairs["item"], labels, score, np.where(certain, 1.0, np.clip(score, 0, 1))))
    return inputs.tally.join(pl.concat(parts), on=["item_id", "answer"], how="left", maintain_order="left")


def _consensus(inputs: Inputs, name: str, consensus_method: str) -> pl.DataFrame:
    """Score cleanlab's consensus label of every item."""
    from cleanlab.multiannotator import get_label_quality_multiannotator

    parts = []
    for group in inputs.groups:
        labels = _wide(group)
        if (~np.isnan(labels)).sum(axis=1).max() < 2:
            continue  # nobody to agree with: undefined here, null in the table
        with _reproducible():
            result = get_label_quality_multiannotator(
                labels,
                group.probs if _has_majority(group) else _untied(group.probs),
                consensus_method=consensus_method,
                quality_method=name,
                return_detailed_quality=False,
                return_annotator_stats=False,
                verbose=False,
            )["label_quality"]
        score = result["consensus_quality_score"].to_numpy()
        items = pl.Series(np.arange(len(group.item_ids)))
        parts.append(_named(group, items, result["consensus_label"].to_numpy(), score, np.clip(score, 0, 1)))
    if not parts:
        raise InputError(
            f"scoring method '{name}' compares annotators, but no item has two parsed answers; "
            "ask more than once per item, or leave the method out."
        )
    return _choose(inputs.tally, pl.concat(parts))


def _choose(tally: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """Move the weak label to the chosen answers, and add a row for those that nobody voted for."""
    position = tally.with_columns(pl.col("item_id").rle_id().alias("position"))
    unvoted = (
        chosen.join(tally, on=["item_id", "answer"], how="anti")
        .join(position.unique("item_id").drop("answer"), on="item_id")
        .with_columns(
            pl.lit(0, pl.Int64).alias("num_votes"),
            pl.lit(0.0).alias("share"),
            pl.lit(None, pl.Float64).alias("reliability"),
        )
        .select(position.columns)
    )
    is_chosen = (pl.col("answer") == pl.col("chosen")).fill_null(False)
    return (
        pl.concat([position, unvoted])
        .sort("position", "num_votes", "answer", descending=[False, True, False], nulls_last=True)
        .join(chosen.rename({"answer": "chosen"}), on="item_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("chosen").is_null()).then("weak_label").otherwise(is_chosen).alias("weak_label"),
            pl.when(is_chosen).then("label_quality").alias("label_quality"),
        )
        .drop("position", "chosen")
    )


def _named(
    group: ClassGroup, items: pl.Series, labels: np.ndarray, score: np.ndarray, quality: np.ndarray
) -> pl.DataFrame:
    """Translate indices back to item ids and answers."""
    return pl.DataFrame(
        {
            "item_id": group.item_ids.gather(items),
            "answer": pl.Series(group.classes).gather(pl.Series(labels)),
            "score": score,
            "label_quality": quality,
        },
        schema=_SCORED,
    )


def _wide(group: ClassGroup) -> np.ndarray:
    """(N, M) labels per item and annotator, NaN where the annotator did not answer."""
    num_annotators = int(group.votes["annotator"].n_unique())
    require_dense(len(group.item_ids), num_annotators, "annotators")
    labels = np.full((len(group.item_ids), num_annotators), np.nan)
    labels[group.votes["item"].to_numpy(), group.votes["annotator"].to_numpy()] = group.votes["label"].to_numpy()
    return labels


def _has_majority(group: ClassGroup) -> bool:
    """Whether any item has an answer with more votes than every other."""
    counts = group.votes.group_by("item", "label").len()
    votes = counts.group_by("item").agg(pl.col("len").sort(descending=True).head(2))
    lead = pl.col("len").list.get(0) > pl.col("len").list.get(1, null_on_oob=True).fill_null(0)
    return bool(votes.select(lead.any()).item())


def _untied(probs: np.ndarray) -> np.ndarray:
    """Probabilities moved by less than 1e-9, which breaks their ties.

    Where every item is a tie, cleanlab has no consensus to rate annotators by and fails; with
    probabilities that differ it needs none. The draw is the same every time.
    """
    moved = probs + np.random.default_rng(0).random(probs.shape) * 1e-9
    return np.asarray(moved / moved.sum(axis=1, keepdims=True))


@contextlib.contextmanager
def _reproducible() -> Iterator[None]:
    """Let cleanlab break its very last ties at random the same way every time, and leave no trace.

    It draws from numpy's global state, and warns about it, about annotators who never agree, and by
    way of numpy about means of nothing; none of that is the user's to mend.
    """
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)
