"""Reading a data set from a folder or from the hub, and sharing its rows out among the splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from labelrel.errors import InputError
from labelrel.files import read_table
from labelrel.schema import ITEMS, require_columns
from labelrel.tasks.base import assign_splits


@dataclass(frozen=True)
class Part:
    """Rows of a data set: a file in a folder, and the same rows on the hub.

    Attributes:
        file: its name in the folder.
        hub_split: the split on the hub that has the rows.
        start: number of the first of them within that split.
        rows: how many; null: all from there on.
    """

    file: str
    hub_split: str
    start: int = 0
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Where the rows of a task come from.

    Attributes:
        task: the task's name.
        hub: id on the hub.
        config: which of the configurations there; null: the only one.
        parts: the rows, and the splits that are filled from them.
        own_train: rows that `own_splits` are filled from where the user asks for it.
        own_splits: the splits that the paper fills from the data set's own training part.
        from_hub: the hub's table → the columns of the local files.
        to_items: (rows with the local columns and `row`, part, what messages call the place) → items
            without splits. `row` is the row's number on the hub.
    """

    task: str
    hub: str
    config: str | None = None
    parts: Mapping[Part, Sequence[str]]
    own_train: Part | None = None
    own_splits: tuple[str, ...] = ("weak_train",)
    from_hub: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows
    to_items: Callable[[pl.DataFrame, Part, str], pl.DataFrame]

    def load(self, source: str | None, sizes: Mapping[str, int], seed: int, *, own_train: bool = False) -> pl.DataFrame:
        """Return the items table.

        Args:
            source: a folder with the files, or "hub".
            sizes: number of items per split; splits of size 0 or without a size stay empty.
            seed: of the splits.
            own_train: fill `own_splits` from the data set's own training part.

        Raises:
            InputError: no such folder, file or data set, a row that is not what it should be, or too few
                rows for the sizes.
        """
        parts = dict(self.parts)
        if own_train and self.own_train:
            parts = {part: [s for s in splits if s not in self.own_splits] for part, splits in parts.items()}
            parts = {self.own_train: list(self.own_splits), **parts}
        drawn = []
        for part, splits in parts.items():
            wanted = {split: size for split, size in sizes.items() if split in splits and size}
            if wanted:
                items = self.to_items(*self._rows(source, part, [p.file for p in parts]))
                if len(parts) > 1 and sum(wanted.values()) > items.height:
                    raise InputError(
                        f"task '{self.task}' has {items.height} items in {part.file} but prepare.sizes asks for "
                        f"{sum(wanted.values())} ({', '.join(wanted)}); lower the sizes."
                    )
                drawn.append(assign_splits(items, wanted, seed, self.task))
        return pl.concat(drawn) if drawn else pl.DataFrame(schema=ITEMS)

    def _rows(self, source: str | None, part: Part, files: Sequence[str]) -> tuple[pl.DataFrame, Part, str]:
        if source == "hub":
            where = f"{self.hub} ({', '.join(filter(None, (self.config, part.hub_split)))})"
            rows = self.from_hub(_from_hub(self.hub, self.config, part.hub_split, where))
            rows = rows.with_row_index("row").slice(part.start, part.rows)
        else:
            path = self._path(source, part.file, ", ".join(files))
            where, rows = str(path), read_table(path)
            rows = rows.with_row_index("row", offset=part.start)
        if rows.is_empty():
            raise InputError(f"{where} has no rows.")
        return rows, part, where

    def _path(self, source: str | None, file: str, files: str) -> Path:
        if source is None:
            raise InputError(
                f"task '{self.task}' needs data: set prepare.source to a folder with {files}, or to 'hub' ({self.hub})."
            )
        folder = Path(source)
        if folder.is_file():
            raise InputError(
                f"prepare.source {source} is a file; task '{self.task}' needs the folder that has {files}."
            )
        if not folder.is_dir():
            raise InputError(f"no such folder: {source} (prepare.source); task '{self.task}' looks there for {files}.")
        if not (folder / file).is_file():
            raise InputError(f"{source} has no file {file}; task '{self.task}' needs {files}.")
        return folder / file


def _from_hub(name: str, config: str | None, split: str, where: str) -> pl.DataFrame:
    try:
        import datasets
    except ImportError:
        raise InputError(
            "prepare.source 'hub' needs the package datasets: pip install datasets, or name a folder instead."
        ) from None
    try:
        table = datasets.load_dataset(name, config, split=split)
        frame: Any = table.to_polars()
    except Exception as error:  # whatever network, cache or server say
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise InputError(
            f"{where} cannot be loaded from the hub: {reason}; or name a folder in prepare.source."
        ) from None
    return pl.DataFrame(frame)


def check_rows(rows: pl.DataFrame, where: str, columns: Mapping[str, Any], first: int = 0) -> None:
    """Check that columns are there and hold what they should.

    Args:
        rows: as read, with their numbers in the column `row`.
        where: what messages call the table.
        columns: name → the expression that is true where its value is as it should be, and what it
            should be.
        first: number of the table's first row.

    Raises:
        InputError: a column that is missing, or the first row that is wrong, with its value.
    """
    require_columns(rows, [*columns], where)
    for name, (good, what) in columns.items():
        try:
            bad = rows.filter(~good.fill_null(False))
        except pl.exceptions.PolarsError:
            raise InputError(f"{where}: column '{name}' is {rows[name].dtype}; it should hold {what}.") from None
        if bad.height:
            more = f" ({bad.height} such rows)" if bad.height > 1 else ""
            value = _shown(bad[name][0])
            raise InputError(f"{where}, row {bad['row'][0] - first + 1}: {name} is {value}, not {what}{more}.")


def _shown(value: Any) -> str:
    shown = repr(value.to_list() if isinstance(value, pl.Series) else value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def a_text(name: str) -> tuple[pl.Expr, str]:
    """Return the check that a column holds text."""
    return pl.col(name).str.strip_chars().str.len_chars() > 0, "a text"


def one_of(name: str, values: Sequence[int]) -> tuple[pl.Expr, str]:
    """Return the check that a column holds one of a few whole numbers, as a number or in digits."""
    return pl.col(name).cast(pl.String).is_in([str(v) for v in values]), f"one of {', '.join(map(str, values))}"


def texts(name: str, number: int) -> tuple[pl.Expr, str]:
    """Return the check that a column holds a list of so many texts."""
    column = pl.col(name)
    good = (column.list.len() == number) & column.list.eval(
        (pl.element().str.strip_chars() != "").fill_null(False)
    ).list.all()
    return good, f"a list of {number} texts"
