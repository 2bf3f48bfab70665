"""Agreement: the published examples, brute force, and what chance alone gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from labelrel.errors import InputError
from labelrel.evaluate.agreement import Cells, against_rest, agreement, uniform_fit, wilson

# Fleiss 1971, table 1: 30 patients, 6 psychiatrists each; depression, personality disorder, schizophrenia, neurosis,
# other. The paper's column sums are 26, 26, 30, 55, 43 and its kappa is .430.
FLEISS = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""

# Krippendorff 2011, example C: 12 units, four observers, "0" is no value; alpha for nominal data is .743
KRIPPENDORFF = "1101 2232 3333 3333 2222 1234 4444 1121 2222 0555 0011 0300"


def cells_of(table: np.ndarray) -> Cells:
    """From items x answers."""
    item, answer = np.nonzero(table)
    count = table[item, answer]
    order = np.lexsort((answer, -count, item))
    return Cells(item[order], answer[order], count[order])


def cells_of_rows(item: np.ndarray, answer: np.ndarray) -> Cells:
    table = np.zeros((item.max() + 1, answer.max() + 1), dtype=int)
    np.add.at(table, (item, answer), 1)
    return cells_of(table)


def value(cells: Cells, name: str) -> float:
    found = agreement(cells, resamples=20)[name]
    assert found is not None
    return found.value


def test_fleiss_kappa_of_fleiss_1971():
    table = np.array([list(map(int, row)) for row in FLEISS.split()])
    assert table.sum(axis=0).tolist() == [26, 26, 30, 55, 43]
    # P = .5556, P_e = .144² + .144² + .167² + .306² + .239² = .2199: (.5556 - .2199) / (1 - .2199)
    assert value(cells_of(table), "observed") == pytest.approx(0.5556, abs=5e-5)
    assert value(cells_of(table), "fleiss_kappa") == pytest.approx(0.430, abs=5e-4)


def test_krippendorff_alpha_with_missing_values():
    table = np.array([[unit.count(value) for value in "12345"] for unit in KRIPPENDORFF.split()])
    assert value(cells_of(table), "krippendorff_alpha") == pytest.approx(0.743, abs=5e-4)


UNEVEN = np.array([[2, 0], [1, 1], [1, 2], [1, 0]])


def test_unequal_numbers_of_answers():
    # shares of agreeing pairs: 1, 0, 2 / 6; the last item has no pair. Mean 4/9.
    # marginal of the first answer (1 + 1/2 + 1/3 + 1) / 4 = 17/24, so P_e = (17² + 7²) / 24² = 169/288
    # kappa = (128/288 - 169/288) / (119/288)
    # coincidences 2 + 0 + 1 = 3 of n = 7, D_o = 4/7; n_c = 4, 3, D_e = 1 - (12 + 6) / 42 = 4/7
    assert value(cells_of(UNEVEN), "observed") == pytest.approx(4 / 9, abs=1e-12)
    assert value(cells_of(UNEVEN), "fleiss_kappa") == pytest.approx(-41 / 119, abs=1e-12)
    assert value(cells_of(UNEVEN), "krippendorff_alpha") == pytest.approx(0, abs=1e-12)


def test_n_is_the_items_with_a_pair():
    assert {m.n for m in agreement(cells_of(UNEVEN), resamples=20).values()} == {3}


def test_renaming_answers_and_reordering_items_change_nothing():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 3, size=(40, 5))
    table[0] = 1
    other = table[:, rng.permutation(5)][rng.permutation(40)]
    for name in ("observed", "fleiss_kappa", "krippendorff_alpha"):
        assert value(cells_of(table), name) == pytest.approx(value(cells_of(other), name), abs=1e-12)


@pytest.mark.parametrize("distinct_patterns", [True, False])
def test_intervals_agree_with_drawing_items_one_by_one(distinct_patterns):
    # with few patterns the draws are multinomial over patterns, else items are drawn themselves
    rng = np.random.default_rng(1)
    votes = np.where(rng.random((60, 5)) < 0.6, rng.integers(3, size=60)[:, None], rng.integers(3, size=(60, 5)))
    table = np.array([np.bincount(row, minlength=3) for row in votes])
    table = np.concatenate([table, np.eye(3, dtype=int)[votes[:, 0]]]) if distinct_patterns else np.repeat(table, 3, 0)
    alphas = [alpha_at_once(table[rng.integers(len(table), size=len(table))]) for _ in range(4000)]
    found = agreement(cells_of(table), resamples=4000, seed=2)["krippendorff_alpha"]
    low, high = np.quantile(alphas, [0.025, 0.975])
    assert found.value == pytest.approx(dense_alpha(table), abs=1e-12)
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def alpha_at_once(table: np.ndarray) -> float:
    """The same without a loop, where every item has an answer."""
    votes = table.sum(axis=1)
    pairable = table[votes >= 2]
    n, totals = pairable.sum(), pairable.sum(axis=0)
    equal = ((pairable * (pairable - 1)).sum(axis=1) / (pairable.sum(axis=1) - 1)).sum()
    return 1 - (n - 1) * (n - equal) / (n**2 - (totals**2).sum())


def dense_alpha(table: np.ndarray) -> float:
    """Krippendorff's alpha from the coincidence matrix, item by item."""
    size = table.shape[1]
    matrix = np.zeros((size, size))
    for row in table[table.sum(axis=1) >= 2]:
        matrix += (np.outer(row, row) - np.diag(row)) / (row.sum() - 1)
    totals, n = matrix.sum(axis=1), matrix.sum()
    return 1 - (n - np.trace(matrix)) / (n**2 - (totals**2).sum()) * (n - 1)


def test_a_draw_of_unanimous_items_only_is_counted_and_left_out():
    table = np.array([[2, 0], [2, 0], [0, 2]])
    found = agreement(cells_of(table), resamples=400)["krippendorff_alpha"]
    # the third item is missing from (2/3)³ = .296 of the draws, the first two from 1/27: 1/3 of 400 in all
    assert found.num_undefined == pytest.approx(133, abs=30)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_nothing_to_compare_is_none():
    assert set(agreement(cells_of(np.eye(3, dtype=int)), resamples=5).values()) == {None}
    none = np.zeros(0, dtype=int)
    assert set(agreement(Cells(none, none, none), resamples=5).values()) == {None}


def test_one_distinct_answer_has_no_chance_to_correct_for():
    found = agreement(cells_of(np.array([[3], [2]])), resamples=5)
    assert found["observed"].value == 1
    assert found["fleiss_kappa"] is None
    assert found["krippendorff_alpha"] is None


def test_same_seed_same_interval():
    table = np.random.default_rng(0).integers(0, 3, size=(40, 4))
    table[:, 0] += 1
    assert agreement(cells_of(table), seed=3, resamples=50) == agreement(cells_of(table), seed=3, resamples=50)
    assert agreement(cells_of(table), seed=3, resamples=50) != agreement(cells_of(table), seed=4, resamples=50)


@pytest.mark.parametrize(("options", "message"), [({"confidence": 1.0}, "confidence"), ({"resamples": 0}, "resamples")])
def test_impossible_settings(options, message):
    with pytest.raises(InputError, match=message):
        agreement(cells_of(UNEVEN), **options)


def brute_force(item, answer, group, num_groups, num_answers):
    """As `AgainstRest`, by counting."""
    decided, undecided, agreeing = np.zeros(num_groups, int), np.zeros(num_groups, int), np.zeros(num_groups)
    given, expected = np.zeros((num_groups, num_answers)), np.zeros((num_groups, num_answers))
    for i, g in sorted(set(zip(item.tolist(), group.tolist(), strict=True))):
        mine = [a for j, h, a in zip(item, group, answer, strict=True) if (j, h) == (i, g)]
        rest = Counter(a for j, h, a in zip(item, group, answer, strict=True) if j == i and h != g)
        if not rest:
            continue
        for a in mine:
            given[g, a] += 1
            for b, votes in rest.items():
                expected[g, b] += votes / rest.total()
        top = [a for a, votes in rest.items() if votes == max(rest.values())]
        if len(top) > 1:
            undecided[g] += 1
        else:
            decided[g] += 1
            agreeing[g] += mine.count(top[0]) / len(mine)
    return decided, undecided, agreeing, given, expected


@pytest.mark.parametrize("seed", range(40))
def test_against_the_rest_agrees_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    rows, groups, answers = int(rng.integers(1, 60)), int(rng.integers(1, 5)), int(rng.integers(1, 6))
    item = np.sort(np.unique(rng.integers(8, size=rows), return_inverse=True)[1])
    answer, group = rng.integers(answers, size=rows), rng.integers(groups, size=rows)
    cells = cells_of_rows(item, answer)
    found = against_rest(cells, item, answer, group, groups)
    decided, undecided, agreeing, given, expected = brute_force(item, answer, group, groups, cells.num_codes)
    assert found.answers.tolist() == np.bincount(group, minlength=groups).tolist()
    assert found.decided.tolist() == decided.tolist()
    assert found.undecided.tolist() == undecided.tolist()
    np.testing.assert_allclose(found.agreeing, agreeing, atol=1e-12)
    np.testing.assert_allclose(found.given, given)
    np.testing.assert_allclose(found.expected, expected, atol=1e-9)


def test_one_who_answers_like_the_rest_has_the_bias_that_chance_gives():
    # every item has a distribution of its own; all annotators draw from it
    rng = np.random.default_rng(0)
    item = np.repeat(np.arange(5000), 3)
    share = rng.dirichlet([0.5, 0.5, 0.5], size=5000)[item]
    answer = (rng.random(len(item))[:, None] > share.cumsum(axis=1)).sum(axis=1)
    group = np.argsort(rng.random((5000, 100)), axis=1)[:, :3].ravel()
    found = against_rest(cells_of_rows(item, answer), item, answer, group, 100)
    distance = np.abs(found.given - found.expected).sum(axis=1)
    chance = np.sqrt(2 / np.pi * found.variance).sum(axis=1)
    assert distance.mean() / chance.mean() == pytest.approx(1, abs=0.12)  # 100 annotators, two free numbers each


def test_too_many_answers_for_a_table_leave_the_distributions_out(monkeypatch):
    monkeypatch.setattr("labelrel.evaluate.agreement._TABLE_CELLS", 3)
    item, answer, group = np.array([0, 0, 0]), np.array([0, 1, 1]), np.array([0, 1, 2])
    found = against_rest(cells_of_rows(item, answer), item, answer, group, 3)
    assert (found.given, found.expected, found.variance) == (None, None, None)
    assert found.decided.tolist() == [1, 0, 0]  # for the others the rest is one against one
    assert found.undecided.tolist() == [0, 1, 1]


def test_many_items_and_answers_take_no_matrix():
    # 50,000 items x 20,000 answers would be a thousand million cells
    rng = np.random.default_rng(0)
    item = np.repeat(np.arange(50_000), 3)
    answer = np.repeat(rng.integers(20_000, size=50_000), 3)
    key, count = np.unique(item * 20_000 + answer, return_counts=True)
    found = agreement(Cells(key // 20_000, key % 20_000, count), resamples=3)
    assert found["krippendorff_alpha"].value == pytest.approx(1, abs=1e-9)


def test_wilson():
    # 8 of 10, z = 1.96: centre (.8 + .19207) / 1.38415 = .71674, half (1.96 / 1.38415) sqrt(.016 + .0096036) = .22658
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94332), abs=5e-5)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    assert wilson(0, 0) is None


def test_uniform_fit():
    # 20 expected in each of three: (100 + 0 + 100) / 20 = 10; with two degrees of freedom p = exp(-10 / 2)
    assert uniform_fit(np.array([10, 20, 30])) == pytest.approx((10, np.exp(-5)))
    assert uniform_fit(np.array([4, 5])) is None
    assert uniform_fit(np.array([40])) is None
