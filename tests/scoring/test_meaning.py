"""Clusters of answers that mean the same, and the entropy over them."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.errors import InputError
from labelrel.scoring import score
from labelrel.scoring.meaning import cluster_answers


def table(**items: str) -> pl.DataFrame:
    """Items as texts of "answer:meaning" pairs; "-" for a null."""
    rows = [
        (item, *(None if part == "-" else part for part in pair.split(":")))
        for item, pairs in items.items()
        for pair in pairs.split()
    ]
    schema = {"item_id": pl.String, "answer": pl.String, "meaning": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_entropy_of_the_clusters():
    # clusters of 3 and 2 of 5: -(3/5) ln(3/5) - (2/5) ln(2/5) = .6730; 1 - .6730 / ln 5 = .5818
    scores = score(table(q="car:0 auto:0 automobile:0 bike:1 bike:1"), ["semantic_entropy"])
    assert scores["score"].to_list() == pytest.approx([0.673012] * 4, abs=1e-6)
    weak = scores.filter("weak_label")
    assert weak["answer"].item() in {"car", "auto", "automobile"}  # the larger cluster, not the most voted answer
    assert weak["label_quality"].item() == pytest.approx(1 - 0.673012 / math.log(5), abs=1e-6)
    assert scores.filter(~pl.col("weak_label"))["label_quality"].null_count() == 3


def test_weak_label_is_the_most_voted_answer_of_the_largest_cluster():
    scores = score(table(q="a:0 b:0 b:0 c:1 c:1"), ["semantic_entropy"])
    assert scores.filter("weak_label")["answer"].to_list() == ["b"]


def test_one_meaning_is_certain_and_one_answer_is_no_evidence():
    scores = score(table(same="a:x b:x", alone="a:x"), ["semantic_entropy"]).filter("weak_label")
    assert scores.select("item_id", "score", "label_quality").rows() == [("same", 0.0, 1.0), ("alone", 0.0, None)]


def test_answers_without_a_meaning_are_left_out():
    scores = score(table(part="a:x a:- b:y -:z", none="a:- a:- b:-", silent="-:x"), ["semantic_entropy"])
    by_item = {item: rows for (item,), rows in scores.group_by("item_id", maintain_order=True)}
    assert by_item["part"]["score"].to_list() == pytest.approx([math.log(2)] * 2)
    assert by_item["none"].select("score", "label_quality").null_count().row(0) == (2, 2)
    assert by_item["none"].filter("weak_label")["answer"].to_list() == ["a"]  # the majority's
    assert by_item["silent"].select("score", "weak_label").rows() == [(None, False)]


def test_an_answer_may_mean_different_things():
    # the letter is the answer, the reason the meaning: b for one reason twice, c for three reasons
    scores = score(table(q="c:1 b:2 c:3 b:2 c:4"), ["semantic_entropy"])
    assert scores.filter("weak_label")["answer"].to_list() == ["b"]
    assert scores["num_votes"].to_list() == [3, 2]


def test_names_of_the_clusters_do_not_matter():
    answers = table(q="a:0 b:0 c:1 d:1", r="a:1 b:0 b:1 a:0")
    renamed = answers.with_columns(pl.col("meaning").replace({"0": "zebra", "1": "ape"}))
    assert score(answers, ["semantic_entropy"]).equals(score(renamed, ["semantic_entropy"]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from(["a", "b", "c", None])), min_size=1), st.randoms())
def test_with_a_cluster_per_answer_it_is_the_entropy_of_the_votes(rows, random):
    answers = pl.DataFrame(rows, schema={"item_id": pl.String, "answer": pl.String}, orient="row")
    expected = score(answers, ["entropy"]).drop("method")
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = answers.with_columns(meaning=pl.col("answer") + "!")[order]
    got = score(shuffled, ["semantic_entropy"]).drop("method")
    assert got.sort("item_id", "answer").equals(expected.sort("item_id", "answer"))


def test_without_clusters_it_says_where_they_come_from():
    with pytest.raises(InputError, match=r"needs a column 'meaning'.*--embedder / --entailment") as caught:
        score(table(q="a:x").drop("meaning"), ["semantic_entropy"])
    assert "\n" not in str(caught.value)


def naive(answers: pl.DataFrame, same) -> list[str | None]:
    """Kuhn et al.'s algorithm 1 as it stands: one answer after the other, one question after the other."""
    meanings = {}
    for item in answers["item_id"].unique():
        votes = answers.filter(pl.col("item_id") == item)["answer"].drop_nulls().value_counts().rows()
        leaders: list[str] = []
        for answer, _ in sorted(votes, key=lambda row: (-row[1], row[0])):
            for number, leader in enumerate(leaders):
                if same([(leader, answer, None)])[0]:
                    meanings[item, answer] = str(number)
                    break
            else:
                meanings[item, answer] = str(len(leaders))
                leaders.append(answer)
    return [meanings.get(row) for row in answers.select("item_id", "answer").rows()]


def close(pairs: list[tuple[str, str, str | None]]) -> list[bool]:
    """Numbers at most 2 apart mean the same: no equivalence, so that who is compared with whom shows."""
    return [abs(int(a) - int(b)) <= 2 for a, b, _ in pairs]


def random_answers(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    answer = rng.integers(-1, 12, size=120)
    return pl.DataFrame(
        {"item_id": rng.integers(9, size=120), "answer": [None if a < 0 else str(a) for a in answer]}
    ).cast({"item_id": pl.String})


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_those_of_the_plain_algorithm_with_the_same_questions(seed):
    asked: dict[str, list] = {"ours": [], "theirs": []}

    def spy(who):
        return lambda pairs: asked[who].extend(pairs) or close(pairs)

    answers = random_answers(seed)
    assert cluster_answers(answers, spy("ours")).to_list() == naive(answers, spy("theirs"))
    assert sorted(asked["ours"]) == sorted(asked["theirs"])
    assert all(a != b for a, b, _ in asked["ours"])


def test_order_of_rows_does_not_matter_to_the_clusters():
    answers = random_answers(0)
    order = np.random.default_rng(1).permutation(answers.height)
    assert cluster_answers(answers, close).gather(order).equals(cluster_answers(answers[order], close))


def test_all_items_are_asked_about_together():
    rounds = []

    def same(pairs):
        rounds.append(len(pairs))
        return [False] * len(pairs)

    answers = pl.DataFrame({"item_id": [i for i in range(100) for _ in range(3)], "answer": [*"abc"] * 100})
    assert cluster_answers(answers, same).to_list() == ["0", "1", "2"] * 100
    assert rounds == [200, 100]


def test_the_question_goes_along():
    seen = []
    answers = pl.DataFrame({"item_id": ["q"] * 3, "answer": ["a", "b", "b"], "question": ["Who?"] * 3})
    cluster_answers(answers, lambda pairs: seen.extend(pairs) or [True] * len(pairs))
    assert seen == [("b", "a", "Who?")]  # b has most votes, so it founds the cluster


def test_nothing_is_asked_where_there_is_nothing_to_compare():
    def never(pairs):
        raise AssertionError("asked")

    answers = pl.DataFrame({"item_id": ["q", "q", "r"], "answer": ["a", "a", None]})
    assert cluster_answers(answers, never).to_list() == ["0", "0", None]
    with pytest.raises(InputError, match="answer"):
        cluster_answers(answers.drop("answer"), never)
