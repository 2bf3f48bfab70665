"""The tables of the page, worked out by hand: annotators, doubtful labels, costs, stages, origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fake_results import write_labels, write_results, write_run, write_training

from labelrel import schema
from labelrel.errors import InputError
from labelrel.evaluate.agreement import wilson
from labelrel.report import Comparison, Sources, collect
from labelrel.report.annotators import annotator_table
from labelrel.report.costs import cost_table, stage_table
from labelrel.report.doubts import MOST, Doubts, doubts
from labelrel.report.html import Head, Shown, section, table
from labelrel.report.labels import read_labels
from labelrel.report.origin import origin
from labelrel.report.sections import annotator_section, doubt_section, origin_section


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path / "data")


def compare(data: Path) -> Comparison:
    return collect(Sources.under(data), bootstrap=50)


# html


def test_cell_carries_what_it_sorts_by() -> None:
    heads = [Head("name", "text"), Head("n"), Head("value")]
    shown = table("All", heads, [["a", 1234, Shown("0.5 [0, 1]", 0.5)], ["b", None, Shown("undefined", None)]])
    assert '<td class="number" data-sort="1234">1,234</td><td class="number" data-sort="0.5">0.5 [0, 1]</td>' in shown
    # what has no value sorts as nothing, whatever its text says
    assert '<td class="number"></td><td class="number" data-sort="">undefined</td>' in shown
    assert '<table class="sortable"><thead><tr><th scope="col" class="text">name</th>' in shown


def test_everything_in_a_table_is_escaped() -> None:
    evil = '"><b>'
    shown = table(evil, [Head(evil, "text")], [[evil], [Shown(evil, evil)]], [evil])
    assert "<b>" not in shown
    assert shown.count("&quot;&gt;&lt;b&gt;") == 5  # label, heading, class, two cells
    assert section(evil, "x").startswith('<section id="b"><h2>&quot;&gt;&lt;b&gt;</h2>')


def test_table_without_headings_is_not_sorted() -> None:
    assert "sortable" not in table("Facts", [Head("", "text")], [["a"]])
    assert section("Empty", "", "") == ""


# annotators


def answers_of(*rows: tuple[str, str, str, str | None]) -> pl.DataFrame:
    full = [(item, who, variant, "?", answer, answer, None, None) for item, who, variant, answer in rows]
    return pl.DataFrame(full, schema=schema.ANSWERS, orient="row")


def test_annotators_are_measured_by_item(data: Path) -> None:
    items, scores = read_labels(Sources.under(data))
    answers = answers_of(
        # right on a twice of three, on b never; a's weak label is right, d's is 1
        ("a", "x", "0", "0"), ("a", "x", "1", "0"), ("a", "x", "2", "3"), ("b", "x", "0", "0"), ("b", "x", "1", None),
        ("d", "y", "0", "1"),
        ("t", "y", "0", "0"),  # a test item: none of the weak-labelled ones
    )  # fmt: skip
    found = annotator_table(answers, items, scores, "annotator_id", confidence=0.9)
    x, y = found.iter_rows(named=True)
    assert (x["annotator_id"], x["num_answers"], x["num_abstained"], x["num_gold"]) == ("x", 5, 1, 2)
    assert x["accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert (x["accuracy_lo"], x["accuracy_hi"]) == pytest.approx(wilson(2 / 3, 2, 0.9))
    assert (y["num_answers"], y["accuracy"], y["agreement"]) == (1, 0.0, 1.0)


def test_variants_are_measured_alike_and_gold_may_be_missing(data: Path) -> None:
    items, scores = read_labels(Sources.under(data))
    unknown = items.with_columns(gold_label=pl.lit(None, dtype=pl.String))
    answers = answers_of(("a", "x", "0", "0"), ("a", "x", "1", "2"))
    found = annotator_table(answers, unknown, scores, "variant_id", confidence=0.95)
    assert found.select("variant_id", "accuracy", "num_gold", "agreement").rows() == [
        ("0", None, 0, 1.0),
        ("1", None, 0, 0.0),
    ]
    assert annotator_table(answers.clear(), items, scores, "variant_id", confidence=0.95).is_empty()


def test_a_crowd_is_cut_and_told(data: Path) -> None:
    items, scores = read_labels(Sources.under(data))
    answers = answers_of(*(("a", f"<{n}>", "0", "0") for n in range(70)))
    found = annotator_table(answers, items, scores, "annotator_id", confidence=0.95)
    (shown,) = annotator_section({"annotator_id": found}, 0.95).values()
    assert shown.count("&lt;") == 50
    assert "The 50 with most answers, of 70." in shown


# doubtful labels


def choose(data: Path, method: str, *chosen: tuple[str, float]) -> None:
    rows = [(item, "?", "x", "0", weight) for item, weight in chosen]
    frame = pl.DataFrame(rows, schema=schema.TRAINING, orient="row")
    frame.write_parquet(data / "training" / f"{method}.parquet")


def doubtful(data: Path) -> Doubts:
    found = doubts(compare(data), Sources.under(data), *read_labels(Sources.under(data)))
    assert found is not None
    return found


def test_doubts_are_those_of_the_best_method_that_drops(data: Path) -> None:
    choose(data, "naive", ("a", 1.0))
    choose(data, "filter", ("c", 0.5), ("a", 1.0), ("a", 0.5))
    write_run(data / "align" / "reweight-42", "reweight", "method", [1] * 16 + [0] * 4)  # better, but drops nothing
    write_training(data, "reweight", kept_fraction=1.0, num_items=4, score_method="share")
    choose(data, "reweight", *((item, 1.0) for item in "abcd"))
    found = doubtful(data)
    assert (found.method, found.score, found.read, found.num_dropped) == ("filter", "entropy", True, 2)
    assert found.kept["item_id"].to_list() == ["c", "a"]  # label quality .6 and 1
    assert found.kept["weight"].to_list() == [0.5, 0.75]  # two rows of an item: their mean
    assert found.kept.row(0, named=True)["votes"] == "Oslo x3, Paris x2"
    assert found.dropped["item_id"].to_list() == ["b", "d"]
    assert found.dropped.select("answer", "gold_label").rows() == [("Rome", "Rome"), ("Rome", "Lima")]


def test_twenty_of_each_from_both_ends(data: Path) -> None:
    votes = {f"i{n:02d}": ("0", {"0": n + 1, "1": 1}) for n in range(60)}
    write_labels(data, votes)
    choose(data, "filter", *((f"i{n:02d}", 1.0) for n in range(30, 60)))
    found = doubtful(data)
    assert found.kept["item_id"].to_list() == [f"i{n}" for n in range(30, 30 + MOST)]
    assert found.dropped["item_id"].to_list() == [f"i{n}" for n in range(29, 29 - MOST, -1)]
    (shown,) = doubt_section(found).values()
    assert "20 of 30 that were dropped" in shown


def test_method_without_a_score_is_ranked_by_the_first_one(data: Path) -> None:
    choose(data, "naive", ("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0))
    found = doubtful(data)
    assert (found.method, found.score, found.read) == ("naive", "share", False)
    (shown,) = doubt_section(found).values()
    assert "it reads no score" in shown
    assert "It dropped no label that was scored." in shown


def test_text_of_doubts_is_escaped_and_first_choices_are_told(data: Path) -> None:
    write_training(
        data, "filter", kept_fraction=0.5, num_items=2, score_method="entropy", then={"relabel": "discarded"}
    )
    votes = {"a": ("0", {"0": 5}), "</table>": ("1", {"1": 5})}
    write_labels(data, votes, question="<script>alert(1)</script></table>")
    choose(data, "filter", ("</table>", 1.0))
    (shown,) = doubt_section(doubtful(data)).values()
    assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;&lt;/table&gt;") == 2
    assert shown.count("</table>") == 2
    assert "before it looked again" in shown


def test_no_training_set_no_doubts_and_a_broken_one_is_told(data: Path) -> None:
    read = read_labels(Sources.under(data))
    assert doubts(compare(data), Sources.under(data), *read) is None
    assert list(doubt_section(None).values()) == [""]
    (data / "training" / "filter.parquet").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"filter\.parquet"):
        doubts(compare(data), Sources.under(data), *read)


# costs


def test_costs_are_means_over_seeds(data: Path) -> None:
    write_run(data / "align" / "filter-43", "filter", "method", [1] * 20, seed=43, seconds=30.0, loss="confidence")
    rows = {row["method"]: row for row in cost_table(compare(data)).iter_rows(named=True)}
    assert list(rows) == ["floor", "filter", "naive", "random", "ceiling"]
    assert (rows["filter"]["seconds"], rows["filter"]["num_seeds"], rows["naive"]["seconds"]) == (20.0, 2, 10.0)
    assert (rows["naive"]["tokens"], rows["naive"]["train_seconds"], rows["naive"]["num_stages"]) == (1000.0, None, 1)
    assert stage_table(compare(data)).is_empty()


def test_stages_are_means_over_seeds(data: Path) -> None:
    def stages(first: float, second: float) -> list[dict[str, Any]]:
        return [
            {"num_items": 2, "label_accuracy": 0.5, "test_accuracy": first, "seconds": 4.0, "asked": 2, "joined": 1},
            {"num_items": 3, "label_accuracy": None, "test_accuracy": second, "seconds": 6.0},
        ]

    for seed, accuracies in ((42, (0.4, 0.5)), (43, (0.6, 0.9))):
        folder = data / "align" / f"twice-{seed}"
        write_run(folder, "twice", "method", [1] * 20, seed=seed, stages=stages(*accuracies))
    write_training(data, "twice", then={"relabel": "discarded", "agreement": 1.0, "times": 1})
    found = stage_table(compare(data)).rows(named=True)
    assert [(row["method"], row["look"], row["stage"]) for row in found] == [
        ("twice", "discarded", 1),
        ("twice", "discarded", 2),
    ]
    assert [row["test_accuracy"] for row in found] == pytest.approx([0.5, 0.7])
    assert (found[0]["asked"], found[1]["asked"], found[1]["label_accuracy"]) == (2.0, None, None)
    assert cost_table(compare(data)).filter(method="twice")["num_stages"].to_list() == [2]


# origin


def with_inputs(data: Path, folder: str, **digests: str) -> None:
    file = data / folder / "run.json"
    inputs = {name: {"path": f"data/{name}/{digest}", "sha256": digest} for name, digest in digests.items()}
    file.write_text(json.dumps({**json.loads(file.read_text()), "inputs": inputs}))


def test_origin_names_commands_and_digests(data: Path) -> None:
    with_inputs(data, "supervise", items="aa")
    with_inputs(data, "align/naive-42", items="aa", training="bb")
    with_inputs(data, "align/filter-42", items="aa", training="cc")
    found = origin(compare(data), {"git commit": "c0ffee1234 with local changes"})
    assert list(found.commands) == ["git checkout c0ffee1234", "dvc repro", "labelrel report", "labelrel ui"]
    assert "without the local changes" in found.commands["git checkout c0ffee1234"]
    assert found.alone == {
        "labelrel align --train data/training/cc --seed 42": "filter",
        "labelrel align --train data/training/bb --seed 42": "naive",
    }
    assert found.inputs.filter(input="items").rows() == [("items", "data/items/aa", "aa", "all")]
    assert found.inputs.filter(input="training")["methods"].to_list() == ["filter", "naive"]
    assert found.mixed == []


@pytest.mark.parametrize("commit", ["", "not in git"])
def test_no_commit_no_checkout(data: Path, commit: str) -> None:
    assert next(iter(origin(compare(data), {"git commit": commit}).commands)) == "dvc repro"


def test_runs_that_read_other_files_are_told(data: Path) -> None:
    with_inputs(data, "align/naive-42", items="aa")
    with_inputs(data, "align/filter-42", items="bb")
    found = origin(compare(data), {})
    assert found.mixed == ["items"]
    (shown,) = origin_section(found, {}, {}).values()
    assert "Not all runs read the same items" in shown
    assert found.inputs["methods"].to_list() == ["filter", "naive"]


def test_paths_are_quoted_and_escaped(data: Path) -> None:
    with_inputs(data, "align/filter-42", training="b <i>")
    (shown,) = origin_section(origin(compare(data), {}), {}, {}).values()
    assert "labelrel align --train &#x27;data/training/b &lt;i&gt;&#x27; --seed 42" in shown
    assert "<i>" not in shown
