"""Columns of log-probabilities as checked arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.errors import InputError, some
from labelrel.scoring.encode import Codes, Ints

Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-3
"""How far probabilities of one row may sum away from 1, and a log-probability may be above 0: models that
compute in half precision write such numbers."""

_DECIMALS = 12  # see tally.py: sums must not depend on the order of rows


@dataclass(frozen=True)
class ChoiceProbs:
    """Probabilities of the choices, of the L rows that have them, one row after the other.

    Attributes:
        row: (L,) number of the row in the table.
        item: (L,) item of the row.
        size: (L,) number of choices, the same on all rows of an item.
        start: (L,) where the row's probabilities start in `probs`.
        probs: in [0, 1], those of a row sum to 1.
    """

    row: Ints
    item: Ints
    size: Ints
    start: Ints
    probs: Floats


def choice_probs(item: Codes, item_ids: pl.Series, logprobs: pl.Series) -> ChoiceProbs:
    """Read lists of log-probabilities.

    Args:
        item: (R,) item of every row.
        item_ids: (N,) text, for messages.
        logprobs: (R,) lists of natural log-probabilities, -inf included; null = the row has none.

    Raises:
        InputError: probabilities that do not sum to 1, NaN, +inf or a null in a list, or lists of
            different length within an item.
    """
    row = np.flatnonzero(logprobs.is_not_null().to_numpy()).astype(np.int64)
    lists = logprobs.gather(row)
    size = lists.list.len().to_numpy().astype(np.int64)
    owner = item[row].astype(np.int64)
    start = np.cumsum(size) - size
    values = lists.explode(empty_as_null=False).cast(pl.Float64).fill_null(np.nan).to_numpy()
    with np.errstate(over="ignore"):  # an impossible number is told below
        probs = np.exp(values)
    total = np.zeros(len(row))
    filled = size > 0
    if filled.any():
        total[filled] = np.add.reduceat(probs, start[filled])
    wrong = np.flatnonzero(~(np.abs(total - 1) <= TOLERANCE))
    if len(wrong):
        raise InputError(
            f"choice_logprobs of item {item_ids[int(owner[wrong[0]])]} are no log-probabilities: their exponentials "
            f"sum to {total[wrong[0]]:.4g}, not 1, or one is missing ({len(wrong)} such rows)."
        )
    last = np.zeros(len(item_ids), dtype=np.int64)
    last[owner] = size
    uneven = np.unique(owner[last[owner] != size])
    if len(uneven):
        raise InputError(
            f"choice_logprobs of {len(uneven)} items differ in length between rows ({some(item_ids.gather(uneven))}); "
            "each list holds one number per choice of the item."
        )
    return ChoiceProbs(row, owner, size, start, probs / np.repeat(total, size))


def mean_probs(choices: ChoiceProbs, num_items: int) -> tuple[Ints, Floats]:
    """Average the probabilities of an item's choices over its rows.

    Returns:
        starts: (N + 1,) the choices of item i are starts[i]:starts[i + 1]; none where no row has
            probabilities.
        probs: their mean probabilities, in [0, 1], an item's sum to 1.
    """
    size = np.zeros(num_items, dtype=np.int64)
    size[choices.item] = choices.size
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
    cell = np.arange(len(choices.probs)) + np.repeat(starts[choices.item] - choices.start, choices.size)
    sums = np.bincount(cell, weights=choices.probs, minlength=int(starts[-1]))
    rows = np.bincount(choices.item, minlength=num_items)
    return starts, np.asarray(np.round(sums / np.repeat(rows, size), _DECIMALS))


def token_logprobs(item: Codes, item_ids: pl.Series, logprobs: pl.Series, num_tokens: pl.Series | None) -> Floats:
    """Return the mean log-probability of the tokens of every row's answer.

    Args:
        item: (R,) item of every row.
        item_ids: (N,) text, for messages.
        logprobs: (R,) natural log-probability of all of an answer's tokens; null = the row has none.
        num_tokens: (R,) how many these are, at least 1; None: 1 each, so `logprobs` are means already.

    Returns:
        (R,) in [-inf, 0]; NaN where the row has no log-probability or no number of tokens.

    Raises:
        InputError: NaN or a number above 0 among the log-probabilities, or tokens that are no count.
    """
    there = logprobs.is_not_null().to_numpy()
    total = logprobs.fill_null(0.0).to_numpy()
    _refuse(there & ~(total <= TOLERANCE), "answer_logprob", total, "a log-probability, at most 0,", item, item_ids)
    per_token = np.minimum(total, 0.0)
    if num_tokens is not None:
        counted = num_tokens.is_not_null().to_numpy()
        tokens = num_tokens.fill_null(1.0).to_numpy()
        fit = (tokens >= 1) & np.isfinite(tokens)
        _refuse(there & counted & ~fit, "num_tokens", tokens, "a number of at least 1", item, item_ids)
        per_token, there = per_token / np.where(fit, tokens, 1.0), there & counted
    return np.where(there, per_token, np.nan)


def _refuse(
    bad: npt.NDArray[np.bool_], column: str, values: Floats, what: str, item: Codes, item_ids: pl.Series
) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise InputError(
            f"{column} of item {item_ids[int(item[rows[0]])]} is {values[rows[0]]:g}; {what} is expected "
            f"({len(rows)} such rows)."
        )
