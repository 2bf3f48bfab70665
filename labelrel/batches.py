"""Tables larger than memory: read a piece at a time, written a piece at a time.

Parquet is streamed; the other formats are read whole by `files.read_table` and handed out as one piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from labelrel.errors import InputError
from labelrel.files import WRITABLE, read_table, replacing

ROWS = 1 << 22


class Batches:
    """The rows of a file in order, as often as asked for.

    Args:
        path: Parquet, CSV or JSONL.

    Attributes:
        schema: column → type.
        num_rows: of the whole file.

    Raises:
        InputError: no such file, or content of another kind.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._whole: pl.DataFrame | None = None
        if self._path.suffix.lower() == ".parquet" and self._path.is_file():
            try:
                self._scan = pl.scan_parquet(self._path)
                self.schema = self._scan.collect_schema()
                self.num_rows = int(self._scan.select(pl.len()).collect().item())
                return
            except (pl.exceptions.PolarsError, OSError):
                pass  # read_table tells what is wrong with it
        self._whole = read_table(self._path)
        self.schema, self.num_rows = self._whole.schema, self._whole.height

    def read(self, columns: Sequence[str], rows: int = ROWS) -> Iterator[pl.DataFrame]:
        """Yield the named columns, at most about `rows` rows at a time.

        Raises:
            InputError: the file breaks off or is damaged.
        """
        if self._whole is not None:
            yield self._whole.select(columns)
            return
        try:
            yield from self._scan.select(columns).collect_batches(maintain_order=True, chunk_size=rows)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{self._path} cannot be read as parquet: {reason}") from None


def write_batches(path: Path | str, schema: pl.Schema, frames: Iterable[pl.DataFrame]) -> int:
    """Write pieces of one table as Parquet, CSV or JSONL, by the extension, and return the number of rows.

    Args:
        path: takes its name when the last piece is written.
        schema: of every piece.
        frames: the pieces; what they raise is raised here.

    Raises:
        InputError: another extension.
    """
    path = Path(path)
    if path.suffix not in WRITABLE:
        raise InputError(f"{path}: unknown extension; writable are {', '.join(WRITABLE[:-1])} and {WRITABLE[-1]}.")
    source = _Source(schema, frames)
    with replacing(path) as temporary:
        try:
            if path.suffix == ".parquet":
                source.lazy().sink_parquet(temporary, compression="zstd", statistics=True, maintain_order=True)
            elif path.suffix == ".csv":
                source.lazy().sink_csv(temporary, maintain_order=True)
            else:
                source.lazy().sink_ndjson(temporary, maintain_order=True)
        except Exception:
            if source.error is not None:
                raise source.error from None
            raise
    return source.rows


class _Source:
    """Hands an iterator to polars, and keeps what it raises, which polars would turn into text."""

    def __init__(self, schema: pl.Schema, frames: Iterable[pl.DataFrame]) -> None:
        self.rows = 0
        self.error: BaseException | None = None
        self._schema = schema
        self._frames = frames

    def lazy(self) -> pl.LazyFrame:
        """Return the pieces as one lazy table."""
        from polars.io.plugins import register_io_source

        return register_io_source(self._hand_over, schema=self._schema)

    def _hand_over(
        self, with_columns: list[str] | None, predicate: Any, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        try:
            for frame in self._frames:
                self.rows += frame.height
                yield frame
        except BaseException as error:
            self.error = error
            raise
