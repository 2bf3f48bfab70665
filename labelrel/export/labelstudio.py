"""Tasks for Label Studio, with the weak labels as predictions, and the labelling interface for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl

from labelrel.errors import InputError
from labelrel.export.base import Source, exporter
from labelrel.files import replacing

CONTROL, OBJECT = "label", "question"


@exporter("labelstudio", ".json")
def labelstudio(source: Source, path: Path) -> dict[str, Any]:
    """Label Studio tasks with the weak labels as predictions, and the interface beside them (.xml).

    One task per item in the order of the scores. `data`: `item_id`, `question`, `choices` (objects with
    `value`). `predictions`: one, of `model_version` "labelrel/METHOD", whose `score` is the label quality
    (left out where there is none), with one result of type `choices`; none for an item without
    a weak label. The texts of choices stand in both, since that is what Label Studio compares; an open
    question offers the answers that were given and a field for another one.

    Source: Label Studio's guide, "Import pre-annotated data", and its tag `Choices` with dynamic choices.

    Raises:
        InputError: no items, since a person needs the question.
    """
    if source.items is None:
        raise InputError("export to labelstudio needs the questions: name the items table with --items.")
    given = source.rows.filter(pl.col("answer").is_not_null()).group_by("item_id", maintain_order=True)
    offered = given.agg(pl.col("answer").alias("given"))
    rows = source.items.join(offered, on="item_id", how="left", maintain_order="left")
    labels = source.worded(source.labels()).select("item_id", "text", "label_quality")
    rows = rows.join(labels, on="item_id", how="left", maintain_order="left")
    config, has_open = path.with_suffix(".xml"), bool(rows["choices"].null_count())
    # both are written before either takes its name
    with replacing(config) as xml, replacing(path) as temporary:
        xml.write_text(_interface(has_open), encoding="utf-8")
        with temporary.open("w", encoding="utf-8") as file:
            for number, row in enumerate(rows.iter_rows(named=True)):
                task = json.dumps(_task(row, source.method), ensure_ascii=False, allow_nan=False)
                file.write(f"{',' if number else '['}\n{task}")
            file.write("\n]\n")
    return {"rows": rows.height, "left_out": {}, "config": str(config)}


def _task(row: dict[str, Any], method: str) -> dict[str, Any]:
    choices = row["given"] or [] if row["choices"] is None else row["choices"]
    task: dict[str, Any] = {
        "data": {
            "item_id": row["item_id"],
            "question": row["question"],
            "choices": [{"value": choice} for choice in choices],
        },
        "predictions": [],
    }
    if row["text"] is not None:
        result = {"from_name": CONTROL, "to_name": OBJECT, "type": "choices", "value": {"choices": [row["text"]]}}
        score = {} if row["label_quality"] is None else {"score": row["label_quality"]}
        task["predictions"].append({"model_version": f"labelrel/{method}", **score, "result": [result]})
    return task


def _interface(has_open: bool) -> str:
    """Return the labelling configuration; the texts themselves are in the tasks."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Text", name=OBJECT, value="$question")
    ElementTree.SubElement(view, "Choices", name=CONTROL, toName=OBJECT, choice="single", value="$choices")
    if has_open:
        ElementTree.SubElement(
            view, "TextArea", name="other", toName=OBJECT, maxSubmissions="1", placeholder="another answer"
        )
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"
