"""Majority and Wawa: shares, weights worked out by hand, and crowd-kit's numbers."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from crowd_tables import (
    ALL,
    REAL,
    accuracy,
    crowdkit,
    difference,
    for_crowdkit,
    inputs_of,
    labels,
    posteriors,
    run_crowdkit,
    table,
)

from labelrel.plugin import Params
from labelrel.scoring.annotators.majority import majority
from labelrel.scoring.annotators.wawa import wawa


def rows(text: str) -> pl.DataFrame:
    """One item per word, annotators r, s, t, … in order; "." is no row and "-" an abstention."""
    cells = [
        (f"q{i}", "rstuv"[a], None if answer == "-" else answer)
        for i, word in enumerate(text.split())
        for a, answer in enumerate(word)
        if answer != "."
    ]
    schema = {"item_id": pl.String, "annotator_id": pl.String, "answer": pl.String}
    return pl.DataFrame(cells, schema=schema, orient="row")


@pytest.mark.parametrize("name", ALL)
def test_majority_is_the_share_and_the_tally_s_weak_label(name):
    inputs = inputs_of(table(name)[0])
    fitted = majority(inputs, Params())
    theirs = run_crowdkit(crowdkit.MajorityVote(), for_crowdkit(table(name)[0]))
    assert difference(inputs, fitted, theirs.probas_) < 1e-9
    counts = inputs.counts
    kept = counts.weak_label
    assert (fitted.best[counts.item[kept]] == counts.answer[kept]).all()


def test_majority_rates_an_annotator_by_the_shares_of_its_answers():
    fitted = majority(inputs_of(rows("aab abb a-a")), Params())
    # r: (2/3 + 1/3 + 1) / 3, s: (2/3 + 2/3) / 2, t: (1/3 + 2/3 + 1) / 3
    assert fitted.annotators.rows() == [
        ("r", 3, pytest.approx(2 / 3)),
        ("s", 2, pytest.approx(2 / 3)),
        ("t", 3, pytest.approx(2 / 3)),
    ]


def test_wawa_weighs_votes_by_agreement_with_the_majority():
    inputs = inputs_of(rows("aab aab abb"))
    fitted = wawa(inputs, Params())
    # majorities a, a, b: r agrees 2/3, s 3/3, t 1/3; so q0: a has (2/3 + 1) / 2, and q2: b has (1 + 1/3) / 2
    assert fitted.annotators["accuracy"].to_list() == pytest.approx([2 / 3, 1, 1 / 3])
    expected = {("q0", "a"): 5 / 6, ("q0", "b"): 1 / 6, ("q2", "a"): 1 / 3, ("q2", "b"): 2 / 3}
    found = {(item, answer): prob for item, answer, prob in posteriors(inputs, fitted).iter_rows()}
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_wawa_shares_a_tie():
    fitted = wawa(inputs_of(rows("ab aa")), Params())
    assert fitted.annotators["accuracy"].to_list() == pytest.approx([3 / 4, 3 / 4])  # (1/2 + 1) / 2


def test_wawa_takes_gold_for_the_majority_of_its_item():
    gold = pl.DataFrame({"item_id": ["q0", "q1"], "gold_label": ["b", "c"]})  # c: nobody said so
    fitted = wawa(inputs_of(rows("aab aab abb"), gold), Params())
    assert fitted.annotators["accuracy"].to_list() == pytest.approx([0, 1 / 3, 2 / 3])


def test_wawa_falls_back_to_shares_where_nobody_ever_agrees():
    inputs = inputs_of(rows("aab"), pl.DataFrame({"item_id": ["q0"], "gold_label": ["c"]}))
    fitted = wawa(inputs, Params())
    assert fitted.annotators["accuracy"].to_list() == [0, 0, 0]
    assert fitted.probs.tolist() == pytest.approx([2 / 3, 1 / 3])


def crowdkit_wawa(answers: pl.DataFrame) -> Any:
    """Return crowd-kit's weighed vote; its own `predict` does not work with the scikit-learn of today."""
    theirs = for_crowdkit(answers)
    skills = run_crowdkit(crowdkit.Wawa(), theirs).skills_
    return run_crowdkit(crowdkit.MajorityVote(), theirs, skills=skills)


@pytest.mark.parametrize("name", ALL)
def test_wawa_has_crowdkit_s_probabilities_where_no_vote_is_tied(name):
    answers, _ = table(name)
    tied = inputs_of(answers).tally.filter("tie")["item_id"].unique().to_list()
    answers = answers.filter(~pl.col("item_id").is_in(tied))
    inputs = inputs_of(answers)
    assert difference(inputs, wawa(inputs, Params()), crowdkit_wawa(answers).probas_) < 1e-9


@pytest.mark.parametrize("name", REAL)  # of 200 made-up items the draw of the ties moves 3 either way
def test_wawa_is_as_accurate_as_crowdkit_s(name):
    answers, truth = table(name)
    inputs = inputs_of(answers)
    ours = accuracy(labels(inputs, wawa(inputs, Params())), truth)
    theirs = crowdkit_wawa(answers)
    theirs = accuracy({item: label for item, label in theirs.labels_.items() if label == label}, truth)
    assert ours >= theirs - 0.005
