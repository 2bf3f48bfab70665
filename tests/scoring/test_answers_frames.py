"""Any table in: other libraries, missing columns, and mistakes told in one line."""

from __future__ import annotations

import polars as pl
import pytest

from labelrel.errors import ConfigError, InputError, LabelrelError, UnknownNameError
from labelrel.scoring import score
from labelrel.scoring.frames import read_answers

PLAIN = pl.DataFrame({"item_id": ["a", "a", "a", "b"], "answer": ["1", "1", "2", None]})


@pytest.mark.parametrize("convert", [lambda f: f.lazy(), lambda f: f.to_pandas(), lambda f: f.to_arrow()])
def test_other_libraries_give_the_same_scores(convert):
    assert score(convert(PLAIN), ["share"]).equals(score(PLAIN, ["share"]))


def test_missing_columns_are_filled():
    table = read_answers(PLAIN).frame()
    assert table["annotator_id"].unique().to_list() == ["annotator"]
    assert table["variant_id"].to_list() == ["0", "1", "2", "0"]
    named = read_answers(PLAIN.with_columns(annotator_id=pl.Series([*"xyxx"]))).frame()
    assert named["variant_id"].to_list() == ["0", "0", "1", "0"]  # within item and annotator


def test_numbers_become_text_without_a_trailing_zero():
    # a whole-number column with a gap arrives as floats from other libraries
    table = read_answers(pl.DataFrame({"item_id": [1, 1, 2], "answer": [3.0, float("nan"), None]})).frame()
    assert table["item_id"].to_list() == ["1", "1", "2"]
    assert table["answer"].to_list() == ["3", None, None]
    assert read_answers(pl.DataFrame({"item_id": [1, 1], "answer": [3.0, 0.5]})).frame()["answer"].to_list() == [
        "3.0",
        "0.5",
    ]
    assert read_answers(pl.DataFrame({"item_id": [1], "answer": [1e30]})).frame()["answer"].to_list() == ["1e+30"]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: score(PLAIN.drop("answer")), InputError, r"answers has no column 'answer' \(found: item_id\)"),
        (lambda: score(PLAIN.clear()), InputError, "answers has no rows"),
        (lambda: score([1, 2]), InputError, "polars, pandas or pyarrow table, got list"),
        (lambda: score(PLAIN.with_columns(item_id=None)), InputError, "4 rows have no item_id"),
        (lambda: score(PLAIN.with_columns(variant_id=pl.lit("v"))), InputError, "rows that share their"),
        (lambda: score(PLAIN.with_columns(answer=pl.lit([1]))), InputError, "column 'answer' holds List"),
        (lambda: score(PLAIN.with_columns(choice_logprobs=pl.lit("x"))), InputError, "not lists of numbers"),
        (lambda: score(PLAIN.with_columns(answer=pl.lit(b"\xff"))), InputError, "holds Binary, which is no text"),
        (
            lambda: score(PLAIN, ["entorpy"]),
            UnknownNameError,
            "unknown scoring method 'entorpy'; did you mean 'entropy'",
        ),
        (lambda: score(PLAIN, []), ConfigError, "no scoring method given; known: share"),
        (lambda: score(PLAIN, "share"), ConfigError, r"write \['share'\]"),
        (lambda: score(PLAIN, protocol="papers"), ConfigError, "unknown protocol 'papers'; allowed: default, paper"),
        (lambda: score(PLAIN, temperature=0.0), ConfigError, "temperature must be above 0 or 'auto', got 0.0"),
        (lambda: score(PLAIN, temperature=float("nan")), ConfigError, "temperature must be above 0 or 'auto', got nan"),
        (
            lambda: score(PLAIN, items=pl.DataFrame({"item_id": ["a"], "choices": [["x"]]})),
            InputError,
            "answers has 1 items that items has not: b",
        ),
        (
            lambda: score(PLAIN, items=pl.DataFrame({"item_id": [*"aab"], "choices": [["x"]] * 3})),
            InputError,
            "1 item ids more than once: a",
        ),
        (lambda: score(PLAIN, items=pl.DataFrame({"item_id": ["a"]})), InputError, "items has no column 'choices'"),
    ],
)
def test_mistakes_are_told_in_one_line(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert isinstance(caught.value, LabelrelError)
    assert "\n" not in str(caught.value)


def test_pandas_column_of_mixed_types_is_told_in_one_line():
    mixed = PLAIN.to_pandas().astype({"answer": object})
    mixed.loc[0, "answer"] = 1.5
    with pytest.raises(InputError, match="answers cannot be read as a table"):
        score(mixed)
