"""What an exporter is, what it is given, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.errors import InputError, UnknownNameError, near_match, some
from labelrel.registry import Registry
from labelrel.schema import SCORES, check_scores, require_columns, typed

_TYPES: dict[str, pl.DataType] = {**SCORES, "probability": pl.Float64(), "kept": pl.Boolean()}
_RANGES = {"label_quality": (0.0, 1.0), "probability": (0.0, 1.0)}


@dataclass(frozen=True)
class Source:
    """The scores of one method, and the items they are about.

    Attributes:
        method: its name.
        rows: its rows of the scores table, with `probability` (of the label being right, calibrated;
            null where it is not known).
        items: `item_id, question, choices` (null where open), one row per scored item in the order of
            the scores; None where no items were given.
        weights: whether a label's weight is its quality; else it is 1.
    """

    method: str
    rows: pl.DataFrame
    items: pl.DataFrame | None
    weights: bool = True

    def labels(self) -> pl.DataFrame:
        """Return the weak labels: `item_id, answer, label_quality, probability`, one row per item that has one."""
        weak = self.rows.filter(pl.col("weak_label") & pl.col("answer").is_not_null())
        return weak.select("item_id", "answer", "label_quality", "probability")

    def worded(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows of `item_id` and `answer` with `question`, `choices` and `text`, what the answer says.

        The text is that of the choice which the answer names, or the answer itself for an open
        question. All three are null, null and the answer where no items were given.

        Raises:
            InputError: an answer that is none of its item's choices.
        """
        if self.items is None:
            unknown = {"question": pl.lit(None, pl.String()), "choices": pl.lit(None, pl.List(pl.String()))}
            return rows.with_columns(**unknown, text=pl.col("answer"))
        known = rows.join(self.items, on="item_id", how="left", maintain_order="left")
        index = pl.col("answer").str.to_integer(strict=False)
        closed, size = pl.col("choices").is_not_null(), pl.col("choices").list.len()
        bad = known.filter(closed & pl.col("answer").is_not_null() & ~index.is_between(0, size - 1).fill_null(False))
        if bad.height:
            row = bad.row(0, named=True)
            raise InputError(
                f"answer {row['answer']!r} of item {row['item_id']} is none of its {len(row['choices'])} choices "
                f"({bad.height} such rows); a choice is named by its index, 0 to {len(row['choices']) - 1}."
            )
        chosen = pl.col("choices").list.get(index, null_on_oob=True)
        return known.with_columns(text=pl.when(closed).then(chosen).otherwise("answer"))


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """One format that another tool reads.

    Attributes:
        name: the registered name.
        summary: one line.
        suffixes: extensions that the file may have.
        write: (source, path) → what was written: `rows`, `left_out` (why → how many items), and
            whatever else there is to tell.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    write: Callable[[Source, Path], dict[str, Any]]


exporters: Registry[Exporter] = Registry("export format")


def exporter(
    name: str, *suffixes: str
) -> Callable[[Callable[[Source, Path], dict[str, Any]]], Callable[[Source, Path], dict[str, Any]]]:
    """Return a decorator that registers a function as the format `name`; its docstring's first line is the summary."""

    def add(write: Callable[[Source, Path], dict[str, Any]]) -> Callable[[Source, Path], dict[str, Any]]:
        summary = (write.__doc__ or "").strip().splitlines()[0]
        exporters.add(name, Exporter(name=name, summary=summary, suffixes=suffixes, write=write))
        return write

    return add


def read_source(scores: Path, method: str | None, items: Path | None, *, weights: bool, kept: bool = False) -> Source:
    """Read the scores of one method and the items.

    Args:
        scores: a scores table; Parquet, CSV or JSONL.
        method: whose scores; None where the table has one method only.
        items: a table of `item_id`, `question` and maybe `choices`; None for none.
        weights: see `Source`.
        kept: leave out the items whose weak label is not kept.

    Raises:
        InputError: a missing file or column, a value of another kind, several methods and none named,
            an item with two weak labels, or one that `items` has not.
        UnknownNameError: a method that the table has not.
    """
    where = str(scores)
    table = typed(check_scores(files.read_table(scores), where), _TYPES, where, ranges=_RANGES)
    if "probability" not in table.columns:
        table = table.with_columns(probability=pl.lit(None, pl.Float64()))
    there = table["method"].unique(maintain_order=True).to_list()
    if method is None and len(there) > 1:
        raise InputError(f"{where} has the scores of {len(there)} methods; name one with --method: {', '.join(there)}.")
    if method is not None and method not in there:
        raise UnknownNameError(
            f"{where} has no rows of method '{method}'{near_match(method, there) or '.'} Found: {', '.join(there)}."
        )
    name = method or there[0]
    rows = table.filter(pl.col("method") == name)
    if kept:
        if "kept" not in rows.columns:
            raise InputError(f"{where} has no column 'kept'; score with --target-accuracy to get one.")
        rows = rows.filter(pl.col("kept").any().over("item_id"))
    weak = rows.filter("weak_label")
    if weak["item_id"].is_duplicated().any():
        twice = weak.filter(pl.col("item_id").is_duplicated())["item_id"].unique(maintain_order=True)
        raise InputError(f"{where}: {len(twice)} items have more than one weak label of '{name}': {some(twice)}.")
    ids = rows.select(pl.col("item_id").unique(maintain_order=True))
    return Source(name, rows, _read_items(items, ids) if items else None, weights)


def _read_items(path: Path, ids: pl.DataFrame) -> pl.DataFrame:
    """Return `item_id, question, choices` of the scored items, in their order."""
    table, where = files.read_table(path), str(path)
    require_columns(table, ["item_id", "question"], where)
    if "choices" not in table.columns or table["choices"].dtype == pl.Null():
        table = table.with_columns(choices=pl.lit(None, pl.List(pl.String())))
    if not isinstance(table["choices"].dtype, pl.List):
        raise InputError(
            f"{where}: column 'choices' has type {table['choices'].dtype}, expected lists of texts; "
            "Parquet and JSONL keep lists, a CSV cannot."
        )
    types = {"item_id": pl.String(), "question": pl.String(), "choices": pl.List(pl.String())}
    known = table.select(pl.col(name).cast(dtype) for name, dtype in types.items())
    if known["item_id"].is_duplicated().any():
        twice = known.filter(pl.col("item_id").is_duplicated())["item_id"].unique(maintain_order=True)
        raise InputError(f"{where} has {len(twice)} item ids more than once: {some(twice)}.")
    lacking = ids.join(known, on="item_id", how="anti", maintain_order="left")["item_id"]
    if len(lacking):
        raise InputError(f"{where} lacks {len(lacking)} of the {ids.height} scored items: {some(lacking)}.")
    found = ids.join(known, on="item_id", how="left", maintain_order="left")
    if found["question"].null_count():
        silent = found.filter(pl.col("question").is_null())["item_id"]
        raise InputError(f"{where}: {len(silent)} items have no question: {some(silent)}.")
    return found
