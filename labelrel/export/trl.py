"""Training rows for TRL and `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.export.base import Source, exporter


@exporter("trl", ".jsonl", ".parquet")
def trl(source: Source, path: Path) -> dict[str, Any]:
    """One training row per weak label: prompt, completion and weight, for TRL and `datasets`.

    With items: `prompt` (the question), `completion` (a blank and the text of the choice, or the answer
    of an open question, since the trainer puts the two together as they are), `weight`, `item_id`.
    Without: `item_id`, `answer`, `weight`. The weight is the label quality, or 1 for all. No value is
    null: items without a weak label are left out, and those without a label quality where it is the
    weight.

    TRL's own trainers do not read `weight`; it is for a loss that does.
    """
    labels = source.labels()
    num_items = source.rows["item_id"].n_unique()
    weight = pl.col("label_quality") if source.weights else pl.lit(1.0)
    rows = source.worded(labels).with_columns(weight=weight.cast(pl.Float64)).drop_nulls("weight")
    if source.items is None:
        rows = rows.select("item_id", "answer", "weight")
    else:
        completion = pl.concat_str(pl.lit(" "), pl.col("text").str.strip_chars_start())
        rows = rows.select(prompt="question", completion=completion, weight="weight", item_id="item_id")
    files.write_any_table(path, rows)
    left_out = {"no weak label": num_items - labels.height, "no label quality": labels.height - rows.height}
    return {"rows": rows.height, "left_out": left_out}
