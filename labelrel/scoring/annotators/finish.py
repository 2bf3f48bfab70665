"""Posteriors of pairs → what a fit hands over: the likeliest label of every item, ties broken fairly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.table import Table
from labelrel.scoring.encode import ABSTAINED, Codes, Ints, Votes, texts
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.hashing import stable_hash

DECIMALS = 9
"""Posteriors are rounded: sums of floating-point numbers depend in their last bits on the order of items,
and what is equal but for those is a tie."""

_LOOKED_AT = 64  # unvoted classes that may be an item's label: those with the largest prior


@dataclass(frozen=True)
class Unvoted:
    """Classes that nobody gave an item, U of them: item within the block, class, and posterior."""

    item: Ints
    code: Ints
    prob: Floats


@dataclass(frozen=True)
class Posterior:
    """What a model says of a block.

    Attributes:
        probs: (P,) posterior of every pair.
        unvoted: classes without a vote that are likelier than the item's voted ones.
    """

    probs: Floats
    unvoted: Unvoted


NOBODY = Unvoted(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
"""No unvoted class."""


def rounded(probs: Floats) -> Floats:
    """Return probabilities without the digits that depend on the order of sums, within [0, 1]."""
    return np.clip(np.round(probs, DECIMALS), 0.0, 1.0)


def likelier_unvoted(block: Block, probs: Floats, factor: Floats, weight: Floats) -> Unvoted:
    """Return the classes without a vote that are likelier than all voted ones of their item.

    Args:
        block: the items.
        probs: (P,) posterior of every pair.
        factor: (A,) and
        weight: (V,): the posterior of a class without a vote is factor of the item * weight of the class.
    """
    gold = block.gold
    nobody_gave = gold.pair < 0
    pinned = Unvoted(gold.item[nobody_gave], gold.code[nobody_gave], np.ones(int(nobody_gave.sum())))
    seen = block.most(rounded(probs))
    beaten = np.round(factor * weight.max(initial=0.0), DECIMALS) > seen
    beaten[gold.item] = False
    beaten &= block.possible >= len(weight)  # where not every class can be, nobody says which
    item = np.flatnonzero(beaten)
    if not len(item):
        return pinned
    top = np.argsort(-weight, kind="stable")[: max(_LOOKED_AT, int(block.distinct[item].max()) + 1)]
    prob = factor[item, None] * weight[top]
    column = np.full(len(weight), -1)
    column[top] = np.arange(len(top))
    line = np.full(block.num_items, -1)
    line[item] = np.arange(len(item))
    voted = (line[block.item] >= 0) & (column[block.answer] >= 0)
    prob[line[block.item[voted]], column[block.answer[voted]]] = -1.0
    at, place = np.nonzero(np.round(prob, DECIMALS) > seen[item, None])
    return Unvoted(
        np.concatenate([pinned.item, item[at]]),
        np.concatenate([pinned.code, top[place]]),
        np.concatenate([pinned.prob, prob[at, place]]),
    )


def finish(
    votes: Votes, table: Table, posteriors: Sequence[Posterior], annotators: pl.DataFrame, lanes: Lanes
) -> Fitted:
    """Return the fit of all items.

    The label is the likeliest class, to 9 decimals; of equals the one with most votes; of those the
    one with the smallest hash of (item, answer), as in the tally: the same under any order of rows,
    and no class is favoured.

    Args:
        votes: the votes.
        table: the same as blocks.
        posteriors: one per block.
        annotators: what was learnt of them.
        lanes: where the work is done.
    """
    done = lanes.map(lambda pair: _label(votes, table.classes, *pair), list(zip(table.blocks, posteriors, strict=True)))
    pairs = np.zeros(table.num_items + 1, dtype=np.int64)
    best = np.full(table.num_items, ABSTAINED, dtype=np.int32)
    best_prob = np.full(table.num_items, np.nan)
    for block, (_, code, prob) in zip(table.blocks, done, strict=True):
        pairs[block.items + 1] = block.distinct
        best[block.items] = code
        best_prob[block.items] = prob
    return Fitted(
        offsets=np.cumsum(pairs),
        probs=np.concatenate([probs for probs, _, _ in done]) if done else np.empty(0),
        best=best,
        best_prob=best_prob,
        classes=table.classes,
        annotators=annotators,
    )


def _label(votes: Votes, classes: pl.Series, block: Block, posterior: Posterior) -> tuple[Floats, Codes, Floats]:
    probs = rounded(posterior.probs)
    most = block.most(probs)
    top = probs == most[block.item]
    place = np.flatnonzero(top)
    number = np.bincount(block.item[place], minlength=block.num_items)
    best = np.empty(block.num_items, dtype=np.int32)
    best[block.item[place]] = block.answer[place]
    tied = place[number[block.item[place]] > 1]
    if len(tied):
        item, code = block.item[tied], block.answer[tied]
        best[item] = _fair(votes, classes, block, item, code, block.votes[tied])[item]
    unvoted = posterior.unvoted
    if len(unvoted.item):
        prob = rounded(unvoted.prob)
        np.maximum.at(most, unvoted.item, prob)
        leading = prob == most[unvoted.item]
        item, code = unvoted.item[leading], unvoted.code[leading]
        best[item] = _fair(votes, classes, block, item, code, np.zeros(len(item)))[item]
    return probs, best, most


def _fair(
    votes: Votes,
    classes: pl.Series,
    block: Block,
    item: npt.NDArray[np.integer],
    code: npt.NDArray[np.integer],
    number: npt.NDArray[np.number],
) -> Codes:
    """(A,) of classes that are equally likely, the one with most votes, then the smallest hash."""
    ids = votes.item_ids.gather(block.items[item])
    text = pl.select(pl.concat_str(pl.lit(ids), pl.lit("\x1f"), pl.lit(texts(classes, code)))).to_series()
    order = np.lexsort((code, stable_hash(text), -number, item))
    first = order[np.flatnonzero(np.diff(item[order], prepend=-1))]
    best = np.full(block.num_items, ABSTAINED, dtype=np.int32)
    best[item[first]] = code[first]
    return best
