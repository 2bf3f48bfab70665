"""What comes in as numbers becomes a float array that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from labelrel.errors import InputError

Floats = npt.NDArray[np.float64]
Values = npt.ArrayLike | Sequence[float | None]
"""Anything numpy reads as numbers: a list, an array, a polars column. Null and NaN are refused."""


def finite(
    values: Values, name: str, *, ndim: tuple[int, ...] = (1,), of: str = "items", empty: bool = False
) -> Floats:
    """Return `values` as a float array.

    Args:
        values: numbers or booleans, at least one.
        name: what the message calls them.
        ndim: the allowed numbers of dimensions.
        of: what the values are of, for the message.
        empty: whether there may be none.

    Raises:
        InputError: no values where there must be some, another number of dimensions, or a value that is
            missing or not finite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, without nulls; leave {of} without a value out first.") from None
    if array.ndim not in ndim:
        allowed = " or ".join(str(n) for n in ndim)
        raise InputError(f"{name} must have {allowed} dimension{'s' * (ndim != (1,))}, got {array.ndim}.")
    if not array.size and not empty:
        raise InputError(f"{name} is empty; at least one value is needed.")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise InputError(f"{name}: {bad} of {array.size} values are missing or not finite; leave those {of} out first.")
    return array


def unit(values: Values, name: str, *, ndim: tuple[int, ...] = (1,)) -> Floats:
    """Return `values` as a float array within [0, 1].

    Raises:
        InputError: as `finite`, or a value outside [0, 1].
    """
    array = finite(values, name, ndim=ndim)
    outside = array[(array < 0) | (array > 1)]
    if outside.size:
        raise InputError(f"{name} must lie in [0, 1], got {outside[0]:g} ({outside.size} such values).")
    return array


def paired(score: Values, correct: Values) -> tuple[Floats, Floats]:
    """Return a score and the correctness of the same labels, as float arrays of one length.

    Raises:
        InputError: as `finite`, different lengths, or a correctness outside [0, 1].
    """
    scores, hits = finite(score, "score"), unit(correct, "correct")
    if scores.size != hits.size:
        raise InputError(f"score has {scores.size} values but correct has {hits.size}; they belong to the same labels.")
    return scores, hits
