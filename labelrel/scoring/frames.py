"""The door of this room: a table from polars, pandas or pyarrow becomes a checked answers table."""

from __future__ import annotations

from typing import Protocol

import polars as pl

from labelrel.errors import InputError, some
from labelrel.schema import require_columns
from labelrel.scoring.encode import Encoder, Votes


class ArrowTable(Protocol):
    """A table of another library that speaks Arrow, such as pandas or pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the columns over."""


Frame = pl.DataFrame | pl.LazyFrame | ArrowTable

ANNOTATOR = "annotator"
"""The annotator of a table that names none."""

KEYS = ("item_id", "annotator_id", "variant_id", "answer")
"""Columns that become text."""

_EXTRA_TYPES: dict[str, pl.DataType] = {
    "answer_logprob": pl.Float64(),
    "num_tokens": pl.Float64(),
    "choice_logprobs": pl.List(pl.Float64()),
    "meaning": pl.String(),
}
"""Further columns that some methods read: log-probability of the answer's tokens and their number,
log-probabilities of the choices, and the cluster of answers that mean the same."""


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


EXTRA = tuple(_EXTRA_TYPES)
"""Their names."""


def read_answers(frame: Frame, where: str = "answers") -> Votes:
    """Return the votes of an answers table; only `item_id` and `answer` are required.

    A missing `annotator_id` is "annotator". A missing `variant_id` is the running number of the row
    within its (item, annotator), so there, and only there, the order of rows has a meaning.
    Whole numbers lose a ".0" that a column with gaps gave them: 1.0 is the answer "1".

    Args:
        frame: one row per answer; null = abstained or unparsable.
        where: what messages call the table.

    Raises:
        InputError: a missing column, no rows, a null id, a duplicate, or nested ids or answers.
    """
    table = to_polars(frame, where)
    encoder = Encoder(where)
    encoder.add(as_answers(table, where, whole_columns(table)))
    return encoder.finish()


def whole_columns(frame: pl.DataFrame | pl.LazyFrame) -> frozenset[str]:
    """Return the names of the id and answer columns whose fractional type holds whole numbers only."""
    return _whole(frame, KEYS)


def _whole(frame: pl.DataFrame | pl.LazyFrame, names: tuple[str, ...]) -> frozenset[str]:
    schema = frame.collect_schema()
    fractional = [name for name in names if name in schema and schema[name].is_float()]
    if not fractional:
        return frozenset()
    values = [pl.col(name).fill_nan(None) for name in fractional]
    whole = frame.lazy().select(((v == v.round()) & (v.abs() < 2**53)).all() for v in values).collect()
    return frozenset(name for name in fractional if whole[name].item())


def as_answers(table: pl.DataFrame, where: str, whole: frozenset[str] = frozenset()) -> pl.DataFrame:
    """Return the columns of an answers table that methods read, ids and answers as text or whole numbers.

    Args:
        table: the whole table or a piece of it.
        where: what messages call the table.
        whole: columns of fractional type whose values are whole numbers, in all of the table.

    Raises:
        InputError: a missing column, or nested ids or answers.
    """
    require_columns(table, ["item_id", "answer"], where)
    if "annotator_id" not in table.columns:
        table = table.with_columns(pl.lit(ANNOTATOR).alias("annotator_id"))
    keys = [name for name in KEYS if name in table.columns]
    columns = [_as_name(table[key], where, key in whole) for key in keys]
    for name, dtype in _EXTRA_TYPES.items():
        if name in table.columns and table.schema[name] != pl.Null():
            columns.append(_as_number(table[name], dtype, where))
    return pl.DataFrame(columns)


def read_items(frame: Frame | None, item_ids: pl.Series, where: str = "items") -> pl.DataFrame | None:
    """Return `item_id` and `choices` of the items that were answered; None stays None.

    Raises:
        InputError: a missing column, a duplicate id, or an answer to an item that is not there.
    """
    if frame is None:
        return None
    items = to_polars(frame, where)
    require_columns(items, ["item_id", "choices"], where)
    items = items.select(_as_text(items["item_id"], where, "item_id" in whole_columns(items)), pl.col("choices"))
    if items["item_id"].is_duplicated().any():
        repeated = items.filter(pl.col("item_id").is_duplicated())["item_id"].unique(maintain_order=True)
        raise InputError(f"{where} has {len(repeated)} item ids more than once: {some(repeated)}.")
    unknown = item_ids.to_frame("item_id").join(items, on="item_id", how="anti", maintain_order="left")["item_id"]
    if len(unknown):
        raise InputError(f"answers has {len(unknown)} items that {where} has not: {some(unknown)}.")
    return items


def read_gold(frame: Frame | None, where: str = "gold") -> pl.DataFrame | None:
    """Return `item_id` and `gold_label` as text, rows without a label left out; None stays None.

    Raises:
        InputError: a missing column, no label at all, or two labels for one item.
    """
    if frame is None:
        return None
    table = to_polars(frame, where)
    require_columns(table, ["item_id", "gold_label"], where)
    whole = _whole(table, ("item_id", "gold_label"))
    gold = table.select(_as_text(table[name], where, name in whole) for name in ("item_id", "gold_label")).drop_nulls()
    if gold.is_empty():
        raise InputError(f"{where} has no gold label; at least one is needed.")
    if gold["item_id"].is_duplicated().any():
        repeated = gold.filter(pl.col("item_id").is_duplicated())["item_id"].unique(maintain_order=True)
        raise InputError(f"{where} has {len(repeated)} items with more than one gold label: {some(repeated)}.")
    return gold


def _as_text(column: pl.Series, where: str, whole: bool = False) -> pl.Series:
    return _as_name(column, where, whole).cast(pl.String)


def _as_name(column: pl.Series, where: str, whole: bool) -> pl.Series:
    """Return a column of texts or whole numbers."""
    if column.dtype.is_nested():
        raise InputError(f"{where}: column '{column.name}' holds {column.dtype}, not one value per row.")
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if whole:
            column = column.cast(pl.Int64)
    if column.dtype.is_integer():
        return column
    try:
        return column.cast(pl.String)
    except pl.exceptions.PolarsError:
        raise InputError(f"{where}: column '{column.name}' holds {column.dtype}, which is no text.") from None


def _as_number(column: pl.Series, dtype: pl.DataType, where: str) -> pl.Series:
    try:
        return column.cast(dtype)
    except pl.exceptions.PolarsError:
        what = "lists of numbers" if dtype.is_nested() else "numbers" if dtype.is_numeric() else "texts"
        raise InputError(f"{where}: column '{column.name}' holds {column.dtype}, not {what}.") from None
