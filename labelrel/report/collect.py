"""Read what the stages left behind: one row per method, over its training seeds.

All runs of a comparison are evaluated on the same test items, so that every interval here is
paired by item. Runs that saw other items are refused, not silently intersected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, TypedDict

from labelrel.evaluate.bootstrap import Interval, interval, paired_difference, pgr_interval
from labelrel.report.runs import (
    ROLES,
    Runs,
    Sources,
    align_folders,
    group_runs,
    only,
    read_runs,
    score_method,
    training_record,
)

BASELINE = "naive"
"""The method that others are compared with: one answer per item, taken as it is."""


@dataclass(frozen=True)
class Row:
    """One method in the table.

    Attributes:
        method: registered name, "floor" or "ceiling".
        role: floor, method, control or ceiling.
        kept_fraction: items it trains on / items of the split; null where no selection was made. This, the next
            and `num_items` are of the last training set of a method that looks twice, the mean over seeds.
        label_accuracy: share of right labels among those, weighted equally; null without gold labels.
        label_auroc: how well the scores that the selection used tell right labels from wrong ones;
            null where it used none.
        num_items: items in the training set.
        test_accuracy: mean over test items and seeds, in [0, 1].
        accuracy_lo: lower end of its interval.
        accuracy_hi: upper end.
        pgr: performance gap recovered; 0 for the floor and 1 for the ceiling by definition; null
            where ceiling - floor is not positive with confidence.
        pgr_lo: lower end; null where `pgr` is, and for floor and ceiling.
        pgr_hi: upper end.
        pgr_reason: why `pgr` is null; null where it is not.
        diff_naive: test accuracy minus that of `naive`, paired by item; null without a `naive` run.
        diff_naive_lo: lower end.
        diff_naive_hi: upper end.
        loss: name of the loss that trained on its labels; null where the run does not tell.
        seconds: wall time of one run (the mean over seeds).
        tokens: tokens of one run (the mean over seeds).
        num_test_items: test items the accuracies rest on.
        seeds: training seeds, ascending.
    """

    method: str
    role: str
    kept_fraction: float | None
    label_accuracy: float | None
    label_auroc: float | None
    num_items: int | None
    test_accuracy: float
    accuracy_lo: float
    accuracy_hi: float
    pgr: float | None
    pgr_lo: float | None
    pgr_hi: float | None
    pgr_reason: str | None
    diff_naive: float | None
    diff_naive_lo: float | None
    diff_naive_hi: float | None
    loss: str | None
    seconds: float | None
    tokens: float | None
    num_test_items: int
    seeds: list[int]

    def as_dict(self) -> dict[str, Any]:
        """Return the row as a plain dict, in the order of the columns."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The table and what it rests on.

    Attributes:
        task: name of the task.
        model: reference of the strong model.
        rows: floor, methods by accuracy, controls by accuracy, ceiling.
        runs: the same methods in the same order.
        gap: ceiling - floor, paired by item; null without a ceiling.
        confidence: level of every interval.
        params: parameters on which all aligned runs agree.
        training: method → what `select` wrote about its training set; empty where it wrote nothing.
    """

    task: str
    model: str
    rows: list[Row]
    runs: list[Runs]
    gap: Interval | None
    confidence: float
    params: dict[str, Any] = field(default_factory=dict)
    training: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def num_test_items(self) -> int:
        """Number of test items."""
        return self.rows[0].num_test_items

    def with_role(self, role: str) -> list[Row]:
        """Return the rows of one role."""
        return [row for row in self.rows if row.role == role]

    def score_of(self, method: str) -> str:
        """Return the scoring method whose scores a method was selected by; "" where it read none."""
        return score_method(self.training.get(method, {}))


def collect(
    sources: Sources,
    *,
    confidence: float = 0.95,
    bootstrap: int = 2000,
    seed: int = 42,
    methods: Sequence[str] | None = None,
    label_aurocs: Mapping[str, float | None] | None = None,
) -> Comparison:
    """Read all runs and compare them.

    Args:
        sources: where the results are.
        confidence: level of every interval, in (0, 1).
        bootstrap: number of resamples.
        seed: of the resamples.
        methods: the methods to report, ceiling and floor aside; null: every folder there is.
        label_aurocs: scoring method → AUROC of its label quality, for the column `label_auroc`.

    Raises:
        InputError: a stage has not been run, a record or table is broken, or runs do not belong
            together (another task, model or set of test items).
    """
    floor = read_runs([sources.supervise], "supervise")
    aligned = read_runs(align_folders(sources.align), "align")
    groups = group_runs(floor + aligned, methods)
    draw = _Draw(confidence=confidence, resamples=bootstrap, seed=seed)
    weak = only(groups, "floor", sources.supervise)
    strong = next((group for group in groups if group.role == "ceiling"), None)
    naive = next((group for group in groups if group.method == BASELINE), None)
    gap = paired_difference(strong.correct, weak.correct, **draw) if strong else None
    reason = _no_pgr(gap, confidence)
    frame = _Frame(weak, strong, naive, reason, draw)
    training = {runs.method: training_record(sources.training, runs.method) for runs in groups}
    rows = [
        _row(runs, frame, training[runs.method], (label_aurocs or {}).get(score_method(training[runs.method])))
        for runs in groups
    ]
    order = sorted(range(len(rows)), key=lambda i: _place(rows[i]))
    first = aligned[0][1]
    return Comparison(
        task=first["task"],
        model=first["model"],
        rows=[rows[i] for i in order],
        runs=[groups[i] for i in order],
        gap=gap,
        confidence=confidence,
        params=_shared_params([record for _, record, _ in aligned]),
        training=training,
    )


class _Draw(TypedDict):
    """How intervals are drawn."""

    confidence: float
    resamples: int
    seed: int


class _Frame(NamedTuple):
    """What every method is held against."""

    floor: Runs
    ceiling: Runs | None
    naive: Runs | None
    no_pgr: str | None
    draw: _Draw


def _row(runs: Runs, frame: _Frame, training: Mapping[str, Any], label_auroc: float | None) -> Row:
    accuracy = interval(runs.correct, **frame.draw)
    training = {**training, **_last_stage(runs, training)}
    recovered = difference = Interval(None, None, None, accuracy.n)
    if frame.no_pgr is None and frame.ceiling is not None:
        if runs.role in ("floor", "ceiling"):
            recovered = Interval(float(runs.role == "ceiling"), None, None, accuracy.n)
        else:
            recovered = pgr_interval(frame.floor.correct, frame.ceiling.correct, runs.correct, **frame.draw)
    if frame.naive is not None and runs is not frame.naive:
        difference = paired_difference(runs.correct, frame.naive.correct, **frame.draw)
    return Row(
        method=runs.method,
        role=runs.role,
        kept_fraction=training.get("kept_fraction"),
        label_accuracy=training.get("label_accuracy"),
        label_auroc=label_auroc,
        num_items=training.get("num_items", runs.records[0].get("num_items")),
        test_accuracy=_required(accuracy.value),
        accuracy_lo=_required(accuracy.low),
        accuracy_hi=_required(accuracy.high),
        pgr=recovered.value,
        pgr_lo=recovered.low,
        pgr_hi=recovered.high,
        pgr_reason=frame.no_pgr,
        diff_naive=difference.value,
        diff_naive_lo=difference.low,
        diff_naive_hi=difference.high,
        loss=runs.records[0].get("loss"),
        seconds=runs.mean("seconds"),
        tokens=runs.mean("tokens"),
        num_test_items=accuracy.n,
        seeds=runs.seeds,
    )


def _last_stage(runs: Runs, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the last training set of a method that looks twice was like; empty for any other."""
    last = [record["stages"][-1] for record in runs.records if record.get("stages")]
    if not last:
        return {}
    right = [stage.get("label_accuracy") for stage in last]
    num_items = sum(stage["num_items"] for stage in last) / len(last)
    first, kept = training.get("num_items"), training.get("kept_fraction")
    return {
        "num_items": round(num_items),
        "kept_fraction": num_items * kept / first if first and kept else None,
        "label_accuracy": None if None in right else sum(right) / len(right),
    }


def _no_pgr(gap: Interval | None, confidence: float) -> str | None:
    """Say why there is no PGR; null where there is one."""
    if gap is None:
        return "there is no ceiling run"
    value, low, high = _required(gap.value), _required(gap.low), _required(gap.high)
    if value > 0 and low > 0:
        return None
    return f"ceiling - floor is {value:+.3f} [{low:+.3f}, {high:+.3f}], not above 0 with {confidence:.0%} confidence"


def _shared_params(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the parameters on which all aligned runs agree: the settings of the comparison."""
    first, *rest = [record.get("params") or {} for record in records]
    return {key: value for key, value in first.items() if all(other.get(key, ...) == value for other in rest)}


def _place(row: Row) -> tuple[int, float, str]:
    return ROLES.index(row.role), -row.test_accuracy, row.method


def _required(value: float | None) -> float:
    assert value is not None, "an interval over at least one item has a value"
    return value
