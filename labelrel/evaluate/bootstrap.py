"""Intervals by the percentile bootstrap; the unit that is drawn is the item, never the answer.

Every array is correctness (or another number) per test item: `(items,)` for one run, or
`(seeds, items)` for several runs on the same items. Items are drawn jointly for everything that is
compared, since the same hard questions are hard for all; seeds are drawn per run set, since a run
with another seed is another draw of the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from labelrel.arrays import Floats, Values, finite
from labelrel.errors import InputError

_CELLS_AT_ONCE = 4_000_000  # resamples x items held in memory together, 32 MB of float64


@dataclass(frozen=True)
class Interval:
    """A number and how far it may be from what more items would show.

    Attributes:
        value: the estimate on all items; None where it is not defined.
        low: lower end; None where `value` is.
        high: upper end; None where `value` is.
        n: number of items it rests on.
        num_undefined: resamples in which the number did not exist (PGR without a gap); they are
            left out of the percentiles.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    num_undefined: int = 0


def interval(values: Values, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return the mean over items with its percentile bootstrap interval.

    Args:
        values: (items,) or (seeds, items), for example correctness.
        confidence: level of the two-sided interval, in (0, 1).
        resamples: number of bootstrap draws.
        seed: of the draws.

    Raises:
        InputError: no values, one that is not finite, or an impossible confidence or resamples.

    Source: Efron 1979; Efron & Tibshirani 1993, chapter 13 (percentile interval).
    """
    (runs,) = _runs(values=values)
    (means,) = _resampled_means([runs], resamples, seed)
    return _around(float(runs.mean()), means, confidence, runs.shape[1])


def paired_difference(
    first: Values, second: Values, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return mean(first) - mean(second) on the same items, with its interval.

    Pairing is what makes it sharp: the difficulty of the items cancels. Methods differ beyond
    chance where the interval leaves 0 out.

    Args:
        first: (items,) or (seeds, items).
        second: the same items in the same order; its number of seeds may differ.
        confidence: level of the two-sided interval, in (0, 1).
        resamples: number of bootstrap draws.
        seed: of the draws.

    Raises:
        InputError: different numbers of items, a value that is not finite, or impossible settings.

    Source: Efron & Tibshirani 1993, chapter 8; Koehn 2004 (paired bootstrap for comparisons).
    """
    runs = _runs(first=first, second=second)
    a, b = _resampled_means(runs, resamples, seed)
    return _around(float(runs[0].mean() - runs[1].mean()), a - b, confidence, runs[0].shape[1])


def pgr_interval(
    floor: Values, ceiling: Values, student: Values, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the performance gap recovered with its interval, items drawn jointly for all three.

    A ratio with a denominator near 0 has no useful interval (Fieller 1954). So PGR is undefined,
    `value` None, unless the `confidence` interval of ceiling - floor lies above 0. Where it is
    defined, the few resamples whose gap is not positive are left out of the percentiles and
    counted in `num_undefined`; where that count is not small, read the ends as too narrow.

    Args:
        floor: (items,) or (seeds, items) correctness of the weak supervisor.
        ceiling: the strong model trained on gold labels, on the same items.
        student: the strong model trained on weak labels, on the same items.
        confidence: level of the two-sided interval, in (0, 1).
        resamples: number of bootstrap draws.
        seed: of the draws.

    Raises:
        InputError: different numbers of items, a value that is not finite, or impossible settings.

    Source: PGR: Burns et al. 2023 (arXiv 2312.09390), section 3; joint bootstrap: Efron &
    Tibshirani 1993, chapter 8.
    """
    runs = _runs(floor=floor, ceiling=ceiling, student=student)
    low, high, reached = _resampled_means(runs, resamples, seed)
    gap, n = high - low, runs[0].shape[1]
    undefined = int(np.count_nonzero(gap <= 0))
    base, top, got = (float(r.mean()) for r in runs)
    if top <= base or _ends(gap, confidence)[0] <= 0:
        return Interval(None, None, None, n, undefined)
    defined = gap > 0
    ratios = (reached[defined] - low[defined]) / gap[defined]
    return _around((got - base) / (top - base), ratios, confidence, n, undefined)


def _around(value: float, draws: Floats, confidence: float, n: int, undefined: int = 0) -> Interval:
    low, high = _ends(draws, confidence)
    return Interval(value, low, high, n, undefined)


def _ends(draws: Floats, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie in (0, 1), got {confidence:g}.")
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _runs(**named: Values) -> list[Floats]:
    """Return each argument as (seeds, items), all with the same items."""
    arrays = {name: np.atleast_2d(finite(values, name, ndim=(1, 2))) for name, values in named.items()}
    sizes = {name: array.shape[1] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"a paired comparison needs the same items in the same order, got numbers of items: {told}.")
    return list(arrays.values())


def _resampled_means(runs: list[Floats], resamples: int, seed: int) -> list[Floats]:
    """Return per run set the (resamples,) means over drawn items and drawn seeds."""
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, got {resamples}.")
    rng = np.random.default_rng(seed)
    parts: list[list[Floats]] = [[] for _ in runs]
    num_items = runs[0].shape[1]
    for counts in _item_counts(num_items, resamples, rng):
        for part, run in zip(parts, runs, strict=True):
            per_seed = counts @ run.T / num_items  # (chunk, seeds): mean over the drawn items, per training seed
            drawn = rng.integers(run.shape[0], size=per_seed.shape)
            part.append(np.take_along_axis(per_seed, drawn, axis=1).mean(axis=1))
    return [np.concatenate(part) for part in parts]


def _item_counts(num_items: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield (chunk, items): how often each item was drawn in each resample."""
    chunk = max(1, _CELLS_AT_ONCE // num_items)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(num_items, size=(size, num_items))
        cells = drawn + np.arange(size)[:, None] * num_items
        counts = np.bincount(cells.ravel(), minlength=size * num_items)
        yield counts.reshape(size, num_items).astype(np.float64)
