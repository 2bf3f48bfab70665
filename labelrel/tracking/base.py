"""What a tracker can do, and the one that does nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from labelrel.tracking.lineage import GitState

LATER = "the run is not logged now; `labelrel report` logs it from its folder when the server is back"
"""What is said of a run that begins, or of a report that is made, while the tracking server is away."""


class ChildRun(Protocol):
    """One (method, seed) while it trains; what it logs can be seen at once."""

    @property
    def run_id(self) -> str | None:
        """The run's id for `run.json`; null when nothing is tracked."""

    def log_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log curve points, rows of `step, loss, learning_rate`, as `train/*`; call it every few steps."""

    def log_looks(self, looks: Iterable[tuple[int, float]]) -> None:
        """Log what early stopping saw, (step, accuracy), as `gold_dev/accuracy` by step."""

    def log_stages(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Log the stages of a method with a second look, as in `run.json`, as `stages/*` by number from 1."""

    def log_metrics(self, values: Mapping[str, float | None]) -> None:
        """Log final numbers; null and not-finite ones are left out, never written as NaN."""

    def log_artifacts(self, folder: Path | str, name: str) -> None:
        """Copy a folder's content into the run's artifacts under `name`."""

    def log_dataset(self, frame: pl.DataFrame, name: str, source: Path | str, context: str) -> None:
        """Log a table as a data set of the run, with a digest of all of it.

        Args:
            frame: the whole table.
            name: what it is called in the run, such as "items".
            source: the file it was read from.
            context: what it served for, such as "training" or "evaluation".
        """

    def log_table_sample(self, frame: pl.DataFrame, name: str, rows: int = 20) -> None:
        """Log the first rows as a table that can be looked at in the UI (`NAME.json`)."""


class Tracker(Protocol):
    """Where runs go. A parent run is one comparison, its children one (method, seed) each."""

    def comparison_run(self, task: str, comparison_id: str, *, name: str | None = None) -> str | None:
        """Find or create the parent run of a comparison and return its id.

        Args:
            task: name of the task, which is the experiment.
            comparison_id: hex digest of what the runs have in common.
            name: name of a new parent run; null: "comparison" and the start of the id.
        """

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
    ) -> AbstractContextManager[ChildRun]:
        """Open the run of one (method, seed) under `parent` and close it when the block ends.

        A block that raises leaves the run FAILED, an interrupted one KILLED. Runs of the same method and seed that
        an earlier kill left RUNNING are marked KILLED first.

        Args:
            parent: what `comparison_run` returned.
            method: registered name, "floor" or "ceiling".
            role: floor, ceiling, method or control.
            seed: training seed.
            task: name of the task.
            params: all resolved parameters, flat.
            inputs: name → {"path", "sha256"} of the files that were read.
            git: what `git_state` returned.
            dvc_md5s: what `dvc_md5s` returned.
        """

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
        """Put the report on the parent run and the intervals on its children; return the parent's id.

        Every folder in `folders` has one current child afterwards (`labelrel.current` = "true"): a result that the
        store has never seen, or no longer knows, is logged from its folder.

        Args:
            task: name of the task.
            comparison_id: as for `comparison_run`.
            rows: the report's table, one row per method.
            folders: method → folders of its runs, one per seed.
            answer: the sentence that becomes the parent's description.
            figures: folder of figures.
            files: further files, such as `table.csv` and `report.html`.
            params: resolved parameters of the comparison, flat.
        """


class NoChild:
    """A run that is not tracked."""

    run_id: str | None = None

    def log_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Do nothing."""

    def log_looks(self, looks: Iterable[tuple[int, float]]) -> None:
        """Do nothing."""

    def log_stages(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Do nothing."""

    def log_metrics(self, values: Mapping[str, float | None]) -> None:
        """Do nothing."""

    def log_artifacts(self, folder: Path | str, name: str) -> None:
        """Do nothing."""

    def log_dataset(self, frame: pl.DataFrame, name: str, source: Path | str, context: str) -> None:
        """Do nothing."""

    def log_table_sample(self, frame: pl.DataFrame, name: str, rows: int = 20) -> None:
        """Do nothing."""


class NoTracker:
    """A tracker that tracks nothing: for `--no-track` and for tests."""

    def comparison_run(self, task: str, comparison_id: str, *, name: str | None = None) -> str | None:
        """Return null."""
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
        """Yield a run that logs nothing."""
        yield NoChild()

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
        """Return null."""
        return None
