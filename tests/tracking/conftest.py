"""One real SQLite store for the whole session: making one takes seconds, so tests share it by experiment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from labelrel.tracking import Tracker, open_tracker


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="session")
def tracker(project: Path) -> Iterator[Tracker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield open_tracker(project)


@pytest.fixture
def client(tracker: Any) -> Any:
    return tracker.store.client


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write what `align` leaves behind; the arguments replace entries of `run.json`."""

    def write(method: str, correct: list[bool], **entries: Any) -> Path:
        folder = tmp_path / f"{method}-{entries.get('seed', 42)}"
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter" / "adapter_config.json").write_text("{}")
        record = {
            "method": method,
            "seed": 42,
            "role": "method",
            "task": "toy",
            "model": "tiny",
            "seconds": 12.5,
            "tokens": 4096,
            "params": {"align.lora.rank": 16, "align.top_layers": None},
            "comparison": "abc123",
            "mlflow_run_id": None,
            "inputs": {"items": {"path": "data/items.parquet", "sha256": "f" * 64}},
            **entries,
        }
        (folder / "run.json").write_text(json.dumps(record))
        pl.DataFrame(
            {
                "item_id": [f"i{n}" for n in range(len(correct))] + ["dev"],
                "split": ["test"] * len(correct) + ["gold_dev"],
                "correct": [*correct, False],
            }
        ).write_parquet(folder / "predictions.parquet")
        pl.DataFrame({"step": [1, 2], "loss": [1.5, 1.25], "learning_rate": [1e-3, 5e-4]}).write_parquet(
            folder / "history.parquet"
        )
        return folder

    return write


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """One row of the report's table."""

    def make(method: str, accuracy: float, **entries: Any) -> dict[str, Any]:
        return {
            "method": method,
            "role": "method",
            "test_accuracy": accuracy,
            "accuracy_lo": accuracy - 0.1,
            "accuracy_hi": accuracy + 0.1,
            "pgr": 0.5,
            "pgr_lo": 0.25,
            "pgr_hi": 0.75,
            "kept_fraction": 0.5,
            "label_accuracy": 0.8,
            **entries,
        }

    return make


@pytest.fixture(autouse=True, scope="session")
def no_system_metrics() -> Iterator[None]:
    """Off: a test that wants them says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        yield
