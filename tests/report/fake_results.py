"""Fake results of all stages, small enough to work out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from labelrel import schema

CHOICES = ["Paris", "Rome", "Oslo", "Lima"]


def write_run(
    folder: Path, method: str, role: str, correct: Sequence[int | None], seed: int = 42, **entries: Any
) -> Path:
    """Write one run's folder; `correct` is per test item, in the order i0, i1, …"""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "method": method,
        "role": role,
        "seed": seed,
        "task": "toy",
        "model": "strong" if role != "floor" else "weak",
        "seconds": 10.0,
        "tokens": 1000,
        "num_items": 4,
        "params": {"align.epochs": 2.0, "select.method": method},
        "mlflow_run_id": None,
        "inputs": {},
        **entries,
    }
    (folder / "run.json").write_text(json.dumps(record))
    pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(len(correct))] + ["dev"],
            "split": ["test"] * len(correct) + ["gold_dev"],
            "correct": [None if c is None else bool(c) for c in correct] + [True],
        },
        schema_overrides={"correct": pl.Boolean},
    ).sample(fraction=1, shuffle=True, seed=seed).write_parquet(folder / "predictions.parquet")
    pl.DataFrame({"step": [1, 2, 3], "loss": [2.0, 1.0, 0.5], "learning_rate": [1e-3] * 3}).write_parquet(
        folder / "history.parquet"
    )
    return folder


def write_labels(data: Path, votes: Mapping[str, tuple[str, Mapping[str, int]]], question: str = "Where?") -> None:
    """Write items and scores; `votes` is item → (gold label, answer → votes), the first answer is the weak label."""
    ids = list(votes)
    items = pl.DataFrame(
        {
            "item_id": [*ids, "t"],
            "task": "toy",
            "split": ["w2s"] * len(ids) + ["test"],
            "question": question,
            "choices": [CHOICES] * (len(ids) + 1),
            "gold_label": [gold for gold, _ in votes.values()] + ["0"],
        },
        schema=schema.ITEMS,
    )
    items.write_parquet(data / "items.parquet")
    rows = [
        {
            "method": method,
            "item_id": item,
            "answer": answer,
            "num_votes": count,
            "num_answers": sum(cast.values()),
            "share": count / sum(cast.values()),
            "reliability": count / sum(cast.values()),
            "score": 0.0 if len(cast) == 1 else 0.67,
            "weak_label": place == 0,
            "label_quality": count / sum(cast.values()) if place == 0 else None,
            "tie": False,
        }
        for method in ("share", "entropy")
        for item, (_, cast) in votes.items()
        for place, (answer, count) in enumerate(cast.items())
    ]
    pl.DataFrame(rows, schema=schema.SCORES).write_parquet(data / "scores.parquet")


def write_training(data: Path, method: str, **entries: Any) -> None:
    (data / "training").mkdir(exist_ok=True)
    (data / "training" / f"{method}.json").write_text(json.dumps({"method": method, **entries}))


def write_results(data: Path) -> Path:
    """Write a comparison on 20 test items: floor 5, naive 10, filter 14, random 9 and ceiling 18 right."""

    def first(count: int) -> list[int]:
        return [1] * count + [0] * (20 - count)

    write_run(data / "supervise", "floor", "floor", first(5))
    write_run(data / "align" / "naive-42", "naive", "method", first(10))
    write_run(data / "align" / "filter-42", "filter", "method", first(14))
    write_run(data / "align" / "random-42", "random", "control", first(9))
    write_run(data / "align" / "ceiling-42", "ceiling", "ceiling", first(18))
    write_training(data, "naive", kept_fraction=1.0, label_accuracy=0.5, num_items=4)
    write_training(data, "filter", kept_fraction=0.5, label_accuracy=0.75, num_items=2, score_method="entropy")
    # right labels: a, b, c; wrong: d, unanimously
    write_labels(
        data,
        {
            "a": ("0", {"0": 5}),
            "b": ("1", {"1": 5}),
            "c": ("2", {"2": 3, "0": 2}),
            "d": ("3", {"1": 5}),
        },
    )
    return data


def write_runs(data: Path, **runs: tuple[str, Sequence[int]]) -> Path:
    """Write the runs of a comparison from method → (role, correct per item)."""
    for method, (role, correct) in runs.items():
        write_run(data / "supervise" if role == "floor" else data / "align" / f"{method}-42", method, role, correct)
    return data
