"""Several methods combined by a logistic regression that learns from gold which of them to trust."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from labelrel.errors import InputError
from labelrel.plugin import Params
from labelrel.scoring.base import Inputs, method, optional
from labelrel.scoring.gold import fold_of
from labelrel.scoring.scorer import Scorer, resolve
from labelrel.scoring.tally import Tally

Floats = npt.NDArray[np.float64]

_LEAST_GOLD = 10
_CLIP = 0.005  # a quality of 0 or 1 rests on a handful of votes: no logit beyond 5.3
_VOTES = ["share", "miller_madow"]


class EnsembleParams(Params):
    """Parameters of the ensemble."""

    methods: list[str] | None = Field(
        None,
        min_length=1,
        description="what to combine; null: share, miller_madow and, with choice_logprobs, option_probability",
    )
    l2: float = Field(1.0, gt=0, description="strength of the ridge penalty on the standardised weights")


@method("ensemble", unit="answer", needs=("answers", "gold"), item_wise=False, params=EnsembleParams, uses_gold=True)
def ensemble(inputs: Inputs, params: EnsembleParams) -> pl.DataFrame:
    """Logistic combination of other methods, fitted on gold: the probability that the answer is right.

    Per (item, answer) and method m with label quality q_m: x_m = ln(q_m / (1 - q_m)), q_m clipped to
    [.005, .995] and x_m standardised, and a 0/1 column for "no quality"; `score` = `label_quality` =
    1 / (1 + exp(-(b + sum_m w_m x_m))), w fitted by ridge logistic regression to the answers of
    items with gold, right or wrong. The weak label is the likeliest answer. The methods themselves
    see no gold, and items with gold are scored by a fit without their fold (5 folds): at least 10
    items with gold are needed, and 100 or more are sensible.

    Source: Wolpert 1992, "Stacked generalization" (out-of-fold predictions combined by a second model).
    """
    assert inputs.gold is not None, "Scorer refuses a method that needs gold without it"
    counts = inputs.counts
    rows = counts.num_votes > 0
    features = _features(inputs, params.methods or _default(inputs))[rows]
    right, fold = _targets(inputs, counts, rows)
    probability = np.full(len(counts.item), np.nan)
    known = ~np.isnan(right)
    fitted = np.full(len(features), np.nan)
    fitted[~known] = _predict(features[known], right[known], features[~known], params.l2)
    for number in np.unique(fold[known]):
        mine = known & (fold == number)
        fitted[mine] = _predict(features[known & ~mine], right[known & ~mine], features[mine], params.l2)
    probability[rows] = np.round(fitted, 12)
    return inputs.tally.with_columns(
        score=optional(probability),
        label_quality=optional(probability),
        weak_label=pl.Series(_likeliest(counts, probability)),
    )


def _default(inputs: Inputs) -> list[str]:
    return [*_VOTES, *["option_probability"] * ("choice_logprobs" in inputs.votes.extra.columns)]


def _features(inputs: Inputs, names: list[str]) -> Floats:
    """Return (P, F): per row of the counts the logit of every method's quality, and where it has none."""
    if "ensemble" in names:
        raise InputError("ensemble.methods names the ensemble itself; leave it out.")
    scorer = Scorer(replace(inputs, gold=None), resolve(names))
    scores = pl.concat(scorer.frames())
    keys = inputs.tally.select("item_id", "answer")
    columns = []
    for name in names:
        mine = scores.filter(pl.col("method") == name).select("item_id", "answer", "label_quality")
        joined = keys.join(mine, on=["item_id", "answer"], how="left", maintain_order="left", nulls_equal=True)
        quality = joined["label_quality"].to_numpy()
        missing = np.isnan(quality)
        logit = np.log(np.clip(quality, _CLIP, 1 - _CLIP)) - np.log1p(-np.clip(quality, _CLIP, 1 - _CLIP))
        logit[missing] = logit[~missing].mean() if (~missing).any() else 0.0
        columns += [logit, missing.astype(np.float64)]
    return np.stack(columns, axis=1)


def _targets(inputs: Inputs, counts: Tally, rows: npt.NDArray[np.bool_]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return per row whether its answer is right, NaN without gold, and the fold of its item."""
    assert inputs.gold is not None
    item_ids, answers = inputs.votes.item_ids, inputs.votes.answers
    labels = item_ids.to_frame("item_id").join(inputs.gold, on="item_id", how="left", maintain_order="left")
    code = {text: index for index, text in enumerate(answers)} if len(labels) else {}
    known = labels["gold_label"].is_not_null().to_numpy()
    gold = np.full(len(labels), -2, dtype=np.int64)  # a gold label that nobody gave is no answer's code
    gold[known] = [code.get(text, -2) for text in labels["gold_label"].drop_nulls()]
    item = counts.item[rows]
    right = np.where(known[item], (gold[item] == counts.answer[rows]).astype(np.float64), np.nan)
    num_gold = int(np.unique(item[known[item]]).size)
    if num_gold < _LEAST_GOLD:
        raise InputError(
            f"ensemble learns from gold labels, and {num_gold} of the answered items have one; "
            f"at least {_LEAST_GOLD} are needed, 100 or more are sensible."
        )
    fold = np.zeros(len(item_ids), dtype=np.int64)
    fold[known] = fold_of(item_ids.filter(pl.Series(known)))
    return right, fold[item]


def _predict(features: Floats, right: Floats, others: Floats, l2: float) -> Floats:
    """Fit on some rows and return the probability of being right for others."""
    from sklearn.linear_model import LogisticRegression

    if not len(others):
        return np.empty(0)
    if len(np.unique(right)) < 2:  # all right or all wrong: no more to learn than how often, plus one of each
        return np.full(len(others), (right.sum() + 1) / (len(right) + 2))
    mean, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    model: Any = LogisticRegression(C=1 / l2, max_iter=1000).fit((features - mean) / scale, right)
    return np.asarray(model.predict_proba((others - mean) / scale)[:, list(model.classes_).index(1.0)])


def _likeliest(counts: Tally, probability: Floats) -> npt.NDArray[np.bool_]:
    """The answer with the highest probability; of equals the vote's own label, then the first row."""
    rank = np.where(np.isnan(probability), -1.0, probability)
    order = np.lexsort((np.arange(len(rank)), ~counts.weak_label, -rank, counts.item))
    chosen = np.zeros(len(rank), dtype=bool)
    chosen[order[counts.starts]] = True
    return chosen & (counts.num_votes > 0)
