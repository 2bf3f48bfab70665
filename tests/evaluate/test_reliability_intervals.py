"""Metrics with intervals: equal to the functions of one metric, draw by draw, and honest about the item."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest

from labelrel import evaluate
from labelrel.errors import InputError
from labelrel.evaluate import Interval, reliability, reliability_metrics, risk_coverage_interval

RANKING = ("accuracy", "auroc", "aurc", "e_aurc", "augrc")

# Guo & Yang 2024 (arXiv 2406.19032), vote entropy with Llama-2-7B: wrong and right answers per entropy value
PUBLISHED = {
    "hellaswag": [(645, 13175), (1572, 3138), (1451, 1394), (956, 724), (1003, 507), (312, 123)],
    "mmlu": [(215, 970), (617, 578), (725, 365), (1062, 503), (1205, 455), (495, 180)],
    "gsm8k": [(85, 50), (389, 86), (260, 45), (1458, 177), (1172, 128), (5955, 345), (8014, 221)],
    "ethics": [(2036, 8016), (1117, 2724)],
}


def labels(counts: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(wrong, right) per level, best level first → score, correct with one entry per answer."""
    score = np.repeat(-np.arange(len(counts), dtype=float), [wrong + right for wrong, right in counts])
    return score, np.concatenate([np.repeat([0.0, 1.0], pair) for pair in counts])


def sample(n: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.random(n) if kind == "continuous" else rng.integers(6, size=n) / 5
    return score, (rng.random(n) < 0.2 + 0.6 * score).astype(float)


def points(score: np.ndarray, correct: np.ndarray, probability: np.ndarray) -> dict[str, float | None]:
    return {
        **{name: getattr(evaluate, name)(score, correct) for name in RANKING[1:]},
        "accuracy": evaluate.accuracy(correct),
        "brier": evaluate.brier(probability, correct),
        "ece": evaluate.ece(probability, correct),
        "ece_mass": evaluate.ece(probability, correct, binning="mass"),
    }


@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_values_are_those_of_the_functions(kind):
    score, correct = sample(300, kind)
    found = reliability_metrics(score, correct, probability=score**2, resamples=50)
    assert list(found) == [*RANKING, "brier", "ece", "ece_mass"]
    assert {name: m.value for name, m in found.items()} == points(score, correct, score**2)
    assert all(m.low < m.value < m.high for name, m in found.items() if not name.startswith("ece"))
    assert {m.n for m in found.values()} == {300}
    assert list(reliability_metrics(score, correct, resamples=5)) == list(RANKING)


@pytest.mark.parametrize("kind", ["continuous", "tied"])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_resample_has_the_metrics_of_its_labels(kind, grouped):
    """Draw weights, write out the labels that they stand for, and ask the functions of one metric."""
    score, correct = sample(90, kind)
    probability = np.sqrt(score)[np.random.default_rng(1).permutation(90)]  # another order than the score
    items = np.arange(90) // 3 if grouped else None
    drawn = reliability._Sample.of(score, correct, probability, items)
    by_score, by_probability = drawn.grouping(drawn.score), drawn.grouping(drawn.probability)
    for weights in drawn.draws(20, seed=0):
        assert (weights.sum(axis=1) == (30 if grouped else 90)).all()
        found = reliability._ranking(*by_score.counts(weights))
        found |= reliability._calibration(*by_probability.counts(weights), by_probability.values)
        for i, weight in enumerate(weights):
            times = weight[drawn.unit]
            right = np.repeat(np.arange(times.size), (times * drawn.right).astype(int))
            wrong = np.repeat(np.arange(times.size), (times * (drawn.size - drawn.right)).astype(int))
            rows, hits = np.concatenate([right, wrong]), np.repeat([1.0, 0.0], [right.size, wrong.size])
            for name, value in points(drawn.score[rows], hits, drawn.probability[rows]).items():
                assert found[name][i] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_with_intervals(name):
    score, correct = labels(PUBLISHED[name])
    found = reliability_metrics(score, correct, resamples=400)
    for metric, result in found.items():
        assert result.value == getattr(evaluate, metric)(*((correct,) if metric == "accuracy" else (score, correct)))
        assert result.low < result.value < result.high
    printed = {"hellaswag": 0.831, "mmlu": 0.690, "gsm8k": 0.682, "ethics": 0.550}[name]
    assert found["auroc"].low < printed < found["auroc"].high
    # Hanley & McNeil 1982, standard error of an AUROC under exponential scores; ties make it differ by some
    a, right, wrong = found["auroc"].value, correct.sum(), (1 - correct).sum()
    variance = a * (1 - a) + (right - 1) * (a / (2 - a) - a**2) + (wrong - 1) * (2 * a**2 / (1 + a) - a**2)
    assert found["auroc"].high - found["auroc"].low == pytest.approx(3.92 * np.sqrt(variance / right / wrong), rel=0.25)


def test_published_auroc_in_exact_fractions():
    """MMLU is .68948: .690 where it was rounded twice."""
    exact = {}
    for name, counts in PUBLISHED.items():
        below, pairs = sum(wrong for wrong, _ in counts), Fraction(0)
        for wrong, right in counts:
            below -= wrong
            pairs += right * (below + Fraction(wrong, 2))
        exact[name] = pairs / (sum(w for w, _ in counts) * sum(r for _, r in counts))
        score, correct = labels(counts)
        assert evaluate.auroc(score, correct) == pytest.approx(float(exact[name]), abs=1e-14)
    assert {name: round(float(value), 4) for name, value in exact.items()} == {
        "hellaswag": 0.8308, "mmlu": 0.6895, "gsm8k": 0.6819, "ethics": 0.5503,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fraction", "accuracy"),
    [("hellaswag", 0.553, 0.953), ("mmlu", 0.161, 0.819), ("gsm8k", 0.007, 0.370), ("ethics", 0.724, 0.797)],
)
def test_published_unanimous_answers_head_the_risk_coverage_table(name, fraction, accuracy):
    table = risk_coverage_interval(*labels(PUBLISHED[name]), resamples=200)
    first = table.row(0, named=True)
    assert table.height == len(PUBLISHED[name])
    assert (round(first["coverage"], 3), round(1 - first["risk"], 3)) == (fraction, accuracy)
    assert first["low"] < first["risk"] < first["high"]


def test_intervals_agree_with_the_plain_bootstrap_of_a_mean():
    score, correct = sample(400, "tied")
    found = reliability_metrics(score, correct, resamples=4000)["accuracy"]
    plain = evaluate.interval(correct, resamples=4000)
    assert found.value == pytest.approx(plain.value)
    assert (found.low, found.high) == (pytest.approx(plain.low, abs=0.008), pytest.approx(plain.high, abs=0.008))


def test_labels_of_one_item_are_drawn_together():
    # every label five times: five times the labels say no more than one
    score, correct = sample(100, "tied")
    once = reliability_metrics(score, correct, resamples=1000)
    copies = [np.repeat(values, 5) for values in (score, correct)]
    together = reliability_metrics(*copies, items=np.repeat(np.arange(100), 5), resamples=1000)
    apart = reliability_metrics(*copies, resamples=1000)
    assert (together["auroc"].n, apart["auroc"].n) == (100, 500)
    for name in ("accuracy", "auroc", "aurc"):
        width = once[name].high - once[name].low
        assert together[name].high - together[name].low == pytest.approx(width, rel=0.15)
        assert apart[name].high - apart[name].low < 0.6 * width
    tables = [risk_coverage_interval(*copies, items=i, resamples=500) for i in (np.repeat(np.arange(100), 5), None)]
    widths = [(table["high"] - table["low"]).to_numpy() for table in tables]
    assert (widths[1] < 0.6 * widths[0]).all()


def test_items_may_have_any_names_and_numbers_of_labels():
    names = pl.Series(["b", "a", "a", "ü", "b", "b"])
    found = reliability_metrics([1, 2, 3, 4, 5, 6], [0, 1, 1, 0, 1, 1], items=names, resamples=200)
    assert found["accuracy"].n == 3
    # items are right 2 of 3, 2 of 2, 0 of 1 times: a resample of three "ü" is all wrong, one of three "a" all right
    assert (found["accuracy"].low, found["accuracy"].high) == (0, 1)


def test_one_class_only_is_undefined():
    found = reliability_metrics([1, 2, 3], [1, 1, 1], probability=[0.5, 0.6, 0.7], resamples=20)
    assert found["auroc"] == Interval(None, None, None, 3, 20)
    assert found["aurc"] == Interval(0, 0, 0, 3)
    assert found["accuracy"].value == 1
    assert found["brier"].low > 0


def test_resamples_without_both_classes_are_counted():
    found = reliability_metrics([1, 2, 3, 4], [1, 1, 1, 0], resamples=2000)["auroc"]
    # the one wrong label is missing in (3/4)^4 = .316 of the resamples, alone in (1/4)^4 = .004
    assert found.num_undefined / 2000 == pytest.approx(0.32, abs=0.035)
    assert found.value == found.low == found.high == 0


def test_one_label():
    found = reliability_metrics([0.3], [1], probability=[0.3], resamples=10)
    assert found["auroc"].value is None
    assert found["brier"].value == pytest.approx(0.49)
    assert risk_coverage_interval([0.3], [1], resamples=10).rows() == [(1.0, 1, 0.0, 0.0, 0.0, 0.3)]


def test_order_of_rows_does_not_matter_and_the_seed_does():
    score, correct = sample(200, "continuous")
    order = np.random.default_rng(3).permutation(200)
    items = np.arange(200) // 2
    for given in (None, items):
        shuffled = None if given is None else given[order]
        first = reliability_metrics(score, correct, probability=score, items=given, resamples=100)
        second = reliability_metrics(
            score[order], correct[order], probability=score[order], items=shuffled, resamples=100
        )
        for name, expected in first.items():
            ends = (second[name].value, second[name].low, second[name].high)
            assert ends == pytest.approx((expected.value, expected.low, expected.high), abs=1e-12)
    again = reliability_metrics(score, correct, resamples=100)
    assert again == reliability_metrics(score, correct, resamples=100)
    assert again["auroc"] != reliability_metrics(score, correct, resamples=100, seed=1)["auroc"]


def test_zero_and_minus_zero_are_one_score():
    found = reliability_metrics([0.0, -0.0, 0.0, -0.0], [1, 0, 1, 0], resamples=50)
    assert found["auroc"].value == found["auroc"].low == found["auroc"].high == 0.5


def test_chunks_cover_all_resamples(monkeypatch):
    score, correct = sample(200, "continuous")
    monkeypatch.setattr(reliability, "_CELLS_AT_ONCE", 1500)
    drawn = reliability._Sample.of(score, correct, None, None)
    parts = [len(weights) for weights in drawn.draws(31, seed=0)]
    assert (sum(parts), max(parts)) == (31, 7)


@pytest.mark.parametrize(("most", "names"), [(25, [*RANKING, "brier", "ece", "ece_mass"]), (4, RANKING)])
def test_many_scores_are_grouped_in_the_resamples_only(monkeypatch, most, names):
    # four groups would put the AUROC off by half its interval, were the difference not added back
    score, correct = sample(3000, "continuous")
    exact = reliability_metrics(score, correct, probability=score, resamples=300)
    monkeypatch.setattr(reliability, "_MOST_GROUPS", most)
    grouped = reliability_metrics(score, correct, probability=score, resamples=300)
    for name in names:
        found, expected = grouped[name], exact[name]
        width = expected.high - expected.low
        assert found.value == expected.value
        assert found.low == pytest.approx(expected.low, abs=0.25 * width)
        assert found.high == pytest.approx(expected.high, abs=0.25 * width)


def test_coarse_groups_are_about_equal_and_keep_ties_whole():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.random(8000), np.full(4000, 0.25)])
    coarse = reliability._coarse(values)
    assert np.unique(coarse).size <= 2048
    assert np.unique(coarse[values == 0.25]).size == 1
    assert np.isin(coarse, values).all()
    order = np.argsort(values)
    assert (np.diff(coarse[order]) >= 0).all()
    sizes = np.unique(coarse[(coarse < 0.24) | (coarse > 0.26)], return_counts=True)[1]
    assert sizes.max() <= 7  # 12000 / 2048 = 5.9
    assert np.array_equal(reliability._coarse(values[:2000]), values[:2000])


def test_risk_coverage_rows_are_those_of_the_curve():
    score, correct = sample(200, "tied")
    table = risk_coverage_interval(score, correct, resamples=100)
    curve = evaluate.risk_coverage(score, correct)
    assert table.columns == ["coverage", "num_labels", "risk", "low", "high", "threshold"]
    for ours, theirs in (("coverage", "coverage"), ("num_labels", "num_kept"), ("risk", "risk"), ("threshold",) * 2):
        assert table[ours].to_list() == curve[theirs].to_list()


def test_risk_coverage_of_many_scores_has_twenty_even_coverages():
    table = risk_coverage_interval(*sample(1000, "continuous"), resamples=100)
    assert table["coverage"].to_list() == pytest.approx(np.arange(1, 21) / 20)
    assert ((table["low"] <= table["risk"]) & (table["risk"] <= table["high"])).all()
    # 50 labels, normal interval ±1.96 sqrt(r (1 - r) / 50)
    first = table.row(0, named=True)
    assert first["num_labels"] == 50
    expected = 2 * 1.96 * np.sqrt(first["risk"] * (1 - first["risk"]) / 50)
    assert first["high"] - first["low"] == pytest.approx(expected, rel=0.3)


def test_intervals_cover_the_truth_as_often_as_they_say():
    # correct with probability score, score uniform: AUROC is 5/6, the accuracy 1/2
    rng = np.random.default_rng(0)
    covered = {"auroc": 0, "accuracy": 0}
    for seed in range(150):
        score = rng.random(150)
        found = reliability_metrics(score, rng.random(150) < score, resamples=200, seed=seed)
        covered["auroc"] += found["auroc"].low <= 5 / 6 <= found["auroc"].high
        covered["accuracy"] += found["accuracy"].low <= 0.5 <= found["accuracy"].high
    assert all(0.88 <= count / 150 <= 1 for count in covered.values()), covered


@pytest.mark.parametrize("call", [reliability_metrics, risk_coverage_interval])
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([], []), "score is empty"),
        (([1, 2], [1]), "score has 2 values but correct has 1"),
        (([1, float("inf")], [1, 0]), "1 of 2 values are missing or not finite"),
        (([1, 2], [1, 0.5]), "correct must be 0 or 1, got 0.5"),
        (([1, 2], [1, 0], {"items": [1]}), "items has 1 values but score has 2"),
        (([1, 2], [1, 0], {"items": [1, None]}), "items: 1 of 2 labels have no item"),
        (([1, 2], [1, 0], {"confidence": 1.0}), r"confidence must lie in \(0, 1\), got 1"),
        (([1, 2], [1, 0], {"resamples": 0}), "resamples must be at least 1, got 0"),
    ],
)
def test_bad_input_is_told_in_one_line(call, arguments, match):
    score, correct, *options = arguments
    with pytest.raises(InputError, match=match):
        call(score, correct, **(options[0] if options else {}))


def test_a_probability_outside_its_range_is_refused():
    with pytest.raises(InputError, match=r"probability must lie in \[0, 1\], got 1.5"):
        reliability_metrics([1, 2], [1, 0], probability=[1.5, 0.5])
