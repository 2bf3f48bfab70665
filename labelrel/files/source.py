"""What a file is, before anything reads it: by its name, its first bytes and, unzipped, its text."""

from __future__ import annotations

import contextlib
import gzip
import mmap
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from labelrel.errors import InputError

STEP = 1 << 24
"""Bytes looked at together."""

_READABLE = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Source:
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
        return sum(self.raw[start : start + STEP].count(byte) for start in range(0, len(self.raw), STEP))

    def wrong(self, reason: str) -> InputError:
        """Return the error that says why the file cannot be read."""
        return wrong(self.path, self.kind, reason)


def wrong(path: Path, kind: str, reason: str) -> InputError:
    """Return the error that says why a file cannot be read."""
    return InputError(f"{path} cannot be read as {kind}: {reason}")


def open_source(path: Path | str) -> Source:
    """Return a file that is what its name says, unzipped and in UTF-8.

    Raises:
        InputError: no such file, an unknown extension, damage, or content of another kind.
    """
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
        raise wrong(path, kind, "Parquet is compressed inside and is not read through gzip; gunzip it first.")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(-min(4, file.seek(0, os.SEEK_END)), os.SEEK_END)
            tail = file.read()
        content: Path | bytes = path
        if zipped and head.startswith(_GZIP):
            content = _unzip(path, kind)
            head = content[:HEAD]
        elif zipped:
            raise wrong(path, kind, f"it is not gzip but seems to be {_seems_to_be(head)[1]}.")
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) and kind != "parquet":
            content = _from_utf16(content if isinstance(content, bytes) else path.read_bytes(), path, kind)
            head = content[:HEAD]
        elif head.startswith(MARK) and kind == "jsonl":
            content = (content if isinstance(content, bytes) else path.read_bytes()).removeprefix(MARK)
    except OSError as error:
        raise wrong(path, kind, f"{error.strerror or error}.".lower()) from None
    _refuse_other_kinds(path, kind, head, tail)
    return Source(path, kind, content)


HEAD = 1 << 16  # bytes looked at before reading
_GZIP = b"\x1f\x8b"
MARK = b"\xef\xbb\xbf"  # of UTF-8, before the text

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
    text = head.removeprefix(MARK).lstrip()
    for pattern, word, advice in _TEXT:
        if re.match(pattern, text):
            return word, advice
    return "text", "plain text; name it after its format, such as .csv"


def _refuse_other_kinds(path: Path, kind: str, head: bytes, tail: bytes) -> None:
    if not head.removeprefix(MARK).strip():
        raise wrong(path, kind, "the file is empty.")
    word, advice = _seems_to_be(head)
    if kind == "parquet" and word == "parquet" and tail != b"PAR1":
        raise wrong(path, kind, "the file is cut short: it does not end as Parquet does; copy or write it again.")
    if word != kind and (kind in ("parquet", "jsonl") or word != "text"):
        raise wrong(path, kind, f"it seems to be {advice}.")


def _unzip(path: Path, kind: str) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except EOFError:
        raise wrong(path, kind, "the file is cut short: gzip ends early; copy or download it again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise wrong(path, kind, f"the gzip is damaged ({error}); copy or download it again.") from None


def _from_utf16(content: bytes, path: Path, kind: str) -> bytes:
    try:
        return content.decode("utf-16").encode()
    except UnicodeDecodeError as error:
        raise wrong(path, kind, f"it is not the UTF-16 that its mark says, at byte {error.start}.") from None


@contextlib.contextmanager
def one_line(path: Path, kind: str) -> Iterator[None]:
    """Turn an error of polars into one line; some damage makes it panic, which is no Exception."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise wrong(path, kind, f"{gist(error)}.") from None


def gist(error: BaseException) -> str:
    """Return the first line of an error of polars, without the words that tell nobody anything."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.removeprefix("parquet: ").removeprefix("File out of specification: ")[:200].rstrip(".")


def not_utf8(byte: int, at: int, line: int) -> str:
    """Return what is wrong with a text that is not UTF-8, and where."""
    return (
        f"line {line} is not UTF-8 (byte 0x{byte:02x} at {at}); "
        "save the file as UTF-8, or iconv -f WINDOWS-1252 -t UTF-8."
    )
