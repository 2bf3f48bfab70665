"""Rules by the label quality of any scoring method, cleanlab's above all."""

from __future__ import annotations

import math

import polars as pl
from pydantic import Field

from labelrel.selection.base import Fraction, Params, Pool, Quantile, rule
from labelrel.selection.paper import kept_by_filter


class QualityFilterParams(Params):
    """Parameters of the filter by label quality."""

    score: str = Field("self_confidence", min_length=1, description="scoring method whose label quality ranks items")
    keep: Fraction | None = Field(None, description="fraction of labelled items to keep; null: as many as `filter`")
    quantile: Quantile = Field(0.5, description="of the filter whose size is taken where keep is null")

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return (self.score,) if self.keep is not None else (self.score, "entropy")


class QualityWeightParams(Params):
    """Parameters of weighting by label quality."""

    score: str = Field("crowdlab", min_length=1, description="scoring method whose label quality is the weight")

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return (self.score,)


@rule("cleanlab_filter", QualityFilterParams)
def cleanlab_filter(pool: Pool, params: QualityFilterParams) -> pl.DataFrame:
    """The items with the highest label quality, exactly as many as asked for.

    By default as many as the paper's filter keeps at `quantile`, so that the two differ in what
    they choose only; with `keep`, that fraction of the labelled items, rounded up. Vote scores are
    tied in large blocks: inside the last one items are drawn with the seed. An item without a label
    quality comes last. The label is the method's own weak label.

    Source: Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068), section 3 (prune by rank).
    """
    labels = pool.labels(params.score)
    size = (
        kept_by_filter(pool, params.quantile).height
        if params.keep is None
        # 0.1 * 30 is a hair above 3, which must not make it 4
        else math.ceil(round(params.keep * labels.height, 6))
    )
    ranked = labels.with_columns(pool.drawn_order(labels["item_id"])).sort(
        "label_quality", "drawn", descending=[True, False], nulls_last=True
    )
    return ranked.head(size).with_columns(weight=1.0)


@rule("cleanlab_weight", QualityWeightParams)
def cleanlab_weight(pool: Pool, params: QualityWeightParams) -> pl.DataFrame:
    """Every item with the method's weak label, weighted by its label quality.

    An item whose label quality is not defined is left out.

    Source: Goh, Tkachenko & Mueller 2022 (arXiv 2210.06812) for the quality; weighting by it is ours.
    """
    return pool.labels(params.score).drop_nulls("label_quality").with_columns(weight=pl.col("label_quality"))
