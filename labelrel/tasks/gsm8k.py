"""Task `gsm8k`: grade-school arithmetic in words; the answer is a number, given at once.

Splits as in the paper: the weak supervisor learns from the first half of the training set, the second
half is weak-labelled, the test set is the test set. Ids are the part's name and the row's number in the
hub's split, the same from a folder and from the hub.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from labelrel.canonical import number
from labelrel.tasks.base import Item, Reading, Task, tasks
from labelrel.tasks.local import DataSet, Part, a_text, check_rows
from labelrel.tasks.reading import read_number
from labelrel.tasks.wording import asker

NAME = "gsm8k"
HALF = 3736

WORDINGS = (
    "Question: {question}\nAnswer:",
    "Question: {question}\nThe answer is",
    "Question: {question}\nThe answer, as a number:",
    "Question: {question}\nResult:",
    "Question: {question}\nA teacher who is asked this says:",
)


def from_hub(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the hub's rows with the columns of the local files: `label` stands after the "####"."""
    return rows.select("question", label=pl.col("answer").str.extract(r"####\s*(\S+)\s*$"))


def to_items(rows: pl.DataFrame, part: Part, where: str) -> pl.DataFrame:
    """Return the items of some rows, without splits."""
    whole = pl.col("label").cast(pl.String).str.strip_chars()
    checks = {
        "question": a_text("question"),
        "label": (whole.str.contains(r"^-?[0-9]+$|^-?[0-9]{1,3}(,[0-9]{3})+$"), "a whole number"),
    }
    check_rows(rows, where, checks, part.start)
    return rows.select(
        pl.format(f"{NAME}-{part.hub_split}-{{}}", "row").alias("item_id"),
        pl.lit(NAME).alias("task"),
        pl.col("question").str.strip_chars(),
        pl.lit(None, dtype=pl.List(pl.String)).alias("choices"),
        pl.Series("gold_label", [number(label) for label in rows.select(whole).to_series()], dtype=pl.String),
    )


DATA = DataSet(
    task=NAME,
    hub="openai/gsm8k",
    config="main",
    parts={
        Part("gsm8k_train.csv", "train", 0, HALF): ("weak_train",),
        Part("gsm8k_validation.csv", "train", HALF): ("w2s", "gold_dev"),
        Part("gsm8k_test.csv", "test"): ("test",),
    },
    from_hub=from_hub,
    to_items=to_items,
)


def load(source: str | None, sizes: Mapping[str, int], seed: int) -> pl.DataFrame:
    """Return the items table, as `DataSet.load`."""
    return DATA.load(source, sizes, seed)


def parse(item: Item, completion: str) -> Reading:
    """Read the number in the first line of a completion."""
    return read_number(completion)


tasks.add(
    NAME,
    Task(
        name=NAME,
        kind="numeric",
        summary="grade-school arithmetic in words; a number, without working",
        source="Cobbe et al. 2021, GSM8K (arXiv 2110.14168); MIT",
        load=load,
        wordings=asker(WORDINGS),
        parse=parse,
    ),
)
