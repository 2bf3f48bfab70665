"""`export`: what other tools read back, the order of the queue, and nothing half written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pyarrow as pa
import pyarrow.json
import pytest

from labelrel.errors import InputError, UnknownNameError
from labelrel.export import ExportOptions, export_scores, exporters, show_export
from labelrel.export.base import Exporter
from labelrel.schema import SCORES
from labelrel.scoring.hashing import stable_hash


def scores(rows, method="share"):
    """From (item_id, answer, num_votes, weak_label, label_quality)."""
    known = [
        {
            "method": method, "item_id": item, "answer": answer, "num_votes": votes, "num_answers": 5, "share": 0.5,
            "reliability": 0.5, "score": quality, "weak_label": weak, "label_quality": quality, "tie": False,
        }
        for item, answer, votes, weak, quality in rows
    ]  # fmt: skip
    return pl.DataFrame(known, schema=SCORES)


SHARES = scores(
    [
        ("q1", "0", 4, True, 0.8),
        ("q1", "1", 1, False, 0.2),
        ("q2", "1", 3, True, 0.6),
        ("q2", "0", 1, False, 0.2),
        ("q2", "2", 1, False, 0.2),
        ("q3", "=2+3", 5, True, 1.0),
        ("silent", None, 0, False, None),
        ("unknown", "1", 1, True, None),
    ]
)
ITEMS = pl.DataFrame(
    {
        "item_id": ["unknown", "silent", "q3", "q2", "q1", "not scored"],
        "question": ["Why?", "Who?", "=SUM(A1)", 'Which "one", then?', "Wo?\r\n-> hier", "?"],
        "choices": [["a", "b"], ["a", "b"], None, ["x", "y", "z <&>"], ["Ärzte", "@home"], None],
    }
)


@pytest.fixture
def export(tmp_path):
    """Write SHARES (or another table) and ITEMS, export, and return the result and the written file."""

    def run(to, name, *, frame=SHARES, items=ITEMS, suffix=".parquet", **options):
        path = tmp_path / f"scores{suffix}"
        {".parquet": frame.write_parquet, ".csv": frame.write_csv, ".jsonl": frame.write_ndjson}[suffix](path)
        if items is not None:
            items.write_parquet(tmp_path / "items.parquet")
            options["items"] = tmp_path / "items.parquet"
        out = tmp_path / "out" / name
        return export_scores(path, to, out, ExportOptions(**options)), out

    return run


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_training_rows_with_items(export):
    result, out = export("trl", "train.jsonl")
    assert lines(out) == [
        {"prompt": "Wo?\r\n-> hier", "completion": " Ärzte", "weight": 0.8, "item_id": "q1"},
        {"prompt": 'Which "one", then?', "completion": " y", "weight": 0.6, "item_id": "q2"},
        {"prompt": "=SUM(A1)", "completion": " =2+3", "weight": 1.0, "item_id": "q3"},
    ]
    assert (result["rows"], result["method"]) == (3, "share")
    assert result["left_out"] == {"no weak label": 1, "no label quality": 1}


def test_training_rows_without_items(export):
    _, out = export("trl", "train.jsonl", items=None)
    assert lines(out)[0] == {"item_id": "q1", "answer": "0", "weight": 0.8}


def test_training_rows_without_weights_keep_labels_of_unknown_quality(export):
    result, out = export("trl", "train.jsonl", weights=False)
    assert {row["item_id"]: row["weight"] for row in lines(out)} == {"q1": 1.0, "q2": 1.0, "q3": 1.0, "unknown": 1.0}
    assert result["left_out"] == {"no weak label": 1, "no label quality": 0}


@pytest.mark.parametrize("weights", [True, False])
def test_training_rows_have_the_types_that_datasets_needs(export, weights):
    # datasets reads JSON through pyarrow, whose types follow the text: 1 is a whole number, null a type of its own
    _, out = export("trl", "train.jsonl", frame=SHARES.with_columns(label_quality=1.0), weights=weights)
    table = pyarrow.json.read_json(out)
    assert {f.name: f.type for f in table.schema} == {
        "prompt": pa.string(), "completion": pa.string(), "weight": pa.float64(), "item_id": pa.string(),
    }  # fmt: skip
    assert sum(column.null_count for column in table.columns) == 0


def test_training_rows_as_parquet(export):
    _, out = export("trl", "train.parquet")
    assert pl.read_parquet(out).to_dicts() == lines(export("trl", "train.jsonl")[1])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(("to", "name"), [("trl", "o.jsonl"), ("review", "o.csv"), ("labelstudio", "o.json")])
def test_the_format_of_the_scores_does_not_matter(export, suffix, to, name):
    expected = export(to, name)[1].read_bytes()
    assert export(to, name, suffix=suffix)[1].read_bytes() == expected


def test_the_queue_is_ordered_by_the_expected_gain(export):
    result, out = export("review", "queue.jsonl")
    rows = lines(out)
    # silent: nothing to lose; q2 1 - .6; unknown: the mean quality of the others is (.8 + .6 + 1) / 3 = .8, as q1's
    certain = [row for row in rows if row["item_id"] not in ("q1", "unknown")]
    assert [(row["item_id"], row["value"], row["basis"]) for row in certain] == [
        ("silent", 1.0, "no label"), ("q2", pytest.approx(0.4), "label_quality"), ("q3", 0.0, "label_quality"),
    ]  # fmt: skip
    assert {row["item_id"]: row["basis"] for row in rows[2:4]} == {"q1": "label_quality", "unknown": "assumed"}
    assert rows[2]["value"] == rows[3]["value"] == pytest.approx(0.2)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[1] == {
        "rank": 2, "item_id": "q2", "question": 'Which "one", then?', "choices": "0: x | 1: y | 2: z <&>",
        "weak_label": "1", "label_quality": 0.6, "value": pytest.approx(0.4), "basis": "label_quality",
        "votes": "1 x3, 0 x1, 2 x1", "runner_up": "0",
    }  # fmt: skip
    assert result["basis"] == {"assumed": 1, "label_quality": 3, "no label": 1}


def test_ties_in_the_queue_go_by_hash_whatever_the_order_of_rows(export):
    tied = scores([(f"q{n}", "A", 3, True, 0.6) for n in range(50)])
    order = [row["item_id"] for row in lines(export("review", "a.jsonl", frame=tied, items=None)[1])]
    assert order == [row["item_id"] for row in lines(export("review", "b.jsonl", frame=tied.reverse(), items=None)[1])]
    ids = pl.Series(order)
    assert stable_hash(ids).tolist() == sorted(stable_hash(ids).tolist())


def test_a_calibrated_probability_comes_before_the_score(export):
    frame = SHARES.with_columns(probability=pl.when(pl.col("item_id") == "q1").then(0.3))
    rows = {row["item_id"]: row for row in lines(export("review", "queue.jsonl", frame=frame)[1])}
    assert (rows["q1"]["value"], rows["q1"]["basis"]) == (pytest.approx(0.7), "calibrated")
    assert rows["q2"]["basis"] == "label_quality"


def test_labels_of_unknown_quality_only(export):
    frame = scores([("q", "A", 1, True, None)])
    (row,) = lines(export("review", "queue.jsonl", frame=frame, items=None)[1])
    assert (row["value"], row["basis"], row["runner_up"], row["question"]) == (0.5, "assumed", None, None)


def test_many_answers_to_an_item_are_told_in_short(export):
    frame = scores([("q", f"{n:02}", 1, n == 0, 0.1) for n in range(13)])
    (row,) = lines(export("review", "queue.jsonl", frame=frame, items=None)[1])
    assert row["votes"].startswith("00 x1, 01 x1, ")
    assert row["votes"].endswith("09 x1, … (3 more)")
    assert row["runner_up"] == "01"


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1"]  # noqa: RUF001 (full-width on purpose)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_runs_no_cell_of_the_queue(export, text):
    frame = scores([(text, text, 3, True, 0.5), (text, f"{text}!", 2, False, 0.5)])
    items = pl.DataFrame({"item_id": [text], "question": [text]})
    _, out = export("review", "queue.csv", frame=frame, items=items)
    with out.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert [row[name] for name in ("item_id", "question", "weak_label")] == [f"'{text}"] * 3
    assert row["runner_up"] == f"'{text}!"
    assert not any(cell.startswith(tuple("=+-@\t\r\n＝")) for cell in row.values())  # noqa: RUF001
    (exact,) = lines(export("review", "queue.jsonl", frame=frame, items=items)[1])
    assert exact["question"] == text


def test_a_cell_that_is_no_formula_stays_as_it_is(export):
    _, out = export("review", "queue.csv")
    with out.open(encoding="utf-8", newline="") as file:
        rows = {row["item_id"]: row for row in csv.DictReader(file)}
    assert rows["q1"]["question"] == "Wo?\r\n-> hier"
    assert rows["q2"]["question"] == 'Which "one", then?'
    assert rows["q3"]["question"] == "'=SUM(A1)"


def test_label_studio_tasks(export):
    result, out = export("labelstudio", "tasks.json")
    tasks = {task["data"]["item_id"]: task for task in json.loads(out.read_text(encoding="utf-8"))}
    assert list(tasks) == ["q1", "q2", "q3", "silent", "unknown"]
    assert tasks["q2"] == {
        "data": {
            "item_id": "q2",
            "question": 'Which "one", then?',
            "choices": [{"value": "x"}, {"value": "y"}, {"value": "z <&>"}],
        },
        "predictions": [
            {
                "model_version": "labelrel/share",
                "score": 0.6,
                "result": [
                    {"from_name": "label", "to_name": "question", "type": "choices", "value": {"choices": ["y"]}}
                ],
            }
        ],
    }
    assert tasks["silent"]["predictions"] == []
    assert "score" not in tasks["unknown"]["predictions"][0]
    assert tasks["q3"]["data"]["choices"] == [{"value": "=2+3"}]  # open: what was answered
    view = ElementTree.fromstring(Path(result["config"]).read_text(encoding="utf-8"))
    names = {tag.get("name"): tag for tag in view}
    assert Path(result["config"]) == out.with_suffix(".xml")
    # the predictions refer to tags that are there, and the tags to fields of the data
    for task in tasks.values():
        for prediction in task["predictions"]:
            for part in prediction["result"]:
                assert names[part["from_name"]].tag == "Choices"
                assert names[part["from_name"]].get("toName") == part["to_name"]
                assert names[part["to_name"]].tag == "Text"
        assert {tag.get("value")[1:] for tag in view if tag.get("value")} <= set(task["data"])
    assert names["other"].tag == "TextArea"


def test_label_studio_has_no_field_for_another_answer_where_all_choices_are_known(export):
    closed = SHARES.filter(pl.col("item_id").is_in(["q1", "q2"]))
    result, _ = export("labelstudio", "tasks.json", frame=closed)
    assert [tag.tag for tag in ElementTree.parse(result["config"]).getroot()] == ["Text", "Choices"]


def test_one_of_several_methods(export):
    both = pl.concat([SHARES, scores([("q1", "1", 1, True, 0.9)], "mace")])
    assert lines(export("trl", "t.jsonl", frame=both, items=None, method="mace")[1]) == [
        {"item_id": "q1", "answer": "1", "weight": 0.9}
    ]


BAD = [
    ("tlr", "o.jsonl", {}, UnknownNameError, "unknown export format 'tlr' in --to; did you mean 'trl'"),
    ("trl", "o.csv", {}, InputError, r"writes .jsonl or .parquet, not '.csv'"),
    ("review", "o.json", {}, InputError, r"writes .csv or .jsonl, not '.json'"),
    ("labelstudio", "o", {}, InputError, r"writes .json, not ''"),
    ("trl", "o.jsonl", {"frame": SHARES.drop("label_quality")}, InputError, "has no column 'label_quality'"),
    ("trl", "o.jsonl", {"frame": SHARES.head(0)}, InputError, "has no rows"),
    ("trl", "o.jsonl", {"method": "shrae"}, UnknownNameError, "no rows of method 'shrae'; did you mean 'share'"),
    ("trl", "o.jsonl", {"frame": pl.concat([SHARES, SHARES.with_columns(method=pl.lit("mace"))])}, InputError,
     "name one with --method: share, mace"),
    ("trl", "o.jsonl", {"items": ITEMS.head(3)}, InputError, "lacks 2 of the 5 scored items: q1, q2"),
    ("trl", "o.jsonl", {"items": ITEMS.drop("question")}, InputError, "has no column 'question'"),
    ("trl", "o.jsonl", {"items": ITEMS.with_columns(choices=pl.lit("a"))}, InputError, "expected lists of texts"),
    ("trl", "o.jsonl", {"items": pl.concat([ITEMS, ITEMS])}, InputError, "item ids more than once"),
    ("trl", "o.jsonl", {"items": ITEMS.with_columns(question=pl.lit(None, pl.String))}, InputError, "have no question"),
    ("review", "o.csv", {"items": ITEMS.with_columns(choices=pl.lit(["only"]))}, InputError,
     "answer '1' of item q2 is none of its 1 choices"),
    ("trl", "o.jsonl", {"frame": SHARES.with_columns(weak_label=True)}, InputError, "more than one weak label"),
    ("trl", "o.jsonl", {"frame": SHARES.with_columns(label_quality=pl.lit(1.5))}, InputError, r"must lie in \[0, 1\]"),
    ("trl", "o.jsonl", {"frame": SHARES.with_columns(num_votes=pl.lit("many"))}, InputError, "is not a whole number"),
    ("labelstudio", "o.json", {"items": None}, InputError, "needs the questions"),
]  # fmt: skip


@pytest.mark.parametrize(("to", "name", "what", "error", "message"), BAD)
def test_what_cannot_be_exported_is_one_line_and_no_file(export, tmp_path, to, name, what, error, message):
    with pytest.raises(error, match=message) as caught:
        export(to, name, **what)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_error_while_writing_leaves_the_old_files(export, monkeypatch, tmp_path):
    _, out = export("labelstudio", "tasks.json")
    before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    monkeypatch.setattr("labelrel.export.labelstudio.json.dumps", lambda *_, **__: "\ud800")  # no UTF-8
    with pytest.raises(UnicodeEncodeError):
        export("labelstudio", "tasks.json", method="share", frame=SHARES.head(2))
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before


def test_every_format_says_what_it_is():
    assert exporters.names() == ["trl", "review", "labelstudio"]
    for name in exporters:
        entry = exporters.get(name)
        assert isinstance(entry, Exporter)
        assert entry.summary.endswith(".")


@pytest.mark.parametrize(("to", "name"), [("trl", "o.jsonl"), ("review", "o.csv"), ("labelstudio", "o.json")])
def test_what_was_written_is_told(export, capsys, to, name):
    result, out = export(to, name)
    json.dumps(result, allow_nan=False)
    show_export(result)
    assert capsys.readouterr().out.startswith(f"{out}: {result['rows']} rows of method share for {to}")


def test_only_kept_labels_go_where_that_is_asked(export):
    kept = SHARES.with_columns(kept=pl.col("weak_label") & (pl.col("item_id") != "q2"))
    _, out = export("trl", "t.jsonl", frame=kept, kept=True)
    assert [row["item_id"] for row in lines(out)] == ["q1", "q3"]
    with pytest.raises(InputError, match="has no column 'kept'; score with --target-accuracy"):
        export("trl", "t.jsonl", kept=True)
