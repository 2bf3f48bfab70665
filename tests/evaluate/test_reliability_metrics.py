"""Metrics of a score against correctness: published counts, hand-worked ties, and properties."""

from __future__ import annotations

import numpy as np
import pytest

from labelrel import evaluate
from labelrel.errors import InputError

# Guo & Yang 2024 (arXiv 2406.19032), vote entropy with Llama-2-7B as the weak model: wrong and right
# answers per entropy value, lowest entropy first; one row per answer.
PUBLISHED = {
    "hellaswag": [(645, 13175), (1572, 3138), (1451, 1394), (956, 724), (1003, 507), (312, 123)],
    "mmlu": [(215, 970), (617, 578), (725, 365), (1062, 503), (1205, 455), (495, 180)],
    "gsm8k": [(85, 50), (389, 86), (260, 45), (1458, 177), (1172, 128), (5955, 345), (8014, 221)],
    "ethics": [(2036, 8016), (1117, 2724)],
}
# accuracy, AUROC of -H, AURC, E-AURC, AUGRC to the printed digits. The AUROC of MMLU is .68948 in exact
# fractions of these counts; where it is quoted as .690 it was rounded twice.
PRINTED = {
    "hellaswag": (".7624", ".831", ".088", ".058", ".059"),
    "mmlu": (".4140", ".689", ".416", ".195", ".247"),
    "gsm8k": (".0572", ".682", ".900", ".121", ".462"),
    "ethics": (".7731", ".550", ".206", ".178", ".105"),
}


def from_counts(counts: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(wrong, right) per level, best level first → score, correct with one entry per answer."""
    sizes = [wrong + right for wrong, right in counts]
    score = np.repeat(-np.arange(len(counts), dtype=float), sizes)
    correct = np.concatenate([np.repeat([0.0, 1.0], pair) for pair in counts])
    return score, correct


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_give_the_published_numbers(name):
    score, correct = from_counts(PUBLISHED[name])
    accuracy, *rest = PRINTED[name]
    assert f"{evaluate.accuracy(correct):.4f}".lstrip("0") == accuracy
    metrics = (evaluate.auroc, evaluate.aurc, evaluate.e_aurc, evaluate.augrc)
    assert [f"{metric(score, correct):.3f}".lstrip("0") for metric in metrics] == rest


def test_auroc_counts_ties_half():
    # right at 2, 1; wrong at 1, 0. Pairs: (2>1) 1, (2>0) 1, (1=1) 1/2, (1>0) 1 → 3.5 / 4
    assert evaluate.auroc([2, 1, 1, 0], [1, 1, 0, 0]) == 3.5 / 4


@pytest.mark.parametrize("correct", [[1, 1, 1], [0, 0, 0]])
def test_auroc_is_none_without_both_kinds(correct):
    assert evaluate.auroc([1, 2, 3], correct) is None


def test_curve_areas_of_four_labels():
    # best first: right, wrong, right, wrong → errors 0, 1, 1, 2; risks 0, 1/2, 1/3, 1/2
    score, correct = [4, 3, 2, 1], [1, 0, 1, 0]
    aurc = (0 + 1 / 2 + 1 / 3 + 1 / 2) / 4
    perfect = (0 + 0 + 1 / 3 + 2 / 4) / 4
    assert evaluate.aurc(score, correct) == pytest.approx(aurc, abs=1e-15)
    assert evaluate.e_aurc(score, correct) == pytest.approx(aurc - perfect, abs=1e-15)
    assert evaluate.augrc(score, correct) == pytest.approx((0 + 1 + 1 + 2) / 4 / 4, abs=1e-15)


def test_ties_are_the_mean_over_all_orders():
    # two labels tied, one right: orders (right, wrong) and (wrong, right) have AURC (0 + 1/2)/2 and (1 + 1/2)/2
    assert evaluate.aurc([1, 1], [1, 0]) == pytest.approx((0.25 + 0.75) / 2, abs=1e-15)
    assert evaluate.augrc([1, 1], [1, 0]) == pytest.approx((0.5 + 1) / 2 / 2, abs=1e-15)


def test_constant_score_has_the_error_rate_as_its_aurc():
    correct = [1, 0, 0, 1, 1]
    assert evaluate.aurc(np.zeros(5), correct) == pytest.approx(2 / 5, abs=1e-15)
    assert evaluate.auroc(np.zeros(5), correct) == 0.5


def test_perfect_ranking_has_no_excess():
    assert evaluate.e_aurc([3, 2, 1, 0], [1, 1, 0, 0]) == 0
    assert evaluate.auroc([3, 2, 1, 0], [1, 1, 0, 0]) == 1


def test_row_order_does_not_matter():
    rng = np.random.default_rng(0)
    score, correct = rng.integers(0, 4, 200), rng.integers(0, 2, 200)
    order = rng.permutation(200)
    for metric in (evaluate.auroc, evaluate.aurc, evaluate.e_aurc, evaluate.augrc):
        assert metric(score, correct) == pytest.approx(metric(score[order], correct[order]), abs=1e-12)


def test_risk_coverage_keeps_ties_whole():
    table = evaluate.risk_coverage([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])
    assert table.to_dict(as_series=False) == {
        "threshold": [0.9, 0.5, 0.1],
        "num_kept": [1, 3, 4],
        "coverage": [1 / 4, 3 / 4, 1.0],
        "accuracy": [1.0, 2 / 3, 1 / 2],
        "risk": [0.0, 1 - 2 / 3, 1 / 2],
    }


def test_pgr_is_none_without_a_gap():
    assert evaluate.pgr(0.5, 0.9, 0.7) == pytest.approx(0.5)
    assert evaluate.pgr(0.9, 0.9, 0.7) is None


def test_brier_and_ece_of_three_labels():
    # (.9-1)² + (.9-0)² + (.2-0)² = .01 + .81 + .04 over 3
    probability, correct = [0.9, 0.9, 0.2], [1, 0, 0]
    assert evaluate.brier(probability, correct) == pytest.approx(0.86 / 3)
    # bins .9: accuracy 1/2, gap .4, 2 labels; .2: accuracy 0, gap .2, 1 label
    assert evaluate.ece(probability, correct) == pytest.approx((2 * 0.4 + 0.2) / 3)


def test_a_probability_of_one_falls_into_the_last_bin():
    bins = evaluate.calibration_bins([1.0, 0.0], [1, 0], num_bins=4)
    assert bins["bin"].to_list() == [0, 3]
    assert bins["num_labels"].to_list() == [1, 1]


def test_a_tie_goes_to_the_bin_of_its_middle():
    # ten labels, the upper six tied: ranks 5 to 10, their middle beyond the half
    bins = evaluate.calibration_bins([0.1] * 4 + [0.2] * 6, [0] * 10, num_bins=2, binning="mass")
    assert bins["num_labels"].to_list() == [4, 6]


def test_equal_mass_bins_keep_ties_whole():
    probability = [0.1] * 6 + [0.2, 0.3, 0.4, 0.5]
    bins = evaluate.calibration_bins(probability, [0] * 10, num_bins=2, binning="mass")
    assert bins["num_labels"].to_list() == [6, 4]
    assert evaluate.ece(probability, [0] * 10, num_bins=2, binning="mass") == pytest.approx((6 * 0.1 + 4 * 0.35) / 10)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: evaluate.auroc([1, 2], [1]), "score has 2 values but correct has 1"),
        (lambda: evaluate.auroc([1, float("nan")], [1, 0]), "1 of 2 values are missing or not finite"),
        (lambda: evaluate.auroc([1, None], [1, 0]), "missing or not finite"),
        (lambda: evaluate.accuracy([]), "correct is empty"),
        (lambda: evaluate.accuracy([0, 2]), r"must lie in \[0, 1\], got 2"),
        (lambda: evaluate.accuracy([[1, 0]]), "1 dimension, got 2"),
        (lambda: evaluate.accuracy(["yes"]), "must be numbers"),
        (lambda: evaluate.brier([1.5], [1]), r"probability must lie in \[0, 1\], got 1.5"),
        (lambda: evaluate.ece([0.5], [1], num_bins=0), "num_bins must be at least 1, got 0"),
        (lambda: evaluate.ece([0.5], [1], binning="mas"), "unknown binning 'mas'; allowed: width, mass"),
    ],
)
def test_bad_input_is_told_in_one_line(call, match):
    with pytest.raises(InputError, match=match):
        call()
