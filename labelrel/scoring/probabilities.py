"""Scores from the probabilities that a model gave its choices or the tokens of its answer.

All read one item at a time. Rows without the numbers are left out of the means; an item without any
has null scores and keeps the weak label of the majority. Sums are rounded as in `tally.py`, so that
the order of rows does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.errors import InputError
from labelrel.plugin import Params
from labelrel.scoring.base import Inputs, Need, method, optional, posterior_rows
from labelrel.scoring.classes import choice_indices, no_index, num_choices
from labelrel.scoring.encode import ABSTAINED, Ints
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.hashing import stable_hash
from labelrel.scoring.logprobs import ChoiceProbs, choice_probs, mean_probs, token_logprobs

Floats = npt.NDArray[np.float64]

_NEEDS: tuple[Need, ...] = ("answers", "logprobs")
_DECIMALS = 12  # see tally.py


@method("option_probability", unit="answer", needs=_NEEDS)
def option_probability(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Probability of the answer, averaged over the orders and wordings in which the item was asked.

    `score` = `label_quality` = p_a = mean over the item's rows of exp(choice_logprobs_a), in [0, 1].
    The list is in the item's own order of choices, so that the mean over orders of the options
    cancels a model's liking for a position. The weak label is the most probable option, which may
    be one that nobody voted for (`share` 0, `reliability` null); of equally probable ones that
    with most votes. Null for an item whose rows have no probabilities.

    Source: Zheng et al. 2023 (arXiv 2309.03882), "Large Language Models Are Not Robust Multiple
    Choice Selectors", section 2 (averaging over permutations of the options).
    """
    options = _options(inputs, "option_probability")
    return _rows(inputs, options, options.score, options.best_prob)


@method("probability_margin", unit="item", needs=_NEEDS)
def probability_margin(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Lead of the most probable option over the next one, in probabilities averaged over the item's rows.

    `score` = p_(1) - p_(2) in [0, 1], for p of `option_probability`; `label_quality` of the weak
    label, which is the most probable option, is the same. Null for an item whose rows have no
    probabilities.

    Source: Scheffer, Decomain & Wrobel 2001 (margin sampling), "Active Hidden Markov Models for
    Information Extraction", section 3.
    """
    options = _options(inputs, "probability_margin")
    margin = options.best_prob - options.second_prob
    rows = _rows(inputs, options, inputs.counts.spread(margin), margin)
    # in the paper's protocol "no answer" has a row too, and an item's score stands on all of its rows
    score = pl.col("score").max().over("item_id").round(_DECIMALS)
    return rows.with_columns(score).with_columns(label_quality=pl.when("weak_label").then("score"))


@method("mean_logprob", unit="answer", needs=_NEEDS)
def mean_logprob(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Mean log-probability of the answer's tokens, so that a long answer is not worse for being long.

    `score` = mean over the rows that gave the answer of answer_logprob / num_tokens, in [-inf, 0];
    `label_quality` = exp(score), the geometric mean of the tokens' probabilities, in [0, 1]. Where
    the table has no `num_tokens`, `answer_logprob` is taken for a mean already. Null for an answer
    whose rows have no log-probability.

    Source: Malinin & Gales 2021 (arXiv 2002.07650), section 3 (length-normalised log-likelihood).
    """
    values = _token_logprobs(inputs, "mean_logprob")
    total, number = _sums(inputs, values)
    with np.errstate(invalid="ignore"):
        score = np.where(number > 0, np.round(total / np.maximum(number, 1), _DECIMALS), np.nan)
    return inputs.tally.with_columns(score=optional(score), label_quality=optional(np.exp(score)))


@method("weighted_votes", unit="answer", needs=_NEEDS)
def weighted_votes(inputs: Inputs, params: Params) -> pl.DataFrame:
    """Share of the votes that the answer got, each vote weighted by the probability of its own answer.

    A vote weighs exp(answer_logprob / num_tokens), or the probability of the chosen option where the
    table has `choice_logprobs` only. `score` = `label_quality` = weight for the answer / weight of the
    item's votes, in [0, 1]; the weak label has the largest. Votes without a probability are left
    out: null for an answer that has no other, and where all weights of an item are 0.

    Source: Wang et al. 2022 (arXiv 2203.11171), section 3.1 and table 1 (normalised weighted sum).
    """
    counts = inputs.counts
    total, number = _sums(inputs, _weights(inputs))
    whole = counts.spread(counts.sum(total))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.round(total / whole, _DECIMALS)
    share = np.where(number > 0, share, np.nan)  # of a whole of 0 it is NaN already
    rows = np.flatnonzero(~np.isnan(share))
    best = rows[best_rows(counts.item[rows], share[rows], counts.num_votes[rows], lambda at: _names(inputs, rows[at]))]
    weak = counts.weak_label.copy()
    weak[np.isin(counts.item, counts.item[best])] = False
    weak[best] = True
    return inputs.tally.with_columns(
        score=optional(share), label_quality=optional(share), weak_label=pl.Series(weak, dtype=pl.Boolean)
    )


def best_rows(
    item: npt.NDArray[np.integer], value: Floats, num_votes: Ints, names: Callable[[Ints], pl.Series]
) -> Ints:
    """Return the best row of every item: the largest value, then most votes, then the smallest hash.

    Args:
        item: (M,) item of every row, ascending.
        value: (M,) not NaN.
        num_votes: (M,) votes.
        names: positions of rows → their (item, answer) as text, as `tally_votes` hashes it.

    Returns:
        Positions, one per item that has rows.
    """
    if not len(item):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.diff(item, prepend=-1))
    size = np.diff(np.append(starts, len(item)))
    top = value == np.repeat(np.maximum.reduceat(value, starts), size)
    votes = np.where(top, num_votes, -1)
    place = np.flatnonzero(top & (votes == np.repeat(np.maximum.reduceat(votes, starts), size)))
    owner = item[place]
    alone = np.diff(owner, prepend=-1).astype(bool) & np.diff(owner, append=-1).astype(bool)
    tied = place[~alone]
    order = np.lexsort((stable_hash(names(tied)), item[tied]))
    first = tied[order[np.flatnonzero(np.diff(item[tied][order], prepend=-1))]]
    return np.sort(np.concatenate([place[alone], first])).astype(np.int64)


def tie_names(item_ids: pl.Series, answers: pl.Series) -> pl.Series:
    """Return what the hash that breaks a tie is of, one text per (item, answer)."""
    return pl.select(pl.concat_str(pl.lit(item_ids), pl.lit("\x1f"), pl.lit(answers))).to_series()


@dataclass(frozen=True)
class _Options:
    """Mean probabilities of every answered item's options.

    Attributes:
        texts: the index of each choice as text.
        best: (N,) index of the most probable option; -1 for an item without an answer or probabilities.
        best_prob: (N,) its probability, NaN where there is none.
        second_prob: (N,) that of the next one, 0 where there is no other.
        score: (P,) that of the answer of every row of the tally, NaN where there is none.
    """

    texts: pl.Series
    best: Ints
    best_prob: Floats
    second_prob: Floats
    score: Floats


def _options(inputs: Inputs, name: str) -> _Options:
    votes, counts = inputs.votes, inputs.counts
    starts, probs = mean_probs(_choices(inputs, name), votes.num_items)
    size = np.diff(starts)
    asked = np.flatnonzero((counts.answer >= 0) & (size[counts.item] > 0))
    item, answer = counts.item[asked], counts.answer[asked]
    index = choice_indices(votes.answers)[answer]
    _require_indices(inputs, item, answer, index, size)
    cell = starts[item] + index
    score = np.full(len(counts.item), np.nan)
    score[asked] = probs[cell]

    option_votes = np.zeros(len(probs), dtype=np.int64)
    option_votes[cell] = counts.num_votes[asked]
    owner = np.repeat(np.arange(votes.num_items), size)
    texts = pl.Series([str(k) for k in range(int(size.max(initial=0)))], dtype=pl.String)

    def names(at: Ints) -> pl.Series:
        return tie_names(votes.item_ids.gather(owner[at]), texts.gather(at - starts[owner[at]]))

    top = best_rows(owner, probs, option_votes, names)
    others = probs.copy()
    others[top] = 0
    answered = np.zeros(votes.num_items, dtype=bool)
    answered[item] = True
    chosen = top[answered[owner[top]]]
    best = np.full(votes.num_items, -1, dtype=np.int64)
    best_prob, second_prob = np.full((2, votes.num_items), np.nan)
    best[answered] = chosen - starts[:-1][answered]
    best_prob[answered] = probs[chosen]
    if answered.any():
        has = np.flatnonzero(size)
        second_prob[has] = np.maximum.reduceat(others, starts[has])
    return _Options(texts, best, best_prob, second_prob, score)


def _rows(inputs: Inputs, options: _Options, score: Floats, best_score: Floats) -> pl.DataFrame:
    """Return the tally with a score per row, the most probable option the weak label, voted for or not."""
    votes, counts = inputs.votes, inputs.counts
    classes = pl.concat([votes.answers, options.texts.filter(~options.texts.is_in(votes.answers.implode()))])
    code_of = pl.DataFrame({"text": options.texts}).join(
        classes.to_frame("text").with_row_index("code"), on="text", how="left", maintain_order="left"
    )["code"]
    parsed = counts.answer >= 0
    majority = counts.weak_label & parsed
    best = np.full(votes.num_items, ABSTAINED, dtype=np.int32)
    best[counts.item[majority]] = counts.answer[majority]
    known = options.best >= 0
    best[known] = code_of.to_numpy()[options.best[known]]
    pairs = np.empty(int(parsed.sum()))
    pairs[counts.pair[parsed]] = score[parsed]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(counts.item[parsed], minlength=votes.num_items))])
    return posterior_rows(inputs, Fitted(offsets, pairs, best, best_score, classes, pl.DataFrame()))


def _choices(inputs: Inputs, name: str) -> ChoiceProbs:
    votes = inputs.votes
    column = _column(inputs, name, "choice_logprobs", "a list with the log-probability of every choice, in each row")
    rows = pl.DataFrame([votes.item_ids.gather(votes.item).alias("item_id"), column.alias("choice_logprobs")])
    num_choices(rows, inputs.items, inputs.choices)
    return choice_probs(votes.item, votes.item_ids, column)


def _require_indices(
    inputs: Inputs, item: npt.NDArray[np.int32], answer: npt.NDArray[np.int32], index: Ints, size: Ints
) -> None:
    wrong = np.flatnonzero((index < 0) | (index >= size[item]))
    if len(wrong):
        first = int(wrong[0])
        votes = inputs.votes
        raise no_index(
            votes.item_ids[int(item[first])],
            votes.answers[int(answer[first])],
            int(size[item[first]]),
            len(np.unique(item[wrong])),
        )


def _token_logprobs(inputs: Inputs, name: str) -> Floats:
    """(R,) mean log-probability of the tokens of every row's answer, NaN where there is none."""
    votes = inputs.votes
    column = _column(inputs, name, "answer_logprob", "the log-probability of the answer's tokens")
    parsed = pl.Series(votes.answer >= 0)
    tokens = votes.extra["num_tokens"] if "num_tokens" in votes.extra.columns else None
    return token_logprobs(votes.item, votes.item_ids, column.set(~parsed, None), tokens)


def _weights(inputs: Inputs) -> Floats:
    """(R,) weight of every vote, NaN where it has none."""
    name, votes = "weighted_votes", inputs.votes
    if "answer_logprob" in votes.extra.columns or "choice_logprobs" not in votes.extra.columns:
        return np.exp(_token_logprobs(inputs, name))
    choices = _choices(inputs, name)
    answer = votes.answer[choices.row]
    said = np.flatnonzero(answer >= 0)
    index = choice_indices(votes.answers)[answer[said]]
    row = choices.row[said]
    size = np.zeros(votes.num_items, dtype=np.int64)
    size[choices.item] = choices.size
    _require_indices(inputs, votes.item[row], votes.answer[row], index, size)
    weights = np.full(votes.num_rows, np.nan)
    weights[row] = choices.probs[choices.start[said] + index]
    return weights


def _sums(inputs: Inputs, values: Floats) -> tuple[Floats, Ints]:
    """(P,) sum and number of the values, NaN left out, of the rows that gave each answer of the tally."""
    votes, counts = inputs.votes, inputs.counts
    width = np.int64(len(votes.answers) + 1)
    parsed = np.flatnonzero(counts.answer >= 0)
    in_order = parsed[np.argsort(counts.pair[parsed])]
    keys = counts.item[in_order] * width + counts.answer[in_order]
    rows = np.flatnonzero(~np.isnan(values) & (votes.answer >= 0))
    place = in_order[np.searchsorted(keys, votes.item[rows] * width + votes.answer[rows])]
    total = np.bincount(place, weights=values[rows], minlength=len(counts.item))
    return total.astype(np.float64), np.bincount(place, minlength=len(counts.item)).astype(np.int64)


def _names(inputs: Inputs, rows: Ints) -> pl.Series:
    votes, counts = inputs.votes, inputs.counts
    return tie_names(votes.item_ids.gather(counts.item[rows]), votes.answers.gather(counts.answer[rows]))


def _column(inputs: Inputs, name: str, column: str, what: str) -> pl.Series:
    extra = inputs.votes.extra
    if column not in extra.columns:
        raise InputError(
            f"scoring method '{name}' needs a column '{column}' ({what}) and answers has none; "
            "add it under this name, or leave the method out."
        )
    return extra[column]
