from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fake_openai import asking, letter_query, text_query

from labelrel.errors import ConfigError, InputError
from labelrel.schema import ANSWERS
from labelrel.supervise import file_engine
from labelrel.supervise.engines import Engine, engines
from labelrel.supervise.sample import sample
from labelrel.supervise.variants import Query
from labelrel.tasks.base import Reading


def open_engine(folder: Path, text: str, **options: Any) -> Engine:
    path = folder / "crowd.csv"
    path.write_text(text)
    return engines.get("file").open(asking(folder), {"path": str(path), **options})


def answers(engine: Engine, *queries: Query) -> list[str | None]:
    return [reply.answer for reply in engine.ask(list(queries))]


def open_query(item: str) -> Query:
    def read(completion: str) -> Reading:
        bare = completion.replace(",", "").strip()
        return Reading(bare) if bare.isdigit() else Reading(None, "no number")

    return Query({"item_id": item, "choices": None}, "0", "How many?", None, read)


def test_completions_are_read_as_any(tmp_path):
    engine = open_engine(tmp_path, "item_id,variant_id,completion\nq1,0,Rome of course\nq0,0,paris\nq0,1,no idea\n")
    replies = engine.ask([text_query("q0"), text_query("q0", "1"), text_query("q1")])
    assert [(r.completion, r.answer) for r in replies] == [("paris", "0"), ("no idea", None), ("Rome of course", "1")]
    assert all(r.answer_logprob is None and r.choice_logprobs is None for r in replies)


@pytest.mark.parametrize(
    ("answer", "canonical"),
    [("1", "1"), ("Rome", "1"), (" Rome ", "1"), ("rome", "1"), ("7", None), ("Berlin", None)],
)
def test_an_answer_is_an_index_or_a_text(tmp_path, answer, canonical):
    engine = open_engine(tmp_path, f"item_id,answer\nq0,{answer}\n")
    assert answers(engine, text_query("q0")) == [canonical]


def test_letters_are_answers_where_options_are_lettered(tmp_path):
    assert answers(open_engine(tmp_path, "item_id,answer\nq0,C\n"), letter_query("q0")) == ["2"]


def test_answers_to_open_items_get_their_normal_form(tmp_path, capsys):
    engine = open_engine(tmp_path, 'item_id,answer\nq0,"1,000"\nq1,1000\nq2,many\n')
    assert answers(engine, *map(open_query, ("q0", "q1", "q2"))) == ["1000", "1000", None]
    assert "1 answers cannot be read ('many'); they count as abstained" in capsys.readouterr().err


def test_an_answer_that_could_be_both_is_refused_until_it_is_said(tmp_path):
    table = "item_id,answer\nq0,1\n"
    query = text_query("q0", choices=("1", "2"))
    with pytest.raises(InputError, match=r"the answer '1' of item q0 is the text of one choice and the index of anoth"):
        open_engine(tmp_path, table).ask([query])
    assert answers(open_engine(tmp_path, table, answer_is="index"), query) == ["1"]
    assert answers(open_engine(tmp_path, table, answer_is="text"), query) == ["0"]
    assert answers(open_engine(tmp_path, table), text_query("q0", choices=("2", "1"))) == ["1"]  # both say the same


def test_an_answer_counts_and_a_completion_is_kept(tmp_path):
    engine = open_engine(tmp_path, "item_id,completion,answer\nq0,I say Paris,1\nq1,Rome,\n")
    replies = engine.ask([text_query("q0"), text_query("q1")])
    assert [(r.completion, r.answer) for r in replies] == [("I say Paris", "1"), ("Rome", "1")]


def test_columns_have_the_names_that_are_given(tmp_path):
    engine = open_engine(
        tmp_path, "q,v,said\nq0,b,Rome\nq0,a,Paris\n", item_col="q", variant_col="v", completion_col="said"
    )
    assert answers(engine, text_query("q0", "a"), text_query("q0", "b")) == ["0", "1"]


def test_rows_of_an_item_are_numbered_in_order(tmp_path):
    engine = open_engine(tmp_path, "item_id,answer\nq0,0\nq1,1\nq0,1\nq0,0\n")
    assert answers(engine, *(text_query("q0", str(v)) for v in range(3)), text_query("q1")) == ["0", "1", "0", "1"]


def test_missing_rows_are_abstentions_and_told(tmp_path, capsys):
    engine = open_engine(tmp_path, "item_id,answer\nq0,0\n")
    table = sample(engine, [text_query(f"q{n}", v) for n in range(3) for v in "01"], parts=tmp_path / "parts")
    assert table["answer"].to_list() == ["0", None, None, None, None, None]
    assert table["annotator_id"].unique().to_list() == ["crowd"]
    assert table.schema == ANSWERS
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "has no answer to 5 of 6 queries (q0/1, q1/0, q1/1, …); they count as abstained" in err


def test_nothing_that_matches_is_an_error(tmp_path):
    engine = open_engine(tmp_path, "item_id,answer\n1,0\n2,0\n")
    with pytest.raises(InputError, match=r"expected \(item/variant\): q0/0, q1/0, q2/0, …; found: 1/0, 2/0\."):
        engine.ask([text_query(f"q{n}") for n in range(5)])


CROWD = "item_id,who,answer\nq0,ann,0\nq0,bob,1\nq1,bob,0\n"


def test_one_annotator_is_taken_out_of_several(tmp_path):
    engine = open_engine(tmp_path, CROWD, annotator_col="who", annotator="bob")
    assert engine.name == "bob"
    assert answers(engine, text_query("q0"), text_query("q1")) == ["1", "0"]
    assert open_engine(tmp_path, "item_id,who,answer\nq0,ann,0\n", annotator_col="who").name == "ann"


@pytest.mark.parametrize(
    ("table", "options", "match"),
    [
        (CROWD, {"annotator_col": "who"}, "answers of 2 annotators .ann, bob.: name one in sample.options.annotator"),
        (CROWD, {"annotator_col": "who", "annotator": "eve"}, "there is no 'eve'"),
        (CROWD, {"annotator_col": "whom"}, r"no column 'whom' \(found: item_id, who, answer\)"),
        ("item_id,text\nq0,x\n", {}, "no column 'completion' or 'answer' .found: item_id, text.; name yours"),
        ("id,answer\nq0,0\n", {}, "no column 'item_id'"),
        ("item_id,answer\nq0,0\n,1\n", {}, "1 rows have no item_id"),
        ("item_id,variant_id,answer\nq0,0,1\nq0,0,0\n", {}, "2 rows that share their .item, variant.: q0/0; name the"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, table, options, match):
    with pytest.raises(InputError, match=match):
        open_engine(tmp_path, table, **options)


def test_settings_that_do_not_exist(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key sample\.options\.answers; did you mean 'answer_is'|allowed"):
        open_engine(tmp_path, CROWD, answers="x")
    with pytest.raises(InputError, match="no such file"):
        engines.get("file").open(asking(tmp_path), {"path": str(tmp_path / "nowhere.csv")})


def test_the_key_changes_with_the_file_and_the_settings_and_not_with_the_place(tmp_path):
    one = open_engine(tmp_path, CROWD, annotator_col="who", annotator="bob")
    (tmp_path / "other").mkdir()
    assert open_engine(tmp_path / "other", CROWD, annotator_col="who", annotator="bob").key == one.key
    assert open_engine(tmp_path, CROWD, annotator_col="who", annotator="ann").key != one.key
    assert open_engine(tmp_path, CROWD + "q2,bob,0\n", annotator_col="who", annotator="bob").key != one.key


def test_an_earlier_answers_table_can_be_read_again(tmp_path):
    path = tmp_path / "answers.parquet"
    rows = [("q0", "weak", "0", "?", "Rome", "1", None, None), ("q0", "weak", "1", "?", "hm", None, None, None)]
    pl.DataFrame(rows, schema=ANSWERS, orient="row").write_parquet(path)
    engine = engines.get("file").open(asking(tmp_path), {"path": str(path), "annotator_col": "annotator_id"})
    assert engine.name == "weak"
    assert answers(engine, text_query("q0"), text_query("q0", "1")) == ["1", None]


def test_the_engine_is_registered():
    assert file_engine.file is engines.get("file").function
    assert not engines.get("file").tuned
