"""One MLflow store: opened quietly, one experiment per task, everything written in batches.

A call on a SQLite store takes some 20 ms whatever it carries, so metrics, parameters and tags of
a run go together, up to 1,000 metrics at a time. A server that goes away is bridged by an outbox.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # is read while mlflow is imported

import polars as pl
from mlflow import MlflowClient
from mlflow.entities import Run

from labelrel.errors import InputError
from labelrel.tracking import keys
from labelrel.tracking.calls import Call, history_points, perform, table_call, write_calls
from labelrel.tracking.moved import repair_links
from labelrel.tracking.outbox import Outbox, is_server
from labelrel.tracking.serve import default_uri, sqlite_file

HTTP = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""Seconds until a server counts as away, where MLflow's own settings hold up training for minutes."""

QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # which shows a password, and is no result
}

OUTBOX = Path("data", "cache", "mlflow")
"""Where in a project waits what a server could not take."""


@dataclass(frozen=True)
class Store:
    """A tracking store and its client.

    Attributes:
        uri: MLflow tracking URI.
        client: `mlflow.MlflowClient` on it.
        artifacts: folder for the artifacts of new experiments; null where the server decides.
        root: project folder, which paths of inputs are relative to.
        outbox: what bridges the time that a server is away; null for a store on this machine.
    """

    uri: str
    client: Any
    artifacts: Path | None
    root: Path = Path()
    outbox: Outbox | None = None
    _experiments: dict[str, str] = field(default_factory=dict, repr=False)

    def experiment(self, task: str) -> str:
        """Return the id of the task's experiment, which is created, or brought back, when it is not there.

        Raises:
            InputError: the experiment keeps its artifacts in another folder, which is not beside the store.
        """
        if task not in self._experiments:
            location = self.artifacts.as_uri() if self.artifacts else None
            found = self.client.get_experiment_by_name(task)
            if found is None:
                self._experiments[task] = self.client.create_experiment(task, artifact_location=location)
            else:
                if location and found.artifact_location.rstrip("/") != location:
                    raise InputError(
                        f"the MLflow store {self.uri} was made in another folder (its artifacts are in "
                        f"{found.artifact_location}) and came here without them: move both, or delete "
                        "mlruns and run `labelrel report`, which logs the results anew."
                    )
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                self._experiments[task] = found.experiment_id
        return self._experiments[task]

    def search(self, task: str, **tags: str) -> list[Run]:
        """Return the runs of a task that carry all the tags, oldest first.

        Args:
            task: name of the task.
            tags: tag → value, with `__` in place of a dot in the tag's name.
        """
        wanted = " and ".join(f"tags.`{name.replace('__', '.')}` = '{value}'" for name, value in tags.items())
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment(task)], wanted, order_by=["attributes.start_time ASC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def children(self, task: str, parent: str) -> list[Run]:
        """Return all runs under a parent run, oldest first."""
        return self.search(task, mlflow__parentRunId=parent)

    def send(self, call: Call, folder: Path | None = None) -> None:
        """Do one call of `labelrel.tracking.calls`; where the store is a server that is away, later."""
        if self.outbox is None:
            perform(self.client, call, folder)
        else:
            self.outbox.send(call, folder)

    def write(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float | None] | None = None,
        curves: Iterable[Mapping[str, Any]] = (),
        points: Iterable[tuple[str, int, float | None]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> None:
        """Write to a run in as few calls as MLflow allows, now or not at all.

        Args:
            run_id: the run.
            metrics: numbers of the whole run; null and not-finite ones are left out.
            curves: rows of `step` and any of `loss`, `learning_rate`; logged as `train/*` by step.
            points: (metric, step, value) of further curves.
            params: flat; a text stays as it is, other values are written as JSON.
            tags: null ones are left out.
        """
        both = chain(history_points(curves), points)
        for call in write_calls(run_id, metrics=metrics, points=both, params=params, tags=tags):
            perform(self.client, call)

    def log_table(self, run_id: str, frame: pl.DataFrame, file: str) -> None:
        """Log a small table in the form that the UI shows as one and `mlflow.load_table` reads.

        Written here, because `MlflowClient.log_table` appends to a file of that name: a second report would double
        the parent's table.
        """
        perform(self.client, table_call(run_id, frame_json(frame), file))


def open_store(uri: str | None = None, *, root: Path | str = ".") -> Store:
    """Open the store, creating it when it is not there (some seconds, once).

    Args:
        uri: MLflow tracking URI; null: `MLFLOW_TRACKING_URI` where set, else
            `sqlite:///ROOT/mlruns/mlflow.db`, artifacts beside it in `ROOT/mlruns/artifacts`.
        root: project folder.
    """
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what it does is no news to a user
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    uri, root = uri or default_uri(root), Path(root).resolve()
    database = sqlite_file(uri)
    if is_server(uri):
        return _open_server(uri, root)
    if database is not None:
        repair_links(database)
    with warnings.catch_warnings():
        # MLflow's use of a deprecated SQLAlchemy option, told once per process; a user can do nothing about it
        warnings.filterwarnings("ignore", message=".*noload.*", category=DeprecationWarning)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)  # creates the tables now, not in the middle of a run
    return Store(uri, client, database.parent / "artifacts" if database else None, root)


def _open_server(uri: str, root: Path) -> Store:
    """Open a tracking server, and send it what an earlier command could not."""
    for name, value in HTTP.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # each attempt; the outbox tells it once
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)  # says now whether it is there
    outbox = Outbox(client, uri, root / OUTBOX)
    outbox.drain()
    return Store(uri, client, None, root, outbox)


def frame_json(frame: pl.DataFrame) -> str:
    """Return a table as strict JSON, columns and rows apart; a number that is not finite becomes null."""
    finite = frame.with_columns(pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64)))
    return json.dumps(
        {"columns": finite.columns, "data": finite.rows()}, ensure_ascii=False, allow_nan=False, default=str
    )


def same_tags(run: Run, **tags: str) -> bool:
    """Say whether a run carries all of `method`, `seed`, … as its `labelrel.*` tags."""
    return all(run.data.tags.get(f"labelrel.{name}") == value for name, value in tags.items())


def is_current(run: Run) -> bool:
    """Say whether a run stands in the latest table of its comparison."""
    return bool(run.data.tags.get(keys.CURRENT) == "true")
