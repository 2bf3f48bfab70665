"""The checks at every door: what is right passes untouched, what is wrong is one line that helps."""

from __future__ import annotations

import contextlib

import polars as pl
import pytest

from labelrel.errors import InputError
from labelrel.schema import (
    ANSWERS,
    ITEMS,
    SCORES,
    TRAINING,
    check_answers,
    check_items,
    check_scores,
    check_training,
    require_columns,
    require_split,
)


def items(**columns: list[object]) -> pl.DataFrame:
    """Four items: two of choice, a numeric and an open one without gold."""
    content = {
        "item_id": ["a", "b", "c", "d"],
        "task": ["t"] * 4,
        "split": ["w2s", "w2s", "test", "gold_dev"],
        "question": ["q"] * 4,
        "choices": [["x", "y"], ["x", "y", "z"], None, None],
        "gold_label": ["1", "2", "42", None],
    }
    return pl.DataFrame({**content, **columns}, schema=ITEMS)


def answers(**columns: list[object]) -> pl.DataFrame:
    content = {"item_id": ["a", "a", "b"], "annotator_id": ["m"] * 3, "variant_id": ["0", "1", "0"]}
    return pl.DataFrame({**content, "answer": ["0", None, "1"], **columns}, schema_overrides={"answer": pl.String})


def scores() -> pl.DataFrame:
    row = dict.fromkeys(SCORES)
    rows = [{**row, "method": m, "item_id": "a", "answer": x} for m in ("share", "entropy") for x in ("0", "1")]
    return pl.DataFrame(rows, schema=SCORES)


def training(**columns: list[object]) -> pl.DataFrame:
    content = {"item_id": ["a", "b"], "prompt": ["Q"] * 2, "target": [" x", " y"], "answer": ["0", "1"]}
    return pl.DataFrame({**content, "weight": [1.0, 0.0], **columns}, schema=TRAINING)


@pytest.mark.parametrize(
    ("check", "table"),
    [
        (check_items, items()),
        (check_items, items(gold_label=[None] * 4)),
        (check_items, items(choices=[None] * 4, gold_label=["7", "-3.5", "x", None])),
        (check_items, items().with_columns(meta=pl.struct(family="task"))),
        (check_answers, answers()),
        (check_answers, answers(answer=[None] * 3)),
        (check_scores, scores()),
        (check_training, training()),
    ],
)
def test_what_is_right_passes_untouched(check, table):
    assert check(table) is table


def test_answers_check_needs_no_more_than_ids_and_answer():
    assert set(answers().columns) < set(ANSWERS)


@pytest.mark.parametrize(
    ("check", "table", "match"),
    [
        (check_items, items().drop("choices"), r"items has no column 'choices' \(found: item_id, task"),
        (check_items, items().drop("task", "split"), "no column 'task', 'split'"),
        (check_items, items().clear(), "items has no rows"),
        (check_items, items(item_id=["a", None, None, "d"]), "2 rows have no item_id"),
        (check_items, items(item_id=["a", "b", "a", "b"]), r"4 rows that share their \(item_id\): a, b\. Each may"),
        (
            check_items,
            items(split=["w2s", "train", "test", "dev"]),
            r"unknown split 'train' \(b, d\); allowed: weak_tr",
        ),
        (check_items, items(split=["w2s", None, "test", "test"]), r"unknown split None \(b\)"),
        (
            check_items,
            items(gold_label=["2", "2", "1", None]),
            r"gold label '2' of item a is none of its 2 choices \(1 ",
        ),
        (
            check_items,
            items(gold_label=["y", "z", "1", None]),
            r"'y' of item a .* \(2 such items: a, b\).*index, 0 to 1",
        ),
        (check_items, items(gold_label=["-1", "0", "1", None]), "gold label '-1' of item a"),
        (check_items, items(gold_label=["01", "0", "1", None]), "gold label '01' of item a"),
        (check_items, items(gold_label=["", "0", "1", None]), "gold label '' of item a"),
        (check_answers, answers().drop("answer"), "answers has no column 'answer'"),
        (check_answers, answers().clear(), "answers has no rows"),
        (check_answers, answers(variant_id=["0", None, "0"]), "1 rows have no variant_id"),
        (check_answers, answers(annotator_id=[None] * 3), "3 rows have no annotator_id"),
        (check_answers, answers(variant_id=["0", "0", "0"]), r"2 rows that share their .*: a/m/0\."),
        (check_scores, scores().drop("tie"), "scores has no column 'tie'"),
        (check_scores, scores().clear(), "scores has no rows"),
        (check_scores, scores().with_columns(answer=pl.lit("0")), r"4 rows .*: share/a/0, entropy/a/0\."),
        (check_training, training().drop("weight", "target"), "no column 'target', 'weight'"),
        (check_training, training().clear(), "the selection kept nothing"),
        (check_training, training(weight=[1.0, -0.5]), "weight -0.5 of item b is not a finite number"),
        (check_training, training(weight=[None, 1.0]), r"weight None of item a .*\(1 such rows\)"),
        (check_training, training(weight=[float("nan"), 1.0]), "weight nan of item a"),
        (check_training, training(weight=[1.0, float("inf")]), "weight inf of item b"),
        (check_training, training(weight=[0.0, 0.0]), "every weight is 0"),
        (check_training, training(target=[" x", " "]), r"1 rows have no target \(b\)"),
        (check_training, training(target=[None, None]), r"2 rows have no target \(a, b\)"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(check, table, match):
    with pytest.raises(InputError, match=match) as caught:
        check(table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "column",
    [
        pl.lit("x, y").alias("choices"),
        pl.lit(None).alias("choices"),
        pl.lit(1).alias("gold_label"),
        pl.lit(1).alias("split"),
    ],
    ids=["choices as text", "choices unknown", "gold as a number", "split as a number"],
)
def test_a_column_of_another_type_is_no_crash(column):
    """Items from CSV and JSONL: text where a list should be, numbers where text should be."""
    with contextlib.suppress(InputError):  # whether it is refused or read is the check's own business
        check_items(items().with_columns(column))


def test_message_names_the_file():
    with pytest.raises(InputError, match=r"^mine\.csv has no rows"):
        check_answers(answers().clear(), "mine.csv")


def test_require_columns_tells_all_that_are_missing():
    require_columns(answers(), ["item_id", "answer"], "x")
    with pytest.raises(
        InputError, match=r"^x has no column 'p', 'q' \(found: item_id, annotator_id, variant_id, answer"
    ):
        require_columns(answers(), ["p", "item_id", "q"], "x")


def test_require_split_gives_its_rows_in_order():
    assert require_split(items(), "w2s")["item_id"].to_list() == ["a", "b"]


def test_empty_split_is_told_with_what_was_found():
    with pytest.raises(
        InputError, match=r"no item in split 'weak_train' \(found: {'gold_dev': 1, 'test': 1, 'w2s': 2}"
    ):
        require_split(items(), "weak_train")
