"""Reading any table that people have, and writing files so that a kill leaves either the old one or the new one.

Tables are read by polars at its speed. What it would get wrong without a word (short rows, blank lines,
quotes that do not match, half of a damaged file) is found by counting, and what it refuses is read once
more, slowly, for the line to name.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import itertools
import json
import math
import mmap
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from labelrel.errors import InputError


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary file beside `path` that takes its name when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes it private; the result is an ordinary file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")) / "old"
        if path.exists():
            path.replace(old)  # two renames: a kill in between leaves the old one whole, under its hidden name
        temporary.replace(path)
        shutil.rmtree(old.parent, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write strict JSON (NaN is refused: DVC and browsers cannot read it back)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or broken one is one line, not a traceback."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def write_table(path: Path | str, frame: pl.DataFrame, metadata: dict[str, str] | None = None) -> None:
    """Write a Parquet file; equal frames give equal bytes, which is what DVC compares."""
    frame = frame.rechunk()  # how a frame was put together would show in the bytes
    with replacing(path) as temporary:
        frame.write_parquet(temporary, compression="zstd", statistics=True, metadata=metadata)


WRITABLE = (".parquet", ".csv", ".jsonl")


def write_any_table(path: Path | str, frame: pl.DataFrame) -> None:
    """Write a table as Parquet, CSV or JSONL, by its extension.

    Raises:
        InputError: another extension.
    """
    path = Path(path)
    _refuse_unwritable(path)
    if path.suffix == ".parquet":
        write_table(path, frame)
    else:
        with replacing(path) as temporary:
            frame.write_csv(temporary) if path.suffix == ".csv" else frame.write_ndjson(temporary)


def write_batches(path: Path | str, frames: Iterator[pl.DataFrame], metadata: dict[str, str] | None = None) -> int:
    """Write the rows of several frames as one Parquet, CSV or JSONL file, never holding more than a few of them.

    One frame gives the bytes of `write_any_table`; the bytes of Parquet depend on how the rows are cut into
    frames, those of the others do not. Making the next frame and writing the last run side by side, so
    `frames` is not run in the caller's thread.

    Args:
        path: where to; the extension says as what.
        frames: at least one, all of one schema.
        metadata: kept in a Parquet file; the other formats have no place for it.

    Returns:
        The number of rows written.

    Raises:
        InputError: another extension; and whatever making a frame raises. `path` is as before then.
        ValueError: no frame, or frames of different schemas.
    """
    from polars.io.plugins import register_io_source

    path = Path(path)
    _refuse_unwritable(path)
    first = next(iter(frames := iter(frames)), None)
    if first is None:
        raise ValueError("no frame to write: without one the columns are not known")
    rows = 0

    def source(*_: object) -> Iterator[pl.DataFrame]:
        nonlocal rows
        for frame in itertools.chain([first], frames):
            if frame.schema != first.schema:
                raise ValueError(f"frames to write differ: {dict(first.schema)} and {dict(frame.schema)}")
            rows += frame.height
            yield frame

    table = register_io_source(source, schema=first.schema)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            table.sink_parquet(temporary, compression="zstd", statistics=True, metadata=metadata)
        elif path.suffix == ".csv":
            table.sink_csv(temporary)
        else:
            table.sink_ndjson(temporary)
    return rows


def _refuse_unwritable(path: Path) -> None:
    if path.suffix not in WRITABLE:
        raise InputError(f"{path}: unknown extension; writable are {', '.join(WRITABLE[:-1])} and {WRITABLE[-1]}.")


_READABLE = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

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
    source = _open(path)
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
    source = _open(path)
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
    source = _open(path)
    if source.kind == "jsonl":
        return dict(_read_text(source).schema)
    if source.kind == "parquet":
        with _one_line(source.path, "parquet"):
            return dict(pl.read_parquet_schema(source.path))
    return {name: pl.String() for name in _csv_header(source)[0] if name.strip()}


def num_rows(path: Path | str) -> int | None:
    """Return the number of rows of a Parquet file, from its footer; None of another kind, which does not say it."""
    source = _open(path)
    if source.kind != "parquet":
        return None
    with _one_line(source.path, "parquet"):
        return int(pl.scan_parquet(source.path, glob=False).select(pl.len()).collect().item())


# --- what a file is, before anything reads it ----------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A file that is what its name says, as far as its first bytes tell.

    Attributes:
        path: for messages, and for Parquet.
        kind: parquet, csv, tsv or jsonl.
        content: the text in UTF-8, not zipped; the path where it is the file as it stands, which is then
            mapped rather than held.
    """

    path: Path
    kind: str
    content: Path | bytes

    @cached_property
    def raw(self) -> bytes | mmap.mmap:
        """The text as bytes."""
        if isinstance(self.content, bytes):
            return self.content
        with self.content.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def count(self, byte: bytes) -> int:
        """Return how often a byte is in the text."""
        return sum(self.raw[start : start + _STEP].count(byte) for start in range(0, len(self.raw), _STEP))

    def wrong(self, reason: str) -> InputError:
        """Return the error that says why the file cannot be read."""
        return _wrong(self.path, self.kind, reason)


def _wrong(path: Path, kind: str, reason: str) -> InputError:
    return InputError(f"{path} cannot be read as {kind}: {reason}")


def _open(path: Path | str) -> _Source:
    path = Path(path)
    if path.is_dir():
        raise InputError(f"no such file: {path} is a folder; name a file in it.")
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    name = path.name.lower()
    zipped = name.endswith(".gz")
    name = name.removesuffix(".gz")
    kind = _READABLE.get(Path(name).suffix)
    if kind is None:
        raise InputError(
            f"{path}: unknown extension; readable are .parquet, .csv, .tsv, .jsonl (and .gz of the last three)."
        )
    if zipped and kind == "parquet":
        raise _wrong(path, kind, "Parquet is compressed inside and is not read through gzip; gunzip it first.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(-min(4, file.seek(0, os.SEEK_END)), os.SEEK_END)
            tail = file.read()
        content: Path | bytes = path
        if zipped and head.startswith(_GZIP):
            content = _unzip(path, kind)
            head = content[:_HEAD]
        elif zipped:
            raise _wrong(path, kind, f"it is not gzip but seems to be {_seems_to_be(head)[1]}.")
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) and kind != "parquet":
            content = _from_utf16(content if isinstance(content, bytes) else path.read_bytes(), path, kind)
            head = content[:_HEAD]
        elif head.startswith(_MARK) and kind == "jsonl":
            content = (content if isinstance(content, bytes) else path.read_bytes()).removeprefix(_MARK)
    except OSError as error:
        raise _wrong(path, kind, f"{error.strerror or error}.".lower()) from None
    _refuse_other_kinds(path, kind, head, tail)
    return _Source(path, kind, content)


_HEAD = 1 << 16  # bytes looked at before reading
_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"  # of UTF-8, before the text

_BINARY = (
    (b"PAR1", "parquet", "Parquet; rename it to .parquet"),
    (_GZIP, "gzip", "gzip; add .gz to its name"),
    (b"PK\x03\x04", "zip", "an Excel workbook or another zip archive; save the sheet as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "xls", "an Excel workbook; save the sheet as CSV"),
    (b"ARROW1", "arrow", "an Arrow file; write it as Parquet"),
    (b"BZh", "bzip2", "bzip2; unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd; unpack it"),
    (b"\xfd7zXZ", "xz", "xz; unpack it"),
    (b"SQLite format 3", "sqlite", "an SQLite data base; export its table as CSV"),
    (b"%PDF", "pdf", "a PDF"),
    (b"\x80", "pickle", "a Python pickle, which is never loaded; write it as Parquet"),
)

_TEXT = (
    (rb"\[\s*(\{|$)", "json", "one JSON array; write one object per line (jq -c '.[]')"),
    (rb"\{\s*(\"|\}|$)", "jsonl", "JSON lines; rename it to .jsonl"),
    (rb"(?i)<(!doctype|html|\?xml)", "html", "a web page; download the file itself"),
)


def _seems_to_be(head: bytes) -> tuple[str, str]:
    """Return what the first bytes of a file say it is, as one word and as what to tell and advise."""
    for magic, word, advice in _BINARY:
        if head.startswith(magic):
            return word, advice
    if b"\0" in head:
        return "binary", "binary, or UTF-16 without its mark; save it as UTF-8 text"
    text = head.removeprefix(_MARK).lstrip()
    for pattern, word, advice in _TEXT:
        if re.match(pattern, text):
            return word, advice
    return "text", "plain text; name it after its format, such as .csv"


def _refuse_other_kinds(path: Path, kind: str, head: bytes, tail: bytes) -> None:
    if not head.removeprefix(_MARK).strip():
        raise _wrong(path, kind, "the file is empty.")
    word, advice = _seems_to_be(head)
    if kind == "parquet" and word == "parquet" and tail != b"PAR1":
        raise _wrong(path, kind, "the file is cut short: it does not end as Parquet does; copy or write it again.")
    if word != kind and (kind in ("parquet", "jsonl") or word != "text"):
        raise _wrong(path, kind, f"it seems to be {advice}.")


def _unzip(path: Path, kind: str) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except EOFError:
        raise _wrong(path, kind, "the file is cut short: gzip ends early; copy or download it again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _wrong(path, kind, f"the gzip is damaged ({error}); copy or download it again.") from None


def _from_utf16(content: bytes, path: Path, kind: str) -> bytes:
    try:
        return content.decode("utf-16").encode()
    except UnicodeDecodeError as error:
        raise _wrong(path, kind, f"it is not the UTF-16 that its mark says, at byte {error.start}.") from None


def _require(columns: Sequence[str], there: Sequence[str], path: Path) -> None:
    missing = [name for name in columns if name not in there]
    if missing:
        raise InputError(f"{path} has no column {', '.join(map(repr, missing))} (found: {', '.join(there)}).")


@contextlib.contextmanager
def _one_line(path: Path, kind: str) -> Iterator[None]:
    """Turn an error of polars into one line; some damage makes it panic, which is no Exception."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _wrong(path, kind, f"{_gist(error)}.") from None


def _gist(error: BaseException) -> str:
    """Return the first line of an error of polars, without the words that tell nobody anything."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.removeprefix("parquet: ").removeprefix("File out of specification: ")[:200].rstrip(".")


# --- Parquet -------------------------------------------------------------------------------------


def _parquet_batches(path: Path, columns: Sequence[str] | None, rows: int) -> Iterator[pl.DataFrame]:
    seen = 0
    with _one_line(path, "parquet"):
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
        with _one_line(path, "parquet"):
            batch = next(batches, None)
        if batch is None:
            break
        seen += batch.height
        yield batch
    if seen != total:  # polars may lose the rows of a damaged group and say nothing
        raise _wrong(path, "parquet", f"the file is damaged: {seen} of {total} rows are there; copy or write it again.")


# --- text ----------------------------------------------------------------------------------------


def _read_text(source: _Source) -> pl.DataFrame:
    return _read_jsonl(source) if source.kind == "jsonl" else _read_csv(source)


def _csv_header(source: _Source) -> tuple[list[str], str]:
    """Return the names in the first line of a CSV, blank ones included, and the separator.

    Raises:
        InputError: no name, or one that is there twice.
    """
    text = source.raw[: 1 << 20].removeprefix(_MARK).decode(errors="replace")
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


def _read_csv(source: _Source) -> pl.DataFrame:
    names, separator = _csv_header(source)
    only_cr = b"\n" not in source.raw[:_HEAD] and b"\r" in source.raw[:_HEAD]  # as old Macs wrote
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


def _is_doubtful(source: _Source, frame: pl.DataFrame, names: list[str], separator: str) -> bool:
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


_STEP = 1 << 24  # bytes looked at together


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
    begin = start = len(_MARK) if bytes(raw[: len(_MARK)]) == _MARK else 0
    inside = 0
    while start < len(text):
        end = min(start + _STEP, len(text))
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


def _records(source: _Source, width: int, separator: str) -> Iterator[list[str]]:
    """Yield the records of a CSV that have a value, one by one, in Python.

    Raises:
        InputError: bytes that are not UTF-8, quotes that do not match, or a row of another width.
    """
    raw = bytes(source.raw).removeprefix(_MARK)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise source.wrong(_not_utf8(raw[error.start], error.start, line)) from None
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


def _not_utf8(byte: int, at: int, line: int) -> str:
    return (
        f"line {line} is not UTF-8 (byte 0x{byte:02x} at {at}); "
        "save the file as UTF-8, or iconv -f WINDOWS-1252 -t UTF-8."
    )


def _read_jsonl(source: _Source) -> pl.DataFrame:
    try:
        return pl.read_ndjson(_without_lone_surrogates(source), infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise source.wrong(_what_is_wrong_with_lines(source) or f"{_gist(error)}.") from None


_ESCAPE = re.compile(rb"\\(?:\\|u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..))")


def _without_lone_surrogates(source: _Source) -> Path | bytes:
    """Return the text with a replacement mark for every half of a character, which polars would make a NUL.

    Scripts that cut texts to a length leave them behind in the middle of an emoji.
    """
    if source.raw.find(b"\\ud") < 0 and source.raw.find(b"\\uD") < 0:
        return source.content
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], bytes(source.raw))


_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def _what_is_wrong_with_lines(source: _Source) -> str | None:
    """Return the first thing wrong with the lines of a JSONL file; None where each is an object of its own.

    Kinds of values that no column holds together are told last, since text takes in all others.
    """
    seen: dict[str, dict[str, int]] = {}
    start = 0
    for number, line in enumerate(io.BytesIO(source.raw), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            return _not_utf8(line[error.start], start + error.start, number)
        start += len(line)
        if not text.strip():
            continue
        try:
            value = json.loads(text.rstrip(), parse_constant=_refuse_number, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
            message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            return f"line {number} is not JSON: {message}{where}."
        if not isinstance(value, dict):
            return f"line {number} holds {_KINDS.get(type(value), 'null')}, not an object."
        for key, entry in value.items():
            if entry is not None:
                seen.setdefault(key, {}).setdefault(_KINDS[type(entry)], number)
    for key, kinds in seen.items():
        if len(kinds) > 1 and "text" not in kinds:
            first, second = list(kinds.items())[:2]
            return f"{key!r} is {first[0]} in line {first[1]} and {second[0]} in line {second[1]}; write both as text."
    return None


def _refuse_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number; write null")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"the number {text} is too large")
    return float(text)


def digest(path: Path | str) -> str:
    """Return the SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
