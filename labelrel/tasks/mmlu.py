"""Task `mmlu`: exam questions of 57 subjects, four options each.

All splits come from the test set unless `prepare.options` has `own_train: true`; they are drawn by a
stable hash of the ids. Ids are a hash of question and options, the same from a folder and from the hub.
Left out are the few questions that have the same option twice, and repetitions of a question with the
same options, since both would stand on two sides of a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import polars as pl

from labelrel.plugin import Params
from labelrel.tasks.base import Task, tasks
from labelrel.tasks.local import DataSet, Part, a_text, check_rows, one_of, texts
from labelrel.tasks.reading import parse_choice
from labelrel.tasks.wording import QUESTION, asker

NAME = "mmlu"


class MmluParams(Params):
    """Parameters of `mmlu`.

    Attributes:
        own_train: fill `weak_train` from the auxiliary training set (mmlu_train.jsonl, or the hub's
            `auxiliary_train`) instead of the test set.
    """

    own_train: bool = False


def to_items(rows: pl.DataFrame, part: Part, where: str) -> pl.DataFrame:
    """Return the items of some rows, without splits; `meta.subject` is null where it is not known."""
    checks = {"question": a_text("question"), "choices": texts("choices", 4), "answer": one_of("answer", range(4))}
    check_rows(rows, where, checks, part.start)
    subject = pl.col("subject").cast(pl.String) if "subject" in rows.columns else pl.lit(None, pl.String)
    items = rows.select(
        pl.Series("item_id", [item_id(question, choices) for question, choices in _texts(rows)]),
        pl.lit(NAME).alias("task"),
        pl.col("question").str.strip_chars(),
        "choices",
        pl.col("answer").cast(pl.String).alias("gold_label"),
        pl.struct(subject.alias("subject")).alias("meta"),
    )
    same = pl.col("choices").list.eval(pl.element().str.strip_chars()).list.n_unique() < 4
    return items.filter(~same).unique("item_id", keep="first", maintain_order=True)


def _texts(rows: pl.DataFrame) -> list[tuple[str, list[str]]]:
    return list(rows.select("question", "choices").iter_rows())


def item_id(question: str, choices: list[str]) -> str:
    """Return the id of a question: a hash of its words and those of its options, blanks aside."""
    words = "\n".join(" ".join(text.split()) for text in (question, *choices))
    return "mmlu-" + hashlib.sha256(words.encode()).hexdigest()[:12]


DATA = DataSet(
    task=NAME,
    hub="cais/mmlu",
    config="all",
    parts={Part("mmlu_test_2850.jsonl", "test"): ("weak_train", "w2s", "gold_dev", "test")},
    own_train=Part("mmlu_train.jsonl", "auxiliary_train"),
    to_items=to_items,
)


def load(source: str | None, sizes: Mapping[str, int], seed: int, params: MmluParams) -> pl.DataFrame:
    """Return the items table, as `DataSet.load`."""
    return DATA.load(source, sizes, seed, own_train=params.own_train)


tasks.add(
    NAME,
    Task(
        name=NAME,
        kind="choice",
        summary="exam questions of 57 subjects; four options",
        source="Hendrycks et al. 2021, MMLU (arXiv 2009.03300); MIT",
        load=load,
        params=MmluParams,
        wordings=asker(QUESTION),
        parse=parse_choice,
    ),
)
