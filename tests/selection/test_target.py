"""The cut at a target accuracy: hand-worked bounds, the promise over many draws, and the rule on gold_dev."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, binomtest

from labelrel.errors import ConfigError, InputError
from labelrel.selection import check_params, select
from labelrel.selection.target import Certified, _candidates, _fallback, certify

NAN = float("nan")


def test_one_perfect_set_of_a_tied_score():
    # 100 gold labels: 60 at 1, all right; 40 at .5, 20 right. Both sets can pass at share .05 (least n = 29).
    # set 1: .9^60 = .0018 <= .05, passes and leaves its share; set 2: 80 of 100 right, p near 1: does not
    score = np.repeat([1.0, 0.5], [60, 40])
    correct = np.repeat([1, 1, 0], [60, 20, 20])
    found = certify(score, correct, np.repeat([1.0, 0.5], [600, 400]), target=0.9, confidence=0.9)
    assert (found.threshold, found.num_kept, found.kept_fraction) == (1.0, 600, 0.6)
    assert (found.num_gold, found.num_correct, found.accuracy) == (60, 60, 1.0)
    # all right: the bound solves p^60 = .05
    assert found.lower_bound == pytest.approx(0.05 ** (1 / 60), abs=1e-12)
    assert found.tried["error"].to_list() == pytest.approx([0.05, 0.1])
    assert found.tried["passed"].to_list() == [True, False]
    assert found.sentence() == (
        "accuracy 0.9 with confidence 0.9: keep scores of at least 1.0, 600 labels (60.0% of the pool), "
        "60 of 60 gold labels right (1.000, at least 0.951)."
    )


def test_a_share_is_handed_on_and_lost_where_a_set_fails():
    passed, error = _fallback(np.array([0.01, 0.06, 0.5, 0.03, 0.08]), 0.15)
    # .03 passes .01 | .06 passes .06 | .09 fails .5, lost | .03 passes .03 | .06 fails .08
    assert passed.tolist() == [True, True, False, True, False]
    assert error.tolist() == pytest.approx([0.03, 0.06, 0.09, 0.03, 0.06])


def test_the_largest_set_that_passes_wins_over_a_failed_smaller_one():
    # scores 3, 2, 1 with 100 gold labels each: 100, 70 and 100 right → 100/100, 170/200, 270/300
    score = np.repeat([3.0, 2.0, 1.0], 100)
    correct = np.concatenate([np.ones(100), np.repeat([1, 0], [70, 30]), np.ones(100)])
    found = certify(score, correct, score, target=0.85, confidence=0.9)
    # .85: 170 of 200 is p = .54, fails; 270 of 300 is p = .008 <= .0333
    assert found.tried["passed"].to_list() == [True, False, True]
    assert (found.threshold, found.num_kept) == (1.0, 300)


def test_p_value_and_bound_agree_with_scipy_and_with_each_other():
    rng = np.random.default_rng(0)
    score = rng.integers(6, size=400).astype(float)
    correct = rng.random(400) < 0.6 + 0.07 * score
    found = certify(score, correct, score, target=0.8, confidence=0.9)
    assert found.tried.height == 6
    for row in found.tried.iter_rows(named=True):
        n, k, error = row["num_gold"], row["num_correct"], row["error"]
        assert n == np.count_nonzero(score >= row["threshold"])
        assert k == np.count_nonzero(correct[score >= row["threshold"]])
        assert row["passed"] == (binom.sf(k - 1, n, 0.8) <= error) == (row["lower_bound"] >= 0.8)
        exact = binomtest(k, n, alternative="greater").proportion_ci(1 - error, method="exact")
        assert row["lower_bound"] == pytest.approx(exact.low, abs=1e-9)
    assert found.tried["passed"].n_unique() == 2


def test_candidates_keep_ties_whole_and_are_spread_over_the_coverage():
    kept = np.cumsum([550, 200, 150, 70, 30])
    assert _candidates(kept, 500, 0.9, 0.1, 20).tolist() == [0, 1, 2, 3, 4]
    assert _candidates(kept, 500, 0.9, 0.1, 2).tolist() == [0, 4]
    # continuous, 2,000 gold labels: 20 sets from the least n with share .005 (.9^51 < .005 < .9^50) to all
    places = _candidates(np.arange(1, 10_001), 2000, 0.9, 0.1, 20)
    expected = (places + 1) / 10_000 * 2000
    assert places.size == 20
    assert 51 <= expected[0] < 51.3
    assert expected[-1] == 2000
    assert np.ptp(np.diff(expected)) < 0.5


def test_scarce_gold_has_few_candidates_and_none_that_cannot_pass():
    for num_gold in (22, 40, 60, 100, 200):
        places = _candidates(np.arange(1, 1001), num_gold, 0.9, 0.1, 20)
        least = (places[0] + 1) / 1000 * num_gold
        assert 0.9**least <= 0.1 / places.size
    assert _candidates(np.arange(1, 1001), 60, 0.9, 0.1, 20).size in (2, 3)
    # .9^21 > .1: nothing can pass; the whole pool is left to tell why
    assert _candidates(np.arange(1, 1001), 21, 0.9, 0.1, 20).tolist() == [999]


def test_candidates_do_not_depend_on_gold():
    rng = np.random.default_rng(0)
    pool = rng.random(500)
    first, second = (
        certify(rng.random(300) ** power, rng.random(300) < 0.9, pool, target=0.8, confidence=0.9).tried
        for power in (1, 3)
    )
    assert first["threshold"].equals(second["threshold"])
    assert not first["num_gold"].equals(second["num_gold"])


def test_too_little_gold_is_told_with_how_much_would_do():
    found = certify(np.ones(15), np.ones(15), np.ones(100), target=0.9, confidence=0.9)
    assert (found.threshold, found.num_kept, found.kept_fraction) == (None, 0, 0.0)
    assert (found.num_gold, found.num_correct, found.accuracy) == (15, 15, 1.0)
    # .9^22 = .098 <= .1
    assert found.sentence() == (
        "no threshold qualifies for accuracy 0.9 with confidence 0.9: the safest set tried has 15 of 15 gold labels "
        "right (1.000, at least 0.858); at that accuracy about 22 gold labels in all would do (there are 15), "
        "or lower the target."
    )
    enough = certify(np.ones(22), np.ones(22), np.ones(100), target=0.9, confidence=0.9)
    assert (enough.threshold, enough.num_kept) == (1.0, 100)


@pytest.mark.parametrize(
    ("right", "advice"),
    [
        (80, "that is not above the target, so lower the target or take another score."),
        (90, "that is not above the target, so lower the target or take another score."),
        (93, "gold labels in all would do (there are 100), or lower the target."),
    ],
)
def test_advice_where_nothing_qualifies(right, advice):
    found = certify(np.ones(100), np.arange(100) < right, np.ones(9), target=0.9, confidence=0.95)
    assert found.threshold is None
    assert found.sentence().endswith(advice)
    assert "\n" not in found.sentence()


def test_the_gold_that_is_said_to_be_needed_is_enough():
    small = certify(np.ones(100), np.arange(100) < 93, np.ones(9), target=0.9, confidence=0.95)
    needed = int(small.sentence().partition("about ")[2].split()[0])
    assert 100 < needed < 1000
    more = certify(np.ones(needed), np.arange(needed) < 0.93 * needed, np.ones(9), target=0.9, confidence=0.95)
    assert more.threshold == 1.0


def test_where_none_passes_the_best_bound_is_told_not_the_smallest_set():
    # 30 of 40 right at score 2, then 60 of 60 at score 1: .75 of the smaller set, .9 of the larger
    score, correct = np.repeat([2.0, 1.0], [40, 60]), np.repeat([1, 0, 1], [30, 10, 60])
    found = certify(score, correct, score, target=0.89, confidence=0.9)
    assert found.tried["num_gold"].to_list() == [40, 100]
    assert (found.threshold, found.num_gold, found.num_correct) == (None, 100, 90)


def test_a_hopeless_margin_and_gold_elsewhere_are_told():
    hardly = certify(np.ones(1000), np.arange(1000) < 901, np.ones(9), target=0.90099, confidence=0.99)
    assert "hardly above the target" in hardly.sentence()
    below = certify(np.zeros(50), np.ones(50), np.ones(9), target=0.9, confidence=0.9)
    assert (below.num_gold, below.accuracy, below.lower_bound) == (0, None, 0.0)
    assert "0 of 0 gold labels right; gold labels of items like those of the pool are needed." in below.sentence()


def test_json_of_what_was_found():
    found = certify(np.ones(15), np.ones(15), np.ones(100), target=0.9, confidence=0.9)
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["threshold"] is None
    assert list(document["tried"][0]) == [
        "threshold", "num_kept", "kept_fraction", "num_gold", "num_correct", "accuracy", "error", "lower_bound",
        "passed",
    ]  # fmt: skip


# name → (draw scores, P(right | score)); the target is .8
Scores = Callable[[np.random.Generator, int], np.ndarray]
Right = Callable[[np.ndarray], np.ndarray]


def uniform(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.random(n)


def votes(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([0.2, 0.4, 0.6, 0.8, 1.0], n, p=[0.05, 0.15, 0.2, 0.25, 0.35])


PROBLEMS: dict[str, tuple[Scores, Right]] = {
    "continuous": (uniform, lambda s: 0.55 + 0.4 * s),
    # votes: the sets are right .79, .79, .7, .62, .6 of the time: the first three are tempting, all too bad
    "tied": (votes, lambda s: np.interp(s, [0.2, 0.4, 0.6, 0.8, 1.0], [0.3, 0.3, 0.5, 0.79, 0.79])),
    "useless": (uniform, lambda s: np.full(s.size, 0.799)),
    # best in the middle: the small sets at the top are bad, larger ones good, the largest bad again
    "not monotone": (uniform, lambda s: np.where(s > 0.9, 0.6, np.where(s > 0.5, 0.87, 0.7))),
}
DRAWS = 400


def true_accuracy(draw: Scores, right: Right) -> Callable[[float], float]:
    """Accuracy of {score >= t} over the population, by a large sample of scores with their known P(right)."""
    scores = np.sort(draw(np.random.default_rng(123), 200_000))[::-1]
    running = np.cumsum(right(scores)) / np.arange(1, scores.size + 1)
    return lambda t: float(running[max(np.searchsorted(-scores, -t, side="right") - 1, 0)])


def drawn(name: str, num_gold: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw, right = PROBLEMS[name]
    rng = np.random.default_rng([seed, num_gold])
    gold = draw(rng, num_gold)
    return gold, rng.random(num_gold) < right(gold), draw(rng, 500)


def naive(gold: np.ndarray, correct: np.ndarray, target: float) -> float | None:
    """The largest set whose accuracy on gold reaches the target."""
    order = np.argsort(-gold, kind="stable")
    running = np.cumsum(correct[order]) / np.arange(1, gold.size + 1)
    last = np.append(gold[order][1:] < gold[order][:-1], True)
    reached = np.flatnonzero(last & (running >= target))
    return float(gold[order][reached[-1]]) if reached.size else None


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_promise_holds_over_many_draws_and_the_naive_cut_breaks_it(name):
    accuracy = true_accuracy(*PROBLEMS[name])
    broken = naively_broken = 0
    for seed in range(DRAWS):
        gold, correct, pool = drawn(name, 150, seed)
        found = certify(gold, correct, pool, target=0.8, confidence=0.9)
        broken += found.threshold is not None and accuracy(found.threshold) < 0.8
        tempting = naive(gold, correct, 0.8)
        naively_broken += tempting is not None and accuracy(tempting) < 0.8
    slack = 3 * np.sqrt(0.1 * 0.9 / DRAWS)  # three standard errors of a share of .1
    assert broken / DRAWS <= 0.1 + slack
    assert naively_broken / DRAWS > 0.3


def test_gold_drawn_from_the_pool_keeps_the_promise():
    # half of a pool of 300 is gold, 79 % of the pool are right: any set that is certified is a mistake
    broken = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        pool, right = rng.random(300), rng.permutation(np.arange(300) < 0.79 * 300)
        mine = rng.permutation(300)[:150]
        found = certify(pool[mine], right[mine], pool, target=0.8, confidence=0.9)
        broken += found.threshold is not None and bool(right[pool >= found.threshold].mean() < 0.8)
    assert broken / DRAWS <= 0.1


def test_an_easy_problem_is_certified_most_of_the_time():
    kept = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        gold = rng.random(400)
        correct = rng.random(400) < np.where(gold > 0.4, 0.98, 0.5)
        kept.append(certify(gold, correct, rng.random(500), target=0.9, confidence=0.9).kept_fraction)
    assert np.mean(np.array(kept) > 0) > 0.98
    assert np.median(kept) > 0.55  # .6 is right .98, .72 is right .9


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: certify([1.0], [1], [1.0], target=1.0, confidence=0.9), ConfigError, r"target must lie in \(0, 1\)"),
        (lambda: certify([1.0], [1], [1.0], target=0.9, confidence=NAN), ConfigError, "confidence must lie in"),
        (
            lambda: certify([1.0], [1], [1.0], target=0.9, confidence=0.9, max_candidates=0),
            ConfigError,
            "max_candidates must be at least 1, got 0",
        ),
        (lambda: certify([], [], [1.0], target=0.9, confidence=0.9), InputError, "gold_score is empty"),
        (lambda: certify([1.0], [1], [], target=0.9, confidence=0.9), InputError, "pool_score is empty"),
        (
            lambda: certify([1.0, 2], [1], [1.0], target=0.9, confidence=0.9),
            InputError,
            "2 values but gold_correct has 1",
        ),
        (lambda: certify([1.0], [0.5], [1.0], target=0.9, confidence=0.9), InputError, "must be 0 or 1, got 0.5"),
        (
            lambda: certify(pl.Series([1.0, None]), [1, 1], [1.0], target=0.9, confidence=0.9),
            InputError,
            "gold_score: 1 of 2 values are missing or not finite",
        ),
        (lambda: certify(["a"], [1], [1.0], target=0.9, confidence=0.9), InputError, "must be numbers"),
    ],
)
def test_mistakes_are_told_in_one_line(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def tables(gold_right: int = 60) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Items of three splits with quality 1 or .6; on gold_dev, 60 at 1, some right, and 40 at .6, half right."""
    rows = [(f"w{i}", "w2s", 1.0 if i < 30 else 0.6, "a", "b") for i in range(50)]
    rows += [(f"g{i}", "gold_dev", 1.0, "a", "a" if i < gold_right else "b") for i in range(60)]
    rows += [(f"h{i}", "gold_dev", 0.6, "a", "a" if i % 2 else "b") for i in range(40)]
    rows += [("t0", "test", 1.0, "a", "a")]
    columns = ["item_id", "split", "label_quality", "answer", "gold_label"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    scores = frame.select(
        pl.lit("share").alias("method"), "item_id", "answer", "label_quality", score="label_quality", share=1.0,
        reliability=1.0, num_votes=3, num_answers=3, weak_label=True, tie=False,
    )  # fmt: skip
    answers = frame.select("item_id", "answer", variant_id=pl.lit("0"))
    return scores, answers, frame.select("item_id", "split", "gold_label")


def test_rule_keeps_the_certified_labels_of_w2s():
    scores, answers, items = tables()
    chosen = select("target_accuracy", scores, answers, items, seed=0)
    assert chosen["item_id"].to_list() == [f"w{i}" for i in range(30)]
    assert chosen["weight"].to_list() == [1.0] * 30
    assert chosen["answer"].unique().to_list() == ["a"]


def test_rule_with_a_lower_target_keeps_all():
    params = {"target": 0.7}  # 80 of 100
    assert select("target_accuracy", *tables(), seed=0, params=params).height == 50


def test_rule_never_reads_gold_of_the_items_it_chooses_from():
    scores, answers, items = tables()
    outside = pl.col("split") != "gold_dev"
    hidden = items.with_columns(gold_label=pl.when(~outside).then("gold_label"))
    flipped = items.with_columns(gold_label=pl.when(outside).then(pl.lit("a")).otherwise("gold_label"))
    expected = select("target_accuracy", scores, answers, items, seed=0)
    for changed in (hidden, flipped):
        assert select("target_accuracy", scores, answers, changed, seed=0).equals(expected)


def test_rule_leaves_out_what_has_no_quality():
    scores, answers, items = tables()
    without = pl.col("item_id").is_in(["w0", "g0"])
    scores = scores.with_columns(label_quality=pl.when(~without).then("label_quality"))
    chosen = select("target_accuracy", scores, answers, items, seed=0)
    assert chosen["item_id"].to_list() == [f"w{i}" for i in range(1, 30)]


def test_rule_says_why_nothing_qualifies():
    with pytest.raises(InputError) as caught:
        select("target_accuracy", *tables(gold_right=50), seed=0)
    message = str(caught.value)
    assert message.startswith(
        "rule 'target_accuracy', score 'share': no threshold qualifies for accuracy 0.9 with confidence 0.9: "
        "the safest set tried has 50 of 60 gold labels right (0.833"
    )
    assert "lower the target" in message
    assert "\n" not in message


@pytest.mark.parametrize("drop", ["gold", "split", "scores"])
def test_rule_without_gold_says_what_it_needs(drop):
    scores, answers, items = tables()
    if drop == "gold":
        items = items.with_columns(gold_label=pl.when(pl.col("split") != "gold_dev").then("gold_label"))
    elif drop == "split":
        items = items.filter(pl.col("split") != "gold_dev")
    else:
        scores = scores.filter(~pl.col("item_id").str.starts_with("g") & ~pl.col("item_id").str.starts_with("h"))
    with pytest.raises(InputError, match="needs gold labels of split 'gold_dev', but none of its items has one"):
        select("target_accuracy", scores, answers, items, seed=0)


def test_rule_does_not_choose_from_the_split_that_sets_its_threshold():
    with pytest.raises(InputError, match="sets its threshold on split 'gold_dev' and cannot choose from it too"):
        select("target_accuracy", *tables(), split="gold_dev", seed=0)


def test_rule_parameters_are_checked():
    assert check_params("target_accuracy", {"target": 1.0, "confidence": 0.0}) == [
        "select.target_accuracy.target must lie in (0, 1), got 1.0",
        "select.target_accuracy.confidence must lie in (0, 1), got 0.0",
    ]


def test_what_was_found_cannot_be_changed():
    found = certify(np.ones(30), np.ones(30), np.ones(30), target=0.9, confidence=0.9)
    assert isinstance(found, Certified)
    with pytest.raises(AttributeError):
        found.threshold = 0.0
