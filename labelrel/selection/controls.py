"""Controls and the ceiling: no methods of their own, but what makes a claim about a method honest."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from labelrel.errors import InputError
from labelrel.selection.base import Params, Pool, Quantile, rule
from labelrel.selection.labels import ShareParams
from labelrel.selection.paper import kept_by_filter


class RandomParams(Params):
    """Parameters of the random control."""

    quantile: Quantile = Field(0.5, description="as of the filter whose size it takes")

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return ("entropy",)


@rule("random", RandomParams, role="control")
def random(pool: Pool, params: RandomParams) -> pl.DataFrame:
    """Control: as many random items as the filter keeps, majority label.

    What the filter gains over this is due to its choice, not to training on fewer items.

    Source: controls for selection claims, such as Sorscher et al. 2022 (arXiv 2206.14486), random pruning baseline.
    """
    labels = pool.labels("entropy")
    size = kept_by_filter(pool, params.quantile).height
    return labels.filter(pool.drawn_order(labels["item_id"]) < size).with_columns(weight=1.0)


@rule("oracle", ShareParams, role="control", reads_gold=True)
def oracle(pool: Pool, params: ShareParams) -> pl.DataFrame:
    """Control: the items whose majority label is right, the most that any filter of it could do.

    Reads gold labels; an item without one is left out.

    Source: ours; the upper bound of every rule that filters majority labels.
    """
    gold = _gold_labels(pool, "oracle")
    labels = pool.labels("share").join(gold, on="item_id", how="inner", maintain_order="left")
    return labels.filter(pl.col("answer") == pl.col("gold_label")).with_columns(weight=1.0)


@rule("ceiling", role="ceiling", reads_gold=True)
def ceiling(pool: Pool, params: Params) -> pl.DataFrame:
    """Strong ceiling: the gold label of every item, what the strong model reaches without weak labels.

    An item without a gold label is left out.

    Source: Burns et al. 2023 (arXiv 2312.09390), section 3.
    """
    return _gold_labels(pool, "ceiling").rename({"gold_label": "answer"}).with_columns(weight=1.0)


def _gold_labels(pool: Pool, name: str) -> pl.DataFrame:
    gold = pool.items.select("item_id", "gold_label").drop_nulls("gold_label")
    if gold.is_empty():
        raise InputError(
            f"rule '{name}' needs gold labels, but none of the {pool.items.height} items of its split has one; "
            "leave it out of select.methods."
        )
    return gold
