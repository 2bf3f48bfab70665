"""The names under which a run is found: tags and metrics, each spelled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METHOD = "labelrel.method"
TASK = "labelrel.task"
ROLE = "labelrel.role"
SEED = "labelrel.seed"
COMPARISON = "labelrel.comparison"
CURRENT = "labelrel.current"
PGR = "labelrel.pgr"
BEST = "labelrel.best_method"
ERROR = "labelrel.error"
RESTORED = "labelrel.restored"
DIRTY = "labelrel.git_dirty"
DVC = "labelrel.dvc."
COMMIT = "mlflow.source.git.commit"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SOURCE = "mlflow.source.name"

LOOKS = "gold_dev/accuracy"
"""The accuracy on gold_dev by step, where early stopping looked."""

PARENT_ROLE = "comparison"
"""The role tag of a parent run; its children are floor, ceiling, method or control."""

ROW_METRICS = {
    "test/accuracy_lo": "accuracy_lo",
    "test/accuracy_hi": "accuracy_hi",
    "test/pgr": "pgr",
    "test/pgr_lo": "pgr_lo",
    "test/pgr_hi": "pgr_hi",
    "labels/accuracy": "label_accuracy",
    "labels/auroc": "label_auroc",
    "labels/kept_fraction": "kept_fraction",
}
"""Metric key → column of the report's table; the values belong to the method, over all its seeds."""


def row_metrics(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics that one row of the report's table gives to each run of its method."""
    return {metric: row.get(column) for metric, column in ROW_METRICS.items()}


def pgr_tag(row: Mapping[str, Any]) -> str:
    """Return `labelrel.pgr`: "defined", or "undefined: " and why there is no number."""
    if row.get("pgr") is not None:
        return "defined"
    return f"undefined: {row.get('pgr_reason') or 'ceiling - floor is not positive with confidence'}"


def stage_points(stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, float | None]]:
    """Return (metric, stage, value) for a method with a second look, stages counted from 1.

    Args:
        stages: as in `run.json`: dicts with `test_accuracy`, `label_accuracy`, `num_items` and `seconds`.
    """
    names = ("test_accuracy", "label_accuracy", "num_items", "seconds")
    return [(f"stages/{name}", number, stage.get(name)) for number, stage in enumerate(stages, 1) for name in names]
