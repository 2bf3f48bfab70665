"""The table from the stages' files: known numbers, order, and what does not belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_results import write_results, write_run, write_runs, write_training

from labelrel.errors import InputError
from labelrel.report import Comparison, Sources, collect


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path / "data")


def compare(data: Path, **options: Any) -> Comparison:
    return collect(Sources.under(data), bootstrap=500, **options)


def test_known_table(data: Path) -> None:
    rows = {row.method: row for row in compare(data).rows}
    # of 20 test items: floor 5 right, naive 10, filter 14, random 9, ceiling 18
    assert {name: row.test_accuracy for name, row in rows.items()} == {
        "floor": 0.25,
        "filter": 0.7,
        "naive": 0.5,
        "random": 0.45,
        "ceiling": 0.9,
    }
    assert rows["filter"].pgr == pytest.approx((14 - 5) / (18 - 5))
    assert rows["naive"].pgr == pytest.approx((10 - 5) / (18 - 5))
    assert (rows["floor"].pgr, rows["ceiling"].pgr) == (0.0, 1.0)
    assert rows["filter"].diff_naive == pytest.approx(4 / 20)
    assert rows["random"].diff_naive == pytest.approx(-1 / 20)
    assert rows["naive"].diff_naive is None
    assert rows["filter"].kept_fraction == 0.5
    assert rows["filter"].num_items == 2
    assert rows["floor"].kept_fraction is None
    assert rows["filter"].num_test_items == 20
    assert rows["filter"].seeds == [42]


def test_intervals_enclose_their_numbers(data: Path) -> None:
    row = next(r for r in compare(data).rows if r.method == "filter")
    assert 0.4 < row.accuracy_lo < row.test_accuracy < row.accuracy_hi < 1
    assert row.pgr_lo is not None
    assert row.pgr is not None
    assert row.pgr_hi is not None
    assert row.pgr_lo < row.pgr < row.pgr_hi
    # paired: 4 items differ, all in favour, so the interval of the difference lies above 0
    assert row.diff_naive_lo is not None
    assert row.diff_naive_lo > 0


def test_pairing_is_by_item_not_by_place(data: Path) -> None:
    # predictions are shuffled with the seed; the same correctness in another order changes nothing
    folder = write_run(data / "align" / "copy-7", "copy", "method", [1] * 14 + [0] * 6, seed=7)
    rows = {row.method: row for row in compare(data).rows}
    assert folder.is_dir()
    assert (rows["copy"].diff_naive_lo, rows["copy"].diff_naive_hi) == (
        rows["filter"].diff_naive_lo,
        rows["filter"].diff_naive_hi,
    )


def test_order_is_floor_methods_controls_ceiling(data: Path) -> None:
    write_run(data / "align" / "oracle-42", "oracle", "control", [1] * 17 + [0] * 3)
    assert [row.method for row in compare(data).rows] == ["floor", "filter", "naive", "oracle", "random", "ceiling"]


def test_seeds_of_a_method_are_one_row(data: Path) -> None:
    write_run(data / "align" / "filter-43", "filter", "method", [1] * 16 + [0] * 4, seed=43, seconds=20.0)
    comparison = compare(data)
    row = next(r for r in comparison.rows if r.method == "filter")
    assert row.seeds == [42, 43]
    assert row.test_accuracy == pytest.approx((14 + 16) / 40)
    assert row.seconds == 15.0
    runs = next(r for r in comparison.runs if r.method == "filter")
    assert [folder.name for folder in runs.folders] == ["filter-42", "filter-43"]
    assert runs.correct.sum(axis=1).tolist() == [14.0, 16.0]


def test_same_seed_same_intervals(data: Path) -> None:
    assert compare(data, seed=3).rows == compare(data, seed=3).rows
    assert compare(data, seed=3).rows != compare(data, seed=4).rows


def test_methods_left_from_an_earlier_params_file_are_not_reported(data: Path) -> None:
    assert [r.method for r in compare(data, methods=["naive"]).rows] == ["floor", "naive", "ceiling"]


def test_label_auroc_is_that_of_the_scores_the_selection_read(data: Path) -> None:
    rows = {r.method: r for r in compare(data, label_aurocs={"entropy": 0.75, "share": 0.5}).rows}
    assert rows["filter"].label_auroc == 0.75
    assert rows["naive"].label_auroc is None


def test_shared_params_leave_out_what_differs(data: Path) -> None:
    assert compare(data).params == {"align.epochs": 2.0}


def test_pgr_is_null_without_a_positive_gap(tmp_path: Path) -> None:
    half = [1, 0] * 10
    data = write_runs(tmp_path, floor=("floor", half), naive=("method", half), ceiling=("ceiling", half))
    for row in compare(data).rows:
        assert (row.pgr, row.pgr_lo, row.pgr_hi) == (None, None, None)
        assert row.pgr_reason is not None
        assert "not above 0 with 95% confidence" in row.pgr_reason


def test_pgr_is_null_without_a_ceiling(tmp_path: Path) -> None:
    comparison = compare(write_runs(tmp_path, floor=("floor", [1, 0]), naive=("method", [1, 1])))
    assert comparison.gap is None
    assert {row.pgr_reason for row in comparison.rows} == {"there is no ceiling run"}


def remove(data: Path, name: str) -> None:
    (data / name).unlink()


def edit(data: Path, name: str, **entries: Any) -> None:
    file = data / name
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda d: remove(d, "supervise/run.json"), "run `labelrel supervise` first"),
        (
            lambda d: [remove(d, f"align/{p.name}/run.json") for p in (d / "align").iterdir()],
            "run `labelrel align` first",
        ),
        (lambda d: remove(d, "align/naive-42/predictions.parquet"), "no such file: .*naive-42"),
        (lambda d: edit(d, "align/naive-42/run.json", task="other"), "on task 'other', .* on 'toy'"),
        (lambda d: edit(d, "align/naive-42/run.json", model="other"), "of model '(other|strong)'"),
        (lambda d: edit(d, "align/naive-42/run.json", role="hero"), "unknown role 'hero'; allowed: floor"),
        (lambda d: (d / "align/naive-42/run.json").write_text('{"seed": 1}'), "has no method, role, task, model"),
        (lambda d: (d / "align/naive-42/run.json").write_text("{"), "is not JSON"),
        (lambda d: (d / "training/naive.json").write_text("[]"), "run `labelrel select` again"),
        (
            lambda d: write_run(d / "align/more-42", "more", "method", [1] * 21),
            r"tested on 21 items, .* on 20; 1 are not in both \(i20\)",
        ),
        (lambda d: write_run(d / "align/none-42", "none", "method", []), "no row in split 'test'"),
        (lambda d: write_run(d / "align/null-42", "null", "method", [1, None]), r"1 test items are neither.*\(i1\)"),
    ],
)
def test_bad_input_is_one_line(data: Path, damage: Callable[[Path], object], match: str) -> None:
    damage(data)
    with pytest.raises(InputError, match=match) as caught:
        compare(data)
    assert "\n" not in str(caught.value)


def test_method_asked_for_but_not_aligned(data: Path) -> None:
    with pytest.raises(InputError, match="no results for reweight; run `labelrel align` first"):
        compare(data, methods=["naive", "reweight"])


def test_labels_of_a_method_that_looks_twice_are_those_of_its_last_stage(data: Path) -> None:
    write_training(data, "filter", kept_fraction=0.5, label_accuracy=0.75, num_items=20)
    for seed, (items, right) in {42: (30, 0.8), 43: (34, 0.6)}.items():
        stages = [{"num_items": 20, "label_accuracy": 0.75}, {"num_items": items, "label_accuracy": right}]
        write_run(data / "align" / f"filter-{seed}", "filter", "method", [1] * 20, seed=seed, stages=stages)
    row = next(row for row in collect(Sources.under(data), bootstrap=50).rows if row.method == "filter")
    assert (row.num_items, row.kept_fraction, row.label_accuracy) == pytest.approx((32, 0.8, 0.7))
