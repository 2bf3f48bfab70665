"""Votes by hand, ties that no order of rows can move, and items without an answer."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.scoring import score, tally_votes
from labelrel.scoring.hashing import stable_hash


def table(**items: list[str | None]) -> pl.DataFrame:
    """item=[answers] → an answers table, one variant per answer."""
    rows = [(item, "a", str(v), answer) for item, answers in items.items() for v, answer in enumerate(answers)]
    return pl.DataFrame(rows, schema=["item_id", "annotator_id", "variant_id", "answer"], orient="row")


def test_votes_shares_and_order():
    tally = tally_votes(table(q2=["1", "0", "1"], q1=["b", "a", None, "b"]))
    assert tally.to_dict(as_series=False) == {
        "item_id": ["q2", "q2", "q1", "q1"],  # by first appearance
        "answer": ["1", "0", "b", "a"],  # then by votes
        "num_votes": [2, 1, 2, 1],
        "num_answers": [3, 3, 3, 3],  # the null is not counted
        "share": [2 / 3, 1 / 3, 2 / 3, 1 / 3],
        "tie": [False] * 4,
        "weak_label": [True, False, True, False],
    }


def test_item_without_a_parsed_answer_stays_as_one_row_of_nulls():
    scores = score(table(q=[None, None]), ["share", "entropy", "margin", "reliability"])
    assert scores.height == 4
    assert scores.select("share", "reliability", "score", "label_quality", "answer").null_count().row(0) == (4,) * 5
    assert scores.select("num_votes", "num_answers", "weak_label", "tie").unique().rows() == [(0, 0, False, False)]


def test_paper_protocol_counts_no_answer_as_an_answer():
    tally = tally_votes(table(q=[None, None, "1"], r=[None, None]), protocol="paper")
    assert tally["answer"].to_list() == [None, "1", None]
    assert tally["share"].to_list() == [2 / 3, 1 / 3, 1]
    assert tally["weak_label"].to_list() == [True, False, True]  # a unanimous non-answer looks certain there


def test_a_tie_is_one_weak_label_whatever_the_order_of_rows():
    answers = table(**{f"q{i}": ["0", "1", "0", "1", "2"] for i in range(50)})
    tally = tally_votes(answers)
    assert tally["tie"].all()
    assert tally.group_by("item_id").agg(pl.col("weak_label").sum())["weak_label"].unique().to_list() == [1]
    assert (tally.filter("weak_label")["num_votes"] == 2).all()
    for seed in range(3):
        shuffled = tally_votes(answers.sample(fraction=1, shuffle=True, seed=seed))
        assert_frame_equal(shuffled, tally, check_row_order=False)


def test_ties_favour_no_answer():
    # 2000 ties of "0" and "1": a fair break gives 1000 ± 3 · sqrt(2000)/2 = 67 to each; the alphabet gives 2000
    tally = tally_votes(table(**{f"q{i}": ["0", "1"] for i in range(2000)}))
    zeros = tally.filter(pl.col("weak_label") & (pl.col("answer") == "0")).height
    assert abs(zeros - 1000) < 67


def test_the_tie_break_does_not_change_between_versions():
    tally = tally_votes(table(**{f"q{i}": ["0", "1"] for i in range(8)}))
    assert "".join(tally.filter("weak_label")["answer"]) == "01111110"


def test_stable_hash_known_values_and_spread():
    assert stable_hash(pl.Series(["", "a", "ä€"])).tolist() == [0, 11825466261762436790, 13592978649590928776]
    hashes = stable_hash(pl.Series([f"item-{i}" for i in range(5000)]))
    assert np.unique(hashes).size == 5000
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.04  # every bit is about as often 0 as 1: 5 standard errors


def test_stable_hash_of_a_text_does_not_depend_on_its_neighbours():
    alone = stable_hash(pl.Series(["b"]))
    assert stable_hash(pl.Series(["aaa", "b", ""]))[1] == alone[0]


@pytest.mark.parametrize("answers", [["1"], ["1", "1", "1"]])
def test_unanimous_is_no_tie(answers):
    assert tally_votes(table(q=answers))["tie"].to_list() == [False]
