"""After the report the store lists every method, whatever happened to its runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelrel.tracking import GitState
from labelrel.tracking.view import shared_views

TASK = "finish"
MakeFolder = Callable[..., Path]
MakeRow = Callable[..., dict[str, Any]]


def live_run(tracker: Any, comparison: str, method: str, seed: int = 42) -> str:
    parent = tracker.comparison_run(TASK, comparison)
    with tracker.start_child(
        parent,
        method=method,
        role="method",
        seed=seed,
        task=TASK,
        params={},
        inputs={},
        git=GitState(None, None),
        dvc_md5s={},
    ) as run:
        run.log_metrics({"test/accuracy": 0.75})
    return str(run.run_id)


def test_every_method_is_found_by_search(tracker: Any, run_folder: MakeFolder, row: MakeRow) -> None:
    run_id = live_run(tracker, "a1", "filter")
    folders = {
        "filter": [run_folder("filter", [True, True, True, False], mlflow_run_id=run_id)],
        "naive": [run_folder("naive", [True, False])],  # restored from a cache: no such run in the store
    }
    rows = [row("filter", 0.75, pgr=0.5), row("naive", 0.5, pgr=0.125)]
    parent = tracker.finish_comparison(TASK, "a1", rows=rows, folders=folders, answer="filter is best.")

    listed = {r.data.tags["labelrel.method"]: r for r in tracker.store.children(TASK, parent)}
    assert {m: r.data.metrics["test/accuracy"] for m, r in listed.items()} == {"filter": 0.75, "naive": 0.5}
    assert {m: r.data.metrics["test/pgr"] for m, r in listed.items()} == {"filter": 0.5, "naive": 0.125}
    assert listed["filter"].info.run_id == run_id
    assert listed["filter"].data.metrics["test/accuracy_lo"] == pytest.approx(0.65)
    assert listed["filter"].data.metrics["labels/kept_fraction"] == 0.5
    assert {r.data.tags["labelrel.current"] for r in listed.values()} == {"true"}


def test_restored_run_is_whole_and_logged_once(
    tracker: Any, client: Any, project: Path, run_folder: MakeFolder, row: MakeRow
) -> None:
    folder = run_folder("majority", [True, False, False, False], mlflow_run_id="0" * 32, rule="majority")
    folders = {"majority": [folder]}
    for _ in range(2):
        parent = tracker.finish_comparison(TASK, "a2", rows=[row("majority", 0.25)], folders=folders, answer="")
    (run,) = tracker.store.children(TASK, parent)
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 12_500
    assert run.data.metrics["test/accuracy"] == 0.25  # 1 of 4 test items; the gold_dev row does not count
    assert run.data.metrics["cost/tokens"] == 4096
    assert run.data.params == {"align.lora.rank": "16", "align.top_layers": "null", "rule": "majority"}
    assert [m.value for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1.5, 1.25]
    assert [m.value for m in client.get_metric_history(run.info.run_id, "test/accuracy")] == [0.25]
    assert [d.dataset.digest for d in run.inputs.dataset_inputs] == ["f" * 16]
    artifacts = project / "mlruns" / "artifacts" / run.info.run_id / "artifacts"
    assert (artifacts / "adapter" / "adapter_config.json").is_file()


def test_each_seed_has_its_own_accuracy(tracker: Any, run_folder: MakeFolder, row: MakeRow) -> None:
    folders = {"naive": [run_folder("naive", [True, True], seed=1), run_folder("naive", [True, False], seed=2)]}
    parent = tracker.finish_comparison(TASK, "a3", rows=[row("naive", 0.75)], folders=folders, answer="")
    by_seed = {
        r.data.tags["labelrel.seed"]: r.data.metrics["test/accuracy"] for r in tracker.store.children(TASK, parent)
    }
    assert by_seed == {"1": 1.0, "2": 0.5}


def test_undefined_pgr_is_a_tag_and_no_metric(tracker: Any, run_folder: MakeFolder, row: MakeRow) -> None:
    undefined = row("naive", 0.5, pgr=None, pgr_lo=None, pgr_hi=None, pgr_reason="no gap")
    folders = {"naive": [run_folder("naive", [True, False])]}
    parent = tracker.finish_comparison(TASK, "a4", rows=[undefined], folders=folders, answer="")
    (run,) = tracker.store.children(TASK, parent)
    assert "test/pgr" not in run.data.metrics
    assert run.data.tags["labelrel.pgr"] == "undefined: no gap"


def test_pgr_that_became_undefined_leaves_no_current_number(tracker: Any, run_folder: MakeFolder, row: MakeRow) -> None:
    folders = {"naive": [run_folder("naive", [True, False])]}
    for pgr in (0.5, None):
        parent = tracker.finish_comparison(TASK, "a5", rows=[row("naive", 0.5, pgr=pgr)], folders=folders, answer="")
    pgr_by_current = {
        r.data.tags["labelrel.current"]: r.data.metrics.get("test/pgr") for r in tracker.store.children(TASK, parent)
    }
    assert pgr_by_current == {"false": 0.5, "true": None}


def test_earlier_runs_are_no_longer_current(
    tracker: Any, tmp_path_factory: pytest.TempPathFactory, run_folder: MakeFolder, row: MakeRow
) -> None:
    first = live_run(tracker, "a6", "filter")
    folder = run_folder("filter", [True], mlflow_run_id=first)
    tracker.finish_comparison(TASK, "a6", rows=[row("filter", 1.0)], folders={"filter": [folder]}, answer="")
    second = live_run(tracker, "a6", "filter")
    record = json.loads((folder / "run.json").read_text()) | {"mlflow_run_id": second}
    (folder / "run.json").write_text(json.dumps(record))
    parent = tracker.finish_comparison(TASK, "a6", rows=[row("filter", 1.0)], folders={"filter": [folder]}, answer="")
    current = {r.info.run_id: r.data.tags["labelrel.current"] for r in tracker.store.children(TASK, parent)}
    assert current == {first: "false", second: "true"}


def test_run_of_another_comparison_is_logged_under_this_one(tracker: Any, run_folder: MakeFolder, row: MakeRow) -> None:
    shared = live_run(tracker, "a7", "ceiling")
    folder = run_folder("ceiling", [True], mlflow_run_id=shared, role="ceiling")
    rows = [row("ceiling", 1.0, role="ceiling")]
    parent = tracker.finish_comparison(TASK, "a8", rows=rows, folders={"ceiling": [folder]}, answer="")
    (run,) = tracker.store.children(TASK, parent)
    assert run.info.run_id != shared
    assert run.data.tags["labelrel.role"] == "ceiling"


def test_parent_holds_the_report(
    tracker: Any, client: Any, project: Path, tmp_path: Path, run_folder: MakeFolder, row: MakeRow
) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "methods.png").write_bytes(b"png")
    (tmp_path / "report.html").write_text("<p>")
    rows = [
        row("floor", 0.25, role="floor", pgr=0.0),
        row("filter", 0.75),
        row("naive", 0.5),
        row("random", 0.875, role="control"),
        row("ceiling", 1.0, role="ceiling", pgr=1.0),
    ]
    for _ in range(2):  # a second report replaces the table, it does not append to it
        parent = tracker.finish_comparison(
            TASK,
            "a9",
            rows=rows,
            folders={},
            answer="filter recovered half of the gap.",
            figures=tmp_path / "figures",
            files=[tmp_path / "report.html"],
            params={"report.confidence": 0.95},
        )
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {
        "floor/accuracy": 0.25,
        "ceiling/accuracy": 1.0,
        "best/accuracy": 0.75,
        "best/pgr": 0.5,
    }
    assert run.data.tags["labelrel.best_method"] == "filter"  # a control cannot be the answer
    assert run.data.tags["mlflow.note.content"] == "filter recovered half of the gap."
    assert run.data.params == {"report.confidence": "0.95"}
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "table.json", "type": "table"}]
    artifacts = project / "mlruns" / "artifacts" / parent / "artifacts"
    assert {p.relative_to(artifacts).as_posix() for p in artifacts.rglob("*") if p.is_file()} == {
        "table.json",
        "params.json",
        "report.html",
        "figures/methods.png",
    }
    assert len(json.loads((artifacts / "table.json").read_text())["data"]) == 5


def test_experiment_says_which_columns_matter(
    tracker: Any, client: Any, project: Path, run_folder: MakeFolder, row: MakeRow
) -> None:
    folders = {"naive": [run_folder("naive", [True, False])]}
    parent = tracker.finish_comparison(TASK, "b1", rows=[row("naive", 0.5)], folders=folders, answer="")
    experiment = client.get_experiment_by_name(TASK)
    state = json.loads(experiment.tags["mlflow.sharedViewState.labelrel"])
    (run,) = tracker.store.children(TASK, parent)
    names = [column.split("`")[1] for column in state["selectedColumns"]]
    assert set(names) <= run.data.metrics.keys() | run.data.tags.keys()  # none of them would stay empty
    assert names[:3] == ["labelrel.method", "labelrel.role", "test/accuracy"]
    assert all(f"`{name}`" in experiment.tags["mlflow.note.content"] for name in (*names[:3], *names[5:]))
    assert shared_views(project / "mlruns" / "mlflow.db")[TASK].startswith(f"#/experiments/{experiment.experiment_id}/")
    assert [r.info.run_id for r in client.search_runs([experiment.experiment_id], state["searchFilter"])].count(
        run.info.run_id
    ) == 1
