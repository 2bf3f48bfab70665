"""A queue of labels for a person to look at, the look that gains most first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.export.base import Source, exporter
from labelrel.scoring.hashing import stable_hash

_SHOWN_ANSWERS = 10  # distinct answers of an item that are spelt out
_UNKNOWN = 0.5  # P(right) where no label of the table has a quality

FORMULA = r"^[=+\-@\t\r\n\x{FF0B}\x{FF0D}\x{FF1D}\x{FF20}]"
"""How a cell begins that a spreadsheet takes for a formula; full-width forms of the signs included."""


@exporter("review", ".csv", ".jsonl")
def review(source: Source, path: Path) -> dict[str, Any]:
    """A review queue, ordered by how many right labels a human look is expected to gain.

    `value` = 1 - P(the weak label is right). The assumption is that a person who looks is right, so a
    look turns a wrong label into a right one and leaves a right one as it is: the expected gain in right
    labels is the probability that the label is wrong. All looks cost the same and items do not tell
    of one another, so the best order for any number of looks is by falling value; ties go by a hash
    of the item id, which favours nobody and does not depend on the order of the table.

    P(right), and the column `basis` that says where it is from:

    - `calibrated`: the column `probability` of the scores (a calibrator fitted on gold);
    - `label_quality`: the score itself. Its order is as good as the method; the value is not a
      probability unless the method's happens to be;
    - `assumed`: the label has no quality; the mean over those that have one, or 1/2 where none has;
    - `no label`: nobody gave an answer that could be parsed; 0, so the look gains a whole label.

    Columns: `rank` (from 1), `item_id`, `question`, `choices` ("0: Rome | 1: Bern"), `weak_label`,
    `label_quality`, `value`, `basis`, `votes` ("A x3, B x2"), `runner_up` (the other answer with most
    votes). Empty is what is not known.

    In a CSV every text that begins with = + - @, a tab or a line break (or with the full-width form of
    such a sign) gets a single quote in front, so that no spreadsheet runs it; JSONL has the texts as they are.

    Source: expected value of information with a perfect answer (Howard 1966); OWASP, CSV Injection.
    """
    queue = _queue(source)
    if path.suffix == ".csv":
        text = pl.col(pl.String)
        queue = queue.with_columns(pl.when(text.str.contains(FORMULA)).then("'" + text).otherwise(text).name.keep())
    files.write_any_table(path, queue)
    return {
        "rows": queue.height,
        "left_out": {},
        "basis": dict(queue["basis"].value_counts().sort("basis").iter_rows()),
    }


def _queue(source: Source) -> pl.DataFrame:
    """Return the columns of `review`, in its order."""
    labels = source.labels()
    items = source.rows.select(pl.col("item_id").unique(maintain_order=True))
    rows = items.join(labels, on="item_id", how="left", maintain_order="left")
    right = pl.coalesce("probability", "label_quality")
    known = rows.select(right.mean()).item()
    basis = (
        pl.when(pl.col("answer").is_null()).then(pl.lit("no label"))
        .when(pl.col("probability").is_not_null()).then(pl.lit("calibrated"))
        .when(pl.col("label_quality").is_not_null()).then(pl.lit("label_quality"))
        .otherwise(pl.lit("assumed"))
    )  # fmt: skip
    assumed = right.fill_null(_UNKNOWN if known is None else known)
    value = pl.when(pl.col("answer").is_null()).then(1.0).otherwise(1 - assumed)
    rows = rows.with_columns(
        basis=basis,
        value=value.round(12),  # equal votes must tie, whatever the last bit of their mean
        hash=pl.Series(stable_hash(rows["item_id"]), dtype=pl.UInt64),
    )
    queue = source.worded(rows).join(_votes(source.rows), on="item_id", how="left", maintain_order="left")
    queue = queue.sort("value", "hash", "item_id", descending=[True, False, False]).with_row_index("rank", offset=1)
    shown = ("rank", "item_id", "question", "choices", "weak_label", "label_quality", "value", "basis", "votes")
    return queue.rename({"answer": "weak_label"}).with_columns(_joined(queue["choices"])).select(*shown, "runner_up")


def _joined(choices: pl.Series) -> pl.Series:
    """Return the choices of every item as one text, "0: Rome | 1: Bern"."""
    number = pl.int_range(pl.len()).cast(pl.String)
    each = pl.concat_str(number, pl.lit(": "), pl.element().fill_null(""))
    return choices.list.eval(each).list.join(" | ")


def _votes(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `item_id, votes, runner_up` of every item that somebody voted on."""
    given = rows.filter((pl.col("num_votes") > 0) & pl.col("answer").is_not_null())
    given = given.select(
        "item_id",
        "num_votes",
        "answer",
        one=pl.concat_str("answer", pl.lit(" x"), pl.col("num_votes").cast(pl.String)),
        other=pl.when(~pl.col("weak_label")).then("answer"),
    ).sort(["num_votes", "answer"], descending=[True, False], maintain_order=True)
    votes = given.group_by("item_id", maintain_order=True).agg(
        pl.col("one").head(_SHOWN_ANSWERS),
        pl.col("other").drop_nulls().first().alias("runner_up"),
        more=pl.len().cast(pl.Int64) - _SHOWN_ANSWERS,
    )
    rest = pl.when(pl.col("more") > 0).then(pl.format(", … ({} more)", "more")).otherwise(pl.lit(""))
    return votes.select("item_id", "runner_up", votes=pl.col("one").list.join(", ") + rest)
