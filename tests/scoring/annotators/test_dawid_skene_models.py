"""Dawid-Skene and its one-coin form: hand-worked steps, crowd-kit's posteriors, likelihood, gold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from crowd_tables import ALL, crowdkit, difference, for_crowdkit, inputs_of, labels, make_answers, run_crowdkit, table

from labelrel.errors import InputError
from labelrel.scoring.annotators import dawid_skene as full
from labelrel.scoring.annotators import one_coin as coin
from labelrel.scoring.annotators.em import EmParams
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.table import Table, read_table

OneCoin = crowdkit.classification.dawid_skene.OneCoinDawidSkene


def read(answers: pl.DataFrame, gold: pl.DataFrame | None = None, use_cells: bool = False, **settings) -> Table:
    with Lanes() as lanes:
        return read_table(inputs_of(answers, gold, **settings), lanes, use_cells=use_cells)


def full_history(answers: pl.DataFrame, params: EmParams, gold: pl.DataFrame | None = None) -> list[float]:
    found = read(answers, gold, use_cells=True)
    with Lanes() as lanes:
        return full.fit_em(found, found.cells, lanes, params)[2]


def coin_history(answers: pl.DataFrame, params: EmParams, gold: pl.DataFrame | None = None, **settings) -> list[float]:
    with Lanes() as lanes:
        return coin.fit_em(read(answers, gold, **settings), lanes, params)[2]


def every_fourth(name: str) -> pl.DataFrame:
    answers, truth = table(name)
    there = answers.drop_nulls("answer")["item_id"].unique().to_list()
    return truth.filter(pl.col("item_id").is_in(there)).gather_every(4)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("iterations", [1, 40])
def test_dawid_skene_has_crowdkit_s_posteriors_and_stops_with_it(name, iterations):
    answers, _ = table(name)
    inputs = inputs_of(answers)
    theirs = run_crowdkit(crowdkit.DawidSkene(iterations), for_crowdkit(answers))
    fitted = full.dawid_skene(inputs, EmParams(iterations=iterations))
    assert difference(inputs, fitted, theirs.probas_) < 1e-7
    assert len(full_history(answers, EmParams(iterations=iterations))) == len(theirs.loss_history_)


@pytest.mark.parametrize("name", ALL)
def test_dawid_skene_uses_gold_as_crowdkit_does(name):
    answers, _ = table(name)
    gold = every_fourth(name)
    inputs = inputs_of(answers, gold)
    true = for_crowdkit(answers)["label"].__class__(dict(gold.iter_rows()))
    theirs = run_crowdkit(crowdkit.DawidSkene(10), for_crowdkit(answers), true)
    assert difference(inputs, full.dawid_skene(inputs, EmParams(iterations=10)), theirs.probas_) < 1e-7


@pytest.mark.parametrize(("name", "iterations"), [("d_Duck_Identification", 30), ("s4_Dog_data", 3), ("sparse", 10)])
def test_one_coin_has_crowdkit_s_posteriors_and_stops_with_it(name, iterations):
    answers, _ = table(name)
    inputs = inputs_of(answers)
    theirs = run_crowdkit(OneCoin(iterations), for_crowdkit(answers))
    fitted = coin.one_coin(inputs, EmParams(iterations=iterations))
    assert difference(inputs, fitted, theirs.probas_) < 1e-7
    assert len(coin_history(answers, EmParams(iterations=iterations))) == len(theirs.loss_history_)


def by_hand() -> pl.DataFrame:
    """Three annotators, two items: q0 is a a b and q1 is b b b."""
    cells = [("q0", "r", "a"), ("q0", "s", "a"), ("q0", "t", "b"), ("q1", "r", "b"), ("q1", "s", "b"), ("q1", "t", "b")]
    return pl.DataFrame(cells, schema=["item_id", "annotator_id", "answer"], orient="row")


def test_one_step_of_dawid_skene_by_hand():
    inputs = inputs_of(by_hand())
    fitted = full.dawid_skene(inputs, EmParams(iterations=1))
    # shares: q0 a 2/3, q1 b 1; p_a = 1/3. r and s: P(a | a) = 1, P(a | b) = (1/3) / (4/3) = 1/4; t: P(b | .) = 1.
    # q0: a 1/3 * 1 * 1 * 1, b 2/3 * 1/16 * 1, so a has 8/9; q1: a is 1e-10 likely
    assert fitted.probs.tolist() == pytest.approx([8 / 9, 1 / 9, 1], abs=1e-6)
    # expected right: r and s 8/9 + 1 of 2, t 1/9 + 1
    assert fitted.annotators["accuracy"].to_list() == pytest.approx([17 / 18, 17 / 18, 10 / 18], abs=1e-6)


def test_one_step_of_one_coin_by_hand():
    inputs = inputs_of(by_hand())
    fitted = coin.one_coin(inputs, EmParams(iterations=1))
    # r and s: (2/3 + 1) / 2 = 5/6, t: (1/3 + 1) / 2 = 2/3; p_a = 1/3
    # q0: a 1/3 * 25/36 * 1/3, b 2/3 * 1/36 * 2/3: 25 to 4; q1: a 1/3 * 1/36 * 1/3, b 2/3 * 25/36 * 2/3: 1 to 100
    assert fitted.probs.tolist() == pytest.approx([25 / 29, 4 / 29, 100 / 101], abs=1e-6)


def test_wrong_answers_of_one_coin_share_the_rest_over_the_possible_answers():
    inputs = inputs_of(by_hand(), choices=4)
    fitted = coin.one_coin(inputs, EmParams(iterations=1))
    # a wrong answer has 1/3 of the chance: q0: a 1/3 * 25/36 * 1/9, b 2/3 * (1/6 / 3)^2 * 2/3
    a, b = 1 / 3 * 25 / 36 / 9, 2 / 3 / 324 * 2 / 3
    assert fitted.probs[0] == pytest.approx(a / (a + b), abs=1e-6)


def test_the_possible_answers_are_those_of_the_item():
    choices = pl.DataFrame({"item_id": ["q0", "q1"], "choices": [[*"AB"], [*"ABCD"]]})
    fitted = coin.one_coin(inputs_of(by_hand(), items=choices), EmParams(iterations=1))
    # q0 as with two choices for all; q1: a 1/3 * (1/6 / 3)^2 * 1/3 / 3, b 2/3 * 25/36 * 2/3
    a, b = 1 / 3 / 324 / 9, 2 / 3 * 25 / 36 * 2 / 3
    assert fitted.probs.tolist() == pytest.approx([25 / 29, 4 / 29, b / (a + b)], abs=1e-6)


def test_items_with_different_choices_can_be_fitted_together():
    answers, truth = make_answers(200, 10, 4, 5, seed=3)
    two = pl.col("item_id").str.slice(-1).is_in([*"02468"])  # c and d are no choices of every other item
    fewer = pl.col("answer").replace({"c": "a", "d": "b"})
    answers = answers.with_columns(answer=pl.when(two).then(fewer).otherwise("answer"))
    choices = pl.DataFrame({"item_id": truth["item_id"], "choices": [[*"ab"], [*"abcd"]] * 100})
    inputs = inputs_of(answers, items=choices)
    fitted = coin.one_coin(inputs, EmParams())
    assert len(fitted.annotators) == 10
    history = coin_history(answers, EmParams(tolerance=0, iterations=30), items=choices)
    assert np.diff(history).min() > -1e-9 * abs(history[-1])
    # where only a and b can be, and both were given, they share everything
    both = np.flatnonzero((np.diff(fitted.offsets) == 2) & (np.arange(200) % 2 == 0))
    sums = np.add.reduceat(fitted.probs, fitted.offsets[:-1])
    assert len(both) > 20
    assert sums[both] == pytest.approx(np.ones(len(both)), abs=1e-8)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("history", [full_history, coin_history], ids=["dawid_skene", "one_coin"])
def test_likelihood_never_decreases(seed, history):
    rng = np.random.default_rng(seed)
    answers, truth = make_answers(
        int(rng.integers(2, 60)), int(rng.integers(5, 15)), int(rng.integers(2, 6)), 4, abstain=0.2, seed=seed
    )
    gold = truth.head(5) if seed % 2 else None
    values = history(answers, EmParams(iterations=40, tolerance=0), gold)
    assert len(values) > 1
    assert np.diff(values).min() > -1e-6  # the floor of 1e-10 on probabilities costs that much


def test_gold_is_its_item_s_posterior_whoever_voted():
    answers = by_hand()
    gold = pl.DataFrame({"item_id": ["q0", "q1", "elsewhere"], "gold_label": ["b", "z", "a"]})  # z: nobody said so
    for fit in (full.dawid_skene, coin.one_coin):
        inputs = inputs_of(answers, gold)
        fitted = fit(inputs, EmParams())
        assert fitted.probs.tolist() == [0, 1, 0]
        assert labels(inputs, fitted) == {"q0": "b", "q1": "z"}
        assert fitted.best_prob.tolist() == [1, 1]
        assert fitted.classes.to_list() == ["a", "b", "z"]


def test_gold_improves_the_other_items():
    answers, truth = make_answers(300, 12, 3, 3, accuracy=(0.1, 0.95), seed=5)
    gold = truth.gather_every(2)
    rest = truth.filter(~pl.col("item_id").is_in(gold["item_id"].to_list()))
    for fit in (full.dawid_skene, coin.one_coin):
        right = []
        for known in (None, gold):
            inputs = inputs_of(answers, known)
            found = labels(inputs, fit(inputs, EmParams()))
            right.append(np.mean([found[item] == label for item, label in rest.iter_rows()]))
        assert right[1] > right[0]


def test_long_items_neither_overflow_nor_underflow():
    """2,000 answers to an item: its likelihoods are far below the smallest float, those of the short one are not."""
    rng = np.random.default_rng(0)
    names = [f"w{i % 50}" for i in range(2000)]
    cells = {"item_id": np.repeat(["q0", "q1", "q2"], [2000, 2000, 3]), "annotator_id": [*names * 2, "w1", "w2", "w3"]}
    answer = [*rng.choice(["a", "b", "c"], 2000, p=[0.5, 0.3, 0.2]), *rng.choice(["a", "b"], 2000), "a", "a", "b"]
    answers = pl.DataFrame(cells).with_columns(answer=pl.Series(answer))
    for fit in (full.dawid_skene, coin.one_coin):
        fitted = fit(inputs_of(answers), EmParams(iterations=3))
        assert np.isfinite(fitted.probs).all()
        sums = np.add.reduceat(fitted.probs, fitted.offsets[:-1])
        assert sums[:2] == pytest.approx([1, 1], abs=1e-8)
        assert 0.5 < sums[2] <= 1  # nobody gave the short one c, which it may be all the same


def test_a_million_distinct_answers_are_one_line_or_a_result():
    num = 100_000
    answers = pl.DataFrame(
        {"item_id": np.arange(num) // 2, "annotator_id": np.arange(num) % 2, "answer": np.arange(num)}
    )
    with pytest.raises(InputError, match=r"100000 distinct answers are too many .* one_coin, wawa") as caught:
        full.dawid_skene(inputs_of(answers), EmParams())
    assert "\n" not in str(caught.value)
    fitted = coin.one_coin(inputs_of(answers), EmParams(iterations=2))
    assert np.isfinite(fitted.best_prob).all()
