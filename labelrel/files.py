"""Reading and writing files so that a kill leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import hashlib
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
    with replacing(path) as temporary:
        frame.write_parquet(temporary, compression="zstd", statistics=True, metadata=metadata)


WRITABLE = (".parquet", ".csv", ".jsonl")


def write_any_table(path: Path | str, frame: pl.DataFrame) -> None:
    """Write a table as Parquet, CSV or JSONL, by its extension.

    Raises:
        InputError: another extension.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        write_table(path, frame)
    elif path.suffix in (".csv", ".jsonl"):
        with replacing(path) as temporary:
            frame.write_csv(temporary) if path.suffix == ".csv" else frame.write_ndjson(temporary)
    else:
        raise InputError(f"{path}: unknown extension; writable are {', '.join(WRITABLE[:-1])} and {WRITABLE[-1]}.")


def read_table(path: Path | str) -> pl.DataFrame:
    """Read a Parquet, CSV or JSONL table (CSV and JSONL also gzipped), by its extension.

    Raises:
        InputError: no such file, an unknown extension, or content of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    suffix = "".join(path.suffixes[-2:]).lower().removesuffix(".gz")
    suffix = "." + suffix.rsplit(".", 1)[-1]
    try:
        if suffix == ".parquet":
            return pl.read_parquet(path)
        if suffix in (".csv", ".tsv"):
            # ids such as 007 and answers such as 1.0 are names, not numbers: keep every column text
            separator = "\t" if suffix == ".tsv" else ","
            return pl.read_csv(path, infer_schema=False, separator=separator)
        if suffix in (".jsonl", ".ndjson"):
            return pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read as {suffix[1:]}: {reason}") from None
    raise InputError(
        f"{path}: unknown extension; readable are .parquet, .csv, .tsv, .jsonl (and .gz of the last three)."
    )


def digest(path: Path | str) -> str:
    """Return the SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
