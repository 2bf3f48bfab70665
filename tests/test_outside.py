"""`labelrel score` on tables of one's own: gold, targets, calibrators, annotators, open answers, notes."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from labelrel import outside, score
from labelrel.cli import app

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
VOTES, GOLD = EXAMPLES / "votes.csv", EXAMPLES / "gold.csv"
COLUMNS = ["--item-col", "picture", "--annotator-col", "worker", "--answer-col", "label"]
WITH_GOLD = [*COLUMNS, "--gold", str(GOLD), "--gold-col", "truth"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: object):
    words = [str(a) for a in arguments]
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(app, ["score", *words])


def done(*arguments: object):
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr or result.exception
    return result


def mistake(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.stderr or result.exception
    assert result.stdout == ""
    (line,) = [text for text in result.stderr.splitlines() if not text.startswith("note:")]
    return line.removeprefix("labelrel: ")


def test_the_file_is_what_the_function_returns():
    done(VOTES, *COLUMNS, "-m", "entropy", "-m", "dawid_skene", "-o", "scores.parquet")
    answers = pl.read_csv(VOTES).select(item_id="picture", annotator_id="worker", answer="label")
    assert_frame_equal(pl.read_parquet("scores.parquet"), score(answers, ["entropy", "dawid_skene"]))


def test_a_target_accuracy_adds_a_column_and_a_sentence():
    result = done(VOTES, *WITH_GOLD, "--target-accuracy", 0.9, "-o", "scores.parquet")
    assert "entropy: accuracy 0.9 with confidence 0.9: keep scores of at least" in result.stdout
    scores = pl.read_parquet("scores.parquet")
    assert scores["method"].unique().to_list() == ["entropy"]  # one method, so that no error has to be shared
    assert 0 < scores["kept"].sum() < scores["weak_label"].sum()


def test_gold_may_be_a_column_of_the_answers():
    both = pl.read_csv(VOTES).join(pl.read_csv(GOLD), on="picture", how="left")
    both.write_csv("both.csv")
    apart = json.loads(done(VOTES, *WITH_GOLD, "-m", "share", "--json", "-q").stdout)
    together = json.loads(done("both.csv", *COLUMNS, "--gold-col", "truth", "-m", "share", "--json", "-q").stdout)
    assert together["gold"] == apart["gold"]
    assert together["gold"]["num_gold"] == 160


def test_json_is_one_document_with_scores_and_measurements():
    document = json.loads(done(VOTES, *WITH_GOLD, "-m", "share", "--json").stdout)
    assert document["rows"] == len(document["scores"])
    assert document["answers"] == 1200
    assert set(document["gold"]["methods"]["share"]["metrics"]) >= {"auroc", "aurc", "e_aurc", "augrc", "ece", "brier"}


def test_a_calibrator_serves_another_table():
    fitted = [*WITH_GOLD, "-m", "share", "--calibrate", "platt", "--save-calibrator", "c.json", "-o", "one.parquet"]
    done(VOTES, *fitted)
    done(VOTES, *COLUMNS, "-m", "share", "--calibrator", "c.json", "-o", "two.parquet")
    assert_frame_equal(pl.read_parquet("two.parquet"), pl.read_parquet("one.parquet"))
    assert "probability" in pl.read_parquet_schema("one.parquet")


def test_annotators_are_written_least_wanted_too():
    done(VOTES, *COLUMNS, "-m", "dawid_skene", "-m", "wawa", "--annotators", "workers.csv", "-o", "s.csv")
    workers = pl.read_csv("workers.csv")
    assert workers["method"].unique(maintain_order=True).to_list() == ["dawid_skene", "wawa"]
    assert (
        workers.filter(method="wawa").sort("accuracy" if "accuracy" in workers.columns else "skill")["annotator"][0]
        == "hal"
    )


def test_settings_of_a_method():
    done(VOTES, *COLUMNS, "-m", "dawid_skene", "-p", "dawid_skene.iterations=1", "-o", "one.parquet")
    done(VOTES, *COLUMNS, "-m", "dawid_skene", "-o", "many.parquet")
    one, many = (pl.read_parquet(f"{name}.parquet")["score"] for name in ("one", "many"))
    assert not one.equals(many)


def test_open_answers_in_canonical_form():
    Path("sums.csv").write_text('item_id,answer\na,"$1,200"\na,1200.0\na,#### 1200\na,no idea\n', encoding="utf-8")
    done("sums.csv", "-m", "share", "--canonical", "number", "-o", "s.parquet")
    assert pl.read_parquet("s.parquet").select("answer", "num_votes", "num_answers").rows() == [("1200", 3, 3)]


def test_gold_labels_get_the_canonical_form_of_the_answers():
    lines = [f"q{i},{a}" for i in range(12) for a in ('"1,000"', "1000.0", "7")]
    Path("sums.csv").write_text("\n".join(["item_id,answer", *lines]), encoding="utf-8")
    Path("gold.csv").write_text("\n".join(["item_id,truth", *(f'q{i},"1,000"' for i in range(12))]), encoding="utf-8")
    with_gold = ["--canonical", "number", "--gold", "gold.csv", "--gold-col", "truth", "-m", "share", "--json", "-q"]
    assert json.loads(done("sums.csv", *with_gold).stdout)["gold"]["methods"]["share"]["accuracy_all"] == 1.0
    Path("gold.csv").write_text("item_id,truth\nq1,many\n", encoding="utf-8")
    assert "gold label 'many' of item q1 has no canonical form 'number'" in mistake("sums.csv", *with_gold)


def test_it_says_where_label_probabilities_come_from():
    assert "note: label probabilities are from vote shares" in done(VOTES, *COLUMNS, "-m", "self_confidence").stderr


def test_whole_numbers_in_a_fractional_column_are_names_without_a_point(monkeypatch):
    table = pl.DataFrame({"item_id": [1.0, 1.0, 2.0], "answer": [3.0, None, 4.0]})
    table.write_parquet("t.parquet")
    done("t.parquet", "-m", "share", "-o", "s.parquet")
    assert pl.read_parquet("s.parquet").select("item_id", "answer").rows() == [("1", "3"), ("2", "4")]


def test_a_large_table_is_scored_twice_rather_than_held(monkeypatch):
    held = json.loads(done(VOTES, *WITH_GOLD, "-m", "share", "-m", "glad", "--json", "-q").stdout)
    monkeypatch.setattr(outside, "_HELD_ROWS", 10)
    assert json.loads(done(VOTES, *WITH_GOLD, "-m", "share", "-m", "glad", "--json", "-q").stdout) == held


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("item_id,answer\na,1\nb,2\n", "every item has one answer, and votes say nothing about a single one"),
        ("item_id,answer\na,1\na,2\n", "there is one annotator: models of the annotators have nobody to compare"),
        ("item_id,answer\na,\nb,\n", "no answer could be parsed: every score is null"),
    ],
)
def test_what_a_table_cannot_tell_is_said(text, note):
    Path("t.csv").write_text(text, encoding="utf-8")
    result = done("t.csv", "-o", "s.csv")
    assert f"note: {note}" in result.stderr
    assert Path("s.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([*COLUMNS, "--target-accuracy", 0.9], "--target-accuracy needs gold labels of some items: --gold FILE"),
        ([*COLUMNS, "--calibrate", "beta"], "--calibrate needs gold labels of some items"),
        ([*COLUMNS, "--gold", GOLD, "--gold-col", "trut"], "gold.csv has no column 'trut' (found: picture, truth)"),
        ([*COLUMNS, "--gold", GOLD, "--gold-col", "truth", "--gold-item-col", "x"], "gold.csv has no column 'x'"),
        ([*COLUMNS, "-m", "ensemble"], "'ensemble' learns from gold labels and there are none"),
        ([*COLUMNS, "-m", "semantic_entropy"], "'semantic_entropy' needs a column 'meaning'"),
        ([*COLUMNS, "-m", "option_probability"], "'option_probability' needs"),
        ([*COLUMNS, "-m", "dawid_skene", "-p", "dawid_skene.iterations=0"], "dawid_skene.iterations is wrong"),
        ([*COLUMNS, "-p", "dawid_skene.iterations=9"], "--param sets 'dawid_skene', which is not scored with; add -m"),
        ([*COLUMNS, "-p", "dawid_sken.iterations=9"], "unknown scoring method 'dawid_sken' in params; did you mean"),
        ([*COLUMNS, "--temperature", "hot"], "--temperature must be a number above 0 or 'auto', got 'hot'"),
        ([*COLUMNS, "--canonical", "numbr"], "did you mean 'number'"),
        ([*COLUMNS, "--embedder", "a", "--entailment", "b"], "--embedder and --entailment both say"),
        ([*COLUMNS, "--similarity", "1.5"], "--similarity must lie in (0, 1], got 1.5"),
        ([*COLUMNS, "--annotators", "w.csv"], "w.csv: none of the methods share, entropy"),
        ([*COLUMNS, "--annotators", "w.xlsx", "-m", "wawa"], "w.xlsx: unknown extension"),
        ([*COLUMNS, "--calibrator", "none.json"], "no such file: none.json"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(arguments, line):
    assert line in mistake(VOTES, *arguments, "-o", "s.parquet")
    assert list(Path.cwd().iterdir()) == []
