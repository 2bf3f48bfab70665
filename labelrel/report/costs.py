"""What each method costs, and the stages of those that look twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from labelrel.report.collect import Comparison

NUMBERS = (
    "seconds",
    "train_seconds",
    "evaluate_seconds",
    "trunk_seconds",
    "num_steps",
    "num_examples_seen",
    "tokens",
    "trunk_tokens",
)
"""As a run's record has them: `trunk_…` is what the frozen layers took where they were not in the cache."""

STAGE_NUMBERS = ("num_items", "asked", "joined", "label_accuracy", "test_accuracy", "seconds")


def cost_table(comparison: Comparison) -> pl.DataFrame:
    """Return one row per method: `method, role, loss, num_stages, num_seeds` and `NUMBERS`, means over seeds.

    A number that a run's record lacks is null.
    """
    rows = [
        {
            "method": runs.method,
            "role": runs.role,
            "loss": runs.records[0].get("loss"),
            "num_stages": max(1, len(runs.records[0].get("stages") or [])),
            "num_seeds": len(runs.records),
            **{name: runs.mean(name) for name in NUMBERS},
        }
        for runs in comparison.runs
    ]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(NUMBERS, pl.Float64), infer_schema_length=None)


def stage_table(comparison: Comparison) -> pl.DataFrame:
    """Return one row per stage of each method with a second look.

    Returns:
        `method, look` (what is asked again: discarded or all), `stage` (from 1) and
        `STAGE_NUMBERS`, means over seeds; null where a stage has no such number. Empty without such methods.
    """
    rows = [row for runs in comparison.runs for row in _stages(runs.method, runs.records, comparison.training)]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(STAGE_NUMBERS, pl.Float64), infer_schema_length=None)


def _stages(
    method: str, records: Sequence[Mapping[str, Any]], training: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    lists = [record.get("stages") or [] for record in records]
    then = training.get(method, {}).get("then") or {}
    for place in range(min(map(len, lists))):
        yield {
            "method": method,
            "look": str(then.get("relabel", "")),
            "stage": place + 1,
            **{name: _mean([stages[place].get(name) for stages in lists]) for name in STAGE_NUMBERS},
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
