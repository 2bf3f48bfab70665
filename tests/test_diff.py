"""`diff`: flips, shifts and the kept set of two scores tables, and of two training sets."""

from __future__ import annotations

import json

import polars as pl
import pytest

from labelrel.diff import DiffOptions, diff_tables, show_diff
from labelrel.errors import ConfigError, InputError, UnknownNameError
from labelrel.schema import SCORES


def scores(rows, method="share"):
    """From (item_id, answer, weak_label, label_quality)."""
    known = [
        {
            "method": method, "item_id": item, "answer": answer, "num_votes": 1, "num_answers": 2, "share": 0.5,
            "reliability": 0.5, "score": quality, "weak_label": weak, "label_quality": quality, "tie": False,
        }
        for item, answer, weak, quality in rows
    ]  # fmt: skip
    return pl.DataFrame(known, schema=SCORES)


OLD = scores(
    [
        ("same", "A", True, 0.9),
        ("flip", "A", True, 0.6),
        ("flip", "B", False, 0.4),
        ("lost", "A", True, 0.7),
        ("gained", None, False, None),
        ("gone", "A", True, 0.8),
        ("unknown", "A", True, None),
    ]
)
NEW = scores(
    [
        ("unknown", "A", True, 0.5),
        ("added", "A", True, 0.8),
        ("gained", "B", True, 0.95),
        ("lost", None, False, None),
        ("flip", "B", True, 0.8),
        ("flip", "A", False, 0.2),
        ("same", "A", True, 0.7),
    ]
)


@pytest.fixture
def diff(tmp_path):
    def run(old, new, *, suffixes=(".parquet", ".parquet"), **options):
        paths = []
        for name, frame, suffix in zip(("old", "new"), (old, new), suffixes, strict=True):
            path = tmp_path / f"{name}{suffix}"
            write = {".parquet": frame.write_parquet, ".csv": frame.write_csv, ".jsonl": frame.write_ndjson}[suffix]
            write(path)
            paths.append(path)
        return diff_tables(*paths, DiffOptions(**options))

    return run


def test_what_changed(diff):
    result = diff(OLD, NEW)
    assert (result["kind"], result["only_in_old"], result["only_in_new"]) == ("scores", [], [])
    found = result["methods"]["share"]
    assert found["items"] == {
        "old": 6, "new": 6, "both": 5, "gone": {"num": 1, "items": ["gone"]}, "added": {"num": 1, "items": ["added"]},
    }  # fmt: skip
    # of the three items with a label in both, one has another
    assert (found["flips"]["num"], found["flips"]["share"]) == (1, pytest.approx(1 / 3))
    assert found["flips"]["rows"] == [
        {"item_id": "flip", "old_label": "A", "new_label": "B", "old_quality": 0.6, "new_quality": 0.8}
    ]
    assert found["lost"] == {"num": 1, "items": ["lost"]}
    assert found["gained"] == {"num": 1, "items": ["gained"]}
    # quality in both: same .9 → .7, flip .6 → .8; "unknown" had none
    shifts = found["shifts"]
    assert shifts["num"] == 2
    assert (shifts["mean"], shifts["mean_abs"], shifts["max_abs"]) == pytest.approx((0, 0.2, 0.2), abs=1e-12)
    assert {row["item_id"] for row in shifts["rows"]} == {"same", "flip"}
    assert found["kept"] is None
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_format_of_a_table_does_not_matter(diff, suffix):
    parquet = diff(OLD, NEW, threshold=0.75)
    other = diff(OLD, NEW, suffixes=(suffix, ".parquet"), threshold=0.75)
    assert other["methods"] == parquet["methods"]


def test_a_table_beside_itself(diff):
    found = diff(OLD, OLD, threshold=0.5)["methods"]["share"]
    assert (found["flips"]["num"], found["shifts"]["max_abs"], found["shifts"]["rows"]) == (0, 0, [])
    assert found["kept"]["old"] == found["kept"]["new"] == found["kept"]["both"] == 4


def test_kept_by_threshold(diff):
    kept = diff(OLD, NEW, threshold=0.8)["methods"]["share"]["kept"]
    # old: same, gone; new: added, gained, flip; a label without a quality is not kept
    assert (kept["by"], kept["old"], kept["new"], kept["both"]) == ("label quality of at least 0.8", 2, 3, 0)
    assert kept["entering"] == {"num": 3, "items": ["added", "gained", "flip"]}
    assert kept["leaving"] == {"num": 2, "items": ["same", "gone"]}


def test_kept_by_fraction(diff):
    kept = diff(OLD, NEW, keep=0.4)["methods"]["share"]["kept"]
    # .4 of five labels each: same, gone; gained and one of added and flip, which are tied at .8
    assert (kept["old"], kept["new"], kept["leaving"]["num"]) == (2, 2, 2)
    assert kept["entering"]["items"] in (["gained", "flip"], ["added", "gained"])


def test_a_fraction_that_cuts_through_ties_keeps_the_same_items(diff):
    tied = scores([(f"q{n}", "A", True, 0.5) for n in range(100)])
    kept = diff(tied, tied.reverse(), keep=0.07)["methods"]["share"]["kept"]
    assert (kept["old"], kept["both"]) == (7, 7)  # .07 * 100 is a hair above 7


def test_kept_by_column(diff):
    old = scores([("a", "A", True, 0.9), ("b", "A", True, 0.8)]).with_columns(kept=pl.Series([True, False]))
    new = old.with_columns(kept=pl.Series([False, True]))
    kept = diff(old, new, suffixes=(".csv", ".parquet"))["methods"]["share"]["kept"]
    assert (kept["by"], kept["entering"]["items"], kept["leaving"]["items"]) == ("column kept", ["b"], ["a"])
    assert diff(old, new.drop("kept"))["methods"]["share"]["kept"] is None


def test_methods_in_one_table_only_are_told(diff):
    old = pl.concat([OLD, scores([("a", "A", True, 0.5)], "mace")])
    new = pl.concat([scores([("a", "A", True, 0.5)], "glad"), NEW])
    result = diff(old, new)
    assert (result["only_in_old"], result["only_in_new"], list(result["methods"])) == (["mace"], ["glad"], ["share"])


def test_the_most_certain_flip_and_the_largest_shift_come_first_and_lists_are_cut(diff):
    old = scores([(f"q{n}", "A", True, 0.5) for n in range(6)])
    new = scores([(f"q{n}", "B", True, 0.5 + n / 10) for n in range(5)] + [("q5", "B", True, None)])
    found = diff(old, new, top=2)["methods"]["share"]
    assert found["flips"]["num"] == 6
    assert [row["item_id"] for row in found["flips"]["rows"]] == ["q4", "q3"]
    assert [row["change"] for row in found["shifts"]["rows"]] == pytest.approx([0.4, 0.3])
    assert found["shifts"]["num"] == 5


def test_training_sets(diff):
    old = pl.DataFrame(
        # two rows of one item, as in the paper's protocol: B has most weight
        {"item_id": ["a", "a", "b", "c"], "answer": ["A", "B", "A", "A"], "weight": [0.2, 0.5, 1.0, 1.0]}
    )
    new = pl.DataFrame({"item_id": ["a", "b", "d"], "answer": ["A", "A", "A"], "weight": [1.0, 0.25, 0.0]})
    result = diff(old, new, suffixes=(".csv", ".jsonl"))
    found = result["methods"]["training set"]
    assert result["kind"] == "training set"
    assert found["items"]["gone"] == {"num": 1, "items": ["c"]}
    assert found["items"]["added"] == {"num": 1, "items": ["d"]}
    assert found["flips"]["rows"] == [
        {"item_id": "a", "old_label": "B", "new_label": "A", "old_weight": 0.7, "new_weight": 1.0}
    ]
    assert found["shifts"]["max_abs"] == pytest.approx(0.75)
    # a weight of 0 trains nothing
    assert (found["kept"]["entering"]["num"], found["kept"]["leaving"]["items"]) == (0, ["c"])


def test_training_sets_without_answers_are_compared_by_target(diff):
    old = pl.DataFrame({"item_id": ["a"], "target": [" Rome"], "weight": [1.0]})
    new = old.with_columns(target=pl.lit(" Bern"), answer=pl.lit("1"))
    (flip,) = diff(old, new)["methods"]["training set"]["flips"]["rows"]
    assert (flip["old_label"], flip["new_label"]) == (" Rome", " Bern")


TRAINING = pl.DataFrame({"item_id": ["a"], "answer": ["A"], "weight": [1.0]})
BAD = [
    (OLD, TRAINING, {}, InputError, "compare like with like"),
    (OLD, OLD.drop("weak_label"), {}, InputError, "new.parquet has no column 'weak_label'"),
    (OLD, OLD.select("item_id"), {}, InputError, "neither scores"),
    (OLD, TRAINING.drop("answer"), {}, InputError, "neither 'answer' nor 'target'"),
    (OLD, scores([("a", "A", True, 0.5)], "glad"), {}, InputError, "no method is in both tables"),
    (OLD, NEW, {"method": "shaer"}, UnknownNameError, "did you mean 'share'"),
    (OLD, NEW.with_columns(label_quality=2.0), {}, InputError, r"label_quality must lie in \[0, 1\], got 2"),
    (OLD, NEW.with_columns(label_quality=pl.lit("high")), {}, InputError, "label_quality 'high' is not a number"),
    (OLD, NEW.with_columns(weak_label=pl.lit("yes")), {}, InputError, "weak_label 'yes' is not true or false"),
    (OLD, NEW.with_columns(weak_label=True), {}, InputError, "item flip has more than one weak label"),
    (OLD, NEW.with_columns(item_id=pl.lit(None, pl.String), answer=pl.int_range(pl.len()).cast(pl.String)), {},
     InputError, "rows have no item_id"),
    (TRAINING, TRAINING.with_columns(weight=float("inf")), {}, InputError, "weight must be finite"),
    (TRAINING, TRAINING, {"threshold": 0.5}, ConfigError, "no --method, --threshold"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "options", "error", "message"), BAD)
def test_tables_that_cannot_be_compared(diff, old, new, options, error, message):
    with pytest.raises(error, match=message) as caught:
        diff(old, new, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.5, "keep": 0.5}, "give one"),
        ({"threshold": 1.5}, "1.5"),
        ({"keep": 0}, "0"),
        ({"top": -1}, "-1"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        DiffOptions(**options)


def test_it_is_told_as_aligned_text(diff, capsys):
    new = pl.concat([NEW, scores([("a", "A", True, 0.5)], "glad")])
    show_diff(diff(OLD, new, threshold=0.8, top=1))
    printed = capsys.readouterr().out
    assert "only in the new table: glad" in printed
    assert "share: 3 entering the kept set: added, …" in printed
    assert "labels that changed: share" in printed
    assert len([line for line in printed.splitlines() if line.split()[:3] == ["flip", "A", "B"]]) >= 1
