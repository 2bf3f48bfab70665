"""The ensemble learns whom to trust, is no better than it can know, and says what it lacks."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from labelrel.errors import ConfigError, InputError
from labelrel.evaluate import auroc, brier
from labelrel.scoring import score
from labelrel.scoring.base import methods
from labelrel.scoring.ensemble import EnsembleParams


def make_answers(num_items: int = 600, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Three variants; the vote is weak evidence, the option's probability strong evidence of another kind."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=num_items)
    rows = []
    for i in range(num_items):
        known = rng.random() < 0.6  # the supervisor knows this one, and its probabilities show it
        for variant in range(3):
            logits = rng.normal(size=4) + (2.5 if known else 0.0) * (np.arange(4) == truth[i])
            logprobs = logits - np.log(np.exp(logits).sum())
            rows.append((f"q{i}", str(variant), str(rng.choice(4, p=np.exp(logprobs))), logprobs.tolist()))
    answers = pl.DataFrame(rows, schema=["item_id", "variant_id", "answer", "choice_logprobs"], orient="row")
    gold = pl.DataFrame({"item_id": [f"q{i}" for i in range(num_items)], "gold_label": [str(t) for t in truth]})
    return answers, gold


ANSWERS, GOLD = make_answers()
FITTED_ON = GOLD[:200]
REST = GOLD[200:]


def of_weak_labels(scores: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    weak = scores.filter("weak_label").join(REST, on="item_id")
    return weak["label_quality"].to_numpy(), (weak["answer"] == weak["gold_label"]).to_numpy()


def test_it_beats_the_vote_where_another_signal_is_better():
    together = of_weak_labels(score(ANSWERS, ["ensemble"], gold=FITTED_ON))
    alone = of_weak_labels(score(ANSWERS, ["share"]))
    assert together[1].mean() > alone[1].mean() + 0.03
    assert auroc(*together) > auroc(*alone) + 0.03


def test_its_score_is_a_probability_on_items_it_has_not_seen():
    quality, right = of_weak_labels(score(ANSWERS, ["ensemble"], gold=FITTED_ON))
    assert quality.mean() == pytest.approx(right.mean(), abs=0.06)  # 400 items: standard error .024
    share, right_share = of_weak_labels(score(ANSWERS, ["share"]))
    assert brier(quality, right) < brier(share, right_share) - 0.02


def test_the_weak_label_is_the_likeliest_answer():
    scores = score(ANSWERS, ["ensemble"], gold=FITTED_ON)
    best = scores.group_by("item_id").agg(pl.col("score").max().alias("best"))
    weak = scores.filter("weak_label").join(best, on="item_id")
    assert weak.height == 600
    assert (weak["score"] == weak["best"]).all()


def test_it_combines_what_it_is_told_to():
    params = {"ensemble": {"methods": ["share"]}}
    scores = score(ANSWERS, ["ensemble"], gold=FITTED_ON, params=params).filter("weak_label")
    # one feature, three votes: as many values as there are shares, per fold and for the items without gold
    assert scores.join(REST, on="item_id").group_by("share").agg(pl.col("score").n_unique())["score"].max() == 1


def test_all_right_or_all_wrong_gold_is_no_crash_and_no_certainty():
    votes = pl.DataFrame({"item_id": [f"q{i // 2}" for i in range(40)], "answer": ["1"] * 40})
    gold = pl.DataFrame({"item_id": [f"q{i}" for i in range(20)], "gold_label": ["1"] * 20})
    scores = score(votes, ["ensemble"], gold=gold)["score"]
    assert scores.is_between(0.9, 0.99).all()  # 17 of 17 or so right: (17 + 1) / (17 + 2)


@pytest.mark.parametrize(
    ("gold", "params", "error", "match"),
    [
        (GOLD[:9], {}, InputError, "9 of the answered items have one; at least 10 are needed"),
        (GOLD, {"methods": ["ensemble"]}, InputError, "names the ensemble itself"),
        (GOLD, {"methods": ["shares"]}, LookupError, "shares"),
        (GOLD, {"l2": 0.0}, ConfigError, "ensemble.l2 is wrong: input should be greater than 0, got 0.0"),
        (GOLD, {"l3": 1.0}, ConfigError, "unknown key ensemble.l3; allowed: methods, l2"),
    ],
)
def test_mistakes_are_told(gold, params, error, match):
    from labelrel.errors import UnknownNameError

    error = UnknownNameError if error is LookupError else error
    with pytest.raises(error, match=match):
        score(ANSWERS, ["ensemble"], gold=gold, params={"ensemble": params})


def test_parameters_are_frozen():
    with pytest.raises(ValidationError):
        EnsembleParams().l2 = 2.0
    assert methods.get("ensemble").params is EnsembleParams
