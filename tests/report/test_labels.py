"""Numbers about the weak labels, worked out by hand from four items."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from fake_results import write_results
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.report import Sources
from labelrel.report.labels import entropy_bars, examples, read_labels, reliability_cells, score_table, with_gold


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path / "data")


@pytest.fixture
def items(data: Path) -> pl.DataFrame:
    return read_labels(Sources.under(data))[0]


@pytest.fixture
def scores(data: Path) -> pl.DataFrame:
    return read_labels(Sources.under(data))[1]


@pytest.fixture
def weak(items: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    return with_gold(scores.filter("weak_label"), items)


def test_auroc_of_a_score(weak: pl.DataFrame) -> None:
    row = score_table(weak).row(by_predicate=pl.col("method") == "share", named=True)
    assert (row["num_items"], row["num_scored"], row["label_accuracy"]) == (4, 4, 0.75)
    # right labels have quality 1, 1, .6 and the wrong one 1: (1/2 + 1/2 + 0) / 3
    assert row["auroc"] == pytest.approx(1 / 3)


def test_null_quality_is_counted_not_ranked(weak: pl.DataFrame) -> None:
    unscored = weak.with_columns(pl.when(pl.col("item_id") != "c").then("label_quality").alias("label_quality"))
    row = score_table(unscored).row(0, named=True)
    assert (row["num_items"], row["num_scored"]) == (4, 3)
    assert row["auroc"] == 0.5  # all that is left is tied


def test_auroc_is_null_where_all_labels_are_right(weak: pl.DataFrame) -> None:
    assert score_table(weak.filter("correct"))["auroc"].to_list() == [None, None]


def test_entropy_bars_count_answers(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    # unanimous: a and b right, d wrong, five answers each; split: c with 3 right and 2 wrong
    expected = pl.DataFrame({"entropy": [0.0, 0.67], "right": [10, 3], "wrong": [5, 2], "accuracy": [10 / 15, 3 / 5]})
    assert_frame_equal(entropy_bars(scores, items), expected)


def test_many_levels_of_entropy_share_bars(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    ids = [f"i{n}" for n in range(40)]
    many = pl.concat([items.filter(pl.col("item_id") == "a").with_columns(item_id=pl.lit(i)) for i in ids])
    entropy = scores.filter((pl.col("method") == "entropy") & (pl.col("item_id") == "a"))
    spread = pl.concat([entropy.with_columns(item_id=pl.lit(i), score=pl.lit(n / 40)) for n, i in enumerate(ids)])
    bars = entropy_bars(spread, many)
    # 0 to .125 round to 0 (half to even), and so on to 1: 40 items of 5 votes
    assert bars["entropy"].to_list() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert bars["right"].sum() == 200


def test_zero_entropy_has_no_minus_sign(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    negative = scores.with_columns(score=-pl.col("score").abs() * 0)
    assert [f"{e:.2f}" for e in entropy_bars(negative, items)["entropy"]] == ["0.00"]


def test_reliability_cells_are_means_per_weak_and_gold_label(weak: pl.DataFrame) -> None:
    cells = {(a, g): (r, n) for a, g, r, n in reliability_cells(weak).iter_rows()}
    assert cells == {(0, 0): (1.0, 1), (1, 1): (1.0, 1), (2, 2): (0.6, 1), (1, 3): (1.0, 1)}


def test_open_items_have_no_cells(weak: pl.DataFrame) -> None:
    assert reliability_cells(weak.with_columns(choices=pl.lit(None, dtype=pl.List(pl.String)))).is_empty()
    assert reliability_cells(weak.clear()).is_empty()


def test_examples_are_wrong_labels_in_words(weak: pl.DataFrame) -> None:
    assert examples(weak).rows() == [("d", "Where?", "Rome", "Lima", 1.0)]
    assert examples(weak.clear()).is_empty()


def test_open_answers_are_shown_as_they_are(weak: pl.DataFrame) -> None:
    opened = weak.with_columns(choices=pl.lit(None, dtype=pl.List(pl.String)))
    assert examples(opened).select("weak_label", "gold_label").rows() == [("1", "3")]


def test_items_without_gold_are_left_out(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    hidden = items.with_columns(pl.when(pl.col("item_id") != "d").then("gold_label").alias("gold_label"))
    assert set(with_gold(scores, hidden)["item_id"]) == {"a", "b", "c"}


def test_items_of_other_splits_are_left_out(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    dev = items.with_columns(
        pl.when(pl.col("item_id") == "d").then(pl.lit("gold_dev")).otherwise("split").alias("split")
    )
    assert set(with_gold(scores, dev)["item_id"]) == {"a", "b", "c"}


@pytest.mark.parametrize(("file", "stage"), [("items.parquet", "prepare"), ("scores.parquet", "score")])
def test_missing_table_names_its_stage(data: Path, file: str, stage: str) -> None:
    (data / file).unlink()
    with pytest.raises(InputError, match=f"{file}; run `labelrel {stage}` first"):
        read_labels(Sources.under(data))
