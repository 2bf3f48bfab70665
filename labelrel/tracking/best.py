"""The best adapter of a comparison in the model registry: `models:/TASK@best` answers questions."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from labelrel import __version__
from labelrel import files as disk
from labelrel.progress import say
from labelrel.tracking.outbox import is_outage
from labelrel.tracking.store import Store

ALIAS = "best"
ADAPTER = "labelrel.sha256.adapter"
FOLDER = "model"
"""Where the model lies among the artifacts of the run that trained it."""

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "question"), ColSpec(Array(DataType.string), "choices", required=False)]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "answer", required=False),
            ColSpec(DataType.string, "label", required=False),
            ColSpec(DataType.double, "logprob", required=False),
        ]
    ),
)


def register_best(store: Store, task: str, run_id: str, folder: Path) -> None:
    """Make a run's adapter the version `best` of the registered model named like the task, unless it is already.

    Args:
        store: whose registry.
        task: name of the task.
        run_id: the run that trained it.
        folder: what `align` left: `run.json` and `adapter/`; nothing is registered without an adapter.
    """
    adapter = folder / "adapter"
    if not all((adapter / name).is_file() for name in ("adapter_config.json", "adapter_model.safetensors")):
        return
    digest = disk.digest(adapter / "adapter_model.safetensors")
    try:
        if _is_registered(store, task, run_id, digest):
            return
        with tempfile.TemporaryDirectory() as temporary:
            _save(store, Path(temporary) / FOLDER, task, adapter, disk.read_json(folder / "run.json"))
            store.client.log_artifacts(run_id, str(Path(temporary) / FOLDER), FOLDER)
        _create_model(store, task)
        source = RunsArtifactRepository.get_underlying_uri(f"runs:/{run_id}/{FOLDER}", store.uri)
        version = store.client.create_model_version(task, source, run_id=run_id, tags={ADAPTER: digest})
        store.client.set_registered_model_alias(task, ALIAS, version.version)
    except MlflowException as error:
        if is_outage(error):
            raise
        say(f"mlflow: the best adapter is not in the model registry: {str(error).splitlines()[0]}")


def _is_registered(store: Store, task: str, run_id: str, digest: str) -> bool:
    try:
        known = store.client.get_model_version_by_alias(task, ALIAS)
    except MlflowException as error:
        if is_outage(error):
            raise
        return False  # no such model, or no such alias
    return bool(known.run_id == run_id and known.tags.get(ADAPTER) == digest)


def _create_model(store: Store, task: str) -> None:
    try:
        store.client.create_registered_model(task, description=f"Strong models aligned on {task}, by labelrel.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _save(store: Store, path: Path, task: str, adapter: Path, record: Mapping[str, Any]) -> None:
    """Write the model's folder: adapter, code, settings, signature and example, and the base by its reference."""
    params = record["params"]
    prompt = {k.removeprefix("prompt."): value for k, value in params.items() if k.startswith("prompt.")}
    item = _example(store, record)
    question = {"question": item["question"], "choices": item["choices"]} if item else None
    config = {
        "model": _reference(store, record["model"]),
        "task": task,
        "prompt": prompt,
        "seed": params.get("base.seed", 42),
        "meta": (item or {}).get("meta"),
        "device": "auto",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, about its own type hints and about what it will not check
        import mlflow.pyfunc  # some seconds, for the one report that registers

        mlflow.pyfunc.save_model(
            path,
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"adapter": str(adapter)},
            model_config=config,
            signature=SIGNATURE,
            input_example=None if question is None else [{k: v for k, v in question.items() if v is not None}],
            pip_requirements=[f"labelrel=={__version__}"],
        )


def _reference(store: Store, model: str) -> str:
    """Return a model reference that holds in every folder: one to a folder of the project is made absolute."""
    inside = store.root / model.partition("@")[0]
    return str(store.root / model) if not model.startswith(("hub:", "gguf:")) and inside.is_dir() else model


def _example(store: Store, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the first test item that the run was evaluated on; null where the file is gone."""
    file = store.root / ((record.get("inputs") or {}).get("items") or {}).get("path", "")
    if file.suffix != ".parquet" or not file.is_file():
        return None
    rows = pl.scan_parquet(file).filter(pl.col("split") == "test").head(1).collect()
    return rows.row(0, named=True) if rows.height else None
