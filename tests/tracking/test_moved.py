"""A project folder that was moved or copied keeps its artifacts: the links in its store follow."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from labelrel.tracking import GitState, open_tracker
from labelrel.tracking.moved import repair_links

TASK = "moving"


@pytest.fixture
def moved(tracker: Any, project: Path, tmp_path: Path) -> tuple[Path, str]:
    """A copy of the project, with a run that has an artifact, and the run's id."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights.bin").write_bytes(b"weights")
    parent = tracker.comparison_run(TASK, "aa11")
    given: dict[str, Any] = {"role": "method", "seed": 1, "params": {}, "inputs": {}, "dvc_md5s": {}}
    with tracker.start_child(parent, method="naive", task=TASK, git=GitState(None, None), **given) as run:
        run.log_artifacts(tmp_path / "adapter", "adapter")
    shutil.copytree(project / "mlruns", tmp_path / "new place" / "mlruns")
    return tmp_path / "new place", run.run_id


def links(database: Path) -> list[str]:
    with sqlite3.connect(database) as store:
        return [link for (link,) in store.execute("SELECT artifact_uri FROM runs")]


def test_links_follow(moved: tuple[Path, str], project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, run_id = moved
    store = folder / "mlruns" / "mlflow.db"
    old = (project / "mlruns" / "artifacts").as_uri()
    assert all(link.startswith(f"{old}/") for link in links(store))
    (project / "mlruns" / "artifacts" / run_id / "artifacts" / "adapter" / "weights.bin").write_bytes(
        b"of the original"
    )
    tracker: Any = open_tracker(folder)
    told = capsys.readouterr().err
    client = tracker.store.client
    assert told.startswith("mlflow: the project has moved; ")
    assert len(told.splitlines()) == 1
    weights = client.download_artifacts(run_id, "adapter/weights.bin")
    assert Path(weights).read_bytes() == b"weights"
    assert all(link.startswith(f"{(folder / 'mlruns' / 'artifacts').as_uri()}/") for link in links(store))
    assert links(store.with_name("mlflow.db.before-move")) == links(project / "mlruns" / "mlflow.db")
    assert tracker.comparison_run(TASK, "aa11") == client.get_run(run_id).data.tags["mlflow.parentRunId"]
    assert repair_links(store) == 0
    assert "moved" not in capsys.readouterr().err


def test_registered_models_follow(moved: tuple[Path, str], project: Path) -> None:
    store = moved[0] / "mlruns" / "mlflow.db"
    old = (project / "mlruns" / "artifacts").as_uri()
    with sqlite3.connect(store) as tables:
        tables.execute("INSERT INTO registered_models (name, creation_time) VALUES ('m', 1)")
        tables.execute(
            "INSERT INTO model_versions (name, version, source) VALUES ('m', 1, ?)", (f"{old}/r/artifacts/x",)
        )
    repair_links(store)
    with sqlite3.connect(store) as tables:
        ((source,),) = tables.execute("SELECT source FROM model_versions WHERE name = 'm'").fetchall()
    assert source == f"{(store.parent / 'artifacts').as_uri()}/r/artifacts/x"


def test_artifacts_that_were_always_elsewhere_stay(moved: tuple[Path, str], tmp_path: Path) -> None:
    store = moved[0] / "mlruns" / "mlflow.db"
    repair_links(store)
    elsewhere = tmp_path / "other" / "artifacts"
    elsewhere.mkdir(parents=True)
    with sqlite3.connect(store) as tables:
        tables.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES ('own', ?, 'active')",
            (elsewhere.as_uri(),),
        )
    assert repair_links(store) == 0


def test_store_that_is_none_is_left_alone(tmp_path: Path) -> None:
    assert repair_links(tmp_path / "mlflow.db") == 0
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "mlflow.db").write_bytes(b"")
    assert repair_links(tmp_path / "mlflow.db") == 0
    assert not (tmp_path / "mlflow.db.before-move").exists()
