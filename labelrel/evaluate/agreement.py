"""How far answers to the same item agree: beyond chance for a table, and one group against the rest.

Everything is computed from sparse counts of (item, answer), never from an item x annotator matrix, so
that a million items and a hundred thousand distinct answers are an ordinary case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from labelrel.arrays import Floats
from labelrel.errors import InputError
from labelrel.evaluate.bootstrap import Interval

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer[Any]]

_CELLS_AT_ONCE = 1_000_000  # resamples x (patterns or answers) held together: what a processor's cache can take
_TABLE_CELLS = 4_000_000  # groups x answers up to which two distributions are compared
_LEAST_EXPECTED = 5  # below it a chi-square statistic does not follow its distribution (Cochran 1954)


@dataclass(frozen=True)
class Cells:
    """Votes per (item, distinct answer), P cells: items ascending, the most votes first within an item.

    Attributes:
        item: (P,) index of the item; one that nobody answered has no cell.
        answer: (P,) code of the answer, from 0.
        count: (P,) votes, at least 1.
    """

    item: Codes
    answer: Codes
    count: Codes

    @cached_property
    def starts(self) -> Ints:
        """(N,) first cell of every item that has one."""
        return np.flatnonzero(np.diff(self.item, prepend=-1))

    @cached_property
    def sizes(self) -> Ints:
        """(N,) distinct answers of each of those items."""
        return np.diff(np.append(self.starts, len(self.item)))

    @cached_property
    def row(self) -> Ints:
        """(P,) which of those items the cell belongs to, 0..N-1."""
        return np.repeat(np.arange(len(self.starts)), self.sizes)

    @cached_property
    def votes(self) -> Ints:
        """(N,) answers of each of those items."""
        return self.per_item(self.count)

    @cached_property
    def equals(self) -> Ints:
        """(P,) how many cells of the same item have the same number of votes, the cell itself included."""
        level = np.flatnonzero(np.diff(self.row, prepend=-1) | np.diff(self.count, prepend=-1))
        length = np.diff(np.append(level, len(self.row)))
        return np.repeat(length, length)

    @cached_property
    def num_codes(self) -> int:
        """One more than the largest answer code."""
        return int(self.answer.max(initial=-1)) + 1

    def per_item(self, values: Codes) -> Ints:
        """(N,) sum of a whole number per cell over the cells of each item."""
        return np.add.reduceat(values.astype(np.int64), self.starts) if len(self.starts) else np.zeros(0, np.int64)


def agreement(
    cells: Cells, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval | None]:
    """Return observed agreement, Fleiss' kappa and Krippendorff's alpha, with bootstrap intervals over items.

    With r_ic answers c among the r_i of item i, over items with two answers or more:

    - `observed`: mean over items of the share of agreeing pairs, sum_c r_ic (r_ic - 1) / (r_i (r_i - 1)).
    - `fleiss_kappa`: (observed - P_e) / (1 - P_e), P_e = sum_c p_c^2, p_c the mean over all items of
      r_ic / r_i. This is Gwet's generalisation to unequal numbers of answers: every item counts
      the same, and items with one answer tell of the marginals only. With equal numbers it is Fleiss'.
    - `krippendorff_alpha`: 1 - D_o / D_e for nominal data, from the coincidences
      o_cc = sum_i r_ic (r_ic - 1) / (r_i - 1) and n_c = sum_i r_ic, both over items with two answers or
      more: D_o = 1 - sum_c o_cc / n, D_e = 1 - sum_c n_c (n_c - 1) / (n (n - 1)). Every answer counts
      the same.

    Args:
        cells: the votes.
        confidence: level of the two-sided percentile intervals, in (0, 1).
        resamples: number of bootstrap draws of items.
        seed: of the draws.

    Returns:
        Name → interval, `n` the items with two answers or more; None where no item has two, and for
        kappa and alpha where there is one distinct answer, since nothing can be had beyond chance.
        Ends are None where no draw of items has the number.

    Raises:
        InputError: an impossible confidence or number of resamples.

    Source: Fleiss 1971; Gwet 2014, Handbook of Inter-Rater Reliability (4th ed.), chapter 2; Krippendorff
    2011, Computing Krippendorff's Alpha-Reliability, section C; Efron & Tibshirani 1993, chapter 13.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie in (0, 1), got {confidence:g}.")
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, got {resamples}.")
    patterns = _Patterns.of(cells)
    whole = patterns.coefficients(patterns.times[:, None].astype(np.float64))
    rng = np.random.default_rng(seed)
    draws = np.concatenate([patterns.coefficients(w) for w in patterns.weights(resamples, rng)], axis=1)
    tail = (1 - confidence) / 2
    found: dict[str, Interval | None] = {}
    for name, (value,), drawn in zip(("observed", "fleiss_kappa", "krippendorff_alpha"), whole, draws, strict=True):
        if np.isnan(value):
            found[name] = None
            continue
        defined = drawn[~np.isnan(drawn)]
        low, high = map(float, np.quantile(defined, [tail, 1 - tail])) if defined.size else (None, None)
        pairable = int(np.count_nonzero(cells.votes >= 2))
        found[name] = Interval(float(value), low, high, pairable, resamples - defined.size)
    return found


@dataclass(frozen=True)
class _Patterns:
    """Items with the same votes as one, U patterns: a resample is a weight per pattern.

    Attributes:
        times: (U,) items that have the pattern.
        votes: (U,) answers of one such item.
        agreeing: (U,) ordered pairs of equal answers in it.
        counts: (V, U) sparse, r_ic.
    """

    times: Ints
    votes: Ints
    agreeing: Ints
    counts: Any

    @cached_property
    def equal(self) -> bool:
        """Whether all items have the same number of answers, at least two."""
        return len(self.votes) > 0 and int(self.votes.min()) == int(self.votes.max()) >= 2

    @classmethod
    def of(cls, cells: Cells) -> _Patterns:
        from scipy.sparse import csr_array

        # a sum of stirred 64-bit numbers does not depend on the order of an item's cells
        stirred = _stir(cells.answer.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + cells.count.astype(np.uint64))
        key = np.add.reduceat(stirred, cells.starts) if len(cells.starts) else stirred
        _, first, times = np.unique(key, return_index=True, return_counts=True)
        order = np.argsort(first)  # by appearance: nothing may depend on the hash
        first, times = first[order], times[order].astype(np.int64)
        column = np.full(len(cells.starts), -1)
        column[first] = np.arange(len(first))
        mine = column[cells.row] >= 0
        place = (cells.answer[mine], column[cells.row[mine]])
        shape = (max(cells.num_codes, 1), len(first))
        agreeing = cells.per_item(cells.count.astype(np.int64) * (cells.count - 1))
        counts = csr_array((cells.count[mine].astype(np.float64), place), shape=shape)
        return cls(times, cells.votes[first], agreeing[first], counts)

    def weights(self, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
        """Yield (U, chunk): how often each pattern was drawn in each resample."""
        size, total = len(self.times), int(self.times.sum())
        chunk = max(1, _CELLS_AT_ONCE // max(*self.counts.shape, total if 8 * size > total else 1))
        owner = np.repeat(np.arange(size), self.times)
        for start in range(0, resamples, chunk):
            width = min(chunk, resamples - start)
            if not total:
                yield np.zeros((size, width))
            elif 8 * size > total:  # few items share a pattern: drawing items costs less than a multinomial of them
                drawn = owner[rng.integers(total, size=(width, total))] * width + np.arange(width)[:, None]
                yield np.bincount(drawn.ravel(), minlength=size * width).reshape(size, width).astype(np.float64)
            else:
                yield rng.multinomial(total, self.times / total, size=width).T.astype(np.float64)

    def coefficients(self, weight: Floats) -> Floats:
        """Return (3, B) observed agreement, kappa and alpha under (U, B) weights; NaN where not defined."""
        pairs = self.votes >= 2
        votes = self.votes.astype(np.float64)
        share = np.where(pairs, self.agreeing / np.maximum(votes * (votes - 1), 1), 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            observed = share @ weight / (pairs @ weight)
            answered = self.counts @ (weight * pairs[:, None])
            squares = np.square(answered).sum(axis=0)
            total = (votes * pairs) @ weight
            by_item = answered / votes[0] if self.equal else self.counts @ (weight / votes[:, None])
            marginal = by_item / weight.sum(axis=0)
            chance = np.square(marginal).sum(axis=0)
            kappa = np.where(1 - chance > 1e-12, (observed - chance) / (1 - chance), np.nan)
            disagreeing = total - (share * votes) @ weight  # sum_c o_cc is an item's share of agreeing pairs times r_i
            alpha = 1 - (total - 1) * disagreeing / np.where(total**2 > squares, total**2 - squares, np.nan)
        return np.stack([observed, kappa, alpha])


def _stir(key: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(key ^ (key >> np.uint64(31)), dtype=np.uint64)


@dataclass(frozen=True)
class AgainstRest:
    """Groups of answers (of an annotator, of a query variant), each against the rest on the same items.

    G groups, V answer codes. An item counts for a group where somebody outside the group answered it.

    Attributes:
        answers: (G,) answers of the group.
        decided: (G,) items where one answer has the most votes of the rest.
        undecided: (G,) items where several answers share them; they cannot be agreed with.
        agreeing: (G,) over the decided items, sum of the share of the group's answers that are the
            rest's; at most `decided`.
        given: (G, V) how often the group gave each answer, on items that count; None where G x V is
            too large to be a table.
        expected: (G, V) how often it would have, answering as the rest did; None as `given`.
        variance: (G, V) of `given` - `expected`, if the group answered as the rest did; None as `given`.
    """

    answers: Ints
    decided: Ints
    undecided: Ints
    agreeing: Floats
    given: Floats | None
    expected: Floats | None
    variance: Floats | None


def against_rest(cells: Cells, item: Codes, answer: Codes, group: Codes, num_groups: int) -> AgainstRest:
    """Compare each group's answers with the majority and the distribution of the answers outside it.

    The group's own answers are taken out first (leave-one-out), all of them where it gave an item
    several. The work is in the order of the number of answers, whatever the number of groups.

    Args:
        cells: the votes of all groups together.
        item: (R,) item of every answer, as in `cells`; no abstentions.
        answer: (R,) its code, as in `cells`.
        group: (R,) 0..num_groups-1.
        num_groups: G.
    """
    cell, own_group, own = _own_cells(cells, item, answer, group, num_groups)
    row = cells.row[cell]
    heads = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(own_group, prepend=-1))
    sizes = np.diff(np.append(heads, len(cell)))
    pair = np.repeat(np.arange(len(heads)), sizes)  # the (item, group) of every own cell
    pair_row, pair_group = row[heads], own_group[heads]
    mine = _sum(own, heads)
    rest = cells.count[cell] - own
    # the rest's favourite among answers that the group did not give: an item's cells stand by descending
    # votes and own cells here in the same order, so it is the first place that no own cell takes
    taken = _sum(cell - cells.starts[row] == np.arange(len(cell)) - heads[pair], heads)
    there = taken < cells.sizes[pair_row]
    place = np.where(there, cells.starts[pair_row] + taken, 0)
    foreign = np.where(there, cells.count[place], 0)
    ties = np.where(there, cells.equals[place] - _sum(cells.count[cell] == foreign[pair], heads), 0)
    top = np.maximum(foreign, np.maximum.reduceat(rest, heads)) if len(heads) else foreign
    at_top = rest == top[pair]
    favourites = _sum(at_top, heads) + np.where(foreign == top, ties, 0)
    counts, decided = top > 0, (top > 0) & (favourites == 1)
    agreeing = np.where(decided, _sum(own * at_top, heads) / mine, 0.0)
    tables = _tables(cells, cell, own_group, own, pair, (pair_row, pair_group, mine), counts, num_groups)
    return AgainstRest(
        np.bincount(pair_group, weights=mine, minlength=num_groups).astype(np.int64),
        np.bincount(pair_group[decided], minlength=num_groups),
        np.bincount(pair_group[counts & ~decided], minlength=num_groups),
        np.bincount(pair_group, weights=agreeing, minlength=num_groups).astype(np.float64),
        *tables,
    )


def _own_cells(cells: Cells, item: Codes, answer: Codes, group: Codes, num_groups: int) -> tuple[Ints, Ints, Ints]:
    """Return cell, group and number of answers per (item, group, answer), ordered by item, group and cell."""
    key = cells.item.astype(np.int64) * cells.num_codes + cells.answer
    order = np.argsort(key)
    cell = order[np.searchsorted(key[order], item.astype(np.int64) * cells.num_codes + answer)]
    own_key, own = np.unique(cell.astype(np.int64) * num_groups + group, return_counts=True)
    cell, own_group = np.divmod(own_key, num_groups)
    order = np.lexsort((cell, own_group, cells.row[cell]))
    return cell[order], own_group[order], own[order].astype(np.int64)


def _sum(values: npt.NDArray[Any], heads: Ints) -> Ints:
    return np.add.reduceat(values.astype(np.int64), heads) if len(heads) else np.zeros(0, np.int64)


def _tables(
    cells: Cells,
    cell: Ints,
    own_group: Ints,
    own: Ints,
    pair: Ints,
    pairs: tuple[Ints, Ints, Ints],
    counts: npt.NDArray[np.bool_],
    num_groups: int,
) -> tuple[Floats | None, Floats | None, Floats | None]:
    """Return `given`, `expected` and `variance` of `AgainstRest`."""
    from scipy.sparse import csr_array

    if num_groups * cells.num_codes > _TABLE_CELLS:
        return None, None, None
    shape = (num_groups, cells.num_codes)
    row, group, mine = (array[counts] for array in pairs)
    votes = cells.votes[row].astype(np.float64)
    per_vote = np.zeros(len(counts))
    per_vote[counts] = mine / (votes - mine)
    place = (own_group, cells.answer[cell])
    used = counts[pair].astype(np.float64)
    given = csr_array((own * used, place), shape=shape).toarray()
    items = (num_groups, len(cells.starts))
    weight = csr_array((per_vote[counts], (group, row)), shape=items)
    by_item = (len(cells.starts), cells.num_codes)
    all_votes = csr_array((cells.count.astype(np.float64), (cells.row, cells.answer)), shape=by_item)
    own_share = csr_array((own * per_vote[pair], place), shape=shape)
    expected = (weight @ all_votes).toarray() - own_share.toarray()
    # both the group and the rest are draws from the item's distribution, whose p (1 - p) is estimated without bias
    factor = csr_array((mine * (1 + mine / (votes - mine)) * votes / (votes - 1), (group, row)), shape=items)
    share = cells.count / cells.votes[cells.row]
    spread = csr_array((share * (1 - share), (cells.row, cells.answer)), shape=by_item)
    return given, np.maximum(expected, 0), (factor @ spread).toarray()


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Wilson's interval of a proportion, None where n is 0.

    Source: Wilson 1927; Brown, Cai & DasGupta 2001 (which interval to take for small n).
    """
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def uniform_fit(counts: Codes) -> tuple[float, float] | None:
    """Return Pearson's chi-square of (K,) counts against equal ones and its p-value.

    None with fewer than 5 expected per class, where the statistic does not follow its distribution,
    and with one class.

    Source: Pearson 1900; the bound of 5: Cochran 1954.
    """
    from scipy.special import chdtrc

    classes, expected = len(counts), float(counts.sum()) / max(len(counts), 1)
    if classes < 2 or expected < _LEAST_EXPECTED:
        return None
    statistic = float(np.square(counts - expected).sum() / expected)
    return statistic, float(chdtrc(classes - 1, statistic))
