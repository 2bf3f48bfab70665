"""What scores are worth on gold: against numbers worked out elsewhere, on the docs' example."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from labelrel import score
from labelrel.errors import ConfigError, InputError
from labelrel.evaluate import accuracy, auroc
from labelrel.goldcheck import GoldOptions, check_against_gold, from_calibrators, show_gold

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
ANSWERS = pl.read_csv(EXAMPLES / "votes.csv").select(item_id="picture", annotator_id="worker", answer="label")
GOLD = pl.read_csv(EXAMPLES / "gold.csv").select(item_id="picture", gold_label="truth")
FEW = 200  # resamples


def check(methods: list[str], gold: pl.DataFrame = GOLD, **options):
    frames = [score(ANSWERS, [name], gold=gold) for name in methods]
    return check_against_gold(frames, gold, GoldOptions(resamples=FEW, **options)), pl.concat(frames)


def test_metrics_are_those_of_the_weak_labels_with_gold():
    (summary, columns), scores = check(["share"])
    weak = scores.filter("weak_label").join(GOLD, on="item_id")
    right = (weak["answer"] == weak["gold_label"]).to_numpy()
    found = summary["methods"]["share"]
    assert found["num_labels"] == weak.height == 160
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(accuracy(right))
    assert found["metrics"]["auroc"]["value"] == pytest.approx(auroc(weak["share"], right))
    assert found["metrics"]["auroc"]["low"] < found["metrics"]["auroc"]["value"] < found["metrics"]["auroc"]["high"]
    assert not columns.calibrators
    assert not columns.thresholds
    json.dumps(summary, allow_nan=False)


def test_labels_without_a_quality_are_counted_and_left_out():
    one_each = ANSWERS.unique("item_id", keep="first", maintain_order=True)
    frames = [score(one_each, ["entropy"])]
    summary, columns = check_against_gold(frames, GOLD, GoldOptions(target_accuracy=0.5, resamples=FEW))
    found = summary["methods"]["entropy"]
    assert found["num_without_quality"] == found["num_labels"] == 160
    assert "metrics" not in found
    assert columns.thresholds == {"entropy": None}
    assert columns.add(frames[0])["kept"].sum() == 0


def test_the_cut_keeps_what_it_says_and_is_right_often_enough():
    (summary, columns), scores = check(["entropy"], target_accuracy=0.9)
    target = summary["methods"]["entropy"]["target"]
    added = columns.add(scores)
    kept = added.filter("kept")
    assert kept.height == target["num_kept"] > 0
    assert kept["weak_label"].all()
    assert kept["label_quality"].min() >= target["threshold"]
    left = added.filter(pl.col("weak_label") & ~pl.col("kept"))
    assert left["label_quality"].max() < target["threshold"]
    assert target["lower_bound"] >= 0.9
    assert "keep scores of at least" in target["sentence"]


def test_several_methods_share_the_allowed_error():
    (one, _), _ = check(["entropy"], target_accuracy=0.9)
    (two, _), _ = check(["entropy", "share"], target_accuracy=0.9)
    assert one["methods"]["entropy"]["target"]["confidence"] == pytest.approx(0.9)
    assert two["methods"]["entropy"]["target"]["confidence"] == pytest.approx(0.95)


def test_no_threshold_is_an_answer():
    (summary, columns), _ = check(["entropy"], target_accuracy=0.999)
    assert summary["methods"]["entropy"]["target"]["threshold"] is None
    assert "no threshold qualifies" in summary["methods"]["entropy"]["target"]["sentence"]
    assert columns.thresholds == {"entropy": None}


def test_calibrated_probabilities_fit_better_and_survive_the_file(tmp_path):
    path = tmp_path / "calibrators.json"
    (summary, columns), scores = check(["reliability"], calibrate="isotonic", save_calibrator=path)
    found = summary["methods"]["reliability"]
    assert found["calibrated"]["brier"]["value"] < found["metrics"]["brier"]["value"]
    again = from_calibrators(path, ["reliability"])
    probability = columns.add(scores)["probability"]
    assert again.add(scores)["probability"].equals(probability)
    assert probability.null_count() == scores.filter(~pl.col("weak_label")).height
    assert probability.drop_nulls().is_between(0, 1).all()


def test_out_of_fold_probabilities_do_not_know_their_label():
    # a score that says nothing: its calibrated Brier score cannot beat that of the base rate by more than chance
    rng = np.random.default_rng(0)
    noise = score(ANSWERS, ["share"]).with_columns(
        label_quality=pl.Series(rng.random(score(ANSWERS, ["share"]).height))
    )
    summary, _ = check_against_gold([noise], GOLD, GoldOptions(calibrate="isotonic", resamples=FEW))
    base = summary["methods"]["share"]["metrics"]["accuracy"]["value"]
    assert (
        summary["methods"]["share"]["calibrated"]["brier"]["value"] > base * (1 - base) - 0.001
    )  # in sample it is .0025 lower


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target_accuracy": 1.5}, "--target-accuracy must lie between 0 and 1, got 1.5"),
        ({"target_accuracy": 0.0}, "--target-accuracy must lie between 0 and 1, got 0"),
        ({"confidence": 1.0}, "--confidence must be at least 0.5 and below 1, got 1"),
        ({"save_calibrator": Path("c.json")}, "--save-calibrator needs --calibrate"),
    ],
)
def test_impossible_options_are_told(options, match):
    with pytest.raises(ConfigError, match=match):
        GoldOptions(**options)


def test_gold_of_other_items_is_told_with_both_sides():
    other = GOLD.with_columns(item_id=pl.lit("x") + pl.col("item_id"))
    with pytest.raises(
        InputError, match=r"none of its 160 items has a weak label \(gold has xpicture-000, .*; the answers have pict"
    ):
        check(["share"], other)


def test_a_calibrator_of_another_method_is_told(tmp_path):
    check(["share"], calibrate="platt", save_calibrator=tmp_path / "c.json")
    with pytest.raises(InputError, match=r"no calibrator for method 'entropy' \(found: share\)"):
        from_calibrators(tmp_path / "c.json", ["entropy"])


def test_people_see_metrics_with_intervals_and_one_sentence_per_method(capsys):
    (summary, _), _ = check(["entropy", "share"], target_accuracy=0.9, calibrate="platt")
    show_gold(summary)
    out = capsys.readouterr().out
    assert "label quality against gold [95% interval over items]" in out
    assert "calibrated probability against gold, out of fold" in out
    assert "The allowed error is shared by 2 methods" in out
    assert "\nentropy: accuracy 0.9 with confidence 0.95: keep scores" in out
