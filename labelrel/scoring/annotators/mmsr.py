"""M-MSR: skills from how often annotators agree, robust to a few who are odd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from labelrel.errors import InputError
from labelrel.plugin import Params
from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.finish import Posterior, finish, likelier_unvoted
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.softmax import uniform_posterior
from labelrel.scoring.annotators.table import Table, read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.encode import Ints
from labelrel.scoring.fitted import Fitted

_WIDEST = 1e6  # skills are at most 1; a factor on its way there may be larger
_MOST_PAIRS = 50_000_000  # of annotators who share items, padded to the most that one has


class MmsrParams(Params):
    """Parameters of M-MSR."""

    iterations: int = Field(10_000, ge=1, description="at most so many rounds")
    tolerance: float = Field(1e-10, ge=0, description="stops when the skills' products change by less (Frobenius norm)")


@annotator_model("mmsr", params=MmsrParams)
def mmsr(inputs: Inputs, params: MmsrParams) -> Fitted:
    """M-MSR: skills s from pairwise agreement, E[(K agree_rt - 1) / (K - 1)] = s_r s_t, trimmed against outliers.

    The products are completed to rank one by turns, s_r = trimmed mean of product_rt / s_t over the
    annotators t that share items with r: the floor(d/2) - 1 largest above and smallest below the
    present s_r are left out, d the fewest such annotators of anyone. s_r < 0 for who contradicts the
    others, as they contradict each other, by more than a standard error. P(right) = s (K - 1) / K + 1 / K, and the
    posterior is that of independent votes with these accuracies, every class alike beforehand: votes
    weigh ln(P (K - 1) / (1 - P)). Of each annotator, `accuracy` is P, null for one who shares no item
    with another and counts like the others' mean.

    Raises:
        InputError: no two annotators share an item, or too many pairs of annotators do.

    Source: Ma & Olshevsky 2020 (arXiv 2010.12181), "Adversarial crowdsourcing through robust rank-one
    matrix completion"; trimming and limits of s as crowd-kit 1.4 `MMSR`, which finds the signs by an
    eigenvector in which annotators without a shared item count as opponents.
    """
    with Lanes() as lanes:
        table = read_table(inputs, lanes)
        pairs = read_pairs(table, lanes)
        possible = table.most_possible
        accuracy = accuracies(pairs, signed(pairs, magnitudes(pairs, params)))
        weight = np.log(accuracy * (possible - 1) / (1 - accuracy))
        posteriors = lanes.map(lambda block: _posterior(block, weight, possible, len(table.classes)), table.blocks)
        rated = table.annotators(accuracy=np.where(pairs.number > 0, accuracy, np.nan))
        return finish(inputs.votes, table, posteriors, rated, lanes)


@dataclass(frozen=True)
class Pairs:
    """How annotators agree with those they share items with: M annotators, at most W others each.

    Attributes:
        other: (M, W) the others; 0 where there are fewer.
        product: (M, W) estimate of the product of both skills; NaN where there are fewer.
        common: (M, W) answer pairs that were compared; 0 where there are fewer.
        number: (M,) others of each annotator.
        num_rows: (M,) answers of each annotator.
        num_items: items.
        possible: K.
    """

    other: Ints
    product: Floats
    common: Floats
    number: Ints
    num_rows: Ints
    num_items: int
    possible: int


def read_pairs(table: Table, lanes: Lanes) -> Pairs:
    """Return how annotators agree.

    Raises:
        InputError: nobody shares an item, or too many do.
    """
    num_raters = len(table.raters)
    meetings = sum(int((block.sizes.astype(np.int64) ** 2).sum()) for block in table.blocks)
    _refuse_many(num_raters, min(num_raters**2, meetings))
    common = _products(table, lanes, "by_item")
    agree = _products(table, lanes, "by_pair")
    number = np.diff(common.indptr).astype(np.int64)
    width = int(number.max(initial=0))
    if width == 0:
        raise InputError(
            "mmsr compares annotators on the items that both answered, and no two annotators share an item; "
            "majority, share and entropy need no comparison."
        )
    _refuse_many(num_raters, num_raters * width)
    rows = np.repeat(np.arange(num_raters), number)
    column = np.arange(len(rows)) - common.indptr[rows]
    agreed = np.zeros(len(rows))  # pairs that never agreed are not in the second product
    keys = rows * num_raters + common.indices
    agreeing = np.repeat(np.arange(num_raters), np.diff(agree.indptr)) * num_raters + agree.indices
    agreed[np.searchsorted(keys, agreeing)] = agree.data
    other = np.zeros((num_raters, width), dtype=np.int64)
    product, weight = np.full((num_raters, width), np.nan), np.zeros((num_raters, width))
    other[rows, column] = common.indices
    product[rows, column] = (agreed / common.data * table.most_possible - 1) / (table.most_possible - 1)
    weight[rows, column] = common.data
    return Pairs(other, product, weight, number, table.num_rows, table.num_answered, table.most_possible)


def _refuse_many(num_raters: int, pairs: int) -> None:
    if pairs > _MOST_PAIRS:
        raise InputError(
            f"mmsr compares all pairs of annotators who share items, and {num_raters} annotators may have {pairs} "
            f"pairs, more than {_MOST_PAIRS}; one_coin, glad, wawa and majority have no such limit."
        )


def _products(table: Table, lanes: Lanes, which: str) -> Any:
    """(M, M) sparse: how many answers of two annotators meet in an item, or in an (item, answer) pair."""
    from scipy.sparse import coo_array, csr_array

    shape = (len(table.raters), len(table.raters))

    def run(blocks: Any) -> Any:
        total = csr_array(shape)
        for block in blocks:
            matrix = getattr(block, which)
            total = total + matrix.T.tocsr() @ matrix
        return total

    total = csr_array(shape)
    for part in lanes.over(run, table.blocks):
        total = total + part
    coo = coo_array(total)
    rows, columns = coo.coords
    apart = rows != columns
    found = csr_array((coo.data[apart], (rows[apart], columns[apart])), shape=shape)
    found.sort_indices()
    return found


def magnitudes(pairs: Pairs, params: MmsrParams, start: Floats | None = None) -> Floats:
    """(M,) |s|, by robust completion of the products to rank one; NaN for an annotator without others.

    Args:
        pairs: the products.
        params: how long and how far.
        start: (M,) where both factors start; None: the same for all.
    """
    size = np.abs(pairs.product)
    trim = max(int(pairs.number[pairs.number > 0].min()) // 2 - 1, 0)
    left = right = np.full(len(size), 0.5) if start is None else start
    for _ in range(params.iterations):
        new_right = _trimmed(size, left[pairs.other], right, trim, pairs)
        new_left = _trimmed(size, new_right[pairs.other], left, trim, pairs)
        moved = _distance(new_left, new_right, left, right)
        left, right = new_left, new_right
        if moved < params.tolerance:
            break
    group = _components(pairs)
    one, two = (np.sqrt(np.bincount(group, side**2))[group] for side in (left, right))
    return np.where(pairs.number > 0, left / np.sqrt(one / np.where(two > 0, two, 1.0)), np.nan)


def _trimmed(size: Floats, divisor: Floats, present: Floats, trim: int, pairs: Pairs) -> Floats:
    """(M,) mean of size / divisor without the `trim` largest above and smallest below the present value."""
    ratio = np.divide(size, divisor, out=np.full(size.shape, np.nan), where=divisor > 0)
    here = ~np.isnan(ratio)
    if trim:
        ratio.sort(axis=1)  # NaN last
        number = here.sum(axis=1)
        low = np.minimum((ratio < present[:, None]).sum(axis=1), trim)
        high = number - np.minimum((ratio > present[:, None]).sum(axis=1), trim)
        place = np.arange(ratio.shape[1])
        here = (place >= low[:, None]) & (place < high[:, None])
    kept = here.sum(axis=1)
    mean = np.where(here, ratio, 0.0).sum(axis=1) / np.maximum(kept, 1)
    # a single product of 0 would take both skills to 0 for good
    mean[(kept == 1) & (mean == 0)] = 1 / np.sqrt(pairs.num_items)
    # products that contradict each other drive skills apart without end
    mean = np.where(mean > 0, np.clip(mean, 1 / _WIDEST, _WIDEST), 0.0)
    return np.where(kept > 0, mean, present)


def _distance(left: Floats, right: Floats, old_left: Floats, old_right: Floats) -> float:
    """Frobenius norm of left right' - old_left old_right', in the span of two vectors rather than as a matrix."""
    _, of_left = np.linalg.qr(np.stack([left, old_left], axis=1))
    _, of_right = np.linalg.qr(np.stack([right, -old_right], axis=1))
    return float(np.linalg.norm(of_left @ of_right.T))


def _components(pairs: Pairs) -> Ints:
    """(M,) which annotators are linked by shared items, directly or through others."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.nonzero(pairs.common)
    shape = (len(pairs.number), len(pairs.number))
    links = csr_array((np.ones(len(rows)), (rows, pairs.other[rows, columns])), shape=shape)
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


_SIDE_ROUNDS = 100


def signed(pairs: Pairs, size: Floats) -> Floats:
    """(M,) s: the magnitudes with the side that each annotator is on.

    All begin on the right side. An annotator is on the wrong one where its products with the others
    contradict their sides by more than a standard error: the sum of n product s over them is below
    -sqrt(sum of n s^2 / (K - 1)), n the answers compared. Repeated until nobody changes sides.
    """
    weight = np.where(pairs.common > 0, pairs.product, 0.0) * pairs.common
    known = np.where(pairs.number > 0, size, 0.0)
    error = np.sqrt((pairs.common * known[pairs.other] ** 2).sum(axis=1) / (pairs.possible - 1))
    side = np.ones(len(size))
    for _ in range(_SIDE_ROUNDS):
        support = (weight * (side * known)[pairs.other]).sum(axis=1)
        new = np.where(support < -error, -1.0, 1.0)
        if np.array_equal(new, side):
            break
        side = new
    return np.asarray(side * size)


def accuracies(pairs: Pairs, skill: Floats) -> Floats:
    """(M,) probability of being right: s away from its limits by 1 / sqrt(items), the mean where s is unknown."""
    possible, slack = pairs.possible, 1 / np.sqrt(pairs.num_items)
    limited = np.maximum(np.minimum(skill, 1 - slack), slack - 1 / (possible - 1))
    known = pairs.number > 0
    limited[~known] = limited[known].mean()
    return np.asarray(limited * (possible - 1) / possible + 1 / possible)


def _posterior(block: Block, weight: Floats, possible: int, num_classes: int) -> Posterior:
    logit = block.by_pair @ weight
    logit += block.votes * np.log((block.possible - 1) / (possible - 1))[block.item]
    probs, unvoted, _ = uniform_posterior(block, logit)
    return Posterior(probs, likelier_unvoted(block, probs, unvoted, np.ones(num_classes)))
