"""After the report: the table on the parent run, intervals on the children, none of them missing.

A result can outlive its run (the store was deleted) or precede it (DVC restored the folder from a
cache), so what the table lists is looked up in the store and logged from its folder where missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.entities import Run

from labelrel import files as disk
from labelrel.tracking import keys
from labelrel.tracking.best import register_best
from labelrel.tracking.calls import dataset_call, perform
from labelrel.tracking.runs import child_tags, comparison_run, create_child, recorded_dataset
from labelrel.tracking.store import Store, is_current, same_tags
from labelrel.tracking.view import experiment_tags

REPORT = "labelrel report"


def finish_comparison(
    store: Store,
    task: str,
    comparison_id: str,
    *,
    rows: Sequence[Mapping[str, Any]],
    folders: Mapping[str, Sequence[Path]],
    answer: str,
    figures: Path | None = None,
    files: Sequence[Path] = (),
    params: Mapping[str, Any] | None = None,
) -> str:
    """Log a comparison's outcome; `labelrel.tracking.base.Tracker` describes the arguments.

    Returns:
        The id of the parent run.
    """
    parent = comparison_run(store, task, comparison_id)
    children = []
    for run in store.children(task, parent):
        if run.info.status == "RUNNING" and run.data.tags.get(keys.SOURCE) == REPORT:
            store.client.delete_run(run.info.run_id)  # half of a run that an earlier report could not finish logging
        else:
            children.append(run)
    current: dict[str, tuple[str, Path]] = {}  # run → its method and folder
    for row in rows:
        for folder in folders.get(row["method"], ()):
            run = _run_of(children, folder, row)
            run_id = run.info.run_id if run else log_finished_run(store, task, parent, folder)
            own = run_metrics(folder)
            logged = run.data.metrics if run else own
            wanted = {**own, **keys.row_metrics(row)}
            store.write(
                run_id,
                metrics={key: value for key, value in wanted.items() if logged.get(key) != value},
                tags={keys.CURRENT: "true", keys.PGR: keys.pgr_tag(row)},
            )
            current[run_id] = row["method"], folder
    for run in children:
        if is_current(run) and run.info.run_id not in current:
            store.write(run.info.run_id, tags={keys.CURRENT: "false"})
    methods = [row for row in rows if row["role"] == "method" and row["test_accuracy"] is not None]
    best = max(methods, key=lambda row: row["test_accuracy"], default=None)
    for run_id, (method, folder) in current.items():
        if best is not None and method == best["method"]:
            register_best(store, task, run_id, folder)  # its first seed: to choose by test accuracy would flatter it
            break
    for key, value in experiment_tags().items():
        store.client.set_experiment_tag(store.experiment(task), key, value)
    _finish_parent(store, parent, rows, best, answer, figures, files, params or {})
    return parent


def log_finished_run(store: Store, task: str, parent: str, folder: Path) -> str:
    """Log a run from the folder it left behind and return the new run's id.

    Args:
        store: where to.
        task: name of the task.
        parent: id of the parent run.
        folder: `run.json`, `predictions.parquet`, and where they exist `history.parquet` and `adapter/`.
    """
    record_file = folder / "run.json"
    record = disk.read_json(record_file)
    end = record_file.stat().st_mtime_ns // 1_000_000
    seconds = record.get("seconds") or 0.0
    run_id = create_child(
        store,
        task,
        parent,
        method=record["method"],
        seed=record["seed"],
        source=REPORT,
        start_time=end - int(1000 * seconds),
    )
    history = folder / "history.parquet"
    looks = [(keys.LOOKS, look["step"], look["accuracy"]) for look in record.get("early_stop") or []]
    inputs = record.get("inputs") or {}
    store.write(
        run_id,
        metrics=run_metrics(folder),
        curves=pl.read_parquet(history).iter_rows(named=True) if history.is_file() else (),
        points=[*looks, *keys.stage_points(record.get("stages") or [])],
        params=(record.get("params") or {}) | ({"rule": record["rule"]} if record.get("rule") else {}),
        tags={
            **child_tags(task=task, method=record["method"], role=record["role"], seed=record["seed"]),
            **{f"labelrel.sha256.{name}": source["sha256"] for name, source in inputs.items()},
        },
    )
    for name, source in inputs.items():
        perform(store.client, dataset_call(run_id, recorded_dataset(None, name, source), name))
    if (folder / "adapter").is_dir():
        store.client.log_artifacts(run_id, str(folder / "adapter"), "adapter")
    store.write(run_id, tags={keys.RESTORED: disk.digest(record_file)})  # now it is whole, and is found again
    store.client.set_terminated(run_id, "FINISHED", end_time=end)
    return run_id


def run_metrics(folder: Path) -> dict[str, float | None]:
    """Return a run's own final numbers: accuracy on the test items with its seed, and what it cost."""
    record = disk.read_json(folder / "run.json")
    test = pl.scan_parquet(folder / "predictions.parquet").filter(pl.col("split") == "test")
    return {
        "test/accuracy": test.select(pl.col("correct").mean()).collect().item(),
        "cost/seconds": record.get("seconds"),
        "cost/tokens": record.get("tokens"),
    }


def _run_of(children: Sequence[Run], folder: Path, row: Mapping[str, Any]) -> Run | None:
    """Find the child that a folder's result belongs to: the run that wrote it, or one restored from it before."""
    record_file = folder / "run.json"
    record = disk.read_json(record_file)
    restored = disk.digest(record_file)
    for run in children:
        mine = run.info.run_id == record.get("mlflow_run_id") or run.data.tags.get(keys.RESTORED) == restored
        # MLflow keeps a metric for good: a run whose PGR has become undefined makes place for one without
        outdated = row.get("pgr") is None and "test/pgr" in run.data.metrics
        if mine and not outdated and same_tags(run, method=record["method"], seed=str(record["seed"])):
            return run
    return None


def _finish_parent(
    store: Store,
    parent: str,
    rows: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    answer: str,
    figures: Path | None,
    files: Sequence[Path],
    params: Mapping[str, Any],
) -> None:
    known = store.client.get_run(parent).data.params  # MLflow refuses a second value; params.json has the latest
    metrics = {f"{row['role']}/accuracy": row["test_accuracy"] for row in rows if row["role"] in ("floor", "ceiling")}
    if best is not None:
        metrics |= {"best/accuracy": best["test_accuracy"], "best/pgr": best["pgr"]}
    store.write(
        parent,
        metrics=metrics,
        params={key: value for key, value in params.items() if key not in known},
        tags={keys.NOTE: answer, keys.BEST: best["method"] if best else None},
    )
    store.log_table(parent, pl.DataFrame([dict(row) for row in rows], infer_schema_length=None), "table.json")
    store.client.log_dict(parent, dict(params), "params.json")
    for file in files:
        store.client.log_artifact(parent, str(file))
    if figures is not None and figures.is_dir():
        store.client.log_artifacts(parent, str(figures), "figures")
    store.client.set_terminated(parent, "FINISHED")
