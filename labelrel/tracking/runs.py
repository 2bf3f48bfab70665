"""Parent and child runs while they happen."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.data import from_polars
from mlflow.data.dataset import Dataset
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Dataset as DatasetEntity

from labelrel import files
from labelrel.progress import say
from labelrel.tracking import keys
from labelrel.tracking.base import LATER, ChildRun, NoChild
from labelrel.tracking.calls import (
    artifacts_call,
    dataset_call,
    end_call,
    history_points,
    now,
    table_call,
    write_calls,
)
from labelrel.tracking.lineage import GitState
from labelrel.tracking.outbox import is_outage, shown_address
from labelrel.tracking.store import Store, frame_json, same_tags
from labelrel.tracking.system import system_metrics


class MlflowTracker:
    """A tracker on an MLflow store; `labelrel.tracking.base.Tracker` says what each method does."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def comparison_run(self, task: str, comparison_id: str, *, name: str | None = None) -> str | None:
        """Find the parent run by its tag, or create it; null where the server is away."""
        try:
            return comparison_run(self.store, task, comparison_id, name=name)
        except Exception as error:
            self._told_outage(error)
            return None

    @contextlib.contextmanager
    def start_child(
        self,
        parent: str | None,
        *,
        method: str,
        role: str,
        seed: int,
        task: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Mapping[str, str]],
        git: GitState,
        dvc_md5s: Mapping[str, str],
    ) -> Iterator[ChildRun]:
        """Open a child run for the length of a `with` block."""
        tags = {
            **child_tags(task=task, method=method, role=role, seed=seed),
            **{f"labelrel.sha256.{name}": source["sha256"] for name, source in inputs.items()},
            **{f"{keys.DVC}{name}": md5 for name, md5 in dvc_md5s.items()},
            keys.COMMIT: git.commit,
            keys.DIRTY: None if git.dirty is None else str(git.dirty).lower(),
        }
        run_id = parent and self._create(parent, task, method, seed)
        if run_id is None:
            yield NoChild()
            return
        child = MlflowChild(self.store, run_id)
        child._write(params=params, tags=tags)
        for name, source in inputs.items():
            if name != "training":  # which is logged with its content
                self.store.send(dataset_call(run_id, recorded_dataset(self.store.root, name, source), name))
        try:
            with system_metrics(child._write):
                yield child
        except BaseException as error:
            child._write(tags={keys.ERROR: f"{type(error).__name__}: {error}"[:500]})
            self._end(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        self._end(run_id, "FINISHED")

    def _create(self, parent: str, task: str, method: str, seed: int) -> str | None:
        """Create a child run; null where the server is away."""
        try:
            retire_stale(self.store, task, parent, method, seed)
            return create_child(self.store, task, parent, method=method, seed=seed, source="labelrel align")
        except Exception as error:
            self._told_outage(error)
            return None

    def _end(self, run_id: str, status: str) -> None:
        self.store.send(end_call(run_id, status))
        if self.store.outbox is not None:
            self.store.outbox.close()

    def _told_outage(self, error: Exception) -> None:
        """Say in one line that a server is away; raise any other error."""
        if self.store.outbox is None or not is_outage(error):
            raise error
        say(f"mlflow: {shown_address(self.store.uri)} does not answer; {LATER}")

    def finish_comparison(
        self,
        task: str,
        comparison_id: str,
        *,
        rows: Sequence[Mapping[str, Any]],
        folders: Mapping[str, Sequence[Path]],
        answer: str,
        figures: Path | None = None,
        files: Sequence[Path] = (),
        params: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Put the report on the parent and the intervals on its children."""
        from labelrel.tracking.finish import finish_comparison

        try:
            return finish_comparison(
                self.store,
                task,
                comparison_id,
                rows=rows,
                folders=folders,
                answer=answer,
                figures=figures,
                files=files,
                params=params,
            )
        except Exception as error:
            self._told_outage(error)
            return None


class MlflowChild:
    """One open child run; `labelrel.tracking.base.ChildRun` says what each method does."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id

    @property
    def run_id(self) -> str | None:
        """The run's id."""
        return self._run_id

    def _write(self, **entries: Any) -> None:
        """Log any of `metrics`, `points`, `params` and `tags`, see `write_calls`."""
        for call in write_calls(self._run_id, **entries):
            self._store.send(call)

    def log_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log curve points."""
        self._write(points=history_points(rows))

    def log_looks(self, looks: Iterable[tuple[int, float]]) -> None:
        """Log what early stopping saw."""
        self._write(points=((keys.LOOKS, step, accuracy) for step, accuracy in looks))

    def log_stages(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Log the stages of a second look."""
        self._write(points=keys.stage_points(stages))

    def log_metrics(self, values: Mapping[str, float | None]) -> None:
        """Log final numbers."""
        self._write(metrics=values)

    def log_artifacts(self, folder: Path | str, name: str) -> None:
        """Copy a folder into the artifacts."""
        self._store.send(artifacts_call(self._run_id, name), Path(folder))

    def log_dataset(self, frame: pl.DataFrame, name: str, source: Path | str, context: str) -> None:
        """Log a table as a data set."""
        # MLflow warns about a plain path ("can be interpreted in multiple ways"), so its kind is said
        kind = LocalArtifactDatasetSource(str(source))
        dataset = from_polars(frame, source=kind, name=name, digest=_digest(frame, Path(source)))
        self._store.send(dataset_call(self._run_id, dataset._to_mlflow_entity(), context))

    def log_table_sample(self, frame: pl.DataFrame, name: str, rows: int = 20) -> None:
        """Log the first rows as a table."""
        self._store.send(table_call(self._run_id, frame_json(frame.head(rows)), f"{name}.json"))


def comparison_run(store: Store, task: str, comparison_id: str, *, name: str | None = None) -> str:
    """Return the id of the comparison's parent run, creating it when no process before did.

    Raises:
        ValueError: the id is not made of letters and digits, so it could not be searched for safely.
    """
    if not comparison_id.isalnum():
        raise ValueError(f"a comparison id is a hex digest, got {comparison_id!r}")
    known = store.search(task, labelrel__comparison=comparison_id, labelrel__role=keys.PARENT_ROLE)
    if known:
        return str(known[0].info.run_id)  # the oldest: every process that comes later agrees on it
    tags = {keys.COMPARISON: comparison_id, keys.ROLE: keys.PARENT_ROLE, keys.TASK: task, **_source("labelrel report")}
    run = store.client.create_run(store.experiment(task), tags=tags, run_name=name or f"comparison {comparison_id[:8]}")
    return str(run.info.run_id)


def retire_stale(store: Store, task: str, parent: str, method: str, seed: int) -> None:
    """Mark KILLED what a killed process left RUNNING for the same method and seed."""
    for run in store.children(task, parent):
        if run.info.status == "RUNNING" and same_tags(run, method=method, seed=str(seed)):
            store.client.set_terminated(run.info.run_id, "KILLED")


def create_child(
    store: Store,
    task: str,
    parent: str,
    *,
    method: str,
    seed: int,
    source: str,
    start_time: int | None = None,
) -> str:
    """Create a child run and return its id; `start_time` is in milliseconds, null: now."""
    comparison = store.client.get_run(parent).data.tags.get(keys.COMPARISON, "")
    run = store.client.create_run(
        store.experiment(task),
        start_time=start_time or now(),
        tags={keys.PARENT: parent, keys.COMPARISON: comparison, **_source(source)},
        run_name=f"{method}-{seed}",
    )
    return str(run.info.run_id)


def child_tags(*, task: str, method: str, role: str, seed: int) -> dict[str, str | None]:
    """Return the tags that say what a child run is."""
    return {keys.TASK: task, keys.METHOD: method, keys.ROLE: role, keys.SEED: str(seed)}


def recorded_dataset(root: Path | None, name: str, source: Mapping[str, str]) -> DatasetEntity:
    """Return a file that was read as an MLflow data set: digest, source, columns and rows, without its content.

    Args:
        root: project folder; null where the file may have changed since, so that columns and rows are left out.
        name: what it is called in the run.
        source: its `path`, within the project where it lies there, and `sha256`.
    """
    file = root / source["path"] if root else None
    table = pl.scan_parquet(file) if file and file.suffix == ".parquet" and file.is_file() else None
    dataset: Dataset = MetaDataset(LocalArtifactDatasetSource(source["path"]), name=name, digest=source["sha256"][:16])
    entity = dataset._to_mlflow_entity()
    if table is None:
        return entity
    schema = table.collect_schema()
    columns = from_polars(pl.DataFrame(schema=schema), source=dataset.source, name=name, digest=dataset.digest)
    rows = table.select(pl.len()).collect().item()
    profile = json.dumps({"num_rows": rows, "num_elements": rows * len(schema)})
    return DatasetEntity(**{**columns._to_mlflow_entity().to_dictionary(), "profile": profile})


def _source(name: str) -> dict[str, str]:
    return {"mlflow.source.name": name, "mlflow.source.type": "LOCAL"}


def _digest(frame: pl.DataFrame, source: Path) -> str:
    """Return the start of a SHA-256 over the whole table: of its file, or of the frame where there is none."""
    if source.is_file():
        return files.digest(source)[:16]
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()[:16]
