"""The whole pipeline on the real models, in miniature: `python tests/smoke/run.py build/smoke`.

Makes a fresh project in the folder (which is removed first), runs `dvc repro` in it, and looks at
what came out: the table, the MLflow store and the page. One line and exit code 1 where it is not
what it should be.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.dvc_project import dvc, make_project  # noqa: E402  (found from there)


def main() -> None:
    if len(sys.argv) != 2:
        fail("name the folder to run in: python tests/smoke/run.py build/smoke")
    folder = Path(sys.argv[1]).resolve()
    started = time.monotonic()
    environment = fresh_project(folder)
    if code := dvc(folder, environment, "repro"):
        fail(f"`dvc repro` ended with exit code {code}")
    check_table(folder)
    check_adapters(folder)
    check_runs(folder)
    if dvc(folder, environment, "status", "--quiet"):
        fail("`dvc repro` has just run and `dvc status` still finds something to do")
    print(f"smoke: all well after {time.monotonic() - started:.0f} s; the project is in {sys.argv[1]}", flush=True)


def fresh_project(folder: Path) -> dict[str, str]:
    """Make the folder a project of its own and return the environment to run in."""
    if folder.exists() and not (folder / "params.yaml").is_file() and any(folder.iterdir()):
        fail(f"{folder} is not empty and no earlier smoke run; it is not removed")
    shutil.rmtree(folder, ignore_errors=True)
    return make_project(folder, (HERE / "params.yaml").read_text(encoding="utf-8"))


def check_table(folder: Path) -> None:
    """Look at the table and print it."""
    sys.path.insert(0, str(folder))
    from labelrel.report.table import as_text

    report = folder / "data" / "report"
    table = json.loads((report / "table.json").read_text(encoding="utf-8"))
    print("\n" + as_text(table["rows"], table["confidence"]) + "\n\n" + table["answer"] + "\n", flush=True)
    roles = {row["method"]: row["role"] for row in table["rows"]}
    expect(roles, {"floor": "floor", "naive": "method", "filter": "method", "ceiling": "ceiling"}, "the table")
    for row in table["rows"]:
        where = f"the row of {row['method']} in the table"
        expect(row["num_test_items"], 8, where)
        if not 0 <= row["accuracy_lo"] <= row["test_accuracy"] <= row["accuracy_hi"] <= 1:
            fail(f"{where} has an accuracy outside its interval or outside [0, 1]: {row}")
        if row["role"] in ("method", "ceiling") and not 0 < (row["kept_fraction"] or 0) <= 1:
            fail(f"{where} has the kept fraction {row['kept_fraction']}, which is not in (0, 1]")
    if "filter" not in (report / "report.html").read_text(encoding="utf-8"):
        fail("report.html does not name the methods")


def check_adapters(folder: Path) -> None:
    """Each training set must have made a model of its own, or none of them has arrived."""
    files = sorted(folder.glob("data/align/*/adapter/adapter_model.safetensors"))
    expect([file.parts[-3] for file in files], ["ceiling-0", "filter-0", "naive-0"], "the aligned models")
    if len({file.read_bytes() for file in files}) < len(files):
        fail("two methods have trained the same adapter")


def check_runs(folder: Path) -> None:
    """Find every row of the table in the MLflow store of this folder, with the same accuracy."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # is read while mlflow is imported
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("world_facts")
    if experiment is None:
        fail("the MLflow store has no experiment 'world_facts'")
    logged = {
        run.data.tags["labelrel.method"]: run.data.metrics.get("test/accuracy")
        for run in client.search_runs([experiment.experiment_id])
        if "mlflow.parentRunId" in run.data.tags
    }
    rows = json.loads((folder / "data" / "report" / "table.json").read_text(encoding="utf-8"))["rows"]
    expect(logged, {row["method"]: row["test_accuracy"] for row in rows}, "test/accuracy of the runs in MLflow")
    print(f"smoke: {len(logged)} runs in MLflow, with the accuracies of the table", flush=True)


def expect(found: Any, expected: Any, where: str) -> None:
    if found != expected:
        fail(f"{where}: expected {expected}, found {found}")


def fail(message: str) -> NoReturn:
    print(f"smoke: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
