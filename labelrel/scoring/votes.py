"""Scores that are arithmetic on the votes of one item; nothing is fitted, nothing else is read.

Equal vote patterns must give equal numbers, since a threshold such as "entropy at most the median"
falls on ties. Sums of floating-point numbers depend in their last bit on the order of the terms, so
what is summed is rounded to 12 decimals.
"""

from __future__ import annotations

import polars as pl

from labelrel.scoring.base import Inputs, method

_DECIMALS = 12


def entropy_expr() -> pl.Expr:
    """Entropy of the vote shares of each item in nats, null without a counted answer."""
    share = pl.col("share")
    total = (share * share.log()).sum().over("item_id")
    return pl.when(share.is_not_null()).then(total.abs().round(_DECIMALS))


def reliability_expr(temperature: float) -> pl.Expr:
    """Softmax of the vote shares of each item over its distinct observed answers."""
    # shifted by the largest share, which cancels, so that a small temperature cannot overflow
    power = ((pl.col("share") - pl.col("share").max().over("item_id")) / temperature).exp()
    return (power / power.sum().over("item_id")).round(_DECIMALS)


def _for_weak_label(quality: pl.Expr) -> pl.Expr:
    """An item's certainty is about its weak label only; of the other answers it says nothing."""
    return pl.when("weak_label").then(quality)


@method("share", unit="answer")
def share(inputs: Inputs) -> pl.DataFrame:
    """Share of the votes that the answer got (self-consistency).

    `score` = `label_quality` = votes / counted answers, in (0, 1].

    Source: Wang et al. 2022 (arXiv 2203.11171), section 2.
    """
    return inputs.tally.with_columns(score=pl.col("share"), label_quality=pl.col("share"))


@method("entropy", unit="item", higher_is_better=False)
def entropy(inputs: Inputs) -> pl.DataFrame:
    """Entropy of the item's vote shares in nats; 0 is unanimous.

    `score` = - sum_v p_v ln p_v over the answers given, in [0, ln n]. `label_quality` of the weak
    label is 1 - H / ln n for n counted answers, and null for n = 1: one answer is always
    unanimous, which is no evidence of anything.

    Source: Guo & Yang 2024 (arXiv 2406.19032), uncertainty filtering; Shannon 1948.
    """
    count = pl.col("num_answers")
    quality = pl.when(count > 1).then((1 - pl.col("score") / count.log()).clip(0, 1))
    return inputs.tally.with_columns(score=entropy_expr()).with_columns(label_quality=_for_weak_label(quality))


@method("margin", unit="item")
def margin(inputs: Inputs) -> pl.DataFrame:
    """Lead of the weak label over the next answer, in shares of the votes; 0 is a tie.

    `score` = (c_1 - c_2) / n in [0, 1], with c_2 = 0 where all agree; `label_quality` of the weak
    label is the same.

    Source: Schapire et al. 1998 (voting margin), "Boosting the Margin", section 1.
    """
    best, second = pl.col("num_votes").max(), pl.col("num_votes").filter(~pl.col("weak_label")).max().fill_null(0)
    lead = (best - second).over("item_id") / pl.col("num_answers")
    return inputs.tally.with_columns(score=pl.when(pl.col("num_answers") > 0).then(lead)).with_columns(
        label_quality=_for_weak_label(pl.col("score"))
    )


@method("reliability", unit="answer")
def reliability(inputs: Inputs) -> pl.DataFrame:
    """The paper's reliability score: softmax of the vote shares, sharpened by a temperature.

    `score` = `label_quality` = exp(p_a / T) / sum_v exp(p_v / T) over the distinct answers
    observed, in (0, 1]. The paper takes T = 0.2, with n = 5 answers, where the exponent is the raw
    count; for n = 2 it takes T = 1: pass `temperature` to `score`. It is 1 wherever all agree and
    no probability: unanimous answers are right .95 to .37 of the time in the paper's own data.

    Source: Guo & Yang 2024 (arXiv 2406.19032), reliability re-weighting.
    """
    return inputs.tally.with_columns(score=pl.col("reliability"), label_quality=pl.col("reliability"))
