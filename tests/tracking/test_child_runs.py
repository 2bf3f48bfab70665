"""What one (method, seed) leaves in the store, whichever way it ends."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from labelrel.errors import InputError
from labelrel.tracking import ChildRun, GitState, open_tracker

TASK = "children"


def child(tracker: Any, parent: str | None, method: str = "filter", **options: Any) -> AbstractContextManager[ChildRun]:
    given: dict[str, Any] = {
        "role": "method",
        "seed": 42,
        "task": TASK,
        "params": {"align.epochs": 2.0, "align.top_layers": None, "align.model": "tiny"},
        "inputs": {"items": {"path": "data/items.parquet", "sha256": "a" * 64}},
        "git": GitState("c0ffee", True),
        "dvc_md5s": {"items": "d41d8"},
    }
    return tracker.start_child(parent, method=method, **given | options)


def test_parent_is_found_again_by_its_comparison(tracker: Any) -> None:
    first = tracker.comparison_run(TASK, "aa11")
    assert tracker.comparison_run(TASK, "aa11") == first
    assert tracker.comparison_run(TASK, "bb22") != first


def test_parent_is_found_by_another_process(tracker: Any, project: Path) -> None:
    first = tracker.comparison_run(TASK, "aa33")
    assert open_tracker(project, uri=tracker.store.uri).comparison_run(TASK, "aa33") == first


def test_comparison_id_that_could_break_a_search_is_refused(tracker: Any) -> None:
    with pytest.raises(ValueError, match="hex digest"):
        tracker.comparison_run(TASK, "x' or '1'='1")


def test_child_carries_what_it_was_told(tracker: Any, client: Any) -> None:
    parent = tracker.comparison_run(TASK, "cc11")
    with child(tracker, parent) as run:
        pass
    data = client.get_run(run.run_id).data
    assert client.get_run(run.run_id).info.status == "FINISHED"
    # a text stays as it is, everything else is told as in params.yaml
    assert data.params == {"align.epochs": "2.0", "align.top_layers": "null", "align.model": "tiny"}
    expected = {
        "labelrel.method": "filter",
        "labelrel.role": "method",
        "labelrel.seed": "42",
        "labelrel.task": TASK,
        "labelrel.comparison": "cc11",
        "labelrel.sha256.items": "a" * 64,
        "labelrel.dvc.items": "d41d8",
        "labelrel.git_dirty": "true",
        "mlflow.source.git.commit": "c0ffee",
        "mlflow.parentRunId": parent,
    }
    assert expected.items() <= data.tags.items()


def test_more_params_than_one_call_takes(tracker: Any, client: Any) -> None:
    many = {f"p{n}": n for n in range(205)}
    with child(tracker, tracker.comparison_run(TASK, "cc12"), params=many) as run:
        pass
    assert len(client.get_run(run.run_id).data.params) == 205


def test_outside_git_there_is_no_commit_tag(tracker: Any, client: Any) -> None:
    with child(tracker, tracker.comparison_run(TASK, "cc13"), git=GitState(None, None)) as run:
        pass
    tags = client.get_run(run.run_id).data.tags
    assert "mlflow.source.git.commit" not in tags
    assert "labelrel.git_dirty" not in tags


def test_curves_can_be_seen_while_the_run_is_open(tracker: Any, client: Any) -> None:
    with child(tracker, tracker.comparison_run(TASK, "dd11")) as run:
        run.log_history({"step": s, "loss": 1.0 / s, "learning_rate": 0.1} for s in range(1, 1001))
        half = client.get_metric_history(run.run_id, "train/loss")
        run.log_history([{"step": 1001, "loss": math.nan, "learning_rate": 0.05}])
    assert [m.step for m in half] == list(range(1, 1001))
    assert half[3].value == 0.25
    assert len(client.get_metric_history(run.run_id, "train/loss")) == 1000  # the NaN is not a point
    assert client.get_run(run.run_id).data.metrics["train/learning_rate"] == 0.05


def test_null_and_not_finite_metrics_are_left_out(tracker: Any, client: Any) -> None:
    with child(tracker, tracker.comparison_run(TASK, "dd12")) as run:
        run.log_metrics({"test/accuracy": 0.75, "test/pgr": None, "cost/tokens": math.inf})
    assert client.get_run(run.run_id).data.metrics == {"test/accuracy": 0.75}


def test_artifacts_lie_under_the_project(tracker: Any, client: Any, project: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with child(tracker, tracker.comparison_run(TASK, "dd13")) as run:
        run.log_artifacts(tmp_path, "adapter")
    expected = project / "mlruns" / "artifacts" / str(run.run_id) / "artifacts" / "adapter" / "adapter_config.json"
    assert expected.is_file()


def test_dataset_digest_is_of_the_whole_file(tracker: Any, client: Any, tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], "gold_label": ["1", None]})
    frame.write_parquet(tmp_path / "items.parquet")
    with child(tracker, tracker.comparison_run(TASK, "dd14"), inputs={}) as run:
        run.log_dataset(frame, "items", tmp_path / "items.parquet", "evaluation")
        run.log_dataset(frame.head(1), "made", "nowhere", "training")
    items, made = client.get_run(run.run_id).inputs.dataset_inputs
    assert items.dataset.name == "items"
    assert items.dataset.digest == hashlib.sha256((tmp_path / "items.parquet").read_bytes()).hexdigest()[:16]
    assert {(t.key, t.value) for t in items.tags} == {("mlflow.data.context", "evaluation")}
    assert made.dataset.digest != items.dataset.digest


def test_inputs_are_data_sets_with_columns_and_rows(tracker: Any, client: Any, project: Path) -> None:
    frame = pl.DataFrame(
        {"item_id": ["a", "b", "c"], "choices": [["x"], None, []], "meta": [{"source": "s"}] * 3},
        schema_overrides={"choices": pl.List(pl.String)},
    )
    (project / "data").mkdir(exist_ok=True)
    frame.write_parquet(project / "data" / "answers.parquet")
    inputs = {
        "answers": {"path": "data/answers.parquet", "sha256": "b" * 64},
        "items": {"path": "data/gone.parquet", "sha256": "c" * 64},
        "training": {"path": "data/training/filter.parquet", "sha256": "d" * 64},
    }
    with child(tracker, tracker.comparison_run(TASK, "dd16"), inputs=inputs) as run:
        run.log_dataset(frame.head(1), "training", "data/training/filter.parquet", "training")
    logged = {d.dataset.name: d for d in client.get_run(run.run_id).inputs.dataset_inputs}
    assert set(logged) == {"answers", "items", "training"}
    answers = logged["answers"].dataset
    assert (answers.digest, json.loads(answers.source)["uri"]) == ("b" * 16, "data/answers.parquet")
    assert json.loads(answers.profile) == {"num_rows": 3, "num_elements": 9}
    assert [column["name"] for column in json.loads(answers.schema)["mlflow_colspec"]] == frame.columns
    assert [(t.key, t.value) for t in logged["answers"].tags] == [("mlflow.data.context", "answers")]
    assert logged["items"].dataset.digest == "c" * 16


def test_what_early_stopping_and_second_looks_saw_is_a_curve(tracker: Any, client: Any) -> None:
    with child(tracker, tracker.comparison_run(TASK, "dd17")) as run:
        run.log_looks([(25, 0.5), (50, 0.625)])
        run.log_stages([{"test_accuracy": 0.5, "label_accuracy": None}, {"test_accuracy": 0.75, "seconds": 2.0}])
    points = {
        key: [(m.step, m.value) for m in client.get_metric_history(run.run_id, key)]
        for key in client.get_run(run.run_id).data.metrics
    }
    assert points == {
        "gold_dev/accuracy": [(25, 0.5), (50, 0.625)],
        "stages/test_accuracy": [(1, 0.5), (2, 0.75)],
        "stages/seconds": [(2, 2.0)],
    }


def test_system_metrics_by_sample_until_the_end(tracker: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")
    cpu = "system/cpu_utilization_percentage"
    with child(tracker, tracker.comparison_run(TASK, "dd18")) as run:
        deadline = time.monotonic() + 20
        while len(client.get_metric_history(run.run_id, cpu)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    history = client.get_metric_history(run.run_id, cpu)
    assert [m.step for m in history] == list(range(len(history)))
    assert {"system/system_memory_usage_megabytes", "system/network_receive_megabytes"} <= client.get_run(
        run.run_id
    ).data.metrics.keys()
    assert not [t for t in threading.enumerate() if t.name == "labelrel-system-metrics"]


def test_table_sample_is_short_and_strict_json(tracker: Any, client: Any, project: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "weight": [1.0, math.nan, 0.5], "choices": [["x"], None, []]})
    with child(tracker, tracker.comparison_run(TASK, "dd15")) as run:
        run.log_table_sample(frame, "training", rows=2)
    file = project / "mlruns" / "artifacts" / str(run.run_id) / "artifacts" / "training.json"
    assert json.loads(file.read_text(), parse_constant=pytest.fail) == {
        "columns": ["item_id", "weight", "choices"],
        "data": [["a", 1.0, ["x"]], ["b", None, None]],
    }
    assert json.loads(client.get_run(run.run_id).data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "training.json", "type": "table"}
    ]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_child_that_raises_says_how_it_ended(tracker: Any, client: Any, error: BaseException, status: str) -> None:
    parent = tracker.comparison_run(TASK, "ee11")
    with pytest.raises(type(error)), child(tracker, parent, method=status) as run:
        raise error
    assert client.get_run(run.run_id).info.status == status
    assert client.get_run(run.run_id).data.tags["labelrel.error"].startswith(type(error).__name__)


def test_rerun_marks_what_a_kill_left_running(tracker: Any, client: Any) -> None:
    parent = tracker.comparison_run(TASK, "ee12")
    killed = child(tracker, parent)
    stale = killed.__enter__()  # never left, as after kill -9
    other = child(tracker, parent, seed=43)
    running = other.__enter__()
    with child(tracker, parent) as again:
        pass
    assert client.get_run(stale.run_id).info.status == "KILLED"
    assert client.get_run(running.run_id).info.status == "RUNNING"  # another seed is none of our business
    assert client.get_run(again.run_id).info.status == "FINISHED"


def test_telemetry_is_off(tracker: Any) -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_environment_names_another_store(monkeypatch: pytest.MonkeyPatch, tracker: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.store.uri)
    elsewhere: Any = open_tracker(tmp_path)
    assert elsewhere.store.uri == tracker.store.uri
    assert not (tmp_path / "mlruns").exists()


def test_store_of_a_moved_project_is_refused(tracker: Any, tmp_path: Path) -> None:
    tracker.comparison_run(TASK, "ff11")
    from labelrel.tracking.store import Store

    moved = Store(tracker.store.uri, tracker.store.client, tmp_path / "mlruns" / "artifacts")
    with pytest.raises(InputError, match="made in another folder"):
        moved.experiment(TASK)


def test_deleted_experiment_comes_back(tracker: Any, client: Any) -> None:
    from labelrel.tracking.store import Store

    tracker.comparison_run("deleted", "ff12")
    client.delete_experiment(tracker.store.experiment("deleted"))
    fresh = Store(tracker.store.uri, client, tracker.store.artifacts)
    assert client.get_experiment(fresh.experiment("deleted")).lifecycle_stage == "active"
