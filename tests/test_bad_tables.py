"""Tables as they come: `labelrel score` says in one line what is wrong with them, or scores them right."""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from labelrel.cli import app
from labelrel.files import read_table
from labelrel.schema import SCORES
from labelrel.scoring import methods

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["score", *arguments])


def refused(*arguments: str) -> str:
    """Score what cannot be: exit 2, nothing written, one line of error after any notes. Return it."""
    before = {path.name: path.stat().st_mtime_ns for path in Path().iterdir()}
    result = run(*arguments, "-o", "scores.csv")
    assert result.exit_code == 2, (result.stderr, result.exception)
    assert result.stdout == ""
    *notes, line = result.stderr.splitlines()
    assert line.startswith("labelrel: ")
    assert all(note.startswith("note: ") for note in notes)
    assert {path.name: path.stat().st_mtime_ns for path in Path().iterdir()} == before
    return line.removeprefix("labelrel: ")


def scores_of(*arguments: str) -> tuple[pl.DataFrame, list[str]]:
    """Score what can be scored; return the table that was printed, and the notes."""
    result = run(*arguments)
    assert result.exit_code == 0, (result.stderr, result.exception)
    scores = pl.read_csv(io.StringIO(result.stdout), schema_overrides=SCORES)
    return scores, [line.removeprefix("note: ") for line in result.stderr.splitlines() if line.startswith("note: ")]


def write(name: str, content: bytes | str) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def write_rows(name: str, *rows: dict[str, Any]) -> str:
    pl.DataFrame(list(rows)).write_parquet(name)
    return name


VOTES = "item_id,annotator_id,answer\nq1,ann,yes\nq1,bob,yes\nq1,cid,no\n"
ZIPPED = gzip.compress((VOTES + "".join(f"q{i * i},ann,{i}\n" for i in range(1000))).encode())


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", "", "t.csv cannot be read as csv: the file is empty."),
        ("t.csv", "item_id,answer", "t.csv has no rows; at least one answer is needed."),
        ("t.csv", "item_id,answer\n", "t.csv has no rows; at least one answer is needed."),
        ("t.jsonl", "\n\n", "t.jsonl cannot be read as jsonl: the file is empty."),
        ("t.csv", "q1,yes\nq1,no\n", "t.csv has no column 'item_id', 'answer' (found: q1, yes)."),
        ("t.csv", "item_id,answer,item_id\nq1,yes,q1\n", "its header names column 'item_id' 2 times"),
        ("t.csv", VOTES + "q2,ann\n", "line 5 has 2 fields and the header 3."),
        ("t.csv", VOTES + "q2,ann,yes,no\n", "line 5 has 4 fields and the header 3."),
        ("t.csv", VOTES + '"q2,ann,yes\n', "line 5 opens a quote that is never closed."),
        ("t.csv", VOTES.encode() + b"q2,ann,\xe9\n", "line 5 is not UTF-8 (byte 0xe9 at 67)"),
        ("t.csv.gz", ZIPPED[:-200], "the file is cut short: gzip ends early"),
        ("t.csv.gz", VOTES, "it is not gzip but seems to be plain text"),
        ("t.csv", ZIPPED, "it seems to be gzip; add .gz to its name."),
        ("t.parquet", VOTES, "it seems to be plain text"),
        ("t.jsonl", VOTES, "it seems to be plain text"),
        ("t.jsonl", '[{"item_id": 1, "answer": 2}]', "it seems to be one JSON array; write one object per line"),
        ("t.jsonl", '{"item_id": 1, "answer": 2}\n{"item_id": 1\n', "line 2 is not JSON"),
        ("t.jsonl", '{"item_id": 1, "answer": NaN}\n', "line 1 is not JSON: NaN is no JSON number; write null."),
        ("t.jsonl", '{"item_id": 1, "answer": 1}\n{"item_id": 1, "answer": true}\n', "'answer' is a number in line 1"),
        ("t.jsonl", '{"item_id": 1, "answer": [1]}\n', "column 'answer' holds List(Int64), not one value per row."),
        ("t.txt", VOTES, "unknown extension; readable are .parquet, .csv, .tsv, .jsonl"),
        ("t.csv", VOTES + ",ann,yes\n", "t.csv: 1 rows have no item_id."),
        ("t.csv", VOTES + "q2,,yes\n", "t.csv: 1 rows have no annotator_id."),
        (
            "t.csv",
            "item_id,annotator_id,variant_id,answer\nq1,ann,0,yes\nq1,ann,0,no\n",
            "t.csv has 2 rows that share their (item_id, annotator_id, variant_id): q1/ann/0.",
        ),
    ],
)
def test_files_that_are_refused(name, content, match):
    assert match in refused(write(name, content))


def test_parquet_cut_short_and_a_parquet_called_csv():
    whole = Path(write_rows("t.parquet", *({"item_id": f"q{i}", "answer": "x"} for i in range(500)))).read_bytes()
    assert "cannot be read as parquet: the file is cut short" in refused(write("cut.parquet", whole[:-100]))
    assert "it seems to be Parquet; rename it to .parquet" in refused(write("t.csv", whole))


def test_a_folder_and_nothing():
    Path("t.csv").mkdir()
    assert refused("t.csv") == "no such file: t.csv is a folder; name a file in it."
    assert refused("none.csv") == "no such file: none.csv"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", VOTES),
        ("t.csv", b"\xef\xbb\xbf" + VOTES.encode()),
        ("t.csv", VOTES.replace("\n", "\r\n") + "\r\n\r\n"),
        ("t.csv", VOTES.encode("utf-16")),
        ("t.csv", VOTES.replace(",", ";")),
        ("t.tsv", VOTES.replace(",", "\t")),
        ("t.csv.gz", gzip.compress(VOTES.encode())),
        ("t.csv", VOTES.replace("q1", '"q1"').replace("yes", '"yes"')),
    ],
)
def test_the_same_votes_in_many_dresses(name, content):
    scores, _ = scores_of(write(name, content), "-m", "share")
    assert scores.select("item_id", "answer", "num_votes", "weak_label").rows() == [
        ("q1", "yes", 2, True),
        ("q1", "no", 1, False),
    ]


def test_quotes_and_newlines_stay_in_their_fields():
    said = '"He said ""no"",\r\nand left"'
    votes = write("t.csv", f'item_id,answer\n"a,1",{said}\n"a,1",{said}\n"a,1",x\n')
    assert run(votes, "-m", "share", "-o", "scores.csv").exit_code == 0
    scores = read_table("scores.csv")  # written as it was read
    assert scores.select("item_id", "answer", "num_votes").row(0) == ("a,1", 'He said "no",\r\nand left', "2")


def test_numbers_and_texts_in_one_column_are_texts():
    lines = '{"item_id": 1, "answer": "7"}\n{"item_id": 1, "answer": 7}\n{"item_id": "1", "answer": 7.5}\n'
    scores, _ = scores_of(write("t.jsonl", lines), "-m", "share")
    assert scores.select("item_id", "answer", "num_votes").rows() == [("1", "7", 2), ("1", "7.5", 1)]


# --- tables that say too little ------------------------------------------------------------------

POOR = {
    "all_null": "item_id,annotator_id,answer\nq1,ann,\nq1,bob,\nq2,ann,\n",
    "one_row": "item_id,annotator_id,answer\nq1,ann,yes\n",
    "one_annotator": "item_id,annotator_id,answer\nq1,ann,yes\nq1,ann,no\nq1,ann,no\nq2,ann,yes\nq2,ann,yes\n",
    "one_answer_per_item": "item_id,annotator_id,answer\nq1,ann,yes\nq2,bob,no\nq3,cid,yes\n",
    "one_answer_at_all": "item_id,annotator_id,answer\nq1,ann,yes\nq1,bob,yes\nq2,ann,yes\nq2,bob,yes\n",
}


@pytest.mark.parametrize("name", list(methods))
def test_every_method_scores_a_poor_table_or_says_why_not(name):
    for kind, content in POOR.items():
        path = write(f"{kind}.csv", content)
        result = run(path, "-m", name)
        if result.exit_code:
            assert len(refused(path, "-m", name)) > 40
        else:
            scores = pl.read_csv(io.StringIO(result.stdout), schema_overrides=SCORES)
            assert scores["label_quality"].drop_nulls().is_between(0, 1).all()
            assert scores["score"].drop_nulls().is_finite().all()
            answered = scores.filter(pl.col("num_answers") > 0)
            assert answered["weak_label"].sum() == answered["item_id"].n_unique()


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("all_null", "no answer could be parsed"),
        ("one_answer_per_item", "every item has one answer"),
        ("one_annotator", "there is one annotator"),
    ],
)
def test_a_poor_table_is_scored_with_a_note(kind, note):
    _, notes = scores_of(write("t.csv", POOR[kind]))
    assert any(line.startswith(note) for line in notes)


def test_no_answer_at_all_gives_null_scores_and_no_weak_label():
    scores, _ = scores_of(write("t.csv", POOR["all_null"]))
    assert scores.select("answer", "share", "score", "label_quality").null_count().row(0) == (scores.height,) * 4
    assert not scores["weak_label"].any()


# --- probabilities and classes -------------------------------------------------------------------

HALF = math.log(0.5)


@pytest.mark.parametrize(
    ("logprobs", "match"),
    [
        ([HALF, math.nan], "their exponentials sum to nan, not 1"),
        ([HALF, math.inf], "their exponentials sum to inf, not 1"),
        ([HALF, None], "or one is missing"),
        ([HALF, math.log(0.4)], "their exponentials sum to 0.9, not 1"),
        ([HALF, HALF / 2, HALF / 2], "their exponentials sum to"),
        ([math.log(0.5), math.log(0.25), math.log(0.25)], "differ in length between rows (q1)"),
        ([], "their exponentials sum to 0, not 1"),
    ],
)
@pytest.mark.parametrize("name", ["option_probability", "self_confidence"])
def test_probabilities_that_are_none(name, logprobs, match):
    rows = [{"item_id": "q1", "answer": "0", "choice_logprobs": list_} for list_ in ([HALF, HALF], logprobs)]
    line = refused(write_rows("t.parquet", *rows), "-m", name)
    assert match in line
    assert "q1" in line


def test_a_choice_that_cannot_be_is_a_probability():
    rows = [{"item_id": "q1", "answer": "0", "choice_logprobs": [0.0, -math.inf]}] * 2
    scores, _ = scores_of(write_rows("t.parquet", *rows), "-m", "option_probability")
    assert scores["score"].to_list() == [1.0]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"answer_logprob": math.nan}, "answer_logprob of item q1 is nan; a log-probability, at most 0, is expected"),
        ({"answer_logprob": 0.5}, "answer_logprob of item q1 is 0.5;"),
        ({"answer_logprob": "likely"}, "column 'answer_logprob' holds String, not numbers."),
        ({"answer_logprob": -1.0, "num_tokens": 0}, "num_tokens of item q1 is 0; a number of at least 1 is expected"),
    ],
)
def test_log_probabilities_of_answers_that_are_none(values, match):
    assert match in refused(write_rows("t.parquet", {"item_id": "q1", "answer": "x", **values}), "-m", "mean_logprob")


def test_answers_that_are_none_of_the_choices():
    rows = [{"item_id": "q1", "answer": answer, "choice_logprobs": [HALF, HALF]} for answer in "05"]
    line = refused(write_rows("t.parquet", *rows), "-m", "option_probability")
    assert "answers that are no choice index, such as '5'" in line


def test_answers_to_items_that_are_not_there():
    item = {"item_id": "q1", "task": "t", "split": "w2s", "question": "?", "choices": ["a", "b"], "gold_label": "0"}
    write_rows("items.parquet", item)
    votes = write("t.csv", "item_id,answer\nq1,0\nq7,1\n")
    assert refused(votes, "--items", "items.parquet") == "answers has 1 items that items.parquet has not: q7."


def test_as_many_answers_as_rows():
    # 40,000 items, every one of their 5 answers given once in the whole table
    rows = 200_000
    pl.DataFrame({"item_id": [n // 5 for n in range(rows)], "answer": range(rows)}).write_parquet("t.parquet")
    result = run("t.parquet", "-o", "scores.parquet", "--json")
    assert result.exit_code == 0, result.stderr
    scores = pl.read_parquet("scores.parquet")
    assert scores.height == 5 * rows
    assert scores.filter(pl.col("method") == "share")["score"].unique().to_list() == [0.2]
    entropy = scores.filter(pl.col("method") == "entropy")["score"]
    assert (entropy - math.log(5)).abs().max() < 1e-9
    assert scores.group_by("method", "item_id").agg(pl.col("weak_label").sum())["weak_label"].unique().to_list() == [1]
