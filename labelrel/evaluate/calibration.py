"""Is a score a probability? Compare what it says with how often it is right."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from labelrel.arrays import Floats, Values, paired
from labelrel.errors import InputError

Binning = Literal["width", "mass"]


def brier(probability: Values, correct: Values) -> float:
    """Return the mean squared distance between a probability and what happened, in [0, 1].

    Args:
        probability: (N,) in [0, 1], that the label is right.
        correct: (N,) booleans or 0/1.

    Raises:
        InputError: different lengths, or a value that is missing or outside [0, 1].

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".
    """
    stated, hits = _stated(probability, correct)
    return float(np.square(stated - hits).mean())


def ece(probability: Values, correct: Values, *, num_bins: int = 10, binning: Binning = "width") -> float:
    """Return the expected calibration error: |accuracy - probability| per bin, weighted by bin size.

    Args:
        probability: (N,) in [0, 1], that the label is right.
        correct: (N,) booleans or 0/1.
        num_bins: number of bins, at least 1.
        binning: `width`, bins of equal width; `mass`, bins of about equal size, ties kept whole.

    Returns:
        A number in [0, 1], 0 is calibrated. It depends on the bins: look at `calibration_bins` too.

    Raises:
        InputError: different lengths, a value outside [0, 1], an unknown binning or no bins.

    Source: Naeini, Cooper & Hauskrecht 2015 (AAAI); equal mass: Nguyen & O'Connor 2015.
    """
    bins = calibration_bins(probability, correct, num_bins=num_bins, binning=binning)
    gap = (pl.col("accuracy") - pl.col("probability")).abs() * pl.col("num_labels")
    return float(bins.select(gap.sum() / pl.col("num_labels").sum()).item())


def calibration_bins(
    probability: Values, correct: Values, *, num_bins: int = 10, binning: Binning = "width"
) -> pl.DataFrame:
    """Return the reliability diagram's numbers, one row per bin that holds a label.

    Args:
        probability: (N,) in [0, 1], that the label is right.
        correct: (N,) booleans or 0/1.
        num_bins: number of bins, at least 1.
        binning: `width` or `mass`, as in `ece`.

    Returns:
        `bin` (from 0, lowest probabilities first), `num_labels`, `probability` (their mean) and
        `accuracy`.

    Raises:
        InputError: different lengths, a value outside [0, 1], an unknown binning or no bins.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 2.
    """
    stated, hits = _stated(probability, correct)
    if num_bins < 1:
        raise InputError(f"num_bins must be at least 1, got {num_bins}.")
    if binning == "width":
        position = stated
    elif binning == "mass":
        position = _middle_rank(stated)
    else:
        raise InputError(f"unknown binning {binning!r}; allowed: width, mass.")
    bins = np.minimum((position * num_bins).astype(np.int64), num_bins - 1)
    size = np.bincount(bins, minlength=num_bins)
    used = np.flatnonzero(size)
    return pl.DataFrame(
        {
            "bin": used,
            "num_labels": size[used],
            "probability": np.bincount(bins, weights=stated, minlength=num_bins)[used] / size[used],
            "accuracy": np.bincount(bins, weights=hits, minlength=num_bins)[used] / size[used],
        }
    )


def _middle_rank(values: Floats) -> Floats:
    """Rank of each value in (0, 1), the same for equal values, so that a tie never straddles two bins."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(size) - size
    return np.asarray((below + size / 2)[group] / values.size)


def _stated(probability: Values, correct: Values) -> tuple[Floats, Floats]:
    stated, hits = paired(probability, correct)
    outside = stated[(stated < 0) | (stated > 1)]
    if outside.size:
        raise InputError(f"probability must lie in [0, 1], got {outside[0]:g} ({outside.size} such values).")
    return stated, hits
