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
from labelrel.registry import Registry

Role = Literal["method", "control", "ceiling"]
Protocol = Literal["default", "paper"]


def _within(low: float, high: float, *, open_low: bool) -> AfterValidator:
    def check(value: float) -> float:
        if not low <= value <= high or (open_low and value == low):
            raise ValueError(f"must lie in {'(' if open_low else '['}{low:g}, {high:g}]")
        return value

    return AfterValidator(check)


Quantile = Annotated[float, _within(0, 1, open_low=False)]
Fraction = Annotated[float, _within(0, 1, open_low=True)]


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
    """

    items: pl.DataFrame
    answers: pl.DataFrame
    first: pl.DataFrame
    scores: pl.DataFrame
    seed: int

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
        rows = self.rows(method).filter(pl.col("weak_label") & pl.col("answer").is_not_null())
        columns = ["answer", "score", "reliability", "label_quality"]
        return self.items.select("item_id").join(
            rows.select("item_id", *columns), on="item_id", how="inner", maintain_order="left"
        )

    def drawn_order(self, item_ids: pl.Series) -> pl.Series:
        """Return the rank of each item in a random order, (N,); the order of rows does not matter."""
        ranks = np.random.default_rng(self.seed).permutation(len(item_ids))
        return pl.Series("drawn", ranks[item_ids.rank("ordinal").to_numpy() - 1])


Function = Callable[[Pool, Any], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Rule(plugin.Plugin):
    """One way to turn scores into a training set.

    Attributes:
        function: (pool, params) → `item_id, answer, weight` and maybe `variant_id`, in any order.
        role: `method`; `control`: no method of its own, but what makes a claim honest; `ceiling`.
        reads_gold: whether it sees gold labels; no method may.
    """

    params: type[Params] = Params
    role: Role
    reads_gold: bool


rules: Registry[Rule] = Registry("selection rule")


def rule(
    name: str, params: type[Params] = Params, *, role: Role = "method", reads_gold: bool = False
) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as the rule `name`."""

    def add(function: Function) -> Function:
        rules.add(name, Rule(name=name, function=function, params=params, role=role, reads_gold=reads_gold))
        return function

    return add
