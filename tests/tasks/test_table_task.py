from __future__ import annotations

import json

import polars as pl
import pytest

from labelrel.errors import ConfigError, InputError
from labelrel.schema import check_items
from labelrel.tasks import Prompting, tasks

TASK = tasks.get("table")
SIZES = {"weak_train": 1, "w2s": 1, "gold_dev": 1, "test": 1}

ROWS = [
    {"q": "Capital of {France}?", "options": ["Rome", "Paris"], "gold": "Paris", "key": "a"},
    {"q": "2 + 2", "options": ["4", "5", "3"], "gold": "4", "key": "b"},
    {"q": "Colour of grass", "options": ["green", "red"], "gold": None, "key": "c"},
    {"q": "Largest planet", "options": ["Mars", "Jupiter"], "gold": "jupiter", "key": "d"},
]
CHOICE = {"kind": "choice", "question": "q", "choices": "options", "gold": "gold"}


@pytest.fixture
def write(tmp_path):
    def write(rows, name="mine.jsonl"):
        path = tmp_path / name
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif name.endswith(".csv"):
            pl.DataFrame(rows).write_csv(path)
        else:
            pl.DataFrame(rows).write_parquet(path)
        return str(path)

    return write


def make(path, **options):
    return check_items(TASK.make_items(path, SIZES, 7, options))


def rows_of(items):
    return {row["question"]: row for row in items.iter_rows(named=True)}


def error_of(path, **options):
    with pytest.raises(InputError) as error:
        make(path, **options)
    message = str(error.value)
    assert "\n" not in message
    return message.replace(path, "FILE")


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.parquet"])
def test_a_table_of_choices(write, name):
    items = make(write(ROWS, name), **CHOICE, id="key")
    assert items["split"].to_list() == list(SIZES)
    found = rows_of(items)
    assert found["Capital of {France}?"]["item_id"] == "a"
    assert {q: row["gold_label"] for q, row in found.items()} == {
        "Capital of {France}?": "1",
        "2 + 2": "0",
        "Colour of grass": None,
        "Largest planet": "1",
    }
    assert found["2 + 2"]["meta"] == {"kind": "choice"}
    wordings = TASK.wordings(found["Capital of {France}?"])
    assert len(wordings) == 5
    assert wordings[0].prompt == "Question: Capital of {France}?\nAnswer:"
    assert wordings[0].options == (" Rome", " Paris")
    assert TASK.parse(found["2 + 2"], " 5.").answer == "1"


def test_one_column_per_option_and_letters_as_gold(write):
    rows = [
        {"q": "x", "a": "1", "b": "2", "c": "3", "gold": "B"},
        {"q": "y", "a": "7", "b": "8", "c": None, "gold": "a"},
    ]
    path = write(rows, "mine.csv")
    items = TASK.make_items(path, {"test": 2}, 1, {**CHOICE, "choices": ["a", "b", "c"]})
    found = rows_of(items)
    assert found["x"]["choices"] == ["1", "2", "3"]
    assert found["y"]["choices"] == ["7", "8"]
    assert (found["x"]["gold_label"], found["y"]["gold_label"]) == ("1", "0")


def test_a_column_of_numbers_is_an_index_and_text_must_say_which(write):
    rows = [{"q": "x", "options": ["1", "0"], "gold": 1}, {"q": "y", "options": ["5", "1"], "gold": 0}]
    one = {"test": 2}
    assert rows_of(TASK.make_items(write(rows), one, 1, CHOICE))["x"]["gold_label"] == "1"
    as_text = write([{**row, "gold": str(row["gold"])} for row in rows])
    # "0" is no option of y, so all of the column can only be indices
    assert rows_of(TASK.make_items(as_text, one, 1, CHOICE))["x"]["gold_label"] == "1"
    unclear = write([{"q": "x", "options": ["1", "0"], "gold": "1"}])
    assert "can be read as text and as index ('1'); set prepare.options.gold_is" in error_of(unclear, **CHOICE)
    told = TASK.make_items(unclear, {"test": 1}, 1, {**CHOICE, "gold_is": "text"})
    assert told["gold_label"].to_list() == ["0"]


def test_ids_of_rows_without_one_follow_from_the_row_alone(write):
    ids = rows_of(make(write(ROWS), **CHOICE))
    turned = rows_of(make(write(ROWS[::-1], "turned.jsonl"), **CHOICE))
    assert {q: row["item_id"] for q, row in ids.items()} == {q: row["item_id"] for q, row in turned.items()}
    assert all(row["item_id"].startswith("table-") for row in ids.values())


def test_splits_of_the_table_are_taken_as_they_are(write):
    path = write([{**row, "part": "test" if n else "w2s"} for n, row in enumerate(ROWS)])
    items = make(path, **CHOICE, id="key", split="part")
    assert dict(items.select("item_id", "split").iter_rows()) == {"a": "w2s", "b": "test", "c": "test", "d": "test"}


def test_classes_are_read_as_words(write):
    rows = [{"q": "Great film", "gold": "positive"}, {"q": "Bad film", "gold": "Negative"}]
    path = write(rows, "mine.csv")
    options = {"kind": "binary", "question": "q", "gold": "gold", "classes": ["negative", "positive"]}
    items = TASK.make_items(path, {"w2s": 2}, 1, options)
    item = rows_of(items)["Great film"]
    assert (item["choices"], item["gold_label"]) == (["negative", "positive"], "1")
    assert TASK.parse(item, " It is not positive").answer == "0"
    assert TASK.parse(item, " negative or positive").cause == "names several options"


def test_numbers_and_texts_are_normalised(write):
    numeric = TASK.make_items(
        write([{"q": "How many?", "n": "1,234.50"}], "n.csv"),
        {"test": 1},
        1,
        {"kind": "numeric", "question": "q", "gold": "n"},
    )
    assert numeric["gold_label"].to_list() == ["1234.5"]
    item = numeric.row(0, named=True)
    assert (item["choices"], TASK.wordings(item)[0].options) == (None, None)
    assert TASK.target(item, "1234.5") == " 1234.5"
    assert TASK.parse(item, " $1,234.5\n\nQuestion: 3?").answer == "1234.5"
    assert TASK.parse(item, "2 and 3 make\n#### 5").answer == "5"
    text = TASK.make_items(
        write([{"q": "Who?", "who": " The  Queen. "}]), {"test": 1}, 1, {"kind": "text", "question": "q", "gold": "who"}
    )
    assert text["gold_label"].to_list() == ["queen"]
    assert TASK.parse(text.row(0, named=True), '"The Queen"\nand so on').answer == "queen"


def test_a_paraphrase_takes_the_place_of_the_question(write):
    item = {**rows_of(make(write(ROWS), **CHOICE))["2 + 2"], "question": "Two and {two}?"}
    assert all("Two and {two}?" in w.prompt and "2 + 2" not in w.prompt for w in TASK.wordings(item))
    listed = Prompting(TASK).canonical(item)
    assert listed.options == (" 4", " 5", " 3")


def test_columns_that_are_not_there(write):
    path = write(ROWS)
    assert error_of(path, **{**CHOICE, "question": "text"}) == (
        "FILE has no column 'text' (found: q, options, gold, key)."
    )
    assert "no column 'a', 'b'" in error_of(path, **{**CHOICE, "choices": ["a", "b"]})


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"gold": "Berlin"},
            {},
            "FILE: column 'gold' has what is not the text of an option, such as 'Berlin' in 1 row (id a).",
        ),
        ({"q": " "}, {}, "FILE: column 'q' has no question in 1 row (id a)."),
        ({"key": "b"}, {}, "FILE: 2 rows have the same id in column 'key' as another row (b); each may be once."),
        ({"key": None}, {}, "FILE: column 'key' has no id in 1 row (id in row 1)."),
        ({"options": ["Paris"]}, {}, "FILE: fewer than 2 options in 1 row (id a)."),
        ({"options": ["Paris", "Paris "]}, {}, "FILE: the same option twice in 1 row (id a)."),
        (
            {"part": "dev"},
            {"split": "part"},
            "FILE: column 'part' has a split other than weak_train, w2s, gold_dev, test, such as 'dev' in 4 rows "
            "(id a, b, c, …).",
        ),
    ],
)
def test_rows_that_are_wrong(write, change, options, message):
    rows = [{**row, **({"part": ""} if "part" in change else {})} for row in ROWS]
    rows[0] |= change
    assert error_of(write(rows), **CHOICE, id="key", **options) == message


def test_equal_rows_without_ids(write):
    assert "2 rows have the same question and options as another row (table-" in error_of(
        write([*ROWS, ROWS[0]]), **CHOICE
    )


def test_a_number_that_is_none(write):
    path = write([{"q": "x", "n": "two or 3"}, {"q": "y", "n": "4 or 5"}])
    assert "column 'n' has what is no number, such as '4 or 5' in 1 row" in error_of(
        path, kind="numeric", question="q", gold="n"
    )


def test_options_that_are_no_list(write):
    assert "column 'options' is String; options are a list in one column" in error_of(
        write([{"q": "x", "options": "a, b", "gold": "a"}], "mine.csv"), **CHOICE
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "choice"}, "choices is missing"),
        ({"kind": "binary"}, "classes is missing"),
        ({"kind": "binary", "classes": ["a", "b", "c"]}, "kind binary has two"),
        ({"kind": "classes", "classes": ["a", "A "]}, "classes must be different words"),
        ({"kind": "text", "choices": "options"}, "choices goes with kind choice"),
        ({"kind": "text", "classes": ["a", "b"]}, "classes goes with kind binary"),
        ({"kind": "letters"}, "prepare.options.kind"),
        ({"kind": "text", "golden": "x"}, "unknown key prepare.options.golden; did you mean 'gold'?"),
    ],
)
def test_options_that_do_not_go_together(write, options, message):
    with pytest.raises(ConfigError) as error:
        TASK.make_items(write(ROWS), SIZES, 1, options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", [None, "hub"])
def test_it_needs_a_file(source, tmp_path):
    with pytest.raises(InputError, match="needs a file"):
        TASK.make_items(source, SIZES, 1, CHOICE)
    with pytest.raises(InputError, match="is a folder"):
        TASK.make_items(str(tmp_path), SIZES, 1, CHOICE)


def test_more_asked_for_than_there_is(write):
    with pytest.raises(InputError, match=r"task 'table' has 4 items but prepare\.sizes asks for 9"):
        TASK.make_items(write(ROWS), {"test": 9}, 1, CHOICE)
