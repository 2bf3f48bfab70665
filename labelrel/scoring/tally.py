"""Answers → votes: one row per item and distinct answer, and which of them is the weak label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.scoring.encode import ABSTAINED, Codes, Ints, Votes, texts
from labelrel.scoring.hashing import stable_hash

Protocol = Literal["default", "paper"]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_Number = TypeVar("_Number", np.float64, np.int64)

_DECIMALS = 12
"""Equal vote patterns must give equal numbers, since a threshold such as "entropy at most the median"
falls on ties. Sums of floating-point numbers depend in their last bit on the order of the terms, so
what is summed is rounded to 12 decimals."""

_DENSE = 64  # counters per row that a table of all (item, answer) cells may take


@dataclass(frozen=True)
class Tally:
    """Votes per (item, distinct answer), P rows: items in order, then descending votes, then answer.

    Attributes:
        votes: what was counted.
        item: (P,) index of the item.
        answer: (P,) code of the answer; `ABSTAINED` for "no answer".
        num_votes: (P,) votes for the answer; 0 on the one row of an item without a counted answer.
        num_answers: (P,) counted answers of the item.
        starts: (N,) first row of every item; each has at least one.
        pair: (P,) position of the row among all parsed (item, answer) pairs in ascending order;
            -1 where the answer is `ABSTAINED`.
        tie: (P,) whether several answers share the item's most votes.
        weak_label: (P,) whether it is the answer kept; one per item with a counted answer.
    """

    votes: Votes
    item: Codes
    answer: Codes
    num_votes: Ints
    num_answers: Ints
    starts: Ints
    pair: Ints
    tie: Flags
    weak_label: Flags

    @property
    def share(self) -> Floats:
        """(P,) votes / counted answers, in (0, 1]; NaN without a counted answer."""
        return np.where(self.num_votes > 0, self.num_votes / np.maximum(self.num_answers, 1), np.nan)

    def entropy(self) -> Floats:
        """(P,) entropy of the item's vote shares in nats, on each of its rows; NaN without a counted answer."""
        share = self.share
        total = np.abs(self.sum(share * np.log(share)))
        return self.spread(np.asarray(np.round(total, _DECIMALS), dtype=np.float64))

    def reliability(self, temperature: float | Literal["auto"]) -> Floats:
        """(P,) softmax of the item's vote shares over its distinct observed answers; NaN without one.

        "auto" takes T = 1 / n, which turns the exponent into the raw count, as the paper's 0.2 does for
        five; for two answers, where the paper takes 1, any T gives the same.
        """
        share = self.share
        scale = 1 / np.maximum(self.num_answers, 1) if temperature == "auto" else temperature
        # shifted by the largest share, which cancels, so that a small temperature cannot overflow
        power = np.exp((share - self.spread(share[self.starts])) / scale)
        return np.asarray(np.round(power / self.spread(self.sum(power)), _DECIMALS))

    def distinct(self) -> Ints:
        """(P,) number of distinct counted answers of the item."""
        return self.spread(np.add.reduceat((self.num_votes > 0).astype(np.int64), self.starts))

    def second(self) -> Ints:
        """(P,) votes for the item's runner-up, 0 where there is none."""
        after = np.append(self.num_votes, 0)[self.starts + 1]
        last = np.append(self.starts[1:], len(self.item)) == self.starts + 1
        return self.spread(np.where(last, 0, after).astype(np.int64))

    def sum(self, values: Floats) -> Floats:
        """(N,) sum of a number per row over the rows of every item."""
        return np.add.reduceat(values, self.starts)

    def spread(self, values: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
        """(P,) a number per item on every row of the item."""
        return values[self.item]

    def frame(self) -> pl.DataFrame:
        """Return it as `tally_votes` describes."""
        return pl.DataFrame(
            [
                self.votes.item_ids.gather(self.item).alias("item_id"),
                texts(self.votes.answers, self.answer).alias("answer"),
                pl.Series("num_votes", self.num_votes),
                pl.Series("num_answers", self.num_answers),
                pl.Series("share", self.share, nan_to_null=True),
                pl.Series("tie", self.tie),
                pl.Series("weak_label", self.weak_label),
            ]
        )


def tally_votes(answers: pl.DataFrame, *, protocol: Protocol = "default") -> pl.DataFrame:
    """Count the votes of every item.

    The weak label is the answer with most votes. A tie goes to the answer with the smallest hash
    of (item, answer): the same under any order of rows, and no answer is favoured over the table,
    as "0" would be by the alphabet.

    Args:
        answers: an answers table; null = abstained or unparsable.
        protocol: `default` counts parsed answers only. `paper` counts "no answer" as one more
            answer, as the published code does for multiple choice: it gets votes, a share, and
            can be the weak label, with `answer` null.

    Returns:
        One row per (item, distinct answer): items by first appearance, then by descending votes,
        then by answer.

        - `item_id`, `answer`: an item without a parsed answer keeps one row with null
          (in `default`), `num_votes` 0, `share` null and `weak_label` false.
        - `num_votes`, `num_answers`: votes for the answer, and counted answers of the item.
        - `share`: votes / counted answers, in (0, 1].
        - `tie`: whether several answers share the most votes; one value per item.
        - `weak_label`: true on one row of every item with a counted answer.

    Source: majority vote; its use for weak labels as in Guo & Yang 2024 (arXiv 2406.19032).
    """
    from labelrel.scoring.frames import read_answers

    return count_votes(read_answers(answers), protocol).frame()


def count_votes(votes: Votes, protocol: Protocol = "default") -> Tally:
    """Count the votes of every item, as `tally_votes` describes."""
    item, answer, number = _cells(votes, protocol)
    parsed = np.cumsum(answer >= 0) - 1
    pair = np.where(answer >= 0, parsed, -1)
    counted = np.bincount(item, weights=number, minlength=votes.num_items).astype(np.int64)
    silent = np.flatnonzero(counted == 0).astype(np.int32)
    if len(silent):
        item = np.concatenate([item, silent])
        answer = np.concatenate([answer, np.full(len(silent), ABSTAINED, np.int32)])
        number = np.concatenate([number, np.zeros(len(silent), np.int64)])
        pair = np.concatenate([pair, np.full(len(silent), -1)])
    most = int(number.max(initial=0))
    # answers ascend within an item already, "no answer" before them: a stable sort keeps that but for nulls
    behind = (answer == ABSTAINED).astype(np.int64)
    order = np.argsort(((item * np.int64(most + 1)) + (most - number)) * 2 + behind, kind="stable")
    item, answer, number, pair = item[order], answer[order], number[order], pair[order]
    starts = np.flatnonzero(np.diff(item, prepend=-1))
    top = (number == number[starts][item]) & (number > 0)
    tie = (np.add.reduceat(top.astype(np.int64), starts) > 1)[item]
    weak = top & ~tie
    tied = np.flatnonzero(top & tie)
    if len(tied):
        weak[tied[_first_by_hash(votes, item[tied], answer[tied])]] = True
    return Tally(votes, item, answer, number, counted[item], starts, pair, tie, weak)


def _cells(votes: Votes, protocol: Protocol) -> tuple[Codes, Codes, Ints]:
    """Return item, answer and votes of every (item, distinct counted answer), ascending."""
    size = len(votes.answers) + 1  # and "no answer", which is counted as code 0
    key = votes.item * np.int64(size) + (votes.answer + 1)
    if protocol == "default" and len(votes.answer) and int(votes.answer.min()) < 0:
        key = key[votes.answer >= 0]
    if votes.num_items * size <= _DENSE * max(len(key), 1):
        counts = np.bincount(key, minlength=votes.num_items * size)
        key = np.flatnonzero(counts)
        number = counts[key]
    else:
        key, number = np.unique(key, return_counts=True)
    return (key // size).astype(np.int32), (key % size - 1).astype(np.int32), number.astype(np.int64)


def _first_by_hash(votes: Votes, item: Codes, answer: Codes) -> Ints:
    """Return, of rows grouped by item, the position of each item's row with the smallest hash of (item, answer)."""
    names = texts(votes.answers, answer).fill_null("\x00")
    text = pl.select(pl.concat_str(pl.lit(votes.item_ids.gather(item)), pl.lit("\x1f"), pl.lit(names))).to_series()
    order = np.lexsort((answer, stable_hash(text), item))
    return order[np.flatnonzero(np.diff(item[order], prepend=-1))]
