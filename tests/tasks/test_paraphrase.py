from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelrel.errors import InputError
from labelrel.tasks.paraphrase import accept_paraphrase, numbers, read_paraphrases

QUESTION = "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?"


@pytest.mark.parametrize(
    ("paraphrase", "cause"),
    [
        ("How many bolts does a robe need if it takes two of blue fiber and half as much of white?", None),
        ("1. For one robe, 2 bolts of blue and 1/2 of that in white are used. How many bolts is that?", None),
        ("3. A robe needs 2 bolts of blue fiber and half that of white; how many in all?", None),  # a list's number
        ("A robe takes 3 bolts of blue fiber and half that much white fiber. How many?", "changes a number"),
        ("A robe takes three bolts of blue fiber and half that much white fiber. How many?", "changes a number"),
        ("A robe takes 2 bolts of blue fiber and a third of that in white. How many?", "changes a number"),
        ("A robe takes 2 bolts of blue fiber and half of 2 bolts in white. How many?", "changes a number"),  # once each
        ("How many bolts does a robe take?", "changes a number"),
        ("", "empty"),
        (" \n", "empty"),
        ("4. ", "empty"),
        (QUESTION, "says the same"),
        (f' "{QUESTION.lower()}"', "says the same"),
    ],
)
def test_a_paraphrase_asks_the_same_with_the_same_numbers(paraphrase, cause):
    assert accept_paraphrase(QUESTION, paraphrase) == cause


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("two hundred and five cats", ["205"]),
        ("twenty-five and 25", ["25", "25"]),
        ("three and four", ["3", "4"]),
        ("5 million, five million, 5,000,000", ["5000000"] * 3),
        ("two thousand three hundred forty-two", ["2342"]),
        ("$1,200.50 and -3", ["1200.5", "-3"]),
        ("a 5-year-old pays 20%", ["5", "20"]),
        ("half of 1/2 is .25", ["0.5", "0.5", "0.25"]),
        ("one of 1 is a unit", []),  # "one", "a" and 1 stand for each other
        ("one hundred and twenty-one", ["121"]),
        ("twice two dozen", ["2", "2", "12"]),
        ("at 12:30 on June 5, 2020.", ["12", "30", "5", "2020"]),
        ("H2O, x2", []),
    ],
)
def test_numbers_in_digits_and_in_words(text, found):
    assert sorted(numbers(text).elements()) == sorted(found)


@given(st.text(), st.text())
def test_judging_is_total(question, paraphrase):
    assert accept_paraphrase(question, paraphrase) in (None, "empty", "says the same", "changes a number")


@given(st.integers(2, 10**6), st.integers(2, 10**6))
def test_another_number_is_seen(one, other):
    cause = accept_paraphrase(f"Ann has {one:,} cats.", f"Cats that Ann has: {other}")
    assert cause == (None if one == other else "changes a number")


def test_a_table_is_read_by_item_in_order_without_numbering():
    frame = pl.DataFrame(
        {
            "item_id": [7, 8, 7, 7, 8],
            "paraphrase": ["1. How many?", "- Who?", '2) "How much?"', None, "Paraphrase 2: 3 of whom?"],
        }
    )
    assert read_paraphrases(frame) == {"7": ["How many?", "How much?"], "8": ["Who?", "3 of whom?"]}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"id": ["a"], "paraphrase": ["b"]}), "p.csv has no column 'item_id' (found: id, paraphrase)."),
        (pl.DataFrame({"item_id": ["a", None], "paraphrase": ["b", "c"]}), "p.csv: 1 rows have no item_id."),
        (pl.DataFrame({"item_id": ["a"], "paraphrase": [["b"]]}), "column 'paraphrase' is List(String)"),
    ],
)
def test_a_wrong_table_is_told_in_one_line(frame, message):
    with pytest.raises(InputError) as error:
        read_paraphrases(frame, "p.csv")
    assert message in str(error.value)
