"""What several stages do: read a table that another stage made, word its items, load a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.align.world import ALONE, World
from labelrel.config import Base
from labelrel.errors import ConfigError, InputError
from labelrel.project import Project
from labelrel.schema import check_items
from labelrel.tasks import Prompting

Summary = dict[str, Any]


def read(path: Path, stage: str) -> pl.DataFrame:
    """Read a stage's table.

    Raises:
        InputError: the stage has not been run.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}; `labelrel {stage}` makes it, `dvc repro` makes all.")
    return files.read_table(path)


def items_and_prompting(project: Project) -> tuple[pl.DataFrame, Prompting]:
    """Return the project's items and how they are worded."""
    from labelrel.tasks import tasks

    items = check_items(read(project.items, "prepare"), str(project.items))
    task = tasks.get(items["task"][0], where=f"{project.items} (column task)")
    return items, Prompting(task, project.config.prompt, project.config.base.seed)


def load(model: str, base: Base, *, load_in_8bit: bool = False, world: World = ALONE) -> Any:
    """Load a model by its reference, frozen.

    Args:
        model: the reference.
        base: device and threads.
        load_in_8bit: see `load_model`.
        world: the processes that load it too; where they shard it, it comes so.

    Raises:
        ConfigError: what the device, or sharding, does not go with.
    """
    from labelrel.models.fetch import fetch
    from labelrel.models.load import load_model, pick_device, set_threads
    from labelrel.models.reference import parse_reference

    set_threads(base.threads)
    reference, device = parse_reference(model), pick_device(base.device)
    if world.size == 1:
        return load_model(reference, device=device, load_in_8bit=load_in_8bit)
    from labelrel.models.sharding import shard_layers

    if world.sharded and load_in_8bit:
        raise ConfigError("align.load_in_8bit does not go with sharded weights: choose one of the two.")
    world.place(base.device)
    if world.leads:
        fetch(reference)
    world.wait()
    loaded = load_model(reference, device=device, load_in_8bit=load_in_8bit, stay_on_cpu=world.sharded)
    if world.sharded:
        shard_layers(loaded.model, device)
    return loaded


def accuracy_of(predictions: pl.DataFrame) -> float | None:
    """Return the share of right answers; null where no gold label is known."""
    correct = predictions["correct"].drop_nulls().cast(pl.Float64)
    return None if correct.is_empty() else float(correct.to_numpy().mean())


def shown(accuracy: float | None) -> str:
    """Return an accuracy as messages write it."""
    return "unknown" if accuracy is None else f"{accuracy:.3f}"


def source_of(project: Project, path: Path) -> dict[str, str]:
    """Return path (within the project, where it is) and digest of a file."""
    inside = path.is_relative_to(project.root)
    return {"path": str(path.relative_to(project.root) if inside else path), "sha256": files.digest(path)}


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"a": {"b": 1}} as {"a.b": 1}."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result
