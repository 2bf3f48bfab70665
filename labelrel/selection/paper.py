"""The paper's two rules, fixed by default and as published under `protocol: paper`.

Ours sees an item once, with its majority label. The published code makes one row of every (variant,
answer), so an item weighs as much as it has answers, right ones and wrong ones. Its training-set size
then differs from the naive one; compare methods at the same number of steps. An answer that could
not be parsed counts in its shares and its percentile (score with `protocol: paper` for that), but is
never a row here: it has no text to learn.

Source of this module: Guo & Yang 2024 (arXiv 2406.19032) and its published code.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field

from labelrel.selection.base import PaperParams, Pool, Quantile, rule


class FilterParams(PaperParams):
    """Parameters of the uncertainty filter."""

    quantile: Quantile = Field(0.5, description="keep entropies at most this quantile of all entropies, ties kept")

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return ("entropy",)


class ReweightParams(PaperParams):
    """Parameters of reliability re-weighting."""

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return ("reliability",)


def kept_by_filter(pool: Pool, quantile: float) -> pl.DataFrame:
    """Return the labels of the items whose entropy is at most the quantile over items.

    Linear interpolation between entropies, as numpy's percentile; ties at the threshold are kept,
    so it may be many more than the quantile says.
    """
    labels = pool.labels("entropy")
    if labels.is_empty():
        return labels
    return labels.filter(pl.col("score") <= np.quantile(labels["score"].to_numpy(), quantile))


@rule("filter", FilterParams)
def uncertainty_filter(pool: Pool, params: FilterParams) -> pl.DataFrame:
    """The paper's uncertainty filter: items with entropy at most the median, majority label.

    `protocol: paper` takes the quantile over answers rather than items (an item counts once per
    answer) and keeps every parsed answer of a kept item as a row of its own, weight 1.

    Source: Guo & Yang 2024 (arXiv 2406.19032), uncertainty filtering; filter step of its published code.
    """
    if params.protocol == "default":
        return kept_by_filter(pool, params.quantile).with_columns(weight=1.0)
    per_item = pool.rows("entropy").unique("item_id").drop_nulls("score")
    if per_item.is_empty():
        return pool.answers.clear().with_columns(weight=1.0)
    per_answer = np.repeat(per_item["score"].to_numpy(), per_item["num_answers"].to_numpy())
    kept = per_item.filter(pl.col("score") <= np.quantile(per_answer, params.quantile))
    return pool.answers.join(kept, on="item_id", how="semi").with_columns(weight=1.0)


@rule("reweight", ReweightParams)
def reweight(pool: Pool, params: ReweightParams) -> pl.DataFrame:
    """The paper's reliability re-weighting: every item, weighted by the reliability of its label.

    By default one row per item: the majority label with its reliability as weight, so wrong minority
    answers are not trained on at all. `protocol: paper` keeps every (variant, answer) as a row with
    the reliability of that answer, minority answers included. How weights enter the loss is the
    trainer's: sum_i w_i CE_i / sum_i w_i.

    Source: Guo & Yang 2024 (arXiv 2406.19032), reliability re-weighting; its published code.
    """
    if params.protocol == "default":
        return pool.labels("reliability").with_columns(weight=pl.col("reliability"))
    weights = pool.rows("reliability").select("item_id", "answer", weight=pl.col("reliability"))
    return pool.answers.join(weights, on=["item_id", "answer"], how="inner")
