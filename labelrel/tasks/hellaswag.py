"""Task `hellaswag`: which of four endings follows a description.

The weak-labelled and the test questions of the paper both come from the validation set, and so do
all splits here unless `prepare.options` has `own_train: true`; splits are drawn by a stable hash of
the ids. The hub keeps WikiHow's marks ("[title]", "[step]") and the activity apart; they are joined as
in the local file. Ids are the row's number in the validation set, so both sources draw the same items.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from labelrel.plugin import Params
from labelrel.tasks.base import Task, tasks
from labelrel.tasks.local import DataSet, Part, a_text, check_rows, one_of, texts
from labelrel.tasks.reading import parse_choice
from labelrel.tasks.wording import asker

NAME = "hellaswag"

WORDINGS = (
    "{question}",
    "{question}\nNext:",
    "{question}\nThe text goes on:",
    "{question}\nWhat happens after that:",
    "{question}\nThe most likely continuation:",
)
"""The text comes first in all of them, so that a model reads it once for all the wordings."""


class HellaswagParams(Params):
    """Parameters of `hellaswag`.

    Attributes:
        own_train: fill `weak_train` from the training set (hellaswag_train.jsonl, or the hub's `train`)
            instead of the validation set.
    """

    own_train: bool = False


def from_hub(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the hub's rows with the columns of the local file."""
    plain = _without_marks
    return rows.select(
        ctx=plain(pl.concat_str("activity_label", pl.lit(": "), "ctx")),
        endings=pl.col("endings").list.eval(plain(pl.element())),
        label="label",
    )


def _without_marks(text: pl.Expr) -> pl.Expr:
    ended = text.str.replace_all(r" ?\[(title|substeps)\]", ".")
    return ended.str.replace_all(r"\[(header|step)\]", "").str.replace_all(r" {2,}", " ").str.strip_chars()


def to_items(rows: pl.DataFrame, part: Part, where: str) -> pl.DataFrame:
    """Return the items of some rows, without splits."""
    checks = {"ctx": a_text("ctx"), "endings": texts("endings", 4), "label": one_of("label", range(4))}
    check_rows(rows, where, checks, part.start)
    prefix = "hs-" if part.hub_split == "validation" else f"hs-{part.hub_split}-"
    return rows.select(
        pl.format(prefix + "{}", "row").alias("item_id"),
        pl.lit(NAME).alias("task"),
        pl.col("ctx").str.strip_chars().alias("question"),
        pl.col("endings").alias("choices"),
        pl.col("label").cast(pl.String).alias("gold_label"),
    )


DATA = DataSet(
    task=NAME,
    hub="Rowan/hellaswag",
    parts={Part("hellaswag_validation.jsonl", "validation"): ("weak_train", "w2s", "gold_dev", "test")},
    own_train=Part("hellaswag_train.jsonl", "train"),
    from_hub=from_hub,
    to_items=to_items,
)


def load(source: str | None, sizes: Mapping[str, int], seed: int, params: HellaswagParams) -> pl.DataFrame:
    """Return the items table, as `DataSet.load`."""
    return DATA.load(source, sizes, seed, own_train=params.own_train)


tasks.add(
    NAME,
    Task(
        name=NAME,
        kind="choice",
        summary="which of four endings follows a description of everyday events",
        source="Zellers et al. 2019, HellaSwag (arXiv 1905.07830); MIT",
        load=load,
        params=HellaswagParams,
        wordings=asker(WORDINGS),
        parse=parse_choice,
    ),
)
