"""The paper's numbers and the other vote scores, worked by hand."""

from __future__ import annotations

import math

import polars as pl
import pytest

from labelrel.scoring import score

# vote pattern: entropy in nats, reliability of each answer (Guo & Yang 2024, n = 5, T = 0.2)
GOLDEN = {
    (5,): (0.0, [1.0]),
    (4, 1): (0.5004, [0.9526, 0.0474]),
    (3, 2): (0.6730, [0.7311, 0.2689]),
    (3, 1, 1): (0.9503, [0.7870, 0.1065, 0.1065]),
    (2, 2, 1): (1.0549, [0.4223, 0.4223, 0.1554]),
    (2, 1, 1, 1): (1.3322, [0.4754, 0.1749, 0.1749, 0.1749]),
    (1, 1, 1, 1, 1): (1.6094, [0.2] * 5),
}


def votes(*pattern: int, item: str = "q") -> pl.DataFrame:
    answers = [str(answer) for answer, count in enumerate(pattern) for _ in range(count)]
    return pl.DataFrame({"item_id": [item] * len(answers), "answer": answers})


@pytest.mark.parametrize("pattern", GOLDEN)
def test_golden_table(pattern):
    scores = score(votes(*pattern), ["entropy", "reliability"])
    entropy, reliability = GOLDEN[pattern]
    by_method = dict(scores.group_by("method").agg("score").iter_rows())
    assert by_method["entropy"] == pytest.approx([entropy] * len(pattern), abs=5e-5)
    assert by_method["reliability"] == pytest.approx(reliability, abs=5e-5)
    assert scores["reliability"].to_list() == pytest.approx(reliability * 2, abs=5e-5)  # the same for each method


@pytest.mark.parametrize(("pattern", "reliability", "entropy"), [((2,), [1.0], 0.0), ((1, 1), [0.5, 0.5], 0.6931)])
def test_two_answers_with_the_temperature_the_paper_takes_for_them(pattern, reliability, entropy):
    scores = score(votes(*pattern), ["entropy"], temperature=1.0)
    assert scores["reliability"].to_list() == pytest.approx(reliability, abs=5e-5)
    assert scores["score"].to_list() == pytest.approx([entropy] * len(pattern), abs=5e-5)


def test_equal_patterns_have_equal_entropy_to_the_last_bit():
    patterns = [(4, 1), (1, 4), (0, 4, 0, 1), (1, 0, 4)]
    frames = [votes(*pattern, item=f"q{i}") for i, pattern in enumerate(patterns)]
    assert score(pl.concat(frames), ["entropy"])["score"].n_unique() == 1


def test_entropy_quality_of_the_weak_label():
    # 4-1: 1 - .5004 / ln 5 = .6891; of the minority answer it says nothing
    scores = score(votes(4, 1), ["entropy"])
    assert scores["label_quality"].to_list() == [pytest.approx(0.68908, abs=1e-5), None]
    assert score(votes(1, 1, 1, 1, 1), ["entropy"]).filter("weak_label")["label_quality"].item() == pytest.approx(0)


def test_one_answer_is_no_evidence():
    scores = score(votes(1), ["entropy"])
    assert scores.select("score", "label_quality").row(0) == (0.0, None)


@pytest.mark.parametrize(("pattern", "margin"), [((5,), 1.0), ((4, 1), 0.6), ((2, 2, 1), 0.0), ((3, 1, 1), 0.4)])
def test_margin(pattern, margin):
    scores = score(votes(*pattern), ["margin"])
    assert scores["score"].to_list() == pytest.approx([margin] * len(pattern))
    assert scores["label_quality"].to_list() == [pytest.approx(margin) if w else None for w in scores["weak_label"]]


def test_more_votes_never_lower_the_quality_of_the_weak_label():
    names = ["share", "entropy", "margin", "reliability"]
    rising = [
        dict(score(votes(n, 10 - n), names).filter("weak_label").select("method", "label_quality").iter_rows())
        for n in range(6, 10)
    ]
    for name in names:
        values = [row[name] for row in rising]
        assert values == sorted(set(values)), name


def test_reliability_survives_a_tiny_temperature():
    # exp(1 / .0001) alone would overflow
    assert score(votes(3, 2), ["reliability"], temperature=1e-4)["score"].to_list() == [1.0, 0.0]


def test_uniform_votes_have_the_log_of_their_number():
    for k in (2, 3, 7):
        assert score(votes(*[2] * k), ["entropy"])["score"][0] == pytest.approx(math.log(k), abs=1e-12)


def test_miller_madow_known_values():
    votes = pl.DataFrame({"item_id": [*"aaaaabbbbbcc"], "answer": [*"111121122334"]})
    weak = score(votes, ["miller_madow"]).filter("weak_label").sort("item_id")
    # 4,1: -(4/5)ln(4/5) - (1/5)ln(1/5) + 1/10; 2,2,1: -2(2/5)ln(2/5) - (1/5)ln(1/5) + 2/10; 1,1: ln 2 + 1/4
    assert weak["score"].to_list() == pytest.approx([0.500402 + 0.1, 1.054920 + 0.2, 0.693147 + 0.25], abs=1e-6)
    # five different answers: ln 5 + 4/10 = 2.009438; two: the score itself
    assert weak["label_quality"].to_list() == pytest.approx(
        [1 - 0.600402 / 2.009438, 1 - 1.254920 / 2.009438, 0.0], abs=1e-6
    )
    single = score(votes.head(1), ["miller_madow"])
    assert single.select("score", "label_quality").row(0) == (0.0, None)


def test_automatic_temperature_makes_the_exponent_the_count():
    votes = pl.DataFrame({"item_id": [*"aabbbccccc"], "answer": [*"1211211112"]})
    weak = score(votes, ["reliability"], temperature="auto").filter("weak_label").sort("item_id")
    # 1,1 is 1/2 at any T, the paper's T = 1 for two answers included; 2,1: e^2 / (e^2 + e); 4,1: e^4 / (e^4 + e)
    e = math.e
    assert weak["score"].to_list() == pytest.approx([0.5, e**2 / (e**2 + e), e**4 / (e**4 + e)])
