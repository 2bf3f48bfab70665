"""Read what the stages left behind: one row per method, over its training seeds.

All runs of a comparison are evaluated on the same test items, so that every interval here is
paired by item. Runs that saw other items are refused, not silently intersected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.errors import InputError, some
from labelrel.evaluate.bootstrap import Interval, interval, paired_difference, pgr_interval
from labelrel.files import read_json, read_table
from labelrel.schema import require_columns

ROLES = ("floor", "method", "control", "ceiling")
"""In the order of the table."""

RECORD_KEYS = ("method", "seed", "role", "task", "model")
BASELINE = "naive"
"""The method that others are compared with: one answer per item, taken as it is."""


@dataclass(frozen=True)
class Sources:
    """Where the stages put their results; `Sources.under("data")` is where they do by default.

    Without the answers table, null or not there, the report says nothing about positions.
    """

    align: Path
    supervise: Path
    training: Path
    items: Path
    scores: Path
    answers: Path | None = None

    @classmethod
    def under(cls, data: Path | str) -> Sources:
        """Return the places below one data folder."""
        data = Path(data)
        return cls(
            data / "align",
            data / "supervise",
            data / "training",
            data / "items.parquet",
            data / "scores.parquet",
            data / "answers.parquet",
        )


@dataclass(frozen=True)
class Row:
    """One method in the table.

    Attributes:
        method: registered name, "floor" or "ceiling".
        role: floor, method, control or ceiling.
        kept_fraction: items it trains on / items of the split; null where no selection was made.
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
    seconds: float | None
    tokens: float | None
    num_test_items: int
    seeds: list[int]

    def as_dict(self) -> dict[str, Any]:
        """Return the row as a plain dict, in the order of the columns."""
        return asdict(self)


@dataclass(frozen=True)
class Runs:
    """All runs of one method.

    Attributes:
        method: its name.
        role: floor, method, control or ceiling.
        folders: one per seed, in the order of `seeds`.
        records: the `run.json` of each.
        correct: (seeds, items), whether each test item was answered correctly.
    """

    method: str
    role: str
    folders: tuple[Path, ...]
    records: tuple[dict[str, Any], ...]
    correct: npt.NDArray[np.float64]

    @property
    def seeds(self) -> list[int]:
        """Training seeds, ascending."""
        return [int(record["seed"]) for record in self.records]

    def mean(self, key: str) -> float | None:
        """Return the mean of a number in `run.json` over the seeds; null where a run lacks it."""
        values = [record.get(key) for record in self.records]
        return None if None in values else float(np.mean([float(v) for v in values if v is not None]))


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
    """

    task: str
    model: str
    rows: list[Row]
    runs: list[Runs]
    gap: Interval | None
    confidence: float
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def num_test_items(self) -> int:
        """Number of test items."""
        return self.rows[0].num_test_items

    def with_role(self, role: str) -> list[Row]:
        """Return the rows of one role."""
        return [row for row in self.rows if row.role == role]


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
    floor = _read_runs([sources.supervise], "supervise")
    aligned = _read_runs(_align_folders(sources.align), "align")
    groups = _group(floor + aligned, methods)
    draw = _Draw(confidence=confidence, resamples=bootstrap, seed=seed)
    weak = _only(groups, "floor", sources.supervise)
    strong = next((group for group in groups if group.role == "ceiling"), None)
    naive = next((group for group in groups if group.method == BASELINE), None)
    gap = paired_difference(strong.correct, weak.correct, **draw) if strong else None
    reason = _no_pgr(gap, confidence)
    frame = _Frame(weak, strong, naive, reason, draw)
    rows = []
    for runs in groups:
        training = _training_record(sources.training, runs.method)
        rows.append(_row(runs, frame, training, (label_aurocs or {}).get(_score_method(training))))
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
        seconds=runs.mean("seconds"),
        tokens=runs.mean("tokens"),
        num_test_items=accuracy.n,
        seeds=runs.seeds,
    )


_Read = tuple[Path, dict[str, Any], pl.DataFrame]


def _align_folders(align: Path) -> list[Path]:
    folders = sorted(f.parent for f in align.glob("*/run.json"))
    if not folders:
        raise InputError(f"no results in {align}; run `labelrel align` first.")
    return folders


def _read_runs(folders: Sequence[Path], stage: str) -> list[_Read]:
    """Read record and test predictions of each folder, sorted by item."""
    read: list[_Read] = []
    for folder in folders:
        if not (folder / "run.json").is_file():
            raise InputError(f"no such file: {folder / 'run.json'}; run `labelrel {stage}` first.")
        record = read_json(folder / "run.json")
        missing = [key for key in RECORD_KEYS if not isinstance(record, dict) or key not in record]
        if missing:
            raise InputError(f"{folder / 'run.json'} has no {', '.join(missing)}; run `labelrel {stage}` again.")
        if record["role"] not in ROLES:
            raise InputError(f"{folder / 'run.json'}: unknown role {record['role']!r}; allowed: {', '.join(ROLES)}.")
        file = folder / "predictions.parquet"
        predictions = read_table(file)
        require_columns(predictions, ["item_id", "split", "correct"], str(file))
        test = predictions.filter(pl.col("split") == "test").select("item_id", pl.col("correct").cast(pl.Float64))
        if test.is_empty():
            raise InputError(f"{file} has no row in split 'test'; run `labelrel {stage}` again.")
        if test["correct"].null_count():
            without = test.filter(pl.col("correct").is_null())["item_id"]
            raise InputError(
                f"{file}: {len(without)} test items are neither right nor wrong ({some(without)}); "
                "every item of split 'test' needs a gold label."
            )
        read.append((folder, record, test.sort("item_id")))
    return read


def _group(read: Sequence[_Read], methods: Sequence[str] | None) -> list[Runs]:
    """Put the runs of one method together, after making sure that all belong to one comparison."""
    home, first, expected = read[0]
    ids = expected["item_id"].to_list()
    groups: dict[str, list[_Read]] = {}
    strong = next(record["model"] for _, record, _ in read if record["role"] != "floor")
    for folder, record, test in read:
        if methods is not None and record["role"] not in ("floor", "ceiling") and record["method"] not in methods:
            continue  # left from an earlier params file
        if record["task"] != first["task"]:
            raise InputError(f"{folder} is a run on task '{record['task']}', {home} on '{first['task']}'; align again.")
        if record["role"] != "floor" and record["model"] != strong:
            raise InputError(f"{folder} is a run of model '{record['model']}', others of '{strong}'; align again.")
        if test["item_id"].to_list() != ids:
            other = sorted(set(test["item_id"]) ^ set(ids))
            raise InputError(
                f"{folder} was tested on {test.height} items, {home} on {len(ids)}; {len(other)} are not in both "
                f"({some(other)}): run `labelrel align` again."
            )
        groups.setdefault(record["method"], []).append((folder, record, test))
    wanted = [name for name in methods or () if name not in groups]
    if wanted:
        raise InputError(f"no results for {some(wanted)}; run `labelrel align` first.")
    return [_runs(name, sorted(group, key=lambda r: r[1]["seed"])) for name, group in groups.items()]


def _runs(name: str, group: Sequence[_Read]) -> Runs:
    return Runs(
        method=name,
        role=group[0][1]["role"],
        folders=tuple(folder for folder, _, _ in group),
        records=tuple(record for _, record, _ in group),
        correct=np.stack([test["correct"].to_numpy() for _, _, test in group]),
    )


def _only(groups: Sequence[Runs], role: str, where: Path) -> Runs:
    found = [group for group in groups if group.role == role]
    if len(found) != 1:
        raise InputError(f"expected one {role} run in {where}, found {len(found)}; run `labelrel supervise` again.")
    return found[0]


def _no_pgr(gap: Interval | None, confidence: float) -> str | None:
    """Say why there is no PGR; null where there is one."""
    if gap is None:
        return "there is no ceiling run"
    value, low, high = _required(gap.value), _required(gap.low), _required(gap.high)
    if value > 0 and low > 0:
        return None
    return f"ceiling - floor is {value:+.3f} [{low:+.3f}, {high:+.3f}], not above 0 with {confidence:.0%} confidence"


def _training_record(folder: Path, method: str) -> dict[str, Any]:
    file = folder / f"{method}.json"
    record = read_json(file) if file.is_file() else {}
    if not isinstance(record, dict):
        raise InputError(f"{file} is not a record of a training set; run `labelrel select` again.")
    return record


def _score_method(training: Mapping[str, Any]) -> str:
    """Return the scoring method that a selection read; "" where it read none."""
    return training.get("score_method") or (training.get("params") or {}).get("score") or ""


def _shared_params(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the parameters on which all aligned runs agree: the settings of the comparison."""
    first, *rest = [record.get("params") or {} for record in records]
    return {key: value for key, value in first.items() if all(other.get(key, ...) == value for other in rest)}


def _place(row: Row) -> tuple[int, float, str]:
    return ROLES.index(row.role), -row.test_accuracy, row.method


def _required(value: float | None) -> float:
    assert value is not None, "an interval over at least one item has a value"
    return value
