"""Chosen labels → text to learn, and what is known about a training set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.losses import DEFAULT
from labelrel.schema import OPTIONS, TRAINING
from labelrel.tasks import Prompting, Task


def word_examples(chosen: pl.DataFrame, items: pl.DataFrame, prompting: Prompting) -> pl.DataFrame:
    """Give each chosen label its prompt and target text; a null variant is the canonical wording."""
    by_id = {item["item_id"]: item for item in items.iter_rows(named=True)}
    rows = []
    columns = ("item_id", "variant_id", "answer", "weight", "option_probs")
    for item_id, variant_id, answer, weight, probs in chosen.select(columns).iter_rows():
        item, variant = by_id[item_id], int(variant_id or 0)
        wording = prompting.variants(item, variant + 1)[variant]
        target = prompting.target(item, wording, answer)
        rows.append((item_id, wording.prompt, target, answer, weight, wording.options, probs))
    return pl.DataFrame(rows, schema=pl.Schema({**TRAINING, **OPTIONS}), orient="row")


def label_accuracy(training: pl.DataFrame, items: pl.DataFrame, task: Task) -> float | None:
    """Return the share of right labels, for reporting only; null where no gold label is known."""
    gold = training.join(items.select("item_id", "gold_label"), on="item_id").drop_nulls("gold_label")
    if gold.is_empty():
        return None
    right: list[bool] = [
        task.is_correct(answer, label) for answer, label in gold.select("answer", "gold_label").iter_rows()
    ]
    return sum(right) / len(right)


def describe(file: Path, training: pl.DataFrame) -> dict[str, Any]:
    """Return what `select` wrote about a training set, or what the set itself can tell."""
    beside = file.with_suffix(".json")
    known = files.read_json(beside) if beside.is_file() else None
    if isinstance(known, dict) and {"role", "num_items", "label_accuracy", "kept_fraction"} <= known.keys():
        return {"loss": {"name": DEFAULT}, "then": None, **known}
    unknown = {"label_accuracy": None, "kept_fraction": None, "loss": {"name": DEFAULT}, "then": None}
    return {"role": "method", "num_items": training["item_id"].n_unique(), **unknown}
