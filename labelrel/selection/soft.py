"""Rules whose labels spread over the options: soft labels, smoothing, and a noise model of the supervisor."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from labelrel.arrays import Floats
from labelrel.errors import InputError
from labelrel.selection.base import Params, Pool, rule


class SoftParams(Params):
    """Parameters of soft labels."""

    score: str = Field("share", min_length=1, description="scoring method whose label quality is spread")

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return (self.score,)


class SmoothingParams(SoftParams):
    """Parameters of label smoothing."""

    score: str = Field("reliability", min_length=1, description="scoring method; 1 - its label quality is smoothed")


class NoiseParams(Params):
    """Parameters of the noise matrix."""

    noise: Literal["gold_dev", "dawid_skene"] = Field(
        "gold_dev", description="where the error rates come from: the small gold set, or Dawid-Skene's posteriors"
    )
    prior: float = Field(2.0, ge=0, allow_inf_nan=False, description="gold items that the common error rate counts for")

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return ("share",) if self.noise == "gold_dev" else ("share", "dawid_skene")


@rule("soft_labels", SoftParams, loss="option_cross_entropy")
def soft_labels(pool: Pool, params: SoftParams) -> pl.DataFrame:
    """Every item with all of its answers, each as probable as its label quality says.

        q_k = quality(k) / sum_j quality(j) over the answers that were given; other options have 0

    Source: Peterson et al. 2019 (arXiv 1908.07086), section 3 (human label distributions); for shares of one model's
    answers, Guo & Yang 2024 (arXiv 2406.19032) weight the same rows instead.
    """
    labels = pool.labels(params.score)
    sizes = _num_options(pool, "soft_labels")
    rows = pool.rows(params.score).filter(pl.col("answer").is_not_null() & (pl.col("label_quality") > 0))
    spread = {str(item): np.zeros(size) for item, size in sizes.items()}
    for item, answer, quality in rows.select("item_id", "answer", "label_quality").iter_rows():
        spread[item][int(answer)] += quality
    kept = labels.filter(pl.col("item_id").is_in([item for item, probs in spread.items() if probs.sum() > 0]))
    return _with_probs(kept, [spread[item] / spread[item].sum() for item in kept["item_id"]])


@rule("label_smoothing", SmoothingParams, loss="option_cross_entropy")
def label_smoothing(pool: Pool, params: SmoothingParams) -> pl.DataFrame:
    """Every item with its weak label, smoothed as much as that label is doubtful.

        q_k = (1 - e_i) [k = label] + e_i / K        e_i = 1 - label quality of i

    An item whose label quality is not defined is left out.

    Source: Szegedy et al. 2016 (arXiv 1512.00567), section 7; an e per row from its reliability is ours.
    """
    labels = pool.labels(params.score).drop_nulls("label_quality")
    sizes = _num_options(pool, "label_smoothing")
    probs = []
    for item, answer, quality in labels.select("item_id", "answer", "label_quality").iter_rows():
        row = np.full(sizes[item], (1 - quality) / sizes[item])
        row[int(answer)] += quality
        probs.append(row)
    return _with_probs(labels, probs)


@rule("forward_correction", NoiseParams, reads_gold_dev=True, loss="forward_correction")
def forward_correction(pool: Pool, params: NoiseParams) -> pl.DataFrame:
    """Every item with its majority label, and how probable that label is whichever option is true.

        option_probs_k = T[k, label]        T[k, j] = P(majority label is j | k is true)

    Where all items have the same options they are classes, and T is a full matrix; else options have no
    identity and T has one error rate, spread evenly over the wrong ones. T comes from gold_dev, each row
    shrunk to the common error rate by `prior` items, or from Dawid-Skene's posteriors of the pool.

    Raises:
        InputError: no gold label in gold_dev, where the matrix comes from there.

    Source: Patrini et al. 2017 (arXiv 1609.03872), section 4; Hendrycks et al. 2018 (arXiv 1802.05300), the
    matrix from a trusted set.
    """
    labels = pool.labels("share")
    sizes = _num_options(pool, "forward_correction")
    classes = pool.items["choices"].n_unique() == 1
    size = max(sizes.values())
    joint = _joint_from_gold(pool, size) if params.noise == "gold_dev" else _joint_from_posteriors(pool, labels, size)
    wrong = (joint.sum() - joint.trace()) / joint.sum()
    # one more wrong and one more right answer: a small gold set without an error is no proof of none
    wrong = (wrong * joint.sum() + 0.5) / (joint.sum() + 1)
    probs = []
    for item, answer in labels.select("item_id", "answer").iter_rows():
        column = int(answer)
        even = np.full(sizes[item], wrong / (sizes[item] - 1) if sizes[item] > 1 else 0.0)
        even[column] = 1 - wrong
        if classes:
            counts = joint[: sizes[item]]
            even = (counts[:, column] + params.prior * even) / (counts.sum(1) + params.prior)
        probs.append(even)
    return _with_probs(labels, probs)


def _joint_from_gold(pool: Pool, size: int) -> Floats:
    """Return (K, K) counts of (gold label, majority label) over gold_dev."""
    known = pool.gold_labels("share")
    if known.is_empty():
        raise InputError(
            "rule 'forward_correction' needs gold labels in split 'gold_dev', and none of its items has one and an "
            "answer; sample gold_dev too (sample.splits), or set select.forward_correction.noise to dawid_skene."
        )
    joint = np.zeros((size, size))
    for gold, answer in known.select("gold_label", "answer").iter_rows():
        joint[int(gold), int(answer)] += 1
    return joint


def _joint_from_posteriors(pool: Pool, labels: pl.DataFrame, size: int) -> Floats:
    """Return (K, K) expected counts of (true label, majority label) over the pool."""
    posterior = pool.rows("dawid_skene").filter(pl.col("answer").is_not_null() & pl.col("label_quality").is_not_null())
    rows = posterior.select("item_id", "label_quality", truth="answer").join(
        labels.select("item_id", "answer"), on="item_id"
    )
    joint = np.zeros((size, size))
    for quality, truth, answer in rows.select("label_quality", "truth", "answer").iter_rows():
        joint[int(truth), int(answer)] += quality
    return joint


def _num_options(pool: Pool, name: str) -> dict[str, int]:
    """Return item → number of options.

    Raises:
        InputError: open items.
    """
    if pool.items["choices"].null_count():
        raise InputError(
            f"rule '{name}' spreads a label over the options of an item, and {pool.items['choices'].null_count()} of "
            f"{pool.items.height} items have none; for open questions use reweight with protocol: paper."
        )
    return dict(pool.items.select("item_id", pl.col("choices").list.len()).iter_rows())


def _with_probs(labels: pl.DataFrame, probs: list[Floats]) -> pl.DataFrame:
    column = pl.Series("option_probs", [row.tolist() for row in probs], dtype=pl.List(pl.Float64()))
    return labels.with_columns(column, weight=1.0)
