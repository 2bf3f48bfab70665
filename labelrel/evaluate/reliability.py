"""Every metric of one score at once, each with its bootstrap interval; the unit that is drawn is the item.

A metric needs no more than how many labels of each distinct score are right and wrong, so labels are
counted into groups first, a resample is a vector of counts, and all resamples are one array at a time.
Ties follow the rule of `metrics`: the expected value over a random order inside each tie.

Leave out every label that the score, or the probability, was fitted on: nothing measured on those is a
measurement. A calibrated probability has to come out of fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.arrays import Floats, Values, paired
from labelrel.errors import InputError
from labelrel.evaluate.bootstrap import Interval
from labelrel.evaluate.calibration import brier, ece
from labelrel.evaluate.metrics import accuracy, augrc, aurc, auroc, e_aurc, risk_coverage

Ints = npt.NDArray[np.int64]

_CELLS_AT_ONCE = 200_000  # resamples x groups held together: small, so that all passes stay in the cache
_NUM_BINS = 10
_NUM_POINTS = 20
_MOST_GROUPS = 2048


def reliability_metrics(
    score: Values,
    correct: Values,
    *,
    probability: Values | None = None,
    items: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return how well a score tells right labels from wrong ones, with percentile bootstrap intervals.

    The value is that of the function of the same name in `labelrel.evaluate`. An ECE is never below 0
    and grows with noise, so that of a resample tends to exceed that of the labels: read its upper end.
    Of more than 2048 distinct scores or probabilities, neighbours are one tie in the resamples (not in
    the value), and what that changes in the value is added back to every draw.

    Args:
        score: (N,) finite numbers, higher = more likely right; of labels that it was not fitted on.
        correct: (N,) booleans or 0/1.
        probability: (N,) in [0, 1], that the label is right, not fitted on these labels either.
        items: (N,) the item of each label, whose labels are drawn together; null: one label per item.
        confidence: level of the two-sided intervals, in (0, 1).
        resamples: number of bootstrap draws, the same for all metrics.
        seed: of the draws.

    Returns:
        `accuracy, auroc, aurc, e_aurc, augrc`, and with a probability `brier`, `ece` (10 bins of equal
        width) and `ece_mass` (10 bins of about equal size). AUROC is not defined, `value` None, where all
        labels are right or all are wrong; resamples like that are counted in `num_undefined`.

    Raises:
        InputError: different lengths, a value that is missing or not finite, a correctness other than
            0 or 1, a probability outside [0, 1], or impossible settings.

    Source: Efron & Tibshirani 1993, chapter 13; the metrics: see `labelrel.evaluate.metrics`.
    """
    _check(confidence, resamples)
    scores, hits = _checked(score, correct)
    stated = None if probability is None else paired(probability, hits)[0]
    values: dict[str, float | None] = {
        "accuracy": accuracy(hits),
        "auroc": auroc(scores, hits),
        "aurc": aurc(scores, hits),
        "e_aurc": e_aurc(scores, hits),
        "augrc": augrc(scores, hits),
    }
    if stated is not None:
        values["brier"] = brier(stated, hits)
        values["ece"] = ece(stated, hits, num_bins=_NUM_BINS)
        values["ece_mass"] = ece(stated, hits, num_bins=_NUM_BINS, binning="mass")
    sample = _Sample.of(_coarse(scores), hits, None if stated is None else _coarse(stated), items)
    by_score = sample.grouping(sample.score)
    by_probability = None if sample.probability is None else sample.grouping(sample.probability)

    def measure(weights: Floats) -> dict[str, Floats]:
        found = _ranking(*by_score.counts(weights))
        if by_probability is not None:
            found |= _calibration(*by_probability.counts(weights), by_probability.values)
        return found

    grouped = measure(sample.kinds[None].astype(np.float64))
    draws = [measure(weights) for weights in sample.draws(resamples, seed)]
    found = {}
    for name, value in values.items():
        # what grouping neighbours changed, a rounding error where it changed nothing
        shift = 0.0 if value is None else value - grouped[name][0]
        around = np.concatenate([draw[name] for draw in draws]) + shift
        found[name] = _interval(value, around, confidence, sample.num_items)
    return found


def risk_coverage_interval(
    score: Values,
    correct: Values,
    *,
    items: Iterable[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """Return what thresholds keep and how wrong that is, with the interval of each risk.

    An interval holds for one threshold fixed in advance, and where no kept label is wrong it has no width;
    to choose a threshold by its risk take the bound of the target-accuracy rule instead.

    Args:
        score: (N,) finite numbers, higher = more likely right; of labels that it was not fitted on.
        correct: (N,) booleans or 0/1.
        items: (N,) the item of each label, whose labels are drawn together; null: one label per item.
        confidence: level of the two-sided intervals, in (0, 1).
        resamples: number of bootstrap draws.
        seed: of the draws.

    Returns:
        At most 20 rows, the highest threshold first, ties kept whole: `coverage` in (0, 1], `num_labels`
        kept, their `risk` = 1 - accuracy, its `low` and `high` end, and `threshold` (keep `score >=
        threshold`). All thresholds where there are at most 20, otherwise those of coverages spread evenly.
        `low` and `high` are null where no resample keeps a label.

    Raises:
        InputError: as `reliability_metrics`.

    Source: El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification".
    """
    _check(confidence, resamples)
    scores, hits = _checked(score, correct)
    curve = risk_coverage(scores, hits)
    if curve.height > _NUM_POINTS:
        wanted = np.arange(1, _NUM_POINTS + 1) / _NUM_POINTS
        curve = curve[np.unique(np.searchsorted(curve["coverage"].to_numpy(), wanted - 1e-12))]
    thresholds = curve["threshold"].to_numpy()
    band = np.searchsorted(-thresholds, -scores).astype(np.float64)  # of the first threshold that keeps the label
    sample = _Sample.of(band, hits, None, items)
    grouping = sample.grouping(sample.score)
    parts = []
    for weights in sample.draws(resamples, seed):
        right, size = (np.cumsum(count, axis=1) for count in grouping.counts(weights))
        with np.errstate(invalid="ignore"):  # 0 / 0: this resample keeps nothing
            parts.append(1 - right / size)
    risks = np.concatenate(parts)
    ends = [_interval(value, risks[:, i], confidence, sample.num_items) for i, value in enumerate(curve["risk"])]
    return curve.select(
        "coverage",
        pl.col("num_kept").alias("num_labels"),
        "risk",
        pl.Series("low", [end.low for end in ends], pl.Float64),
        pl.Series("high", [end.high for end in ends], pl.Float64),
        "threshold",
    )


@dataclass(frozen=True)
class _Grouping:
    """Labels by the distinct values of one number: G groups of R rows.

    Attributes:
        values: (G,) ascending.
        starts: (G,) first row of each group.
        unit: (R,) what is drawn for the row to be there; None where row i is unit i.
        right: (R,) right labels that one draw of the unit brings.
        size: (R,) labels that it brings; None where it is one each.
    """

    values: Floats
    starts: Ints
    unit: Ints | None
    right: Floats
    size: Floats | None

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return right labels and labels per group, (resamples, G) each, of (resamples, U) draws."""
        rows = weights if self.unit is None else weights[:, self.unit]
        right, size = rows * self.right, rows if self.size is None else rows * self.size
        if self.starts.size == rows.shape[1]:
            return right, size
        return np.add.reduceat(right, self.starts, axis=1), np.add.reduceat(size, self.starts, axis=1)


@dataclass(frozen=True)
class _Sample:
    """Labels as rows that hold all equal ones, and the units that are drawn: U kinds of items.

    Attributes:
        kinds: (U,) how many items are alike.
        unit: (R,) the kind of item that a row belongs to.
        score: (R,) ascending.
        probability: (R,), or None.
        right: (R,) right labels of the row per item.
        size: (R,) labels of the row per item.
    """

    kinds: Ints
    unit: Ints
    score: Floats
    probability: Floats | None
    right: Floats
    size: Floats

    @classmethod
    def of(cls, score: Floats, correct: Floats, probability: Floats | None, items: Iterable[Any] | None) -> _Sample:
        """Count equal labels; without `items` those are items that are alike."""
        columns = {"score": score, "correct": correct}
        if probability is not None:
            columns["probability"] = probability
        frame = pl.DataFrame(columns)
        if items is not None:
            frame = frame.with_columns(_item_codes(items, frame.height))
        keys = frame.columns
        rows = frame.group_by(keys).len().sort(keys)  # sorted: the draws do not depend on the order of labels
        size = rows["len"].to_numpy().astype(np.float64)
        if items is None:
            unit, kinds, size = np.arange(rows.height), rows["len"].to_numpy().astype(np.int64), np.ones(rows.height)
        else:
            unit = rows["item"].to_numpy().astype(np.int64)
            kinds = np.ones(int(unit.max()) + 1, dtype=np.int64)
        return cls(
            kinds=kinds,
            unit=unit,
            score=rows["score"].to_numpy(),
            probability=None if probability is None else rows["probability"].to_numpy(),
            right=rows["correct"].to_numpy() * size,
            size=size,
        )

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return int(self.kinds.sum())

    def grouping(self, values: Floats) -> _Grouping:
        """Return the rows grouped by a number, (R,)."""
        order = np.argsort(values, kind="stable")
        distinct, starts = np.unique(values[order], return_index=True)
        unit, size = self.unit[order], self.size[order]
        return _Grouping(
            values=distinct,
            starts=starts,
            unit=None if np.array_equal(unit, np.arange(self.kinds.size)) else unit,
            right=self.right[order],
            size=None if (size == 1).all() else size,
        )

    def draws(self, resamples: int, seed: int) -> Iterator[Floats]:
        """Yield (some resamples, U): how often each kind of item was drawn, as many items as there are."""
        rng, num_items, num_kinds = np.random.default_rng(seed), self.num_items, self.kinds.size
        # one binomial per kind costs as much as about twenty drawn items
        tied = num_kinds * 20 < num_items
        chunk = max(1, _CELLS_AT_ONCE // (self.unit.size if tied else max(self.unit.size, num_items)))
        of_item = np.repeat(np.arange(num_kinds), self.kinds)
        for start in range(0, resamples, chunk):
            size = min(chunk, resamples - start)
            if tied:
                yield rng.multinomial(num_items, self.kinds / num_items, size=size).astype(np.float64)
                continue
            drawn = of_item[rng.integers(num_items, size=(size, num_items))]
            cells = (drawn + np.arange(size)[:, None] * num_kinds).ravel()
            yield np.bincount(cells, minlength=size * num_kinds).reshape(size, num_kinds).astype(np.float64)


def _coarse(values: Floats) -> Floats:
    """Return the values, where too many are distinct those of a neighbour: about equal groups, ties kept whole."""
    distinct, group, size = np.unique(values, return_inverse=True, return_counts=True)
    if distinct.size <= _MOST_GROUPS:
        return values
    middle = (np.cumsum(size) - size / 2) / values.size
    _, first, bins, width = np.unique(
        (middle * _MOST_GROUPS).astype(np.int64), return_index=True, return_inverse=True, return_counts=True
    )
    return np.asarray(distinct[(first + width // 2)[bins]][group])


def _ranking(right: Floats, size: Floats) -> dict[str, Floats]:
    """Return what `metrics` computes, (resamples,) each, from counts per distinct score, (resamples, G)."""
    wrong = size - right
    below = np.cumsum(size, axis=1)  # labels at or below a group
    total = below[:, -1]
    num_wrong = wrong.sum(axis=1)
    num_right = total - num_wrong
    # sum of (labels below a wrong one + half of its tie): counts pairs wrong-wrong and wrong-right
    pairs = np.einsum("ij,ij->i", wrong, below - size / 2)
    with np.errstate(invalid="ignore"):  # 0 / 0: all right or all wrong
        separated = 1 - (pairs - num_wrong**2 / 2) / (num_right * num_wrong)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(total.max()) + 1))])
    above = total[:, None] - below
    errors_above = num_wrong[:, None] - np.cumsum(wrong, axis=1)
    rate = np.divide(wrong, size, out=np.zeros_like(size), where=size > 0)
    # inside a tie the k-th risk is rate + (errors above - rate · labels above) / k
    steps = harmonic[(above + size).astype(np.int64)] - harmonic[above.astype(np.int64)]
    area = (num_wrong + np.einsum("ij,ij->i", errors_above - rate * above, steps)) / total
    top = harmonic[total.astype(np.int64)] - harmonic[num_right.astype(np.int64)]
    perfect = (num_wrong - num_right * top) / total
    return {
        "accuracy": num_right / total,
        "auroc": separated,
        "aurc": area,
        "e_aurc": area - perfect,
        "augrc": (pairs + num_wrong / 2) / total**2,
    }


def _calibration(right: Floats, size: Floats, probability: Floats) -> dict[str, Floats]:
    """Return what `calibration` computes, (resamples,) each, from counts per distinct probability."""
    total = size.sum(axis=1)
    gap = right - probability * size
    squared = right @ (1 - 2 * probability) + size @ probability**2
    width = np.minimum((probability * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    by_width = np.add.reduceat(gap, np.unique(width, return_index=True)[1], axis=1)
    middle = (np.cumsum(size, axis=1) - size / 2) / total[:, None]
    mass = np.minimum((middle * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    cells = (mass + np.arange(len(mass))[:, None] * _NUM_BINS).ravel()
    by_mass = np.bincount(cells, weights=gap.ravel(), minlength=len(mass) * _NUM_BINS).reshape(-1, _NUM_BINS)
    return {
        "brier": squared / total,
        "ece": np.abs(by_width).sum(axis=1) / total,
        "ece_mass": np.abs(by_mass).sum(axis=1) / total,
    }


def _interval(value: float | None, draws: Floats, confidence: float, n: int) -> Interval:
    defined = draws[~np.isnan(draws)]
    undefined = draws.size - defined.size
    if value is None or not defined.size:
        return Interval(value, None, None, n, undefined)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n, undefined)


def _item_codes(items: Iterable[Any], num_labels: int) -> pl.Series:
    """Return the item of each label as 0, 1, ... in the order of their names."""
    names = pl.Series("item", items)
    if len(names) != num_labels:
        raise InputError(f"items has {len(names)} values but score has {num_labels}; they belong to the same labels.")
    if names.null_count():
        raise InputError(f"items: {names.null_count()} of {num_labels} labels have no item; leave them out first.")
    return (names.rank("dense") - 1).alias("item")


def _checked(score: Values, correct: Values) -> tuple[Floats, Floats]:
    scores, hits = paired(score, correct)
    between = hits[(hits != 0) & (hits != 1)]
    if between.size:
        raise InputError(f"correct must be 0 or 1, got {between[0]:g} ({between.size} such values).")
    return scores, hits


def _check(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie in (0, 1), got {confidence:g}.")
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, got {resamples}.")
