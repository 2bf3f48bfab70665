"""A table of answers as integers: what every method counts, fits and slices.

Texts are looked up once. Rows are grouped by item, so that everything per item is a contiguous run:
sums are `np.add.reduceat`, a piece of the table is a slice of the arrays, and 100 million answers are
a gigabyte of integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.errors import InputError, some

Codes = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

ABSTAINED = -1
"""The code of "no answer"."""


@dataclass(frozen=True)
class Votes:
    """Sparse (item, annotator, answer) triples, rows grouped by item.

    N items, R rows, M annotators, V distinct answers.

    Attributes:
        item_ids: (N,) text, by first appearance in the table.
        answers: (V,) text, ascending, so that the order of codes is that of the texts.
        annotator_ids: (M,) text.
        variant_ids: text of the distinct variants; None where the table has no variants, and the
            running number of a row within its (item, annotator) stands for one.
        offsets: (N + 1,) the rows of item i are offsets[i]:offsets[i + 1], in the table's order.
        annotator: (R,) code in 0..M-1.
        variant: (R,) code of the variant, or None as `variant_ids`.
        answer: (R,) code in 0..V-1, or `ABSTAINED`.
        extra: (R rows) further columns that methods read: `answer_logprob`, `choice_logprobs`,
            `num_tokens`, `meaning`; without columns where the table has none.
    """

    item_ids: pl.Series
    answers: pl.Series
    annotator_ids: pl.Series
    variant_ids: pl.Series | None
    offsets: Ints
    annotator: Codes
    variant: Codes | None
    answer: Codes
    extra: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.item_ids)

    @property
    def num_rows(self) -> int:
        """R, abstentions included."""
        return len(self.answer)

    @cached_property
    def item(self) -> Codes:
        """(R,) the item of every row."""
        return np.repeat(np.arange(self.num_items, dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def raters(self) -> tuple[Codes, pl.Series]:
        """Who an annotator model takes for one annotator: (R,) codes and their names.

        A pair of annotator and variant where the table names variants: a wording or an order of
        options has a skill and a bias of its own. The annotator alone where it does not.
        """
        if self.variant is None or self.variant_ids is None:
            return self.annotator, self.annotator_ids
        if len(self.variant_ids) == 1:
            return self.annotator, self.annotator_ids
        pair = self.annotator.astype(np.int64) * len(self.variant_ids) + self.variant
        used = np.zeros(len(self.annotator_ids) * len(self.variant_ids), dtype=bool)
        used[pair] = True
        there = np.flatnonzero(used)
        code = np.cumsum(used, dtype=np.int32) - np.int32(1)
        names = pl.select(
            pl.concat_str(
                pl.lit(self.annotator_ids.gather(there // len(self.variant_ids))),
                pl.lit("/"),
                pl.lit(self.variant_ids.gather(there % len(self.variant_ids))),
            )
        ).to_series()
        return code[pair], names

    def slice(self, start: int, stop: int) -> Votes:
        """Return items start..stop-1; the lists of texts stay whole, so codes keep their meaning."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return Votes(
            item_ids=self.item_ids[start:stop],
            answers=self.answers,
            annotator_ids=self.annotator_ids,
            variant_ids=self.variant_ids,
            offsets=self.offsets[start : stop + 1] - low,
            annotator=self.annotator[low:high],
            variant=None if self.variant is None else self.variant[low:high],
            answer=self.answer[low:high],
            extra=self.extra[low:high] if self.extra.width else self.extra,
        )

    def frame(self) -> pl.DataFrame:
        """Return the rows as an answers table: `item_id, annotator_id, variant_id, answer` and the extra columns."""
        if self.variant is not None and self.variant_ids is not None:
            variant = self.variant_ids.gather(self.variant).alias("variant_id")
        else:
            variant = pl.Series("variant_id", self.running_number()).cast(pl.String)
        return pl.DataFrame(
            [
                self.item_ids.gather(self.item).alias("item_id"),
                self.annotator_ids.gather(self.annotator).alias("annotator_id"),
                variant,
                texts(self.answers, self.answer).alias("answer"),
                *self.extra,
            ]
        )

    def running_number(self) -> Ints:
        """(R,) number of the row within its (item, annotator), from 0, in the table's order."""
        key = self.item.astype(np.int64) * len(self.annotator_ids) + self.annotator
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        number = np.empty(len(key), dtype=np.int64)
        number[order] = np.arange(len(key)) - np.repeat(first, np.diff(np.append(first, len(key))))
        return number


def texts(names: pl.Series, codes: npt.NDArray[np.integer]) -> pl.Series:
    """Return the text of every code, null for `ABSTAINED`."""
    index = pl.Series(codes)
    if len(codes) and int(codes.min()) < 0:
        index = index.set(index < 0, None)
    return names.gather(index)


class Column:
    """Collects one column in pieces and turns it into codes.

    One dictionary of texts serves all pieces, and as little as possible is looked up in it: a run of
    equal values once, since the rows of an item stand together in most tables, and whole numbers of
    a narrow range once per number and piece.

    Args:
        in_order: whether codes count up in order of first appearance; else in any order.
    """

    def __init__(self, *, in_order: bool) -> None:
        self._in_order = in_order
        self._categories: pl.Categories = pl.Categories.random()
        self._codes: list[Codes] = []
        self._names: list[pl.Series] = []
        self._seen = 0
        self._last: pl.Series | None = None

    def add(self, column: pl.Series) -> None:
        """Take the next piece, texts or whole numbers; null stays null."""
        if self._in_order:
            runs = column.rle_id().to_numpy()
            heads = np.flatnonzero(np.diff(runs.astype(np.int64), prepend=-1))
            self._codes.append(self._look_up(column.gather(heads))[runs])
        elif _is_narrow(column):
            low = int(column.min() or 0)  # type: ignore[arg-type]
            place = (column.cast(pl.Int64) - low).fill_null(_NARROW).to_numpy()
            there = np.flatnonzero(np.bincount(place, minlength=_NARROW + 1)[:_NARROW])
            code = np.full(_NARROW + 1, ABSTAINED, dtype=np.int32)
            code[there] = self._look_up(pl.Series(there + low))
            self._codes.append(code[place])
        else:
            self._codes.append(self._look_up(column))

    def _look_up(self, column: pl.Series) -> Codes:
        """Return the codes of values, and remember the new ones."""
        text = column.cast(pl.String)
        # polars forgets the dictionary with the last column that uses it, and would count from 0 again
        self._last = text.cast(pl.Categorical(self._categories))
        codes = self._last.to_physical().cast(pl.Int64).fill_null(ABSTAINED).to_numpy()
        new = codes >= self._seen
        if new.any():
            fresh, first = np.unique(codes[new], return_index=True)  # codes count up in order of appearance
            self._names.append(text.gather(np.flatnonzero(new)[first]))
            self._seen += len(fresh)
        return codes.astype(np.int32)

    def finish(self) -> tuple[Codes, pl.Series]:
        """Return the codes of all pieces, by first appearance, and the text of each code."""
        codes = np.concatenate(self._codes) if self._codes else np.empty(0, np.int32)
        self._codes, self._last = [], None  # the dictionary goes with it: a gigabyte, for a hundred million rows
        names = pl.concat(self._names) if self._names else pl.Series([], dtype=pl.String)
        return codes.astype(np.int32, copy=False), names


_NARROW = 1 << 16  # distinct whole numbers for which a table of all of them is worth its while


def _is_narrow(column: pl.Series) -> bool:
    if not column.dtype.is_integer() or not len(column):
        return False
    low, high = column.min(), column.max()
    return low is not None and int(high) - int(low) < _NARROW  # type: ignore[arg-type]


def by_text(codes: Codes, names: pl.Series) -> tuple[Codes, pl.Series]:
    """Renumber codes so that their order is that of the texts."""
    order = names.arg_sort().to_numpy()
    rank = np.empty(len(order) + 1, dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    rank[-1] = ABSTAINED  # where code -1 looks
    return rank[codes], names.gather(order)


class Encoder:
    """Takes an answers table in pieces and returns its votes.

    Args:
        where: what messages call the table.
    """

    def __init__(self, where: str = "answers") -> None:
        self._where = where
        names = ("item_id", "annotator_id", "answer")
        self._columns = {name: Column(in_order=name == "item_id") for name in names}
        self._variant: Column | None = None
        self._extra: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, piece: pl.DataFrame) -> None:
        """Take the next rows; all pieces have the same columns.

        Args:
            piece: `item_id`, `annotator_id`, `answer` and maybe `variant_id`, texts or whole numbers,
                and extra columns.

        Raises:
            InputError: a null id.
        """
        ids = ["item_id", "annotator_id", *["variant_id"] * ("variant_id" in piece.columns)]
        for key in ids:
            if piece[key].null_count():
                raise InputError(f"{self._where}: {piece[key].null_count()} rows have no {key}.")
        for name, column in self._columns.items():
            column.add(piece[name])
        if "variant_id" in piece.columns:
            if self._variant is None:
                self._variant = Column(in_order=False)
            self._variant.add(piece["variant_id"])
        self._extra.append(piece.drop(*ids, "answer"))
        self._rows += piece.height

    def finish(self) -> Votes:
        """Group the rows by item and return them.

        Raises:
            InputError: no rows, or two rows for one (item, annotator, variant).
        """
        if not self._rows:
            raise InputError(f"{self._where} has no rows; at least one answer is needed.")
        item, item_ids = self._columns["item_id"].finish()
        annotator, annotator_ids = by_text(*self._columns["annotator_id"].finish())
        answer, answers = by_text(*self._columns["answer"].finish())
        variant, variant_ids = by_text(*self._variant.finish()) if self._variant else (None, None)
        extra = pl.concat(self._extra)
        sizes = np.bincount(item, minlength=len(item_ids))
        if np.count_nonzero(np.diff(item)) >= len(item_ids):  # more runs than items: rows of an item lie apart
            order = _counting_sort(item, len(item_ids))
            annotator, answer = annotator[order], answer[order]
            variant = None if variant is None else variant[order]
            extra = extra[order] if extra.width else extra
        votes = Votes(
            item_ids=item_ids,
            answers=answers,
            annotator_ids=annotator_ids,
            variant_ids=variant_ids,
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)]),
            annotator=annotator,
            variant=variant,
            answer=answer,
            extra=extra if extra.width else pl.DataFrame(),
        )
        _refuse_duplicates(votes, self._where)
        return votes


def _counting_sort(codes: Codes, size: int) -> npt.NDArray[np.integer]:
    """Return the stable order of rows by code, in linear time."""
    from scipy.sparse import csr_array

    # turning one sparse row into columns is a counting sort, and the only one numpy's family has
    small = np.int32 if len(codes) < 2**31 else np.int64
    ends = np.array([0, len(codes)], dtype=small)
    return np.asarray(csr_array((np.arange(len(codes), dtype=small), codes, ends), shape=(1, size)).tocsc().data)


_PIECE = 1 << 22  # rows looked at together where a whole-table temporary would be too large


def pieces(votes: Votes, rows: int = _PIECE) -> list[tuple[int, int]]:
    """Return (start, stop) of consecutive items that have about `rows` rows together, at least one item each."""
    ends, start = [], 0
    while start < votes.num_items:
        stop = int(np.searchsorted(votes.offsets, votes.offsets[start] + rows, side="right")) - 1
        stop = max(stop, start + 1)
        ends.append((start, stop))
        start = stop
    return ends


def _refuse_duplicates(votes: Votes, where: str) -> None:
    if votes.variant is None or votes.variant_ids is None:
        return  # running numbers are different by construction
    variants, annotators = len(votes.variant_ids), len(votes.annotator_ids)
    repeated: list[pl.DataFrame] = []
    for start, stop in pieces(votes):
        part = votes.slice(start, stop)
        assert part.variant is not None
        key = (part.item.astype(np.int64) * annotators + part.annotator) * variants + part.variant
        ordered = np.sort(key)
        if (ordered[1:] == ordered[:-1]).any():
            keys = pl.struct("item_id", "annotator_id", "variant_id")
            repeated.append(part.frame().filter(keys.is_duplicated()))
    if repeated:
        rows = pl.concat(repeated)
        shown = rows.select(pl.concat_str("item_id", "annotator_id", "variant_id", separator="/")).to_series()
        raise InputError(
            f"{where} has {rows.height} rows that share their (item_id, annotator_id, variant_id): "
            f"{some(shown.unique(maintain_order=True))}. Each may appear once."
        )
