"""MLflow's own pages in a real browser: the columns that `labelrel ui` opens, and what a run shows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from labelrel.tracking import open_tracker

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: make test-browser")


def write_run(folder: Path, method: str, role: str, correct: list[bool]) -> Path:
    record = {"method": method, "seed": 1, "role": role, "task": "toy", "model": "tiny", "seconds": 12.5, "tokens": 64}
    record |= {"params": {"loss.name": "cross_entropy"}, "inputs": {"items": {"path": "items.csv", "sha256": "f" * 64}}}
    (folder / method).mkdir(parents=True)
    (folder / method / "run.json").write_text(json.dumps(record))
    table = pl.DataFrame({"item_id": [str(n) for n in range(len(correct))], "split": "test", "correct": correct})
    table.write_parquet(folder / method / "predictions.parquet")
    curve = pl.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "learning_rate": [1.0, 0.5, 0.1]})
    curve.write_parquet(folder / method / "history.parquet")
    return folder / method


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `labelrel ui` says that the task's runs are."""
    project = tmp_path_factory.mktemp("mlflow-page")
    told = {"floor": ("floor", 0.25), "filter": ("method", 0.75), "naive": ("method", 0.5)}
    folders = {
        m: [write_run(project, m, role, [n < 4 * accuracy for n in range(4)])] for m, (role, accuracy) in told.items()
    }
    rows = [
        {"method": m, "role": role, "test_accuracy": accuracy, "accuracy_lo": 0.1, "accuracy_hi": 0.9, "pgr": 0.5}
        | {"kept_fraction": 0.5, "label_accuracy": 0.8}
        for m, (role, accuracy) in told.items()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_tracker(project).finish_comparison("toy", "aa11", rows=rows, folders=folders, answer="filter is best.")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        code = (
            f"from labelrel.tracking import serve; serve({str(project)!r}, {port}, say=lambda s: print(s, flush=True))"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as ui:
            try:
                assert ui.stdout is not None
                ui.stdout.readline()
                yield ui.stdout.readline().rpartition(" ")[2].strip()
            finally:
                ui.send_signal(signal.SIGTERM)
                ui.wait(timeout=30)


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium refuses to run as root with one
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        page = chromium.new_page(viewport={"width": 2200, "height": 900})
        page.goto(address)
        page.get_by_role("columnheader", name="labelrel.method").first.wait_for(timeout=30_000)
        yield page
        chromium.close()


def test_runs_table_has_the_columns_that_matter(page: Any) -> None:
    page.get_by_role("columnheader", name="cost/seconds").first.wait_for(timeout=10_000)
    shown = list(dict.fromkeys(page.get_by_role("columnheader").all_inner_texts()))
    wanted = ["labelrel.method", "labelrel.role", "test/accuracy", "test/accuracy_lo", "test/accuracy_hi", "test/pgr"]
    wanted += ["labels/kept_fraction", "labels/accuracy", "cost/seconds"]
    assert [name for name in shown if "/" in name or name.startswith("labelrel.")] == wanted


def test_best_run_comes_first(page: Any) -> None:
    page.get_by_text("filter-1").first.wait_for(timeout=10_000)
    names = [text for text in page.locator("a[href*='/runs/']").all_inner_texts() if text]
    assert names == ["filter-1", "naive-1", "floor-1"]
