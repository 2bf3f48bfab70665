"""What a scoring method is, what it reads, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.plugin import Params, Plugin
from labelrel.registry import Registry
from labelrel.scoring.classes import ClassGroup, class_groups
from labelrel.scoring.encode import Ints, Votes
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.tally import Protocol, Tally, count_votes

Unit = Literal["item", "answer"]
Need = Literal["answers", "annotators", "label_probs", "logprobs", "meanings", "gold"]
"""What a method reads: `answers` alone; `annotators`, who gave several answers each; `label_probs`,
from choice_logprobs or else the vote shares; `logprobs`, columns of log-probabilities without which
it cannot be; `meanings`, clusters of answers that mean the same; `gold` labels of some items."""


@dataclass(frozen=True)
class Inputs:
    """The checked tables of one call, counted once and shared by all of its methods.

    Attributes:
        votes: the answers, as integers.
        items: `item_id` and `choices` where they are known.
        gold: `item_id, gold_label` (text, unique, not null) of the items whose gold label may be
            read; None where there is none. Never one of an item that is being scored with it.
        choices: the number of classes of every item, where the user said so.
        protocol: see `tally_votes`.
        temperature: T of the paper's reliability.
    """

    votes: Votes
    items: pl.DataFrame | None = None
    gold: pl.DataFrame | None = None
    choices: int | None = None
    protocol: Protocol = "default"
    temperature: float | Literal["auto"] = 0.2

    @cached_property
    def counts(self) -> Tally:
        """The votes per (item, distinct answer), as arrays."""
        return count_votes(self.votes, self.protocol)

    @cached_property
    def tally(self) -> pl.DataFrame:
        """The votes per (item, distinct answer) as `tally_votes` writes them, and `reliability`."""
        return self.counts.frame().with_columns(reliability=optional(self.counts.reliability(self.temperature)))

    @cached_property
    def answers(self) -> pl.DataFrame:
        """The answers table."""
        return self.votes.frame()

    @cached_property
    def groups(self) -> list[ClassGroup]:
        """The items as class indices with label probabilities, one group per set of classes."""
        return class_groups(self.answers, self.items, self.choices)

    @cached_property
    def num_classes(self) -> Ints:
        """(N,) how many answers were possible, at least 2 and at least the item's distinct answers.

        The item's own choices, else what the user said, else the distinct answers of the table.
        """
        counts = self.counts
        distinct = np.bincount(counts.item[counts.answer >= 0], minlength=self.votes.num_items)
        known = np.full(self.votes.num_items, self.choices or len(self.votes.answers), dtype=np.int64)
        if self.items is not None:
            sizes = self.items.select("item_id", size=pl.col("choices").list.len().cast(pl.Int64))
            own = self.votes.item_ids.to_frame("item_id").join(sizes, on="item_id", how="left", maintain_order="left")
            known = own.select(pl.col("size").fill_null(pl.Series(known))).to_series().to_numpy()
        return np.maximum(np.maximum(known, distinct), 2)

    def piece(self, start: int, stop: int) -> Inputs:
        """Return the same for items start..stop-1."""
        return replace(self, votes=self.votes.slice(start, stop))


@dataclass(frozen=True, kw_only=True)
class Method(Plugin):
    """One way to say how reliable a weak label is.

    Attributes:
        function: (inputs, params) → the rows of their tally with `score` and `label_quality` added.
            It may choose another `weak_label`, and add a row for a weak label that nobody voted for.
            Of a method with `fit`: (inputs, fitted), for any piece of the table.
        fit: (inputs, params) → what has to be learnt from the whole table first; None: nothing.
        unit: whether `score` is one number per item (repeated on its rows) or one per answer.
        higher_is_better: direction of `score`; `label_quality` is always low = likely wrong.
        needs: the inputs it reads.
        item_wise: whether an item's scores depend on that item only, so that a table may be scored
            in pieces.
        uses_gold: whether gold labels change its scores, where there are any.
    """

    fit: Callable[[Inputs, Any], Fitted] | None = None
    unit: Unit
    higher_is_better: bool
    needs: tuple[Need, ...]
    item_wise: bool
    uses_gold: bool = False

    @property
    def documented(self) -> Callable[..., Any]:
        """The fit of a method that has one; all of those share their function."""
        return self.fit or self.function


methods: Registry[Method] = Registry("scoring method")


def method(
    name: str,
    *,
    unit: Unit,
    higher_is_better: bool = True,
    needs: tuple[Need, ...] = ("answers",),
    item_wise: bool = True,
    params: type[Params] = Params,
    uses_gold: bool = False,
) -> Callable[[Callable[[Inputs, Any], pl.DataFrame]], Callable[[Inputs, Any], pl.DataFrame]]:
    """Return a decorator that registers a function as the method `name`."""

    def add(function: Callable[[Inputs, Any], pl.DataFrame]) -> Callable[[Inputs, Any], pl.DataFrame]:
        methods.add(
            name,
            Method(
                name=name,
                function=function,
                params=params,
                unit=unit,
                higher_is_better=higher_is_better,
                needs=needs,
                item_wise=item_wise,
                uses_gold=uses_gold,
            ),
        )
        return function

    return add


def annotator_model(
    name: str, *, params: type[Params] = Params, uses_gold: bool = False
) -> Callable[[Callable[[Inputs, Any], Fitted]], Callable[[Inputs, Any], Fitted]]:
    """Return a decorator that registers a fit, (inputs, params) → `Fitted`, as the method `name`.

    Its scores are the posterior of a model fitted to the whole table, see `posterior_rows`.
    """

    def add(fit: Callable[[Inputs, Any], Fitted]) -> Callable[[Inputs, Any], Fitted]:
        methods.add(
            name,
            Method(
                name=name,
                function=posterior_rows,
                fit=fit,
                params=params,
                unit="answer",
                higher_is_better=True,
                needs=("answers", "annotators"),
                item_wise=False,
                uses_gold=uses_gold,
            ),
        )
        return fit

    return add


def posterior_rows(inputs: Inputs, fitted: Fitted) -> pl.DataFrame:
    """Score every answer by its posterior; the weak label is the likeliest answer, voted for or not."""
    counts = inputs.counts
    probs = np.where(counts.pair >= 0, np.append(fitted.probs, np.nan)[counts.pair], np.nan)
    best = fitted.best[counts.item]
    chosen = (counts.answer == best) & (best >= 0)
    rows = inputs.tally.with_columns(
        pl.Series("score", optional(probs)), pl.Series("weak_label", chosen), pl.Series("position", counts.item)
    )
    has_row = np.zeros(inputs.votes.num_items, dtype=bool)
    has_row[counts.item[chosen]] = True
    lacking = np.flatnonzero(~has_row & (fitted.best >= 0))
    if len(lacking):
        first = counts.starts[lacking]
        unvoted = rows[first].with_columns(
            pl.Series("answer", fitted.classes.gather(fitted.best[lacking])),
            pl.Series("score", fitted.best_prob[lacking]),
            pl.lit(0, pl.Int64).alias("num_votes"),
            pl.lit(0.0).alias("share"),
            pl.lit(None, pl.Float64).alias("reliability"),
            pl.lit(True).alias("weak_label"),
        )
        order = ["position", "num_votes", "answer"]
        rows = pl.concat([rows, unvoted]).sort(order, descending=[False, True, False], nulls_last=True)
    return rows.with_columns(label_quality=pl.col("score").clip(0, 1)).drop("position")


def optional(values: npt.NDArray[np.float64]) -> pl.Series:
    """Return numbers as a column where NaN, "not defined", is null."""
    return pl.Series(values, nan_to_null=True)
