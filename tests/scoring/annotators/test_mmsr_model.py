"""M-MSR: agreement counts, skills against crowd-kit, sides, annotators apart."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from crowd_tables import (
    REAL,
    accuracy,
    crowdkit,
    crowdkit_mmsr,
    for_crowdkit,
    inputs_of,
    labels,
    make_answers,
    run_crowdkit,
    table,
)

from labelrel.errors import InputError
from labelrel.scoring.annotators import mmsr as module
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.mmsr import MmsrParams, Pairs, accuracies, magnitudes, mmsr, read_pairs, signed
from labelrel.scoring.annotators.table import read_table


def pairs_of(answers: pl.DataFrame) -> Pairs:
    with Lanes() as lanes:
        return read_pairs(read_table(inputs_of(answers), lanes), lanes)


def log_odds(pairs: Pairs, chance: np.ndarray) -> np.ndarray:
    return np.log(chance * (pairs.possible - 1) / (1 - chance))


def test_products_by_hand():
    rows = [("p", "r", "a"), ("p", "s", "a"), ("q", "r", "a"), ("q", "s", "b"), ("q", "t", "b"), ("u", "v", "c")]
    pairs = pairs_of(pl.DataFrame(rows, schema=["item_id", "annotator_id", "answer"], orient="row"))
    # K = 3; r and s agree on 1 of 2: (3/2 - 1) / 2; r and t on 0 of 1: -1/2; s and t on 1 of 1: 1; v is alone
    assert pairs.number.tolist() == [2, 2, 2, 0]
    assert pairs.other[:3].tolist() == [[1, 2], [0, 2], [0, 1]]
    assert pairs.product[:3].tolist() == [[0.25, -0.5], [0.25, 1.0], [-0.5, 1.0]]
    assert pairs.common[:3].tolist() == [[2, 1], [2, 1], [1, 1]]


def test_exact_products_are_completed_to_the_skills():
    skill = np.array([0.9, 0.8, 0.7, -0.5, 0.3])
    other = np.array([[b for b in range(5) if b != a] for a in range(5)])
    product = skill[:, None] * skill[other]
    pairs = Pairs(other, product, np.full((5, 4), 100.0), np.full(5, 4), np.full(5, 1000), 1000, 3)
    size = magnitudes(pairs, MmsrParams())
    assert size == pytest.approx(np.abs(skill), abs=1e-8)
    assert signed(pairs, size) == pytest.approx(skill, abs=1e-8)
    # P = s 2/3 + 1/3, s at least -1/2 + 1/sqrt(1000)
    floor = -1 / 2 + 1 / np.sqrt(1000)
    assert accuracies(pairs, skill) == pytest.approx(np.maximum(skill, floor) * 2 / 3 + 1 / 3)


@pytest.mark.parametrize("name", [*REAL, "dense"])
def test_magnitudes_are_crowdkit_s(name):
    answers, _ = table(name)
    pairs = pairs_of(answers)
    size = magnitudes(pairs, MmsrParams())
    limit = 1 - 1 / np.sqrt(pairs.num_items)
    right, wrong = (log_odds(pairs, accuracies(pairs, side * size)) for side in (1, -1))
    names = inputs_of(answers).votes.raters[1].to_list()
    skills = np.array([crowdkit_mmsr(name)[0][annotator] for annotator in names])
    # theirs has one of our two signs
    assert np.minimum(np.abs(skills - right), np.abs(skills - wrong)).max() < 1e-6
    assert size.max() > limit / 2


def test_skills_and_labels_are_crowdkit_s_where_nobody_is_near_chance():
    answers, _ = make_answers(200, 8, 3, 5, accuracy=(0.6, 0.9), seed=4)
    theirs = run_crowdkit(crowdkit.MMSR(), for_crowdkit(answers))
    inputs = inputs_of(answers)
    fitted = mmsr(inputs, MmsrParams())
    rated = fitted.annotators["accuracy"].to_numpy()
    skills = theirs.skills_.reindex(fitted.annotators["annotator"].to_list()).to_numpy()
    assert np.log(rated * 2 / (1 - rated)) == pytest.approx(skills, abs=1e-8)
    scores = run_crowdkit(crowdkit.MajorityVote(), for_crowdkit(answers), skills=theirs.skills_)
    assert labels(inputs, fitted) == scores.labels_.to_dict()


@pytest.mark.parametrize("name", [*REAL, "dense", "sparse"])
def test_as_accurate_as_crowdkit_s(name):
    answers, truth = table(name)
    inputs = inputs_of(answers)
    ours = accuracy(labels(inputs, mmsr(inputs, MmsrParams())), truth)
    assert ours >= accuracy(crowdkit_mmsr(name)[1], truth) - 0.005


def test_start_of_the_completion_does_not_matter():
    pairs = pairs_of(table("dense")[0])
    start = np.random.default_rng(0).uniform(size=len(pairs.number))
    assert magnitudes(pairs, MmsrParams(), start) == pytest.approx(magnitudes(pairs, MmsrParams()), abs=1e-8)


def test_adversaries_are_found():
    answers, truth = make_answers(400, 9, 2, 6, accuracy=(0.85, 0.9), seed=1)
    opposite = {"a": "b", "b": "a"}
    liars = ["w000", "w003", "w007"]
    flipped = pl.when(pl.col("annotator_id").is_in(liars)).then(pl.col("answer").replace(opposite)).otherwise("answer")
    inputs = inputs_of(answers.with_columns(answer=flipped))
    fitted = mmsr(inputs, MmsrParams())
    rated = dict(fitted.annotators.select("annotator", "accuracy").iter_rows())
    assert {name for name, value in rated.items() if value < 0.3} == set(liars)
    assert accuracy(labels(inputs, fitted), truth) > 0.95


def test_sides_are_changed_on_evidence_only():
    other = np.array([[b for b in range(4) if b != a] for a in range(4)])
    product = np.full((4, 3), 0.6)
    product[other == 3], product[3] = -0.2, -0.2
    size = np.array([0.8, 0.8, 0.8, 0.25])
    # support of the last -3 n .2 .8, standard error sqrt(3 n .64 / 2): 0.48 n against 0.98 sqrt(n), equal at n = 4.2
    for compared, side in ((4.0, 1), (5.0, -1)):
        pairs = Pairs(other, product, np.full((4, 3), compared), np.full(4, 3), np.full(4, 50), 50, 3)
        assert signed(pairs, size).tolist() == [0.8, 0.8, 0.8, side * 0.25]


def test_who_meets_nobody_counts_like_the_mean_and_has_no_rating():
    answers, _ = make_answers(100, 6, 3, 4, seed=2)
    alone = pl.DataFrame({"item_id": ["x"], "annotator_id": ["zoe"], "answer": ["a"]})
    inputs = inputs_of(pl.concat([answers, alone]))
    fitted = mmsr(inputs, MmsrParams())
    rated = dict(fitted.annotators.select("annotator", "accuracy").iter_rows())
    assert rated.pop("zoe") is None
    assert labels(inputs, fitted)["x"] == "a"
    # one vote of an annotator with the mean skill, two other classes: the posterior is its accuracy
    skill = (np.array(list(rated.values())) - 1 / 3) * 3 / 2
    assert fitted.best_prob[-1] == pytest.approx(skill.mean() * 2 / 3 + 1 / 3, abs=1e-6)


def test_contradictory_products_stay_finite():
    rows = [("p", "r", "a"), ("p", "s", "a"), ("q", "r", "a"), ("q", "s", "b"), ("q", "t", "a")]
    answers = pl.DataFrame(rows, schema=["item_id", "annotator_id", "answer"], orient="row")
    fitted = mmsr(inputs_of(answers), MmsrParams(iterations=1000))  # 100 overflow without a limit
    assert np.isfinite(fitted.probs).all()
    assert fitted.annotators["accuracy"].is_between(0, 1).all()


def test_nobody_in_common_is_one_line():
    answers = pl.DataFrame({"item_id": ["p", "q"], "annotator_id": ["r", "s"], "answer": ["a", "b"]})
    with pytest.raises(InputError, match=r"no two annotators share an item; majority, share"):
        mmsr(inputs_of(answers), MmsrParams())


def test_too_many_pairs_are_one_line(monkeypatch):
    monkeypatch.setattr(module, "_MOST_PAIRS", 100)
    with pytest.raises(InputError, match=r"20 annotators may have 400 pairs, more than 100; one_coin"):
        mmsr(inputs_of(table("dense")[0]), MmsrParams())
