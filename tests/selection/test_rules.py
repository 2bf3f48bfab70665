"""Every rule on one small table, worked by hand."""

from __future__ import annotations

import logging

import polars as pl
import pytest

from labelrel.scoring import score
from labelrel.selection import select

# item: answers of variants 0..4 in split w2s; entropies 0, .50, .67, 0 (of what was parsed), none
VOTES: dict[str, list[str | None]] = {
    "sure": ["1", "1", "1", "1", "1"],  # right
    "most": ["2", "0", "0", "0", "0"],  # right
    "half": ["1", "1", "1", "3", "3"],  # wrong
    "gaps": [None, "2", "2", None, "2"],  # right
    "none": [None] * 5,
}
GOLD = {"sure": "1", "most": "0", "half": "3", "gaps": "2", "none": "0", "test-1": "0"}
ANSWERS = pl.DataFrame(
    [(item, "ann", str(v), a) for item, row in VOTES.items() for v, a in enumerate(row)]
    + [("test-1", "ann", str(v), "0") for v in range(5)],
    schema=["item_id", "annotator_id", "variant_id", "answer"],
    orient="row",
)
ITEMS = pl.DataFrame(
    {
        "item_id": list(GOLD),
        "split": ["w2s"] * 5 + ["test"],
        "choices": [[*"abcd"]] * 6,
        "gold_label": list(GOLD.values()),
    }
)
NAMES = ["share", "entropy", "reliability", "self_confidence", "crowdlab"]
SCORES = score(ANSWERS, NAMES, items=ITEMS)
PAPER_SCORES = score(ANSWERS, NAMES, items=ITEMS, protocol="paper")


def chosen(name: str, scores: pl.DataFrame = SCORES, seed: int = 0, **params: object) -> list[tuple[object, ...]]:
    return select(name, scores, ANSWERS, ITEMS, seed=seed, params=params).drop("option_probs").rows()


def test_naive_takes_the_first_answer_or_none():
    assert chosen("naive") == [("sure", "0", "1", 1.0), ("most", "0", "2", 1.0), ("half", "0", "1", 1.0)]


def test_variants_are_ordered_as_numbers():
    answers = pl.DataFrame({"item_id": ["q"] * 3, "variant_id": ["10", "9", "x"], "answer": ["a", "b", "c"]})
    items = pl.DataFrame({"item_id": ["q"], "split": ["w2s"]})
    scores = score(answers, ["reliability"])
    assert select("naive", scores, answers, items, seed=0).row(0)[:4] == ("q", "9", "b", 1.0)
    paper = select("reweight", scores, answers, items, seed=0, params={"protocol": "paper"})
    assert paper["variant_id"].to_list() == ["9", "10", "x"]


def test_naive_with_several_annotators_takes_one_answer():
    answers = pl.DataFrame(
        {"item_id": ["q"] * 2, "annotator_id": ["b", "a"], "variant_id": ["0", "0"], "answer": ["1", "2"]}
    )
    items = pl.DataFrame({"item_id": ["q"], "split": ["w2s"]})
    assert select("naive", score(answers), answers, items, seed=0).rows() == [("q", "0", "2", 1.0, None)]


def test_majority_keeps_every_item_with_an_answer():
    assert chosen("majority") == [(i, None, a, 1.0) for i, a in zip(VOTES, ["1", "0", "1", "2"], strict=False)]


def test_filter_keeps_entropies_up_to_the_median():
    # entropies 0, .5004, .6730, 0 → median .2502
    assert [row[0] for row in chosen("filter")] == ["sure", "gaps"]


def test_filter_threshold_is_interpolated_and_ties_are_kept():
    # sorted 0, 0, .5004, .6730; quantile 2/3 is exactly the third value, just below it between 0 and the third
    assert [row[0] for row in chosen("filter", quantile=2 / 3)] == ["sure", "most", "gaps"]
    assert [row[0] for row in chosen("filter", quantile=0.6)] == ["sure", "gaps"]
    assert [row[0] for row in chosen("filter", quantile=0.0)] == ["sure", "gaps"]
    assert len(chosen("filter", quantile=1.0)) == 4


def test_filter_as_published_keeps_every_answer_of_kept_items():
    # with "no answer" as an answer: sure 0, most .5004, half .6730, gaps .6730, none 0; five answers each
    # → the median of 25 is .5004; rows without text are never trained on
    rows = chosen("filter", PAPER_SCORES, protocol="paper")
    assert rows == [("sure", str(v), "1", 1.0) for v in range(5)] + [
        ("most", str(v), a, 1.0) for v, a in enumerate("20000")
    ]


def test_published_quantile_is_over_answers_not_items():
    # a: five unanimous answers; b, c: two disagreeing ones → median over items ln 2, over answers 0
    votes = {"a": "11111", "b": "12", "c": "12"}
    rows = [(item, str(v), answer) for item, answers in votes.items() for v, answer in enumerate(answers)]
    answers = pl.DataFrame(rows, schema=["item_id", "variant_id", "answer"], orient="row")
    items = pl.DataFrame({"item_id": [*"abc"], "split": ["w2s"] * 3})
    scores = score(answers)
    assert select("filter", scores, answers, items, seed=0)["item_id"].to_list() == [*"abc"]
    paper = select("filter", scores, answers, items, seed=0, params={"protocol": "paper"})
    assert paper["item_id"].unique().to_list() == ["a"]


def test_reweight_weights_the_majority_label_by_its_reliability():
    rows = chosen("reweight")
    assert [row[:3] for row in rows] == [row[:3] for row in chosen("majority")]
    assert [row[3] for row in rows] == pytest.approx([1, 0.9526, 0.7311, 1], abs=5e-5)


def test_reweight_as_published_keeps_every_answer_with_its_own_reliability():
    rows = chosen("reweight", PAPER_SCORES, protocol="paper")
    assert [row[:3] for row in rows if row[0] == "half"] == [("half", str(v), a) for v, a in enumerate("11133")]
    assert [row[3] for row in rows if row[0] == "half"] == pytest.approx([0.7311] * 3 + [0.2689] * 2, abs=5e-5)
    # gaps: three "2" and two without an answer, which weigh on the others but are no rows
    assert [(row[1], round(row[3], 4)) for row in rows if row[0] == "gaps"] == [
        ("1", 0.7311),
        ("2", 0.7311),
        ("4", 0.7311),
    ]


def test_random_has_the_size_of_the_filter_and_follows_the_seed():
    draws = {seed: chosen("random", seed=seed) for seed in range(20)}
    assert {len(rows) for rows in draws.values()} == {2}
    assert chosen("random", seed=3) == draws[3]
    assert {row[0] for rows in draws.values() for row in rows} == {"sure", "most", "half", "gaps"}
    assert len(chosen("random", quantile=0.7)) == len(chosen("filter", quantile=0.7)) == 3


def test_oracle_keeps_what_is_right():
    assert [row[0] for row in chosen("oracle")] == ["sure", "most", "gaps"]


def test_cleanlab_filter_keeps_the_best_as_many_as_the_filter():
    assert [row[0] for row in chosen("cleanlab_filter")] == ["sure", "gaps"]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(0.75, ["sure", "most", "gaps"]), (0.51, ["sure", "most", "gaps"]), (0.5, ["sure", "gaps"]), (1.0, [*VOTES][:4])],
)
def test_cleanlab_filter_keeps_a_fraction_rounded_up(keep, kept):
    assert [row[0] for row in chosen("cleanlab_filter", keep=keep)] == kept


def test_cleanlab_filter_draws_inside_the_last_tie():
    # share is 1 for both sure and gaps: which one is kept is up to the seed, how many is not
    draws = {tuple(row[0] for row in chosen("cleanlab_filter", score="share", keep=0.2, seed=s)) for s in range(20)}
    assert draws == {("sure",), ("gaps",)}


def test_cleanlab_weight_is_the_label_quality():
    quality = SCORES.filter("weak_label", method="crowdlab", item_id="most")["label_quality"].item()
    weights = {row[0]: row[3] for row in chosen("cleanlab_weight")}
    assert list(weights) == ["sure", "most", "half", "gaps"]
    assert weights["most"] == quality
    assert chosen("cleanlab_weight", score="share")[2] == ("half", None, "1", pytest.approx(0.6))


def test_items_without_quality_are_left_out_of_weights_and_last_in_the_filter():
    # with one answer, entropy says nothing: its label quality is null
    answers = pl.DataFrame({"item_id": [*"abb"], "variant_id": [*"001"], "answer": [*"112"]})
    items = pl.DataFrame({"item_id": ["a", "b"], "split": ["w2s"] * 2})
    scores = score(answers)
    weighted = select("cleanlab_weight", scores, answers, items, seed=0, params={"score": "entropy"})
    assert weighted["item_id"].to_list() == ["b"]
    best = select("cleanlab_filter", scores, answers, items, seed=0, params={"score": "entropy", "keep": 0.5})
    assert best["item_id"].to_list() == ["b"]


def test_items_left_out_are_counted(caplog):
    with caplog.at_level(logging.INFO, "labelrel.selection"):
        chosen("majority")
    assert caplog.messages == ["1 of 5 items have no parsed answer and are left out (none)"]
