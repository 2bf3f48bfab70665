"""Does the supervisor favour a position: how often each is answered, and how often it is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import polars as pl

from labelrel.evaluate.agreement import wilson
from labelrel.files import read_table
from labelrel.report.labels import SPLIT, shared_choices
from labelrel.report.runs import Sources
from labelrel.schema import check_answers

_BETWEEN = 12  # characters that may stand between two answer words of one list: ", or neither "
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_answers(sources: Sources) -> pl.DataFrame | None:
    """Read the answers table; null where there is none.

    Raises:
        InputError: the table is broken.
    """
    if sources.answers is None or not sources.answers.is_file():
        return None
    return check_answers(read_table(sources.answers), str(sources.answers))


def position_shares(answers: pl.DataFrame, items: pl.DataFrame, *, confidence: float = 0.95) -> pl.DataFrame:
    """Return how often each position is answered and how often it is right, on weak-labelled choice items.

    A position is an item's choice index and, where prompts list the options in other orders than that,
    the place in the list as well: one who reads the options answers every place as often as gold is there.
    An item counts once, however often it was asked; answers that could not be parsed are left out, and
    so are they from the gold shares.

    Args:
        answers: the answers table; without `prompt` nothing is known of places.
        items: the items table.
        confidence: level of the intervals, in (0, 1).

    Returns:
        `kind` (`choice` or `place`), `position` (from 0), `answered` (share of items, in [0, 1]),
        `answered_lo`, `answered_hi`, `gold`, `gold_lo`, `gold_hi`, `num_items`. Empty for open items.

    Source: Wilson's interval with the item as unit, as in `labelrel.agree`: of a mean of shares it is
    rather too wide than too narrow.
    """
    known = items.filter(
        (pl.col("split") == SPLIT) & pl.col("gold_label").is_not_null() & pl.col("choices").is_not_null()
    )
    index = pl.col("answer", "gold_label").cast(pl.Int64, strict=False)
    given = (
        answers.join(known.select("item_id", "choices", "gold_label"), on="item_id", how="inner")
        .with_columns(index)
        .filter(
            pl.col("answer").is_between(0, pl.col("choices").list.len().cast(pl.Int64) - 1)
            & pl.col("gold_label").is_not_null()
        )
    )
    parts = [_shares(given, "choice", confidence)]
    if "prompt" in given.columns:
        words = shared_choices(items)
        orders = [
            None if prompt is None else listed_order(prompt, choices, words=words is not None)
            for prompt, choices in given.select("prompt", "choices").iter_rows()
        ]
        places = pl.Series("places", [order and _inverse(order) for order in orders], pl.List(pl.Int64))
        listed = given.with_columns(places).filter(pl.col("places").is_not_null())
        listed = listed.with_columns(pl.col("places").list.get(pl.col(name)).alias(f"{name}_place") for name in _BOTH)
        moved = listed.filter(pl.col("places") != pl.int_ranges(pl.col("places").list.len()).cast(pl.List(pl.Int64)))
        if moved.height:
            placed = listed.drop(_BOTH).rename({f"{name}_place": name for name in _BOTH})
            parts.append(_shares(placed, "place", confidence))
    return pl.concat(parts)


_BOTH = ("answer", "gold_label")


def _shares(given: pl.DataFrame, kind: str, confidence: float) -> pl.DataFrame:
    """Return the rows of one kind; `given` has positions in `answer` and `gold_label`, one row per answer."""
    weighed = given.with_columns(weight=1 / pl.len().over("item_id"))
    count = given["item_id"].n_unique()
    sums = [dict(weighed.group_by(name).agg(pl.col("weight").sum()).iter_rows()) for name in _BOTH]
    size = int(given["choices"].list.len().max() or 0) if count else 0  # type: ignore[arg-type]
    rows = []
    for position in range(size):
        row: dict[str, object] = {"kind": kind, "position": position}
        for name, total in zip(("answered", "gold"), sums, strict=True):
            share = min(total.get(position, 0.0), count)  # a sum of thirds may come out above
            ends = wilson(share, count, confidence)
            row |= {name: share / count, f"{name}_lo": ends and ends[0], f"{name}_hi": ends and ends[1]}
        rows.append({**row, "num_items": count})
    return pl.DataFrame(rows, schema=_SHARES)


_NUMBERS = [f"{name}{end}" for name in ("answered", "gold") for end in ("", "_lo", "_hi")]
_SHARES = {"kind": pl.String, "position": pl.Int64, **dict.fromkeys(_NUMBERS, pl.Float64), "num_items": pl.Int64}


def listed_order(prompt: str, choices: Sequence[str], *, words: bool = False) -> list[int] | None:
    """Read from a prompt in which order it lists the choices.

    Args:
        prompt: the text that was asked; options stand on lines of their own behind `-` or a letter.
        choices: the item's choices.
        words: whether the choices are answer words, which a prompt may name in a sentence instead
            ("acceptable or unacceptable").

    Returns:
        The choice indices as listed; null where the prompt does not list every choice.
    """
    if len(set(choices)) < len(choices):
        return None  # nobody can tell which is which
    starts = _line_starts(f"\n{prompt}\n", choices)
    if starts is None and words:
        starts = _word_starts(prompt, choices)
    return None if starts is None else sorted(range(len(choices)), key=starts.__getitem__)


def _line_starts(text: str, choices: Sequence[str]) -> list[int] | None:
    marks = ["-", *(f"{letter}." for letter in _LETTERS[: len(choices)])]
    for mark in (marks[:1], marks[1:]):
        starts = []
        for choice in choices:
            # the first option may follow other words on its line
            start = max(text.rfind(f"{blank}{m} {choice}\n") for blank in "\n " for m in mark)
            if start < 0:
                break
            starts.append(start)
        else:
            return starts
    return None


def _word_starts(prompt: str, choices: Sequence[str]) -> list[int] | None:
    starts = []
    for choice in choices:
        found = [match.start() for match in _whole_word(choice).finditer(prompt)]
        if not found:
            return None
        starts.append(found[-1])
    # words that stand apart are part of the question, not a list of answers
    apart = max(starts) - min(starts) > sum(len(choice) + _BETWEEN for choice in choices)
    return None if apart else starts


@cache
def _whole_word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def _inverse(order: Sequence[int]) -> list[int]:
    """Return the place of each choice."""
    return sorted(range(len(order)), key=order.__getitem__)
