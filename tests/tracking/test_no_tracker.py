"""The tracker that does nothing, and what importing this room costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import polars as pl
import pytest

from labelrel.tracking import GitState, NoChild, NoTracker, open_tracker


def signatures(kind: type) -> dict[str, list[str]]:
    public = {n: m for n, m in vars(kind).items() if not n.startswith("_") and inspect.isfunction(m)}
    return {name: list(inspect.signature(member).parameters) for name, member in public.items()}


def test_same_methods_and_arguments_as_the_real_ones(tracker: Any) -> None:
    from labelrel.tracking.runs import MlflowChild, MlflowTracker

    assert signatures(NoTracker) == signatures(MlflowTracker)
    assert signatures(NoChild) == signatures(MlflowChild)
    assert NoChild.run_id is None


def test_nothing_comes_of_it(tmp_path: Any) -> None:
    silent = open_tracker(tmp_path, track=False)
    parent = silent.comparison_run("toy", "a1")
    with silent.start_child(
        parent,
        method="naive",
        role="method",
        seed=1,
        task="toy",
        params={},
        inputs={},
        git=GitState(None, None),
        dvc_md5s={},
    ) as run:
        run.log_history([{"step": 1, "loss": 1.0}])
        run.log_metrics({"test/accuracy": 1.0})
        run.log_artifacts(tmp_path, "adapter")
        run.log_dataset(pl.DataFrame(), "items", "items.parquet", "training")
        run.log_table_sample(pl.DataFrame(), "training")
        assert run.run_id is None
    assert silent.finish_comparison("toy", "a1", rows=[], folders={}, answer="") is None
    assert list(tmp_path.iterdir()) == []


def test_block_that_raises_still_raises() -> None:
    silent = NoTracker()
    with (
        pytest.raises(RuntimeError, match="boom"),
        silent.start_child(
            None,
            method="m",
            role="method",
            seed=1,
            task="t",
            params={},
            inputs={},
            git=GitState(None, None),
            dvc_md5s={},
        ),
    ):
        raise RuntimeError("boom")


def test_room_is_imported_without_mlflow() -> None:
    program = (
        "import sys, labelrel.tracking as t; t.open_tracker(track=False); "
        "print(sorted({'mlflow', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
