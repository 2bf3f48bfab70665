"""Scores that are arithmetic on the votes of one item; nothing is fitted, nothing else is read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.plugin import Params
from labelrel.scoring.base import Inputs, method, optional

Floats = npt.NDArray[np.float64]


def _scored(inputs: Inputs, score: Floats, quality: Floats) -> pl.DataFrame:
    return inputs.tally.with_columns(score=optional(score), label_quality=optional(quality))


def _of_weak_label(inputs: Inputs, score: Floats, quality: Floats) -> pl.DataFrame:
    """An item's certainty is about its weak label only; of the other answers it says nothing."""
    return _scored(inputs, score, np.where(inputs.counts.weak_label, quality, np.nan))


@method("share", unit="answer")
def share(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Share of the votes that the answer got (self-consistency).

    `score` = `label_quality` = votes / counted answers, in (0, 1].

    Source: Wang et al. 2022 (arXiv 2203.11171), section 2.
    """
    return _scored(inputs, inputs.counts.share, inputs.counts.share)


@method("entropy", unit="item", higher_is_better=False)
def entropy(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Entropy of the item's vote shares in nats; 0 is unanimous.

    `score` = - sum_v p_v ln p_v over the answers given, in [0, ln n]. `label_quality` of the weak
    label is 1 - H / ln n for n counted answers, and null for n = 1: one answer is always
    unanimous, which is no evidence of anything.

    Source: Guo & Yang 2024 (arXiv 2406.19032), uncertainty filtering; Shannon 1948.
    """
    value = inputs.counts.entropy()
    return _of_weak_label(inputs, value, unanimity(value, inputs.counts.num_answers))


@method("miller_madow", unit="item", higher_is_better=False)
def miller_madow(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Entropy of the item's vote shares in nats, corrected for the few votes it is estimated from.

    `score` = H + (S - 1) / 2n for S distinct answers among n: with few votes the plug-in entropy
    is too low, the more so the more answers there are. `label_quality` of the weak label is
    1 - score / (the same for n different answers), and null for n = 1.

    Source: Miller 1955, "Note on the bias of information estimates".
    """
    counts = inputs.counts
    n = np.maximum(counts.num_answers, 1)
    value = counts.entropy() + (counts.distinct() - 1) / (2 * n)
    with np.errstate(divide="ignore", invalid="ignore"):
        quality = np.clip(1 - value / (np.log(n) + (n - 1) / (2 * n)), 0, 1)
    return _of_weak_label(inputs, value, np.where(n > 1, quality, np.nan))


def unanimity(entropy: Floats, num_answers: npt.NDArray[np.number]) -> Floats:
    """Return 1 - H / ln n in [0, 1], NaN for n below 2: one answer is always unanimous."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(num_answers > 1, np.clip(1 - entropy / np.log(num_answers), 0, 1), np.nan)


@method("margin", unit="item")
def margin(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Lead of the weak label over the next answer, in shares of the votes; 0 is a tie.

    `score` = (c_1 - c_2) / n in [0, 1], with c_2 = 0 where all agree; `label_quality` of the weak
    label is the same.

    Source: Schapire et al. 1998 (voting margin), "Boosting the Margin", section 1.
    """
    counts = inputs.counts
    lead = counts.spread(counts.num_votes[counts.starts]) - counts.second()
    value = np.where(counts.num_answers > 0, lead / np.maximum(counts.num_answers, 1), np.nan)
    return _of_weak_label(inputs, value, value)


@method("reliability", unit="answer")
def reliability(inputs: Inputs, params: Params) -> pl.DataFrame:
    """The paper's reliability score: softmax of the vote shares, sharpened by a temperature.

    `score` = `label_quality` = exp(p_a / T) / sum_v exp(p_v / T) over the distinct answers
    observed, in (0, 1]. The paper takes T = 0.2, with n = 5 answers, where the exponent is the raw
    count, and T = 1 for n = 2, where any T gives the same; "auto" takes 1 / n, the raw count for any n.
    It is 1 wherever all agree and no probability: unanimous answers are right .95 to .37 of the
    time in the paper's own data.

    Source: Guo & Yang 2024 (arXiv 2406.19032), reliability re-weighting.
    """
    value = inputs.counts.reliability(inputs.temperature)
    return _scored(inputs, value, value)
