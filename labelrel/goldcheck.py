"""What scores are worth, measured on gold labels: metrics, calibration, and the cut at a target accuracy.

The unit is the item and its weak label; what ranks is `label_quality`. Items with gold were scored
without their own gold label, and a calibrated probability here comes from a fit that has not seen the
item, so nothing is measured on what it was fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from labelrel.errors import ConfigError, InputError, some
from labelrel.scoring.calibrator_files import read_calibrators, write_calibrators
from labelrel.scoring.calibrators import Calibrator, cross_fit, fit_calibrator
from labelrel.show import print_table

CalibratorKind = Literal["platt", "isotonic", "beta"]


@dataclass(frozen=True, kw_only=True)
class GoldOptions:
    """What to measure on gold.

    Attributes:
        calibrate: kind of calibrator to fit from label quality to P(right); None fits none.
        save_calibrator: where to write the calibrators, JSON; None writes none.
        target_accuracy: keep the largest set whose accuracy is at least this, in (0, 1).
        confidence: with which that must hold, in (.5, 1), for all methods asked together.
        level: of the intervals around the metrics.
        resamples: bootstrap draws of items.
        seed: of the draws.
    """

    calibrate: CalibratorKind | None = None
    save_calibrator: Path | None = None
    target_accuracy: float | None = None
    confidence: float = 0.9
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is impossible."""
        if self.target_accuracy is not None and not 0 < self.target_accuracy < 1:
            raise ConfigError(f"--target-accuracy must lie between 0 and 1, got {self.target_accuracy:g}.")
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"--confidence must be at least 0.5 and below 1, got {self.confidence:g}.")
        if self.save_calibrator is not None and self.calibrate is None:
            raise ConfigError("--save-calibrator needs --calibrate platt, isotonic or beta.")


@dataclass(frozen=True)
class Columns:
    """What a gold set, or a file of calibrators, adds to the scores table.

    Attributes:
        calibrators: method → from its label quality to `probability`.
        thresholds: method → least label quality of a label that is `kept`; None keeps none.
    """

    calibrators: dict[str, Calibrator] = field(default_factory=dict)
    thresholds: dict[str, float | None] = field(default_factory=dict)

    def add(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a piece of the scores table with `probability` and `kept`, where they are known.

        `probability` is that of the answer being right, null where its quality is; `kept` is true on
        weak labels that are at or above the threshold of their method.
        """
        method = frame["method"][0]
        if self.calibrators:
            known = self.calibrators.get(method)
            value = known.apply(frame["label_quality"]) if known else pl.Series([None] * frame.height, dtype=pl.Float64)
            frame = frame.with_columns(probability=pl.when("weak_label").then(value))
        if self.thresholds:
            least = self.thresholds.get(method)
            above = pl.lit(False) if least is None else (pl.col("label_quality") >= least).fill_null(False)
            frame = frame.with_columns(kept=pl.col("weak_label") & above)
        return frame

    def over(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the pieces with their columns."""
        for frame in frames:
            yield self.add(frame)


def check_against_gold(
    frames: Iterable[pl.DataFrame], gold: pl.DataFrame, options: GoldOptions, where: str = "gold"
) -> tuple[dict[str, Any], Columns]:
    """Measure each method's weak labels on gold, calibrate, and cut at the target accuracy.

    Args:
        frames: the scores table in pieces.
        gold: `item_id, gold_label`, both text.
        options: what to do.
        where: what messages call the gold labels.

    Returns:
        What was found, a JSON-able dict: `num_gold`, `level`, and per method `metrics` (name → value, low,
        high), `risk_coverage`, and where asked for `calibrated` and `target`; and the columns it gives
        the scores.

    Raises:
        InputError: no item has both a weak label and gold, or too few to calibrate.
    """
    from labelrel.evaluate.reliability import reliability_metrics, risk_coverage_interval

    labels = _weak_labels(frames)
    summary: dict[str, Any] = {"num_gold": gold.height, "level": options.level, "methods": {}}
    columns = Columns()
    for method, mine in labels.items():
        checked = mine.join(gold, on="item_id", how="inner", maintain_order="left")
        if checked.is_empty():
            raise InputError(
                f"{where}: none of its {gold.height} items has a weak label (gold has {some(gold['item_id'])}; "
                f"the answers have {some(mine['item_id'].head(4))}); check the item columns."
            )
        known = checked.drop_nulls("label_quality").with_columns(correct=pl.col("answer") == pl.col("gold_label"))
        found: dict[str, Any] = {
            "num_labels": checked.height,
            "num_without_quality": checked.height - known.height,
            "accuracy_all": float((checked["answer"] == checked["gold_label"]).mean()),  # type: ignore[arg-type]
        }
        if known.height:
            measure = partial(
                reliability_metrics, confidence=options.level, resamples=options.resamples, seed=options.seed
            )
            quality, correct = known["label_quality"], known["correct"]
            found["metrics"] = _plain(measure(quality, correct, probability=quality))
            found["risk_coverage"] = risk_coverage_interval(
                quality, correct, confidence=options.level, resamples=options.resamples, seed=options.seed
            ).to_dicts()
            if options.calibrate:
                held_out = cross_fit(options.calibrate, quality, correct, known["item_id"])
                columns.calibrators[method] = fit_calibrator(options.calibrate, quality, correct, method=method)
                measured = measure(quality, correct, probability=held_out)
                found["calibrated"] = {k: v for k, v in _plain(measured).items() if k in ("brier", "ece", "ece_mass")}
            if options.target_accuracy is not None:
                found["target"] = _cut(known, mine, options, len(labels))
                columns.thresholds[method] = found["target"]["threshold"]
        elif options.target_accuracy is not None:
            columns.thresholds[method] = None
        summary["methods"][method] = found
    if options.save_calibrator is not None:
        write_calibrators(options.save_calibrator, columns.calibrators)
    return summary, columns


def from_calibrators(path: Path, methods: list[str]) -> Columns:
    """Return the columns that calibrators of an earlier gold set give.

    Raises:
        InputError: no such file, no calibrators in it, or none for one of the methods.
    """
    calibrators = read_calibrators(path)
    lacking = [name for name in methods if name not in calibrators]
    if lacking:
        raise InputError(
            f"{path} has no calibrator for method '{lacking[0]}' (found: {', '.join(calibrators)}); "
            "score with those methods, or fit it again with --gold and --calibrate."
        )
    return Columns(calibrators={name: calibrators[name] for name in methods})


def show_gold(summary: dict[str, Any]) -> None:
    """Print what the gold labels said."""
    rows = []
    for method, found in summary["methods"].items():
        row: dict[str, Any] = {"method": method, "gold": found["num_labels"]}
        for name in ("accuracy", "auroc", "aurc", "e_aurc", "augrc", "brier", "ece", "ece_mass"):
            row[name] = _with_interval(found.get("metrics", {}).get(name))
        rows.append(row)
    print_table(rows, f"label quality against gold [{summary['level']:.0%} interval over items]")
    calibrated = [
        {"method": method, **{k: _with_interval(v) for k, v in found["calibrated"].items()}}
        for method, found in summary["methods"].items()
        if "calibrated" in found
    ]
    if calibrated:
        print()
        print_table(calibrated, "calibrated probability against gold, out of fold")
    for method, found in summary["methods"].items():
        if "risk_coverage" in found:
            print()
            print_table(_tenths(found["risk_coverage"]), f"risk at coverage: {method}")
    if len(summary["methods"]) > 1 and any("target" in f for f in summary["methods"].values()):
        print(f"\nThe allowed error is shared by {len(summary['methods'])} methods, so that the best may be picked:")
    sentences = [(m, f["target"]["sentence"]) for m, f in summary["methods"].items() if "target" in f]
    if sentences:
        print()
    for method, sentence in sentences:
        print(f"{method}: {sentence}")


def _tenths(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first row at or above each tenth of the coverage, which is what fits a screen."""
    shown: dict[int, dict[str, Any]] = {}
    for row in rows:
        shown.setdefault(math.floor(row["coverage"] * 10 + 1e-9), row)
    return [row for tenth, row in shown.items() if tenth]


def _weak_labels(frames: Iterable[pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Return per method the weak label of every item and its quality."""
    parts: dict[str, list[pl.DataFrame]] = {}
    for frame in frames:
        weak = frame.filter("weak_label").select("item_id", "answer", "label_quality")
        parts.setdefault(frame["method"][0], []).append(weak)
    return {method: pl.concat(pieces) for method, pieces in parts.items()}


def _cut(known: pl.DataFrame, pool: pl.DataFrame, options: GoldOptions, num_methods: int) -> dict[str, Any]:
    """Return the cut of one method; the allowed error is shared by all methods that were asked."""
    from labelrel.selection.target import certify

    assert options.target_accuracy is not None
    certified = certify(
        known["label_quality"],
        known["correct"],
        pool["label_quality"].drop_nulls(),
        target=options.target_accuracy,
        confidence=1 - (1 - options.confidence) / num_methods,
    )
    return {**certified.as_dict(), "sentence": certified.sentence()}


def _plain(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"value": m.value, "low": m.low, "high": m.high, "n": m.n} for name, m in metrics.items()}


def _with_interval(metric: dict[str, Any] | None) -> str | None:
    if metric is None or metric["value"] is None:
        return None
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"
