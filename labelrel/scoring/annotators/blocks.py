"""The answers as every model of the annotators reads them: blocks of items that fit a processor's cache.

Within an item rows are sorted by answer and annotator, whatever order they came in, so an
(item, answer) pair is a run of rows and sums do not depend on the order of the table's rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from labelrel.scoring.encode import Codes, Ints

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Gold:
    """The gold labels of some items of a block, G of them.

    Attributes:
        item: (G,) index of the item within the block, ascending.
        code: (G,) class.
        pair: (G,) the item's pair of that answer, -1 where nobody gave it.
    """

    item: Ints
    code: Ints
    pair: Ints


@dataclass(frozen=True)
class Block:
    """Consecutive answered items: A items, R rows, P (item, answer) pairs. Abstentions are left out.

    Attributes:
        items: (A,) the items' indices in the table.
        index: (R,) the column of every row: its annotator, or its (annotator, answer) cell.
        rows: (A + 1,) the rows of item i are rows[i]:rows[i + 1].
        pairs: (A + 1,) the pairs of item i are pairs[i]:pairs[i + 1], answers ascending.
        pair_rows: (P + 1,) the rows of pair j are pair_rows[j]:pair_rows[j + 1].
        answer: (P,) code of the pair's answer.
        possible: (A,) number of possible answers of the item.
        gold: the gold labels.
        width: number of columns that `index` may name.
        ones: at least R ones, the same array in all blocks: the data of every sparse matrix here.
    """

    items: Ints
    index: Codes
    rows: Codes
    pairs: Codes
    pair_rows: Codes
    answer: Codes
    possible: Ints
    gold: Gold
    width: int
    ones: Floats

    @property
    def num_items(self) -> int:
        """A."""
        return len(self.items)

    @property
    def votes(self) -> Codes:
        """(P,) rows of each pair."""
        return np.diff(self.pair_rows)

    @property
    def distinct(self) -> Codes:
        """(A,) pairs of each item."""
        return np.diff(self.pairs)

    @property
    def sizes(self) -> Codes:
        """(A,) rows of each item."""
        return np.diff(self.rows)

    @cached_property
    def item(self) -> Codes:
        """(P,) item of each pair, within the block."""
        return np.repeat(np.arange(self.num_items, dtype=np.int32), self.distinct)

    @cached_property
    def by_item(self) -> Any:
        """(A, width) sparse: how many of the item's rows are in each column."""
        return self._sums(self.rows, self.index, self.width)

    @cached_property
    def by_pair(self) -> Any:
        """(P, width) sparse: how many of the pair's rows are in each column."""
        return self._sums(self.pair_rows, self.index, self.width)

    @cached_property
    def pairs_of_item(self) -> Any:
        """(A, P) sparse: sums a number per pair over the item's pairs."""
        return self._sums(self.pairs, np.arange(len(self.answer), dtype=np.int32), len(self.answer))

    @cached_property
    def rows_of_item(self) -> Any:
        """(A, R) sparse: sums a number per row over the item's rows."""
        return self._sums(self.rows, np.arange(len(self.index), dtype=np.int32), len(self.index))

    def shares(self) -> Floats:
        """(P,) share of the item's votes."""
        return self.votes / self.sizes[self.item]

    def most(self, values: Floats) -> Floats:
        """(A,) the largest of a number per pair over the item's pairs."""
        return np.maximum.reduceat(values, self.pairs[:-1])

    def pin(self, probs: Floats) -> None:
        """Set the posterior of pairs, (P,), where gold says what it is."""
        if len(self.gold.item):
            pinned = np.zeros(self.num_items, dtype=bool)
            pinned[self.gold.item] = True
            probs[pinned[self.item]] = 0.0
            probs[self.gold.pair[self.gold.pair >= 0]] = 1.0

    def _sums(self, offsets: Codes, columns: Codes, width: int) -> Any:
        from scipy.sparse import csr_array

        return csr_array((self.ones[: len(columns)], columns, offsets), shape=(len(offsets) - 1, width), copy=False)

    def subset(self, keep: Flags) -> Block:
        """Return the block of some of the items, (A,) true."""
        place = np.cumsum(keep) - 1
        of_pair = keep[self.item]
        of_row = np.repeat(of_pair, self.votes)
        gold = keep[self.gold.item]
        pair_place = np.append(np.cumsum(of_pair) - 1, -1)  # where -1 looks
        return Block(
            items=self.items[keep],
            index=self.index[of_row],
            rows=offsets_of(self.sizes[keep]),
            pairs=offsets_of(self.distinct[keep]),
            pair_rows=offsets_of(self.votes[of_pair]),
            answer=self.answer[of_pair],
            possible=self.possible[keep],
            gold=Gold(place[self.gold.item[gold]], self.gold.code[gold], pair_place[self.gold.pair[gold]]),
            width=self.width,
            ones=self.ones,
        )


def offsets_of(sizes: npt.NDArray[np.integer]) -> Codes:
    """Return where runs of these sizes start, and behind the last where it ends."""
    return np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes, dtype=np.int32)])
