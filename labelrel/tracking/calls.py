"""What is written to a run, as plain JSON, so that it can wait on disk and be sent twice without harm.

Everything carries the time at which it happened. MLflow takes a metric with the same key, step, time and value
once, a parameter with the same value again, and replaces tags, files and the end of a run: a call that is sent
again, because nobody knows whether it arrived, changes nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

METRICS_PER_CALL, OTHERS_PER_CALL = 800, 100  # MLflow takes 1,000 entries a call, 100 of them parameters and 100 tags

TABLES = "mlflow.loggedArtifacts"

Call = dict[str, Any]
T = TypeVar("T")


def now() -> int:
    """Return the time in milliseconds, as MLflow counts it."""
    return time.time_ns() // 1_000_000


def write_calls(
    run_id: str,
    *,
    metrics: Mapping[str, float | None] | None = None,
    points: Iterable[tuple[str, int, float | None]] = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str | None] | None = None,
) -> Iterator[Call]:
    """Yield as few calls as MLflow allows.

    Args:
        run_id: the run.
        metrics: numbers of the whole run; null and not-finite ones are left out.
        points: (metric, step, value) of curves; null and not-finite ones are left out.
        params: flat; a text stays as it is, other values are written as JSON.
        tags: null ones are left out.
    """
    at = now()
    numbers = ((key, 0, value) for key, value in (metrics or {}).items())
    finite = ((k, v, at, s) for stream in (numbers, points) for k, s, v in stream if v is not None and math.isfinite(v))
    batches = (
        _batches(finite, METRICS_PER_CALL),
        _batches(((key, _text(value)) for key, value in (params or {}).items()), OTHERS_PER_CALL),
        _batches(((k, v) for k, v in (tags or {}).items() if v is not None), OTHERS_PER_CALL),
    )
    while any(call := [next(batch, []) for batch in batches]):
        yield {"do": "batch", "run_id": run_id, "metrics": call[0], "params": call[1], "tags": call[2]}


def history_points(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, int, float | None]]:
    """Yield the points of `train/loss` and `train/learning_rate` from rows of `step, loss, learning_rate`."""
    return ((f"train/{key}", int(row["step"]), row[key]) for row in rows for key in _CURVES if key in row)


_CURVES = ("loss", "learning_rate")


def table_call(run_id: str, table: str, file: str) -> Call:
    """Return the call that logs a table, which is JSON text, so that the UI shows it as one."""
    return {"do": "table", "run_id": run_id, "text": table, "file": file}


def artifacts_call(run_id: str, name: str) -> Call:
    """Return the call that copies a folder's content into the run's artifacts under `name`."""
    return {"do": "artifacts", "run_id": run_id, "name": name}


def dataset_call(run_id: str, dataset: Dataset, context: str) -> Call:
    """Return the call that logs a data set as an input of a run, with what it served for."""
    return {"do": "dataset", "run_id": run_id, "dataset": dataset.to_dictionary(), "context": context}


def end_call(run_id: str, status: str) -> Call:
    """Return the call that ends a run now."""
    return {"do": "end", "run_id": run_id, "status": status, "at": now()}


def perform(client: Any, call: Call, folder: Path | None = None) -> None:
    """Send one call.

    Args:
        client: `mlflow.MlflowClient`.
        call: what one of the functions here returned, or its copy from JSON.
        folder: what a call of artifacts copies.
    """
    run_id = call["run_id"]
    if call["do"] == "batch":
        client.log_batch(
            run_id,
            metrics=[Metric(*entry) for entry in call["metrics"]],
            params=[Param(*entry) for entry in call["params"]],
            tags=[RunTag(*entry) for entry in call["tags"]],
        )
    elif call["do"] == "artifacts":
        client.log_artifacts(run_id, str(folder), call["name"])
    elif call["do"] == "dataset":
        tag = InputTag("mlflow.data.context", call["context"])
        client.log_inputs(run_id, [DatasetInput(Dataset(**call["dataset"]), [tag])])
    elif call["do"] == "table":
        client.log_text(run_id, call["text"], call["file"])
        tables = json.loads(client.get_run(run_id).data.tags.get(TABLES, "[]"))
        entry = {"path": call["file"], "type": "table"}
        if entry not in tables:
            client.set_tag(run_id, TABLES, json.dumps([*tables, entry]))
    else:
        client.set_terminated(run_id, call["status"], end_time=call["at"])


def _batches(entries: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(entries, size)):
        yield batch


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
