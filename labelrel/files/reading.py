"""Reading any table that people have, whole or a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from labelrel.errors import InputError
from labelrel.files.csv_text import csv_header, read_csv
from labelrel.files.json_lines import read_jsonl
from labelrel.files.source import Source, one_line, open_source, wrong

_BATCH = 1 << 22  # rows


def read_table(path: Path | str) -> pl.DataFrame:
    """Read a Parquet, CSV, TSV or JSONL table (all but Parquet also gzipped), by its extension.

    Text may be UTF-8 or, with its mark, UTF-16; lines may end in LF, CRLF or CR.

    - CSV and TSV: every column is text, since ids such as 007 and answers such as 1.0 are names. An empty
      field is null, a quoted empty one ("") is an empty text, and NA or nan are texts like any other. Lines
      without any value and columns without a name are left out. Another separator (comma, semicolon or
      tab) is taken where the header has one column by its own and several by exactly one of the others.
    - JSONL: a key that a line lacks is null. Where a key has texts and other values, all become text, a
      number in its shortest form (1.50 is "1.5"). Of two equal keys in a line the first counts.

    Raises:
        InputError: no such file, an unknown extension, or content that is damaged or of another kind.
    """
    source = open_source(path)
    if source.kind == "parquet":
        return pl.concat(_parquet_batches(source.path, None, _BATCH), rechunk=False)
    return _read_text(source)


def read_batches(path: Path | str, columns: Sequence[str] | None = None, rows: int = _BATCH) -> Iterator[pl.DataFrame]:
    """Yield the rows of a table in order, of a Parquet file without ever holding more than a few batches.

    Args:
        path: a table as for `read_table`; one that is not Parquet is read whole and is one batch.
        columns: those to read, in this order; None for all.
        rows: of a batch of a Parquet file, at most.

    Yields:
        At least one frame, all of one schema; the only one of a table without rows is empty.

    Raises:
        InputError: as `read_table`, or a column that is not there. Of a damaged file some batches may have
            come before.
    """
    source = open_source(path)
    if source.kind == "parquet":
        yield from _parquet_batches(source.path, columns, rows)
    else:
        frame = _read_text(source)
        _require(columns or [], frame.columns, source.path)
        yield frame if columns is None else frame.select(columns)


def table_schema(path: Path | str) -> dict[str, pl.DataType]:
    """Return column → type of a table as `read_table` reads it; only JSONL has to be read whole for that.

    Raises:
        InputError: as `read_table`, where the part that is read shows it.
    """
    source = open_source(path)
    if source.kind == "jsonl":
        return dict(_read_text(source).schema)
    if source.kind == "parquet":
        with one_line(source.path, "parquet"):
            return dict(pl.read_parquet_schema(source.path))
    return {name: pl.String() for name in csv_header(source)[0] if name.strip()}


def num_rows(path: Path | str) -> int | None:
    """Return the number of rows of a Parquet file, from its footer; None of another kind, which does not say it."""
    source = open_source(path)
    if source.kind != "parquet":
        return None
    with one_line(source.path, "parquet"):
        return int(pl.scan_parquet(source.path, glob=False).select(pl.len()).collect().item())


def _read_text(source: Source) -> pl.DataFrame:
    return read_jsonl(source) if source.kind == "jsonl" else read_csv(source)


def _require(columns: Sequence[str], there: Sequence[str], path: Path) -> None:
    missing = [name for name in columns if name not in there]
    if missing:
        raise InputError(f"{path} has no column {', '.join(map(repr, missing))} (found: {', '.join(there)}).")


def _parquet_batches(path: Path, columns: Sequence[str] | None, rows: int) -> Iterator[pl.DataFrame]:
    seen = 0
    with one_line(path, "parquet"):
        table = pl.scan_parquet(path, glob=False)
        schema = table.collect_schema()
        _require(columns or [], schema.names(), path)
        total = int(table.select(pl.len()).collect().item())
        names = schema.names() if columns is None else list(columns)
        if not total or not names:
            yield table.select(names).collect()
            return
        batches = table.select(names).collect_batches(chunk_size=rows, maintain_order=True)
    while True:
        with one_line(path, "parquet"):
            batch = next(batches, None)
        if batch is None:
            break
        seen += batch.height
        yield batch
    if seen != total:  # polars may lose the rows of a damaged group and say nothing
        raise wrong(path, "parquet", f"the file is damaged: {seen} of {total} rows are there; copy or write it again.")
