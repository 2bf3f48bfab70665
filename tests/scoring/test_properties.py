"""What holds of any table at all: hypothesis looks for the one where it does not.

Over the registry, so a new method is covered by being registered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from labelrel.errors import LabelrelError
from labelrel.schema import SCORES, check_scores
from labelrel.scoring import methods, score

ITEM_IDS = ("q1", "007", "", " q1", "a,b", "日本", "q\n1", "None")
ANNOTATOR_IDS = ("ann", "Bob", "", "-1", "🙂")
TEXTS = ("a", "A", " a", "", "None", "-1", "0", "1.0", "NaN", "é", "e\u0301", "🙂", "two\nlines", "x" * 300)

# enough to run every line of the fit; whether it has converged is no question here
FEWER: dict[str, dict[str, Any]] = {
    "dawid_skene": {"iterations": 20},
    "one_coin": {"iterations": 20},
    "mace": {"restarts": 2, "iterations": 10},
    "glad": {"iterations": 20},
    "mmsr": {"iterations": 50},
}

VOTE_METHODS = tuple(name for name in methods if set(methods.get(name).needs) <= {"answers"})
TABLE_METHODS = tuple(
    name
    for name in methods
    if name not in VOTE_METHODS and set(methods.get(name).needs) <= {"answers", "annotators", "label_probs"}
)
CHOICE_METHODS = tuple(name for name in methods if {"logprobs", "meanings"} & set(methods.get(name).needs))
every_group = pytest.mark.parametrize(
    "names", [VOTE_METHODS, *((name,) for name in TABLE_METHODS)], ids=lambda names: "+".join(names)
)


def often(examples: int = 40) -> Any:
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def tables(max_items: int = 8) -> st.SearchStrategy[pl.DataFrame]:
    """Answers of 1 to 5 annotators to 1 to 8 items, several by one annotator to one item among them."""
    texts = st.one_of(st.none(), st.sampled_from(TEXTS[:3]), st.sampled_from(TEXTS))
    row = st.tuples(st.sampled_from(ITEM_IDS[:max_items]), st.sampled_from(ANNOTATOR_IDS), texts)
    return st.lists(row, min_size=1, max_size=30).map(
        lambda rows: pl.DataFrame(
            rows, schema={"item_id": pl.String, "annotator_id": pl.String, "answer": pl.String}, orient="row"
        )
    )


def choice_tables() -> st.SearchStrategy[pl.DataFrame]:
    """Answers to questions with 3 choices, with log-probabilities, even or near 0, lengths and meanings."""
    logit = st.sampled_from([-30.0, -1.0, 0.0, 0.3, 30.0])
    index, tokens = st.sampled_from([None, 0, 1, 2]), st.integers(1, 9)
    row = st.tuples(
        st.sampled_from(ITEM_IDS), st.sampled_from(ANNOTATOR_IDS), index, st.tuples(logit, logit, logit), tokens
    )
    return st.lists(row, min_size=1, max_size=12).map(_choice_table)


def _choice_table(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in CHOICE_TABLE}
    for item, annotator, index, logits, tokens in rows:
        logprobs = (np.array(logits) - np.logaddexp.reduce(logits)).tolist()
        answer, logprob, meaning = (None,) * 3 if index is None else (str(index), logprobs[index], str(index // 2))
        for name, value in zip(columns, (item, annotator, answer, logprobs, logprob, tokens, meaning), strict=True):
            columns[name].append(value)
    return pl.DataFrame(columns, schema=CHOICE_TABLE)


CHOICE_TABLE: dict[str, Any] = {
    "item_id": pl.String,
    "annotator_id": pl.String,
    "answer": pl.String,
    "choice_logprobs": pl.List(pl.Float64),
    "answer_logprob": pl.Float64,
    "num_tokens": pl.Int64,
    "meaning": pl.String,
}


def scored(answers: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame | None:
    """Score; None where the table is refused, in one line."""
    try:
        return score(answers, names, params={name: FEWER[name] for name in names if name in FEWER})
    except LabelrelError as error:
        message = str(error)
    assert "\n" not in message
    return None


def is_exact(names: tuple[str, ...]) -> bool:
    return all(methods.get(name).item_wise for name in names)


def ordered(scores: pl.DataFrame) -> pl.DataFrame:
    return scores.sort("method", "item_id", "answer", nulls_last=True)


def assert_same(scores: pl.DataFrame | None, expected: pl.DataFrame | None, names: tuple[str, ...]) -> None:
    """Compare rows in any order: to the last digit, or 1e-6 where a fit or cleanlab sums in the table's order."""
    assert (scores is None) == (expected is None)
    if scores is not None and expected is not None:
        exact = is_exact(names)
        assert_frame_equal(ordered(scores), ordered(expected), check_exact=exact, abs_tol=1e-6, rel_tol=0)


def without_ties(scores: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Leave out which answer is kept of items where, in either table, two are equally likely.

    A model may find them so where their votes are not equal, and even where nobody gave them: such an answer
    has a row only if it is kept, and which of them is kept is left out everywhere.
    """
    best = pl.col("score").drop_nulls().top_k(2).sort(descending=True)
    tied = [
        row["item_id"]
        for table in (scores, other)
        for row in table.group_by("item_id").agg(best.alias("best")).iter_rows(named=True)
        if len(row["best"]) == 2 and row["best"][0] - row["best"][1] < 1e-6
    ]
    open_ = pl.col("item_id").is_in(tied)
    voted = scores.filter(~open_ | (pl.col("num_votes") > 0))
    return voted.with_columns(
        pl.when(pl.col("num_votes") > 0).then("answer").alias("answer"),
        pl.when(~open_).then("weak_label").alias("weak_label"),
    )


def check_contract(answers: pl.DataFrame, names: tuple[str, ...]) -> None:
    before = answers.clone()
    scores = scored(answers, names)
    assert_frame_equal(answers, before, check_exact=True)
    if scores is None:
        return
    assert check_scores(scores).schema == SCORES
    assert scores["method"].unique(maintain_order=True).to_list() == list(names)
    for _, own in scores.group_by("method", maintain_order=True):
        assert own["item_id"].unique(maintain_order=True).equals(answers["item_id"].unique(maintain_order=True))
        voted = own.filter(pl.col("num_votes") > 0).select("item_id", "answer", "num_votes")
        counted = answers.drop_nulls("answer").group_by("item_id", "answer").agg(num_votes=pl.len().cast(pl.Int64))
        assert_frame_equal(voted, counted, check_row_order=False)
        answered = set(counted["item_id"])
        weak = {item: number for item, number in own.group_by("item_id").agg(pl.col("weak_label").sum()).iter_rows()}
        assert weak == {item: int(item in answered) for item in answers["item_id"]}
        silent = own.filter(~pl.col("item_id").is_in(list(answered)))
        assert silent.height == len(weak) - len(answered)
        assert silent.select("answer", "share", "score", "label_quality").null_count().row(0) == (silent.height,) * 4
    for column in ("share", "reliability", "score", "label_quality"):
        assert scores[column].drop_nulls().is_finite().all()
    for column in ("share", "reliability", "label_quality"):
        assert scores[column].drop_nulls().is_between(0, 1).all()
    assert (scores["num_votes"] <= scores["num_answers"]).all()


# --- votes of anybody about anything -------------------------------------------------------------


@every_group
@often()
@given(answers=tables())
def test_any_table_is_scored_or_refused_in_one_line(names, answers):
    check_contract(answers, names)


@every_group
@often(12)
@given(answers=tables(), seed=st.integers(0, 99))
def test_order_of_rows_does_not_matter(names, answers, seed):
    number = pl.int_range(pl.len()).over("item_id", "annotator_id")  # else a variant is its place in the order
    answers = answers.with_columns(variant_id=number.cast(pl.String))
    shuffled = answers.sample(fraction=1, shuffle=True, seed=seed)
    assert_same(scored(shuffled, names), scored(answers, names), names)


@every_group
@often(12)
@given(answers=tables(), renamed=st.permutations(TEXTS))
def test_names_of_answers_do_not_matter(names, answers, renamed):
    tied = score(answers, ["share"]).filter("tie")["item_id"].unique().to_list()
    answers = answers.filter(~pl.col("item_id").is_in(tied))  # a tie is decided by the names
    if answers.is_empty():
        return
    new = dict(zip(TEXTS, renamed, strict=True))
    expected, scores = scored(answers, names), scored(answers.with_columns(pl.col("answer").replace(new)), names)
    if expected is not None:
        expected = expected.with_columns(pl.col("answer").replace(new))
    if expected is not None and scores is not None and names[0] in TABLE_METHODS:
        scores, expected = without_ties(scores, expected), without_ties(expected, scores)
    assert_same(scores, expected, names)


@every_group
@often(12)
@given(answers=tables(max_items=7), annotators=st.lists(st.sampled_from(range(30)), min_size=1, max_size=3))
def test_an_item_that_nobody_answered_changes_nothing_else(names, answers, annotators):
    who = [answers["annotator_id"][number % answers.height] for number in annotators]
    silent = pl.DataFrame({"item_id": ITEM_IDS[7], "annotator_id": who, "answer": None}, schema=answers.schema)
    scores = scored(pl.concat([silent, answers]), names)
    assert_same(
        None if scores is None else scores.filter(pl.col("item_id") != ITEM_IDS[7]), scored(answers, names), names
    )


@often()
@given(answers=tables(), kept=st.sets(st.sampled_from(ITEM_IDS), min_size=1))
def test_scores_of_a_subset_are_a_subset_of_the_scores(answers, kept):
    names = tuple(name for name in VOTE_METHODS if methods.get(name).item_wise)
    assert len(names) >= 5
    some = pl.col("item_id").is_in(list(kept))
    if not answers.filter(some).is_empty():
        assert_same(scored(answers.filter(some), names), score(answers, names).filter(some), names)


# --- answers to choices, with probabilities and meanings -----------------------------------------

WITH_PROBS = (*VOTE_METHODS, *CHOICE_METHODS, *(n for n in TABLE_METHODS if "label_probs" in methods.get(n).needs))


@often(20)
@given(answers=choice_tables())
def test_any_table_of_probabilities_is_scored_or_refused_in_one_line(answers):
    for name in WITH_PROBS:
        check_contract(answers, (name,))


@often(20)
@given(answers=choice_tables(), seed=st.integers(0, 99))
def test_order_of_rows_does_not_matter_to_probabilities(answers, seed):
    shuffled = answers.sample(fraction=1, shuffle=True, seed=seed)
    for name in CHOICE_METHODS:
        assert_same(scored(shuffled, (name,)), scored(answers, (name,)), (name,))


@often(20)
@given(answers=choice_tables(), kept=st.sets(st.sampled_from(ITEM_IDS), min_size=1))
def test_scores_of_a_subset_of_probabilities_are_a_subset_of_the_scores(answers, kept):
    some = pl.col("item_id").is_in(list(kept))
    if answers.filter(some).is_empty():
        return
    for name in CHOICE_METHODS:
        whole = scored(answers, (name,))
        if methods.get(name).item_wise and whole is not None:
            assert_same(scored(answers.filter(some), (name,)), whole.filter(some), (name,))
