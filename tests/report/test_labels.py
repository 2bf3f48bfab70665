"""Numbers about the weak labels, worked out by hand from four items."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from fake_results import write_results
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.report import Sources
from labelrel.report.labels import (
    diagram,
    entropy_bars,
    examples,
    open_reliability,
    read_labels,
    reliability_cells,
    risk_bands,
    score_table,
    shared_choices,
    with_gold,
)


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


def test_reliability_cells_are_means_over_answers(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    votes = with_gold(scores, items)
    cells = {(a, g): (r, n) for a, g, r, n in reliability_cells(votes).iter_rows()}
    # c is gold 2 with three votes for 2 and two for 0
    assert cells == {(0, 0): (1.0, 5), (1, 1): (1.0, 5), (2, 2): (0.6, 3), (0, 2): (0.4, 2), (1, 3): (1.0, 5)}


def test_reliability_is_weighted_by_votes(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    # all gold labels are 0, so that a's five answers 0 of reliability 1 and c's two of .4 share a cell
    votes = with_gold(scores, items.with_columns(gold_label=pl.lit("0")))
    cells = {(a, g): (r, n) for a, g, r, n in reliability_cells(votes).iter_rows()}
    assert cells[0, 0] == (pytest.approx((5 * 1 + 2 * 0.4) / 7), 7)


def test_labels_that_nobody_voted_for_are_no_answers(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    nobody = scores.head(1).with_columns(answer=pl.lit("3"), num_votes=pl.lit(0, pl.Int64))
    cells = reliability_cells(with_gold(pl.concat([scores, nobody]), items))
    assert (3, 0) not in {(a, g) for a, g, *_ in cells.iter_rows()}


def test_open_items_have_right_and_wrong_answers_instead_of_cells(items: pl.DataFrame, scores: pl.DataFrame) -> None:
    votes = with_gold(scores, items)
    opened = votes.with_columns(choices=pl.lit(None, dtype=pl.List(pl.String)))
    assert reliability_cells(opened).is_empty()
    assert reliability_cells(votes.clear()).is_empty()
    assert open_reliability(votes).is_empty()
    # right: a and b, five each, and three of c at .6; wrong: five of d, and two of c at .4
    found = open_reliability(opened)
    assert found.rows() == [
        (True, pytest.approx((10 + 3 * 0.6) / 13), 13),
        (False, pytest.approx((5 + 2 * 0.4) / 7), 7),
    ]


def test_choices_are_shared_where_every_item_has_the_same(items: pl.DataFrame) -> None:
    assert shared_choices(items) == ["Paris", "Rome", "Oslo", "Lima"]
    turned = pl.when(pl.col("item_id") == "d").then(pl.col("choices").list.reverse()).otherwise("choices")
    assert shared_choices(items.with_columns(choices=turned)) is None
    assert shared_choices(items.with_columns(choices=pl.lit(None, dtype=pl.List(pl.String)))) is None


def test_bands_hold_their_curve(weak: pl.DataFrame) -> None:
    band = risk_bands(weak, ["share"], confidence=0.9, resamples=200, seed=1)["share"]
    assert band["coverage"].to_list() == [0.75, 1.0]
    assert band["risk"].to_list() == [pytest.approx(1 / 3), 0.25]
    assert (band["low"] <= band["risk"]).all()
    assert (band["risk"] <= band["high"]).all()
    assert band["high"][1] > 0.25


def test_diagram_keeps_ties_whole_and_counts_them(weak: pl.DataFrame) -> None:
    found = diagram(weak, "share", confidence=0.95)
    # c alone at .6, right; a, b and d at 1, two of three right
    assert found.bins.select("num_labels", "probability", "accuracy").rows() == [(1, 0.6, 1.0), (3, 1.0, 2 / 3)]
    assert found.ece == pytest.approx(1 / 4 * 0.4 + 3 / 4 * 1 / 3)
    assert found.num_labels == 4
    # Wilson: (2/3 + z²/6 ± z sqrt(2/9/3 + z²/36)) / (1 + z²/3) with z = 1.96
    assert found.bins["low"][1] == pytest.approx(0.2077, abs=1e-4)
    assert found.bins["high"][1] == pytest.approx(0.9385, abs=1e-4)


def test_bins_of_a_diagram_are_of_equal_size() -> None:
    quality = [(n / 100) ** 3 for n in range(100)]  # bins of equal width would hold 47, 12, … labels
    labels = pl.DataFrame(
        {"method": "p", "label_quality": [*quality, None], "correct": [n % 2 == 0 for n in range(101)]}
    )
    found = diagram(labels, "p", confidence=0.95)
    assert found.bins["num_labels"].to_list() == [10] * 10
    assert found.ece == pytest.approx(sum(abs(0.5 - sum(quality[k : k + 10]) / 10) for k in range(0, 100, 10)) / 10)


def test_examples_are_wrong_labels_in_words(weak: pl.DataFrame) -> None:
    assert examples(weak).rows() == [("d", "Where?", "Rome", "Lima", 1.0)]
    assert examples(weak.clear()).is_empty()


def test_open_answers_are_shown_as_they_are(weak: pl.DataFrame) -> None:
    opened = weak.with_columns(choices=pl.lit(None, dtype=pl.List(pl.String)))
    assert examples(opened).select("weak_label", "gold_label").rows() == [("1", "3")]
    huge = opened.with_columns(answer=pl.lit("99999999999999999999"))  # a number that no index can be
    assert set(examples(huge.with_columns(correct=pl.lit(False)))["weak_label"]) == {"99999999999999999999"}


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
