"""A fit that sees the items in the order of their ids, whatever order they came in.

Sums of floating-point numbers depend in their last bits on the order of the terms. Expectation-
maximisation forgets that; an optimiser's path may not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from labelrel.scoring.base import Inputs
from labelrel.scoring.encode import Ints, Votes
from labelrel.scoring.fitted import Fitted


def in_order_of_ids(inputs: Inputs, fit: Callable[[Inputs], Fitted]) -> Fitted:
    """Return the fit of the items sorted by id, put back in the table's order."""
    order = inputs.votes.item_ids.arg_sort().to_numpy().astype(np.int64)
    fitted = fit(replace(inputs, votes=_reordered(inputs.votes, order)))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    pairs, offsets = _runs(fitted.offsets, place)
    return replace(
        fitted, offsets=offsets, probs=fitted.probs[pairs], best=fitted.best[place], best_prob=fitted.best_prob[place]
    )


def _reordered(votes: Votes, order: Ints) -> Votes:
    rows, offsets = _runs(votes.offsets, order)
    return replace(
        votes,
        item_ids=votes.item_ids.gather(order),
        offsets=offsets,
        annotator=votes.annotator[rows],
        variant=None if votes.variant is None else votes.variant[rows],
        answer=votes.answer[rows],
        extra=pl.DataFrame(),  # no fit reads it
    )


def _runs(offsets: Ints, order: Ints) -> tuple[Ints, Ints]:
    """Return the places of the runs in another order, and the offsets of that order."""
    sizes = np.diff(offsets)[order]
    new = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    return np.arange(new[-1]) + np.repeat(offsets[:-1][order] - new[:-1], sizes), new
