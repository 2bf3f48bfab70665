"""Scores from probabilities: worked by hand, against plain loops, and what makes them refuse a table."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.scoring import score

METHODS = ["option_probability", "probability_margin", "mean_logprob", "weighted_votes"]
TYPES = {
    "item_id": pl.String,
    "answer": pl.String,
    "choice_logprobs": pl.List(pl.Float64),
    "answer_logprob": pl.Float64,
    "num_tokens": pl.Float64,
}
INF = math.inf
NAN = math.nan


def options(*rows: tuple[str, str | None, list[float] | None]) -> pl.DataFrame:
    """Rows of (item, answer, probabilities of the choices)."""
    with np.errstate(divide="ignore"):
        logs = [(item, answer, None if p is None else np.log(p).tolist()) for item, answer, p in rows]
    return pl.DataFrame(logs, schema=["item_id", "answer", "choice_logprobs"], orient="row", schema_overrides=TYPES)


def tokens(*rows: tuple[str, str | None, float | None, float | None]) -> pl.DataFrame:
    """Rows of (item, answer, log-probability, number of tokens)."""
    names = ["item_id", "answer", "answer_logprob", "num_tokens"]
    return pl.DataFrame(rows, schema={name: TYPES[name] for name in names}, orient="row")


def by_answer(scores: pl.DataFrame, column: str = "score") -> dict[str, float | None]:
    return dict(scores.select("answer", column).rows())


def test_option_probability_is_the_mean_over_the_rows():
    # (.9 + .5) / 2 = .7 and (.1 + .5) / 2 = .3, a row that abstained included
    answers = options(("q", "0", [0.9, 0.1]), ("q", None, [0.5, 0.5]), ("q", "1", None))
    scores = score(answers, ["option_probability"])
    assert by_answer(scores) == {"0": pytest.approx(0.7), "1": pytest.approx(0.3)}
    assert scores["score"].equals(scores["label_quality"])
    assert scores.filter("weak_label")["answer"].to_list() == ["0"]


def test_position_bias_cancels_over_the_orders():
    # +1 nat for whatever stands first; choices in their own order. With both orders the bias is gone: it is a tie
    bias = np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum()
    both = options(("q", "0", list(bias)), ("q", "1", list(bias[::-1])))
    assert score(both, ["option_probability"])["score"].to_list() == [0.5, 0.5]
    assert score(both, ["probability_margin"])["score"].to_list() == [0.0, 0.0]


def test_the_most_probable_option_is_the_weak_label_whoever_voted_for_it():
    # means (.3, .25, .45): option 2 has no vote, and a row of its own
    answers = options(("q", "0", [0.4, 0.2, 0.4]), ("q", "1", [0.2, 0.3, 0.5]), ("r", "1", [0.1, 0.8, 0.1]))
    scores = score(answers, ["option_probability", "probability_margin"])
    first = scores.filter(method="option_probability", item_id="q")
    assert by_answer(first) == {"0": pytest.approx(0.3), "1": pytest.approx(0.25), "2": pytest.approx(0.45)}
    assert first.filter("weak_label").select("answer", "num_votes", "share", "reliability", "num_answers").rows() == [
        ("2", 0, 0.0, None, 2)
    ]
    margin = scores.filter(method="probability_margin", item_id="q")
    assert margin["score"].to_list() == pytest.approx([0.15] * 3)  # .45 - .30, on every row of the item
    assert margin.filter("weak_label").select("answer", "label_quality").rows() == [("2", pytest.approx(0.15))]
    assert margin.filter(~pl.col("weak_label"))["label_quality"].to_list() == [None, None]
    assert scores.filter(method="probability_margin", item_id="r")["score"].to_list() == pytest.approx([0.7])


def test_of_equally_probable_options_that_with_most_votes_is_kept():
    half = [0.5, 0.5]
    for winner in "01":
        answers = options(*[("q", winner, half)] * 2, ("q", "01".replace(winner, ""), half))
        assert score(answers, ["option_probability"]).filter("weak_label")["answer"].to_list() == [winner]


def test_ties_in_votes_too_favour_no_option():
    answers = options(*[(f"q{i}", str(k), [0.5, 0.5]) for i in range(200) for k in range(2)])
    kept = score(answers, ["option_probability"]).filter("weak_label")["answer"].value_counts()
    assert kept["count"].min() > 70
    majority = score(answers, ["share"]).filter("weak_label")["answer"]
    for name in ("option_probability", "weighted_votes"):
        assert score(answers, [name]).filter("weak_label")["answer"].equals(majority)  # the same rule


def test_items_may_have_different_numbers_of_choices():
    answers = options(("q", "2", [0.1, 0.2, 0.7]), ("r", "0", [0.6, 0.4]), ("s", "0", [1.0]))
    assert score(answers, ["option_probability"])["score"].to_list() == pytest.approx([0.7, 0.6, 1.0])
    assert score(answers, ["probability_margin"])["score"].to_list() == pytest.approx([0.5, 0.2, 1.0])


def test_mean_logprob_is_per_token_and_over_the_rows_that_gave_the_answer():
    # a: (-2/4 + -3/2) / 2 = -1; b: -.3 / 3 = -.1, exp(-.1) = .905
    answers = tokens(("q", "a", -2.0, 4), ("q", "a", -3.0, 2), ("q", "b", -0.3, 3))
    scores = score(answers, ["mean_logprob"])
    assert by_answer(scores) == {"a": pytest.approx(-1), "b": pytest.approx(-0.1)}
    assert by_answer(scores, "label_quality") == {"a": pytest.approx(math.exp(-1)), "b": pytest.approx(0.904837)}
    assert scores.filter("weak_label")["answer"].to_list() == ["a"]  # the majority's


def test_without_numbers_of_tokens_the_log_probability_is_a_mean_already():
    answers = tokens(("q", "a", -2.0, 4)).drop("num_tokens")
    assert score(answers, ["mean_logprob"])["score"].to_list() == [-2.0]


def test_weighted_votes_by_the_probability_per_token():
    # a: .2 + .2, b: .9 by exp(2 ln .9 / 2): shares .4 / 1.3 and .9 / 1.3, so one sure vote beats two unsure ones
    low, high = math.log(0.2), 2 * math.log(0.9)
    answers = tokens(("q", "a", low, 1), ("q", "a", low, 1), ("q", "b", high, 2))
    scores = score(answers, ["weighted_votes"])
    assert by_answer(scores) == {"a": pytest.approx(0.4 / 1.3), "b": pytest.approx(0.9 / 1.3)}
    assert scores["score"].equals(scores["label_quality"])
    assert scores.filter("weak_label")["answer"].to_list() == ["b"]


def test_weighted_votes_by_the_probability_of_the_chosen_option():
    # 0: .5 + .4, 1: .6 + .3, so votes 2:2 and weights .9:.9; then 1 gains .1
    answers = options(*[("q", "0", [0.5, 0.5]), ("q", "0", [0.4, 0.6]), ("q", "1", [0.4, 0.6]), ("q", "1", [0.7, 0.3])])
    assert score(answers, ["weighted_votes"])["score"].to_list() == pytest.approx([0.5, 0.5])
    more = pl.concat([answers[:3], options(("q", "1", [0.6, 0.4]))])
    scores = score(more, ["weighted_votes"])
    assert by_answer(scores) == {"0": pytest.approx(0.9 / 1.9), "1": pytest.approx(1.0 / 1.9)}
    assert scores.filter("weak_label")["answer"].to_list() == ["1"]


def test_log_probability_of_minus_infinity_is_probability_zero():
    answers = options(("q", "0", [1.0, 0.0]), ("q", "1", [1.0, 0.0]))
    assert by_answer(score(answers, ["option_probability"])) == {"0": 1.0, "1": 0.0}
    assert by_answer(score(answers, ["weighted_votes"])) == {"0": 1.0, "1": 0.0}
    sure = tokens(("q", "a", -INF, 2), ("q", "a", -1.0, 1), ("q", "b", 0.0, 1))
    scores = score(sure, ["mean_logprob"])
    assert scores.select("answer", "score", "label_quality").rows() == [("a", -INF, 0.0), ("b", 0.0, 1.0)]


def test_where_no_vote_weighs_anything_nothing_is_known():
    scores = score(tokens(("q", "a", -INF, 1), ("q", "a", -INF, 1), ("q", "b", -INF, 1)), ["weighted_votes"])
    assert scores.select("answer", "score", "weak_label").rows() == [("a", None, True), ("b", None, False)]


@pytest.mark.parametrize("name", METHODS)
def test_items_without_numbers_have_null_scores_and_the_weak_label_of_the_majority(name):
    numbers = options(("none", "1", None), ("none", "1", None), ("none", "0", None), ("some", "1", [0.3, 0.7]))
    answers = numbers.with_columns(
        answer_logprob=pl.Series([None, None, None, -0.4]), num_tokens=pl.Series([1.0, 1.0, 1.0, 1.0])
    )
    scores = score(answers, [name])
    none = scores.filter(item_id="none")
    assert none.select("answer", "score", "label_quality", "weak_label").rows() == [
        ("1", None, None, True),
        ("0", None, None, False),
    ]
    assert scores.filter(item_id="some")["score"].null_count() == 0


@pytest.mark.parametrize("name", METHODS)
def test_rows_without_numbers_are_left_out(name):
    full = options(("q", "1", [0.3, 0.7]), ("q", "0", [0.6, 0.4])).with_columns(
        answer_logprob=pl.Series([-0.4, -0.6]), num_tokens=pl.Series([1.0, 2.0])
    )
    bare = full.with_columns(pl.lit(None, full.schema[c]).alias(c) for c in ("choice_logprobs", "answer_logprob"))
    columns = ["item_id", "answer", "score", "label_quality"]
    expected = score(full, [name]).select(columns)
    assert_frame_equal(score(pl.concat([bare, full, bare]), [name]).select(columns), expected, check_row_order=False)


def test_a_row_without_its_number_of_tokens_is_left_out():
    answers = tokens(("q", "a", -2.0, 4), ("q", "a", -3.0, None), ("q", "b", -1.0, None))
    assert by_answer(score(answers, ["mean_logprob"])) == {"a": -0.5, "b": None}


@pytest.mark.parametrize("name", METHODS)
def test_numbers_of_rows_that_abstained_are_not_looked_at(name):
    answers = options(("q", None, [0.5, 0.5]), ("r", "1", [0.5, 0.5])).with_columns(
        answer_logprob=pl.Series([NAN, -1.0]), num_tokens=pl.Series([0.0, 1.0])
    )
    scores = score(answers, [name])
    assert scores.filter(item_id="q").select("answer", "score", "weak_label").rows() == [(None, None, False)]


def test_paper_protocol_keeps_no_answer_as_an_answer_without_a_probability():
    answers = options(("q", None, [0.2, 0.8]), ("q", None, [0.2, 0.8]), ("q", "0", [0.2, 0.8]))
    answers = answers.with_columns(answer_logprob=pl.Series([-1.0, -1.0, -2.0]))
    scores = score(answers, METHODS, protocol="paper")
    rows = {name: scores.filter(method=name).select("answer", "score", "weak_label").rows() for name in METHODS}
    assert rows["option_probability"] == [(None, None, False), ("0", pytest.approx(0.2), False), ("1", 0.8, True)]
    assert rows["probability_margin"] == [
        (None, pytest.approx(0.6), False),
        ("0", pytest.approx(0.6), False),
        ("1", pytest.approx(0.6), True),
    ]
    assert rows["mean_logprob"] == [(None, None, True), ("0", -2.0, False)]
    assert rows["weighted_votes"] == [(None, None, False), ("0", 1.0, True)]


def random_table(seed: int, num_rows: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    item = rng.integers(60, size=num_rows)
    rows = []
    for i in item:
        size = 2 + i % 4
        probs = rng.dirichlet(np.ones(size))
        answer = None if rng.random() < 0.1 else str(rng.choice(size, p=probs))
        listed = None if rng.random() < 0.2 else np.log(probs).tolist()
        logprob = None if rng.random() < 0.2 else -3 * rng.random()
        rows.append((f"q{i}", answer, listed, logprob, float(rng.integers(1, 5))))
    return pl.DataFrame(rows, schema=TYPES, orient="row")


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def plainly(table: pl.DataFrame) -> dict[tuple[str, str, str], float | None]:
    """(method, item, answer) → score, one row after the other."""
    expected: dict[tuple[str, str, str], float | None] = {}
    for (item,), rows in table.group_by("item_id"):
        answers = set(rows["answer"].drop_nulls())
        lists = [[math.exp(x) for x in row] for row in rows["choice_logprobs"].drop_nulls()]
        probs = [mean(list(column)) or 0.0 for column in zip(*lists, strict=True)]
        weights: dict[str, list[float]] = {answer: [] for answer in answers}
        for answer, logprob, count in rows.select("answer", "answer_logprob", "num_tokens").rows():
            if answer is not None and logprob is not None:
                weights[answer].append(logprob / count)
        total = sum(math.exp(w) for values in weights.values() for w in values)
        top = sorted(probs)[::-1]
        for answer in answers:
            values = weights[answer]
            expected["option_probability", item, answer] = probs[int(answer)] if probs else None
            expected["probability_margin", item, answer] = top[0] - top[1] if probs else None
            expected["mean_logprob", item, answer] = mean(values)
            expected["weighted_votes", item, answer] = sum(map(math.exp, values)) / total if values else None
    return expected


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_plain_loops(seed):
    table = random_table(seed)
    scores = score(table, METHODS).filter(pl.col("num_votes") > 0)
    got = {row[:3]: row[3] for row in scores.select("method", "item_id", "answer", "score").rows()}
    expected = plainly(table)
    assert got.keys() == expected.keys()
    assert [key for key in got if (got[key] is None) != (expected[key] is None)] == []
    both = [key for key in got if got[key] is not None]
    np.testing.assert_allclose([got[k] for k in both], [expected[k] for k in both], atol=1e-11)


@pytest.mark.parametrize("name", METHODS)
def test_order_of_rows_does_not_matter_to_the_last_bit(name):
    table = random_table(3)
    order = np.random.default_rng(4).permutation(table.height)
    keys = ["item_id", "answer"]
    assert score(table, [name]).sort(keys).equals(score(table[order], [name]).sort(keys))


@pytest.mark.parametrize("name", METHODS)
def test_a_table_scored_in_pieces_has_the_same_scores(name, monkeypatch):
    from labelrel.scoring import scorer

    table = random_table(5)
    whole = score(table, [name])
    monkeypatch.setattr(scorer, "pieces", lambda votes: [(i, i + 1) for i in range(votes.num_items)])
    assert score(table, [name]).equals(whole)


def test_option_probability_is_cleanlabs_self_confidence_of_the_answers_given():
    table = random_table(6).filter(pl.col("choice_logprobs").is_not_null() & pl.col("answer").is_not_null())
    ours = score(table, ["option_probability"]).filter(pl.col("num_votes") > 0)["score"]
    np.testing.assert_allclose(ours.to_numpy(), score(table, ["self_confidence"])["score"].to_numpy(), atol=1e-12)


HALF = [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "answers", "match"),
    [
        ("option_probability", tokens(("q", "0", -1, 1)), "'option_probability' needs a column 'choice_logprobs'"),
        ("probability_margin", tokens(("q", "0", -1, 1)), "'probability_margin' needs a column 'choice_logprobs'"),
        ("mean_logprob", options(("q", "0", HALF)), "'mean_logprob' needs a column 'answer_logprob'"),
        ("weighted_votes", options(("q", "0", HALF)).drop("choice_logprobs"), "'weighted_votes' needs a column"),
        ("mean_logprob", tokens(("p", "a", -1, 1), ("q", "a", NAN, 1)), "answer_logprob of item q is nan; .*at most 0"),
        ("mean_logprob", tokens(("q", "a", INF, 1)), "answer_logprob of item q is inf"),
        ("weighted_votes", tokens(("q", "a", 0.7, 1)), "answer_logprob of item q is 0.7"),
        ("mean_logprob", tokens(("q", "a", -1, 0)), "num_tokens of item q is 0; a number of at least 1"),
        ("mean_logprob", tokens(("q", "a", -1, NAN)), "num_tokens of item q is nan"),
        ("mean_logprob", tokens(("q", "a", -1, INF)), "num_tokens of item q is inf"),
        ("option_probability", options(("p", "0", HALF), ("q", "0", [0.5, 0.6])), "of item q .* sum to 1.1, not 1"),
        ("option_probability", options(("q", "0", [0.5, NAN])), "of item q .* sum to nan"),
        ("option_probability", options(("q", "0", [INF, 0.5])), "of item q .* sum to inf"),
        ("probability_margin", options(("q", "0", [])), "of item q .* sum to 0"),
        (
            "weighted_votes",
            options(("q", "0", HALF), ("q", "0", [0.2, 0.3, 0.5])),
            r"of 1 items differ in length.*\(q\)",
        ),
        ("option_probability", options(("q", "2", HALF)), "item q .* such as '2'.*index, 0 to 1"),
        ("weighted_votes", options(("q", "yes", HALF)), "item q .* such as 'yes'"),
        ("option_probability", options(("q", "01", HALF)), "item q .* such as '01'"),
        ("option_probability", options(("q", "-1", HALF)), "item q .* such as '-1'"),
    ],
)
def test_what_is_no_probability_is_told_in_one_line(name, answers, match):
    with pytest.raises(InputError, match=match) as caught:
        score(answers, [name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("known", ["items", "choices"])
def test_lists_must_have_a_number_per_choice(known):
    items = pl.DataFrame({"item_id": ["q"], "choices": [["a", "b", "c"]]})
    given = {"items": items} if known == "items" else {"choices": 3}
    with pytest.raises(InputError, match="item q has 3 choices but choice_logprobs of 2"):
        score(options(("q", "0", HALF)), ["option_probability"], **given)
    assert score(options(("q", "0", [0.2, 0.3, 0.5])), ["option_probability"], **given)["score"][0] == 0.2


def test_half_precision_probabilities_are_taken_and_scaled():
    answers = options(("q", "0", [0.6004, 0.4]))
    assert score(answers, ["option_probability"])["score"].to_list() == pytest.approx([0.6004 / 1.0004])
    assert score(tokens(("q", "a", 5e-4, 1)), ["mean_logprob"])["score"].to_list() == [0.0]
