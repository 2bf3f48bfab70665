"""Rules that keep every labelled item and differ in the label."""

from __future__ import annotations

import polars as pl

from labelrel.selection.base import Params, Pool, rule


class ShareParams(Params):
    """No parameters; the majority label is in the rows of method `share`."""

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return ("share",)


@rule("naive")
def naive(pool: Pool, params: Params) -> pl.DataFrame:
    """One answer per item, the first that was asked for: plain weak-to-strong training.

    The first variant is the canonical wording. An item whose first answer could not be parsed is
    left out, even where later ones could: the rule asks once.

    Source: Burns et al. 2023 (arXiv 2312.09390), section 3; Guo & Yang 2024 (arXiv 2406.19032), naive baseline.
    """
    return pool.first.filter(pl.col("answer").is_not_null()).with_columns(weight=1.0)


@rule("majority", ShareParams)
def majority(pool: Pool, params: Params) -> pl.DataFrame:
    """The majority label of every item, all weights 1.

    Source: Wang et al. 2022 (arXiv 2203.11171), section 2 (self-consistency).
    """
    return pool.labels("share").with_columns(weight=1.0)
