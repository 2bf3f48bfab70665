"""CSV and TSV, read by polars at its speed.

What polars would get wrong without a word (short rows, blank lines, quotes that do not match) is found by
counting, and what is refused is read once more, slowly, for the line to name.
"""

from __future__ import annotations

import contextlib
import csv
import io
import mmap
import sys
from collections.abc import Iterator

import polars as pl

from labelrel.files.source import HEAD, MARK, STEP, Source, not_utf8


def csv_header(source: Source) -> tuple[list[str], str]:
    """Return the names in the first line of a CSV, blank ones included, and the separator.

    Raises:
        InputError: no name, or one that is there twice.
    """
    text = source.raw[: 1 << 20].removeprefix(MARK).decode(errors="replace")
    own = "\t" if source.kind == "tsv" else ","

    def first(separator: str) -> list[str]:
        records = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        with _long_fields():
            return next((record for record in records if record), [])

    names, separator = first(own), own
    if len(names) == 1:
        others = [other for other in ",;\t" if other != own and len(first(other)) > 1]
        if len(others) == 1:
            names, separator = first(others[0]), others[0]
    named = [name for name in names if name.strip()]
    if not named:
        raise source.wrong("its first line names no column.")
    repeated = [name for name in dict.fromkeys(named) if named.count(name) > 1]
    if repeated:
        raise source.wrong(
            f"its header names column {repeated[0]!r} {named.count(repeated[0])} times; once is allowed."
        )
    return names, separator


def read_csv(source: Source) -> pl.DataFrame:
    """Return the table of a CSV or TSV, every column text.

    Raises:
        InputError: a header without names or with one twice, a row of another width, or quotes that do
            not match.
    """
    names, separator = csv_header(source)
    only_cr = b"\n" not in source.raw[:HEAD] and b"\r" in source.raw[:HEAD]  # as old Macs wrote
    try:
        frame = pl.read_csv(
            source.content, infer_schema=False, separator=separator, eol_char="\r" if only_cr else "\n", glob=False
        )
        doubtful = _is_doubtful(source, frame, names, separator)
    except pl.exceptions.PolarsError:
        frame, doubtful = pl.DataFrame(), True
    if doubtful:
        number = sum(1 for _ in _records(source, len(names), separator))
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
        if frame.height != number or frame.width != len(names):  # quotes inside of fields that have none around
            records = list(_records(source, len(names), separator))
            frame = pl.DataFrame(records, schema=[str(i) for i in range(len(names))], orient="row")
            frame = frame.select(pl.all().cast(pl.String).replace("", None))
    frame.columns = [str(i) for i in range(len(names))]
    return frame.select(pl.col(str(i)).alias(name) for i, name in enumerate(names) if name.strip())


def _is_doubtful(source: Source, frame: pl.DataFrame, names: list[str], separator: str) -> bool:
    """Say whether polars may have read a CSV wrongly, at the price of counting.

    It fills short rows with nulls, makes a row of nulls of a blank line, and takes quotes that are neither
    around a field nor doubled for either. Rows with too many fields it refuses by itself.
    """
    if frame.width != len(names):
        return True
    quoted = source.raw.find(b'"') >= 0
    if quoted and not _quotes_match(source.raw, separator):
        return True
    if min(frame.null_count().row(0)) and frame.select(pl.all_horizontal(pl.all().is_null()).any()).item():
        return True
    if source.raw[-1:] == separator.encode():  # the last row may have one too many, which polars takes
        return True
    # no other row has too many, so each has its own exactly if all of them together have
    inside = 0
    if quoted:
        inside = sum(frame.select(pl.all().str.count_matches(separator, literal=True).sum()).row(0))
        inside += sum(name.count(separator) for name in names)
    return source.count(separator.encode()) - inside != (frame.height + 1) * (frame.width - 1)


def _quotes_match(raw: bytes | mmap.mmap, separator: str) -> bool:
    """Say whether every quote of a CSV is around a whole field, or doubled within such quotes.

    A run of quotes toggles between inside and outside exactly if it is odd, so the state before every run is
    a running sum. Outside, a run must begin a field, and an even one is all of it; inside, an odd run must
    end it.
    """
    import numpy as np

    text = np.frombuffer(raw, dtype=np.uint8)
    edge = np.zeros(256, dtype=bool)
    edge[[*b"\r\n", ord(separator)]] = True
    begin = start = len(MARK) if bytes(raw[: len(MARK)]) == MARK else 0
    inside = 0
    while start < len(text):
        end = min(start + STEP, len(text))
        while end < len(text) and text[end] == ord('"'):  # not within a run
            end += 1
        at = np.flatnonzero(text[start:end] == ord('"')) + start
        head = np.flatnonzero(np.diff(at, prepend=-2) > 1)
        left, size = at[head], np.diff(np.append(head, len(at)))
        odd = size % 2 == 1
        within = (inside + np.cumsum(odd) - odd) % 2 == 1
        begins = (left == begin) | edge[text[left - 1]]
        ends = (left + size == len(text)) | edge[text[np.minimum(left + size, len(text) - 1)]]
        if not np.where(within, ~odd | ends, begins & (odd | ends)).all():
            return False
        inside = int(inside + odd.sum()) % 2
        start = end
    return inside == 0


def _records(source: Source, width: int, separator: str) -> Iterator[list[str]]:
    """Yield the records of a CSV that have a value, one by one, in Python.

    Raises:
        InputError: bytes that are not UTF-8, quotes that do not match, or a row of another width.
    """
    raw = bytes(source.raw).removeprefix(MARK)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise source.wrong(not_utf8(raw[error.start], error.start, line)) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header = True
    while True:
        line = reader.line_num + 1
        try:
            with _long_fields():
                record = next(reader, None)
        except csv.Error as error:
            what = (
                "opens a quote that is never closed"
                if "end of data" in str(error)
                else ("goes on after a closing quote; within quotes a quote is written twice")
            )
            raise source.wrong(f"line {line} {what}.") from None
        if record is None:
            return
        if not record:
            continue
        if len(record) != width:
            raise source.wrong(f"line {line} has {len(record)} field{'s' * (len(record) != 1)} and the header {width}.")
        if header:
            header = False
        elif any(record):
            yield record


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the csv module's limit on the length of a field, which is the process's."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
