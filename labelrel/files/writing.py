"""Writing files so that a kill leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
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


def digest(path: Path | str) -> str:
    """Return the SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
