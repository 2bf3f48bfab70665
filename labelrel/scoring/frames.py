"""The door of this room: a table from polars, pandas or pyarrow becomes a checked answers table."""

from __future__ import annotations

from typing import Protocol

import polars as pl

from labelrel.errors import InputError, some
from labelrel.schema import check_answers, require_columns


class ArrowTable(Protocol):
    """A table of another library that speaks Arrow, such as pandas or pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the columns over."""


Frame = pl.DataFrame | pl.LazyFrame | ArrowTable

ANNOTATOR = "annotator"
"""The annotator of a table that names none."""


def to_polars(frame: Frame, where: str) -> pl.DataFrame:
    """Return any supported table as polars.

    Raises:
        InputError: no table, or one with a column of mixed types.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if not hasattr(frame, "__arrow_c_stream__"):
        raise InputError(f"{where} must be a polars, pandas or pyarrow table, got {type(frame).__name__}.")
    try:
        return pl.DataFrame(frame)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:  # a pandas column of mixed types, say
        raise InputError(f"{where} cannot be read as a table: {' '.join(str(error).split())}") from None


def read_answers(frame: Frame, where: str = "answers") -> pl.DataFrame:
    """Return a checked answers table with text ids; only `item_id` and `answer` are required.

    A missing `annotator_id` is "annotator". A missing `variant_id` is the running number of the row
    within its (item, annotator), so there, and only there, the order of rows has a meaning.
    Whole numbers lose a ".0" that a column with gaps gave them: 1.0 is the answer "1".

    Args:
        frame: one row per answer; null = abstained or unparsable.
        where: what messages call the table.

    Returns:
        `item_id, annotator_id, variant_id, answer` as text, and `choice_logprobs` where given.

    Raises:
        InputError: a missing column, no rows, a null id, a duplicate, or nested ids or answers.
    """
    table = to_polars(frame, where)
    require_columns(table, ["item_id", "answer"], where)
    if "annotator_id" not in table.columns:
        table = table.with_columns(pl.lit(ANNOTATOR).alias("annotator_id"))
    if "variant_id" not in table.columns:
        number = pl.int_range(pl.len()).over("item_id", "annotator_id")
        table = table.with_columns(number.alias("variant_id"))
    keys = ["item_id", "annotator_id", "variant_id", "answer"]
    table = table.with_columns(_as_text(table[key], where) for key in keys)
    if "choice_logprobs" in table.columns:
        keys.append("choice_logprobs")
        if table.schema["choice_logprobs"] != pl.Null():
            table = table.with_columns(_as_list(table["choice_logprobs"], where))
    return check_answers(table.select(keys), where)


def read_items(frame: Frame | None, answers: pl.DataFrame, where: str = "items") -> pl.DataFrame | None:
    """Return `item_id` and `choices` of the items that were answered; None stays None.

    Raises:
        InputError: a missing column, a duplicate id, or an answer to an item that is not there.
    """
    if frame is None:
        return None
    items = to_polars(frame, where)
    require_columns(items, ["item_id", "choices"], where)
    items = items.select(_as_text(items["item_id"], where), pl.col("choices"))
    if items["item_id"].is_duplicated().any():
        repeated = items.filter(pl.col("item_id").is_duplicated())["item_id"].unique(maintain_order=True)
        raise InputError(f"{where} has {len(repeated)} item ids more than once: {some(repeated)}.")
    unknown = answers.join(items, on="item_id", how="anti")["item_id"].unique(maintain_order=True)
    if len(unknown):
        raise InputError(f"answers has {len(unknown)} items that {where} has not: {some(unknown)}.")
    return items


def _as_text(column: pl.Series, where: str) -> pl.Series:
    if column.dtype.is_nested():
        raise InputError(f"{where}: column '{column.name}' holds {column.dtype}, not one value per row.")
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if ((column == column.round()) & (column.abs() < 2**53)).all():
            column = column.cast(pl.Int64)
    return column.cast(pl.String)


def _as_list(column: pl.Series, where: str) -> pl.Series:
    try:
        return column.cast(pl.List(pl.Float64))
    except pl.exceptions.PolarsError:
        raise InputError(f"{where}: column 'choice_logprobs' holds {column.dtype}, not lists of numbers.") from None
