"""Intervals: known cases, coverage of the truth, pairing, and PGR without a gap."""

from __future__ import annotations

import numpy as np
import pytest

from labelrel.errors import InputError
from labelrel.evaluate import bootstrap, interval, paired_difference, pgr_interval


def correct(rate: float, n: int = 300) -> np.ndarray:
    """Exactly `rate` of n items right, the first ones."""
    return (np.arange(n) < round(rate * n)).astype(float)


def test_interval_of_equal_values_has_no_width():
    result = interval(np.ones(10), resamples=50)
    assert (result.value, result.low, result.high, result.n) == (1, 1, 1, 10)


def test_interval_agrees_with_the_normal_one():
    # 300 items, 60 % right: standard error sqrt(.6 · .4 / 300) = .02828, 1.96 of them = .0554
    result = interval(correct(0.6), resamples=4000, seed=1)
    assert result.value == pytest.approx(0.6)
    assert result.low == pytest.approx(0.6 - 0.0554, abs=0.006)
    assert result.high == pytest.approx(0.6 + 0.0554, abs=0.006)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.random((200, 120)) < 0.7
    results = [interval(sample, resamples=300, seed=i) for i, sample in enumerate(samples)]
    covered = np.mean([r.low <= 0.7 <= r.high for r in results])
    assert 0.89 <= covered <= 0.99  # 95 % of 200, give or take three standard errors and the bootstrap's own


def test_same_seed_same_interval_and_chunks_cover_all_resamples(monkeypatch):
    values = correct(0.4, 50)
    assert interval(values, seed=3, resamples=101) == interval(values, seed=3, resamples=101)
    assert interval(values, seed=3, resamples=101) != interval(values, seed=4, resamples=101)
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 500)  # 10 resamples at a time
    (means,) = bootstrap._resampled_means([values[None]], 101, 0)
    assert means.shape == (101,)
    assert np.unique(means).size > 5


def test_seeds_widen_the_interval():
    # two runs that disagree by .4 on the mean: drawing seeds must add to the spread
    runs = np.stack([correct(0.3), correct(0.7)])
    wide, narrow = interval(runs), interval(runs.mean(axis=0))
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_pairing_removes_what_is_common():
    rng = np.random.default_rng(0)
    first = (rng.random(300) < 0.5).astype(float)
    second = first.copy()
    second[:6] = 0
    result = paired_difference(first, second)
    assert result.value == pytest.approx(first[:6].sum() / 300)
    assert result.high - result.low < 0.05  # unpaired it would be about 2 · 1.96 · sqrt(2 · .25 / 300) = .16


def test_pgr_of_a_clear_gap():
    # (.72 - .53) / (.93 - .53) = .475
    result = pgr_interval(correct(0.53), correct(0.93), correct(0.72))
    assert result.value == pytest.approx(0.19 / 0.4)
    assert result.low < result.value < result.high
    assert (result.n, result.num_undefined) == (300, 0)


def test_pgr_of_the_floor_is_zero_and_of_the_ceiling_one():
    floor, ceiling = correct(0.5), correct(0.9)
    at_floor, at_ceiling = pgr_interval(floor, ceiling, floor), pgr_interval(floor, ceiling, ceiling)
    assert (at_floor.value, at_floor.low, at_floor.high) == (0, 0, 0)
    assert at_ceiling.value == at_ceiling.low == at_ceiling.high == 1


@pytest.mark.parametrize("ceiling", [0.5, 0.4, 0.51])
def test_pgr_is_none_without_a_gap_beyond_chance(ceiling):
    floor = np.roll(correct(0.5, 100), 30)  # right on other items than the ceiling, so the gap is uncertain
    result = pgr_interval(floor, correct(ceiling, 100), correct(0.45, 100))
    assert (result.value, result.low, result.high) == (None, None, None)
    assert result.num_undefined > 0


def test_pgr_counts_the_resamples_it_left_out():
    # ceiling right on 8 items more of 100, disagreeing on 12: gap .08 ± .034, so 95 % lies above 0 but not all
    floor, ceiling = np.zeros(100), np.zeros(100)
    floor[:2], ceiling[2:12] = 1, 1
    result = pgr_interval(floor, ceiling, ceiling, resamples=4000)
    assert result.value == pytest.approx(1)
    assert 0 < result.num_undefined < 0.025 * 4000


def test_pgr_takes_seeds():
    student = np.stack([correct(0.6), correct(0.8)])
    result = pgr_interval(correct(0.5), np.stack([correct(0.9)] * 3), student)
    assert result.value == pytest.approx((0.7 - 0.5) / 0.4)
    assert result.low < 0.3  # the worse seed drawn twice
    assert result.high > 0.7


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: interval([]), "values is empty"),
        (lambda: interval([1.0, np.inf]), "1 of 2 values are missing or not finite"),
        (lambda: interval([1.0], confidence=1.0), r"confidence must lie in \(0, 1\), got 1"),
        (lambda: interval([1.0], resamples=0), "resamples must be at least 1, got 0"),
        (lambda: interval(np.ones((1, 1, 1))), "1 or 2 dimensions, got 3"),
        (lambda: paired_difference([1, 0], [1]), "same items in the same order.*first 2, second 1"),
        (lambda: pgr_interval([1, 0], [1, 0], [1]), "floor 2, ceiling 2, student 1"),
    ],
)
def test_bad_input_is_told_in_one_line(call, match):
    with pytest.raises(InputError, match=match):
        call()
