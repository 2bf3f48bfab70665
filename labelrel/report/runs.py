"""The runs of a comparison as their stages left them: read, checked, and put together by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.errors import InputError, some
from labelrel.files import read_json, read_table
from labelrel.schema import require_columns

ROLES = ("floor", "method", "control", "ceiling")
"""In the order of the table."""

RECORD_KEYS = ("method", "seed", "role", "task", "model")


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


Read = tuple[Path, dict[str, Any], pl.DataFrame]
"""Folder, record, and `item_id, correct` of the test items, sorted."""


def align_folders(align: Path) -> list[Path]:
    """Return the folders of all aligned runs.

    Raises:
        InputError: there is none.
    """
    folders = sorted(f.parent for f in align.glob("*/run.json"))
    if not folders:
        raise InputError(f"no results in {align}; run `labelrel align` first.")
    return folders


def read_runs(folders: Sequence[Path], stage: str) -> list[Read]:
    """Read record and test predictions of each folder, sorted by item.

    Raises:
        InputError: something is missing, broken or without a verdict.
    """
    read: list[Read] = []
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


def group_runs(read: Sequence[Read], methods: Sequence[str] | None) -> list[Runs]:
    """Put the runs of one method together, after making sure that all belong to one comparison.

    Raises:
        InputError: they do not, or a wanted method has no run.
    """
    home, first, expected = read[0]
    ids = expected["item_id"].to_list()
    groups: dict[str, list[Read]] = {}
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


def _runs(name: str, group: Sequence[Read]) -> Runs:
    return Runs(
        method=name,
        role=group[0][1]["role"],
        folders=tuple(folder for folder, _, _ in group),
        records=tuple(record for _, record, _ in group),
        correct=np.stack([test["correct"].to_numpy() for _, _, test in group]),
    )


def only(groups: Sequence[Runs], role: str, where: Path) -> Runs:
    """Return the one method of a role.

    Raises:
        InputError: there are none, or several.
    """
    found = [group for group in groups if group.role == role]
    if len(found) != 1:
        raise InputError(f"expected one {role} run in {where}, found {len(found)}; run `labelrel supervise` again.")
    return found[0]


def training_record(folder: Path, method: str) -> dict[str, Any]:
    """Return what `select` wrote about a method's training set; empty where it wrote nothing."""
    file = folder / f"{method}.json"
    record = read_json(file) if file.is_file() else {}
    if not isinstance(record, dict):
        raise InputError(f"{file} is not a record of a training set; run `labelrel select` again.")
    return record


def score_method(training: Mapping[str, Any]) -> str:
    """Return the scoring method that a selection read; "" where it read none."""
    return training.get("score_method") or (training.get("params") or {}).get("score") or ""
