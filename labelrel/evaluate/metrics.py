"""Does a score separate right labels from wrong ones?

`score` is oriented so that higher means more likely right (negate an entropy), `correct` is 1 or 0
per label. Vote scores are heavily tied, so ties have one rule everywhere: the expected value over
a random order inside each tie. It is exact, needs no seed, and does not depend on the order of rows.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from labelrel.arrays import Floats, Values, paired, unit


def accuracy(correct: Values) -> float:
    """Return the share of right labels, in [0, 1].

    Args:
        correct: (N,) booleans or 0/1.

    Raises:
        InputError: no values, or one outside [0, 1].
    """
    return float(unit(correct, "correct").mean())


def pgr(floor: float, ceiling: float, student: float) -> float | None:
    """Return the performance gap recovered, (student - floor) / (ceiling - floor).

    0 is as good as the weak supervisor, 1 as good as training on gold labels; it may lie outside
    [0, 1]. None where the ceiling is not above the floor. `pgr_interval` asks for more: a gap that
    is positive with confidence.

    Source: Burns et al. 2023 (arXiv 2312.09390), section 3.
    """
    gap = ceiling - floor
    return (student - floor) / gap if gap > 0 else None


def auroc(score: Values, correct: Values) -> float | None:
    """Return the probability that a right label scores above a wrong one, ties counted 1/2.

    Args:
        score: (N,) finite numbers, higher = more likely right.
        correct: (N,) booleans or 0/1.

    Returns:
        A number in [0, 1], .5 for a score that says nothing; None where all labels are right or
        all are wrong.

    Raises:
        InputError: different lengths, or a value that is missing or not finite.

    Source: Mann & Whitney 1947; Hanley & McNeil 1982.
    """
    scores, hits = paired(score, correct)
    _, group, size = np.unique(scores, return_inverse=True, return_counts=True)
    right = np.bincount(group, weights=hits)
    wrong = size - right
    pairs = right.sum() * wrong.sum()
    if pairs == 0:
        return None
    wrong_below = np.cumsum(wrong) - wrong
    return float((right * (wrong_below + wrong / 2)).sum() / pairs)


def risk_coverage(score: Values, correct: Values) -> pl.DataFrame:
    """Return what each threshold keeps and how wrong that is; ties are kept whole.

    Args:
        score: (N,) finite numbers, higher = more likely right.
        correct: (N,) booleans or 0/1.

    Returns:
        One row per distinct score, highest first: `threshold` (keep `score >= threshold`),
        `num_kept`, `coverage` in (0, 1], `accuracy` of the kept and `risk` = 1 - accuracy.

    Raises:
        InputError: different lengths, or a value that is missing or not finite.

    Source: El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification".
    """
    scores, hits = paired(score, correct)
    threshold, group, size = np.unique(-scores, return_inverse=True, return_counts=True)
    kept = np.cumsum(size)
    right = np.cumsum(np.bincount(group, weights=hits))
    return pl.DataFrame(
        {
            "threshold": -threshold,
            "num_kept": kept.astype(np.int64),
            "coverage": kept / scores.size,
            "accuracy": right / kept,
            "risk": 1 - right / kept,
        }
    )


def aurc(score: Values, correct: Values) -> float:
    """Return the area under the risk-coverage curve: the mean over k of the risk of the best k labels.

    Args:
        score: (N,) finite numbers, higher = more likely right.
        correct: (N,) booleans or 0/1.

    Returns:
        A number in [0, 1], lower is better.

    Raises:
        InputError: different lengths, or a value that is missing or not finite.

    Source: Geifman, Uziel & El-Yaniv 2019 (arXiv 1805.08206).
    """
    return _mean_risk(_expected_errors(*paired(score, correct)))


def e_aurc(score: Values, correct: Values) -> float:
    """Return the AURC minus that of a perfect ranking of the same labels, at least 0, lower is better.

    Args:
        score: (N,) finite numbers, higher = more likely right.
        correct: (N,) booleans or 0/1.

    Raises:
        InputError: different lengths, or a value that is missing or not finite.

    Source: Geifman, Uziel & El-Yaniv 2019 (arXiv 1805.08206).
    """
    scores, hits = paired(score, correct)
    perfect = np.cumsum(np.sort(1 - hits))
    return _mean_risk(_expected_errors(scores, hits)) - _mean_risk(perfect)


def augrc(score: Values, correct: Values) -> float:
    """Return the area under the generalised risk: the mean over k of (errors among the best k) / N.

    Unlike AURC it does not weigh the first few labels most, so rankings by it are steadier.

    Args:
        score: (N,) finite numbers, higher = more likely right.
        correct: (N,) booleans or 0/1.

    Returns:
        A number in [0, 1/2] plus at most 1/(2N), lower is better.

    Raises:
        InputError: different lengths, or a value that is missing or not finite.

    Source: Traub et al. 2024 (arXiv 2407.01032).
    """
    errors = _expected_errors(*paired(score, correct))
    return float(errors.mean() / errors.size)


def _expected_errors(score: Floats, correct: Floats) -> Floats:
    """Errors expected among the best k labels, k = 1..N, (N,): inside a tie each has the tie's mean."""
    _, group, size = np.unique(-score, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=1 - correct) / size
    return np.cumsum(np.repeat(wrong, size))


def _mean_risk(errors: Floats) -> float:
    return float((errors / np.arange(1, errors.size + 1)).mean())
