"""The votes of a table → the blocks that models of the annotators are fitted to, gold labels in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.scoring.annotators.blocks import Block, Floats, Gold, offsets_of
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.base import Inputs
from labelrel.scoring.encode import Codes, Ints, Votes, pieces

BLOCK_ROWS = 1 << 17
"""Rows of a block: what is computed for it stays in the cache, and one call of numpy costs little against its work."""

_BITMAP = 1 << 24  # (annotator, answer) cells that are marked in a bitmap rather than sorted
_NO_GOLD = -1


@dataclass(frozen=True)
class Cells:
    """The (annotator, answer) cells in use, C of them, ascending.

    Attributes:
        rater: (C,) annotator of each cell.
        answer: (C,) answer of each cell.
        starts: (B,) first cell of every annotator that has any, ascending.
    """

    rater: Ints
    answer: Ints
    starts: Ints

    @classmethod
    def of_keys(cls, keys: Ints, num_answers: int) -> Cells:
        """Return the cells of distinct ascending keys annotator * num_answers + answer."""
        rater = keys // max(num_answers, 1)
        return cls(rater, keys % max(num_answers, 1), np.flatnonzero(np.diff(rater, prepend=-1)))


@dataclass(frozen=True)
class Table:
    """The answered items, the annotators and the classes of one call.

    Attributes:
        num_items: N, unanswered items included.
        blocks: the answered items, in order.
        raters: (M,) names of the annotators.
        num_rows: (M,) answers of each, abstentions left out.
        classes: (V,) text of the classes: the votes' answers, then gold labels that nobody gave.
        cells: the (annotator, answer) cells that the blocks' `index` names; None: it names annotators.
    """

    num_items: int
    blocks: list[Block]
    raters: pl.Series
    num_rows: Ints
    classes: pl.Series
    cells: Cells | None

    @property
    def total(self) -> int:
        """Number of rows of all blocks."""
        return int(self.num_rows.sum())

    @property
    def num_answered(self) -> int:
        """Number of items of all blocks."""
        return sum(block.num_items for block in self.blocks)

    @cached_property
    def most_possible(self) -> int:
        """The most possible answers of any item, at least 2."""
        return max((int(block.possible.max()) for block in self.blocks), default=2)

    def annotators(self, **columns: Floats) -> pl.DataFrame:
        """Return what a model learnt, one row per annotator; null for one that never answered."""
        silent = self.num_rows == 0
        learnt = [pl.Series(name, np.where(silent, np.nan, v), nan_to_null=True) for name, v in columns.items()]
        return pl.DataFrame([self.raters.alias("annotator"), pl.Series("num_answers", self.num_rows), *learnt])


def read_table(inputs: Inputs, lanes: Lanes, *, use_cells: bool = False, rows: int = BLOCK_ROWS) -> Table:
    """Return the answers as blocks.

    Args:
        inputs: the table.
        lanes: where the work is done.
        use_cells: whether rows name (annotator, answer) cells instead of annotators.
        rows: about how many rows a block has; a block holds whole items.
    """
    votes = inputs.votes
    codes, raters = votes.raters
    spans = pieces(votes, rows)
    gold, classes = _gold(inputs)
    index = _Cells(votes, codes, len(raters), lanes) if use_cells else None
    longest = max((int(votes.offsets[stop] - votes.offsets[start]) for start, stop in spans), default=0)
    possible = None if inputs.items is None else inputs.num_classes
    build = _Builder(inputs, codes, len(raters), len(classes), possible, gold, index, np.ones(longest))
    parts = lanes.over(build.blocks, spans)
    return Table(
        num_items=votes.num_items,
        blocks=[block for blocks, _ in parts for block in blocks],
        raters=raters,
        num_rows=np.sum([number for _, number in parts], axis=0, dtype=np.int64),
        classes=classes,
        cells=index.cells if index else None,
    )


class _Cells:
    """Finds the cells in use and the number of each."""

    def __init__(self, votes: Votes, codes: Codes, num_raters: int, lanes: Lanes) -> None:
        self._answers = len(votes.answers)
        self._rank: Codes | None = None
        spans = pieces(votes)
        if num_raters * self._answers <= _BITMAP:
            used = np.zeros(num_raters * self._answers, dtype=bool)

            def mark(span: tuple[int, int]) -> None:
                used[self._keys(votes, codes, span)] = True

            lanes.map(mark, spans)
            self._there = np.flatnonzero(used)
            self._rank = np.cumsum(used, dtype=np.int32) - np.int32(1)
        else:
            distinct = lanes.map(lambda span: np.unique(self._keys(votes, codes, span)), spans)
            self._there = np.unique(np.concatenate(distinct))
        self.cells = Cells.of_keys(self._there, self._answers)

    def _keys(self, votes: Votes, codes: Codes, span: tuple[int, int]) -> Ints:
        part = slice(int(votes.offsets[span[0]]), int(votes.offsets[span[1]]))
        keys = codes[part] * np.int64(self._answers) + votes.answer[part]
        return keys[votes.answer[part] >= 0]

    def number(self, rater: Codes, answer: Codes) -> Codes:
        """(R,) the cell of each row."""
        keys = rater * np.int64(self._answers) + answer
        return self._rank[keys] if self._rank is not None else np.searchsorted(self._there, keys).astype(np.int32)


@dataclass(frozen=True)
class _Builder:
    inputs: Inputs
    codes: Codes
    num_raters: int
    num_classes: int
    num_possible: Ints | None
    gold: Codes | None
    index: _Cells | None
    ones: Floats

    def blocks(self, spans: Sequence[tuple[int, int]]) -> tuple[list[Block], Ints]:
        """Return the blocks of some spans of items, and how many rows each annotator has in them."""
        blocks, number = [], np.zeros(self.num_raters, dtype=np.int64)
        for start, stop in spans:
            block, rater = self.block(start, stop)
            if len(rater):
                blocks.append(block)
                number += np.bincount(rater, minlength=self.num_raters)
        return blocks, number

    def block(self, start: int, stop: int) -> tuple[Block, Codes]:
        """Return the block of items start..stop-1 and the annotator of each of its rows."""
        item, answer, rater, pair_rows = self._sorted(start, stop)
        head = np.flatnonzero(np.diff(item, prepend=-1))
        pairs = np.append(head, len(item)).astype(np.int32)
        items = item[head] + start
        block = Block(
            items=items,
            index=rater if self.index is None else self.index.number(rater, np.repeat(answer, np.diff(pair_rows))),
            rows=pair_rows[pairs],
            pairs=pairs,
            pair_rows=pair_rows,
            answer=answer,
            possible=self._possible(items, np.diff(pairs)),
            gold=self._gold_of(items, pairs, answer),
            width=self.num_raters if self.index is None else len(self.index.cells.rater),
            ones=self.ones,
        )
        return block, rater

    def _sorted(self, start: int, stop: int) -> tuple[Ints, Codes, Codes, Codes]:
        """Return item and answer of every pair, the annotator of every row, and where the rows of each pair begin."""
        votes = self.inputs.votes
        low, high = int(votes.offsets[start]), int(votes.offsets[stop])
        answer, rater = votes.answer[low:high], self.codes[low:high]
        item = np.repeat(np.arange(stop - start), np.diff(votes.offsets[start : stop + 1]))
        if len(answer) and int(answer.min()) < 0:
            parsed = answer >= 0
            item, answer, rater = item[parsed], answer[parsed], rater[parsed]
        of_answer, of_rater = max(self.num_classes - 1, 0).bit_length(), max(self.num_raters - 1, 0).bit_length()
        if (stop - start).bit_length() + of_answer + of_rater < 64:  # one number per row sorts fastest
            key = ((item << of_answer | answer) << of_rater) | rater
            key.sort()
            rater = (key & ((1 << of_rater) - 1)).astype(np.int32)
            pair = key >> of_rater
            head = np.flatnonzero(np.diff(pair, prepend=-1))
            pair = pair[head]
            item, answer = pair >> of_answer, (pair & ((1 << of_answer) - 1)).astype(np.int32)
        else:
            order = np.lexsort((rater, answer, item))
            item, answer, rater = item[order], answer[order], rater[order]
            head = np.flatnonzero(np.diff(item, prepend=-1) | np.diff(answer, prepend=-1))
            item, answer = item[head], answer[head]
        return item, answer, rater, np.append(head, len(rater)).astype(np.int32)

    def _possible(self, items: Ints, distinct: npt.NDArray[np.integer]) -> Ints:
        if self.num_possible is not None:
            return self.num_possible[items]
        known = self.inputs.choices or self.num_classes
        return np.asarray(np.maximum(max(known, 2), distinct), dtype=np.int64)

    def _gold_of(self, items: Ints, pairs: Codes, answer: Codes) -> Gold:
        if self.gold is None:
            return Gold(*(np.empty(0, np.int64) for _ in range(3)))
        of_item = self.gold[items]
        item = np.flatnonzero(of_item != _NO_GOLD)
        code = of_item[item].astype(np.int64)
        pair = np.full(len(item), -1, dtype=np.int64)
        run = offsets_of(np.diff(pairs)[item])
        place = np.repeat(pairs[item] - run[:-1], np.diff(run)) + np.arange(run[-1])
        of_gold = np.repeat(np.arange(len(item)), np.diff(run))
        hit = answer[place] == code[of_gold]
        pair[of_gold[hit]] = place[hit]
        return Gold(item, code, pair)


def _gold(inputs: Inputs) -> tuple[Codes | None, pl.Series]:
    """Return the class of every item's gold label, and the classes; a label that nobody gave is one more class."""
    answers, item_ids = inputs.votes.answers.alias("gold_label"), inputs.votes.item_ids.alias("item_id")
    if inputs.gold is None:
        return None, answers
    where = item_ids.to_frame().with_row_index("place")
    known = inputs.gold.join(where, on="item_id").sort("place")
    classes = pl.concat([answers, known["gold_label"]]).unique(maintain_order=True)
    numbered = classes.to_frame().with_row_index("code")
    code = known.join(numbered, on="gold_label", how="left", maintain_order="left")["code"].to_numpy()
    gold = np.full(len(item_ids), _NO_GOLD, dtype=np.int32)
    gold[known["place"].to_numpy()] = code
    return gold, classes
