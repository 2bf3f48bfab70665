"""What a selection rule is, what it is given, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from labelrel import plugin
from labelrel.errors import InputError, near_match
from labelrel.losses import DEFAULT
from labelrel.registry import Registry

Role = Literal["method", "control", "ceiling"]
Protocol = Literal["default", "paper"]


def _within(low: float, high: float, *, open_low: bool, open_high: bool = False) -> AfterValidator:
    def check(value: float) -> float:
        if not low <= value <= high or (open_low and value == low) or (open_high and value == high):
            raise ValueError(f"must lie in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}")
        return value

    return AfterValidator(check)


Quantile = Annotated[float, _within(0, 1, open_low=False)]
Fraction = Annotated[float, _within(0, 1, open_low=True)]
Inside = Annotated[float, _within(0, 1, open_low=True, open_high=True)]


class Params(plugin.Params):
    """The parameters of one rule; defaults come from the paper."""

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return ()


class PaperParams(Params):
    """Parameters of a rule that can keep to the published code."""

    protocol: Protocol = Field(
        "default", description="'paper': one row per (variant, answer), as in the published code"
    )


@dataclass(frozen=True)
class Pool:
    """What a rule may choose from: the items of one split.

    Attributes:
        items: in their order; without `gold_label` unless the rule is registered to read it.
        answers: rows of those items, parsed only, variants of an item in their order (10 after 9).
        first: rows of those items that were asked first, parsed or not; one per item.
        scores: rows of those items.
        seed: of everything that is drawn.
        gold_dev: score rows of the items of split gold_dev that have a gold label, with it as
            `gold_label`; None unless the rule is registered to read it.
    """

    items: pl.DataFrame
    answers: pl.DataFrame
    first: pl.DataFrame
    scores: pl.DataFrame
    seed: int
    gold_dev: pl.DataFrame | None = None

    def rows(self, method: str) -> pl.DataFrame:
        """Return the score rows of one method.

        Raises:
            InputError: the table has none.
        """
        rows = self.scores.filter(pl.col("method") == method)
        if rows.is_empty():
            there = self.scores["method"].unique(maintain_order=True).to_list()
            raise InputError(
                f"scores has no rows of method '{method}'{near_match(method, there) or ';'} "
                f"add '{method}' to score.methods and score again (found: {', '.join(there) or 'none'})."
            )
        return rows

    def labels(self, method: str) -> pl.DataFrame:
        """Return the weak labels of one method, in order of items.

        Items without a parsed answer have none and are not there.

        Returns:
            One row per item: `item_id, answer, score, reliability, label_quality`.
        """
        rows = _weak_labels(self.rows(method))
        columns = ["answer", "score", "reliability", "label_quality"]
        return self.items.select("item_id").join(
            rows.select("item_id", *columns), on="item_id", how="inner", maintain_order="left"
        )

    def gold_labels(self, method: str) -> pl.DataFrame:
        """Return the weak labels of one method on gold_dev beside their gold labels, in order of items.

        Returns:
            One row per item that has both: `item_id, answer, label_quality, gold_label`.
        """
        assert self.gold_dev is not None, "the rule is not registered with reads_gold_dev"
        rows = _weak_labels(self.gold_dev.filter(pl.col("method") == method))
        return rows.select("item_id", "answer", "label_quality", "gold_label")

    def drawn_order(self, item_ids: pl.Series) -> pl.Series:
        """Return the rank of each item in a random order, (N,); the order of rows does not matter."""
        ranks = np.random.default_rng(self.seed).permutation(len(item_ids))
        return pl.Series("drawn", ranks[item_ids.rank("ordinal").to_numpy() - 1])


Function = Callable[[Pool, Any], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Rule(plugin.Plugin):
    """One way to turn scores into a training set.

    Attributes:
        function: (pool, params) → `item_id, answer, weight` and maybe `variant_id` and `option_probs`, in any order.
        role: `method`; `control`: no method of its own, but what makes a claim honest; `ceiling`.
        reads_gold: whether it sees gold labels of the items it chooses from; no method may.
        reads_gold_dev: whether it sees those of split gold_dev, none of whose items train.
        loss: what trains on its labels where the section of the method names no other.
    """

    params: type[Params] = Params
    role: Role
    reads_gold: bool
    reads_gold_dev: bool = False
    loss: str = DEFAULT


rules: Registry[Rule] = Registry("selection rule")


def rule(
    name: str,
    params: type[Params] = Params,
    *,
    role: Role = "method",
    reads_gold: bool = False,
    reads_gold_dev: bool = False,
    loss: str = DEFAULT,
) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as the rule `name`."""

    def add(function: Function) -> Function:
        entry = Rule(
            name=name,
            function=function,
            params=params,
            role=role,
            reads_gold=reads_gold,
            reads_gold_dev=reads_gold_dev,
            loss=loss,
        )
        rules.add(name, entry)
        return function

    return add


def _weak_labels(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("weak_label") & pl.col("answer").is_not_null())
