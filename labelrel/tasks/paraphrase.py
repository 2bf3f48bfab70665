"""Questions in other words: reading them from a table, and refusing those that ask something else (pure).

The paper has its GSM8K questions paraphrased by a large model. A paraphrase with another number is
another question, and its answers would count as votes against the right one.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

import polars as pl

from labelrel.canonical import number, text
from labelrel.errors import InputError
from labelrel.schema import require_columns

_UNITS = """
    zero one two three four five six seven eight nine ten
    eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
""".split()  # noqa: SIM905 - a list literal would be a page of quotes
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: n for n, word in enumerate(_UNITS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ALONE = {"half": "1/2", "twice": "2", "double": "2", "thrice": "3", "triple": "3", "dozen": "12"}

_DIGITS = re.compile(
    r"(?:(?<![\w.,])[-\u2212])?[$€£¥]?(?<![A-Za-z])(?:[0-9](?:[0-9,]*[0-9])?(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?"
    rf"(?:\s+(?:{'|'.join(_SCALES)})\b)?"
)
_NUMBERING = re.compile(r"^\s*(?:\(?[0-9]{1,2}[.):]\s+|[-*\u2022]\s+|[A-Za-z]{5,20} ?[0-9]{0,2}:\s+)")


def accept_paraphrase(question: str, paraphrase: str) -> str | None:
    """Return why a paraphrase of a question is not to be used; null where it may be.

    Numbers are compared as they are read, in digits or in words, each as often as it is there; only
    1 is not, since "1", "one" and "a" stand for each other and often for no number.

    Example:
        >>> accept_paraphrase("Ann has 3 cats.", "Cats that Ann has: three.")
        >>> accept_paraphrase("Ann has three cats.", "Ann owns 4 cats.")
        'changes a number'
    """
    paraphrase = without_numbering(paraphrase)
    said = text(paraphrase)
    if said is None:
        return "empty"
    if said == text(question):
        return "says the same"
    return None if numbers(question) == numbers(paraphrase) else "changes a number"


def read_paraphrases(frame: pl.DataFrame, where: str = "paraphrases") -> dict[str, list[str]]:
    """Return item_id → its paraphrases in table order, without numbering; empty ones are left out.

    Args:
        frame: columns `item_id` and `paraphrase`, one row per paraphrase.
        where: what messages call the table.

    Raises:
        InputError: a missing column, a row without item_id, or paraphrases that are no text.
    """
    require_columns(frame, ["item_id", "paraphrase"], where)
    if frame["paraphrase"].dtype not in (pl.String, pl.Null):
        raise InputError(f"{where}: column 'paraphrase' is {frame['paraphrase'].dtype}; it should hold one text a row.")
    if missing := frame["item_id"].null_count():
        raise InputError(f"{where}: {missing} rows have no item_id.")
    found: dict[str, list[str]] = {}
    for item_id, paraphrase in frame.select(pl.col("item_id").cast(pl.String), "paraphrase").iter_rows():
        if plain := without_numbering(paraphrase or ""):
            found.setdefault(item_id, []).append(plain)
    return found


def without_numbering(paraphrase: str) -> str:
    """Return a paraphrase without what numbers it in a list ("1. ", "- ", "Paraphrase 2: ") and quotes around it."""
    plain = _NUMBERING.sub("", paraphrase).strip()
    return plain[1:-1].strip() if len(plain) > 1 and plain[0] == plain[-1] == '"' and plain.count('"') == 2 else plain


def numbers(question: str) -> Counter[str]:
    """Return the numbers of a text but for 1, each with how often it is there."""
    found: Counter[str] = Counter()
    for match in _DIGITS.finditer(question):
        found[number(match[0]) or match[0].strip()] += 1
    words = re.findall(r"[a-z]+|[^a-z\s-]", _DIGITS.sub(" , ", question).lower())
    for value, count in Counter(_in_words(words)).items():
        found[number(str(value)) or str(value)] += count
    del found["1"]
    return found


def _in_words(words: list[str]) -> list[Fraction]:
    """Return the numbers that are written out, "two hundred and five" as one."""
    found: list[Fraction] = []
    total = group = 0
    last = ""  # what the last word of the number at hand was: unit, ten, scale, or nothing
    for word, following in zip(words, [*words, ""][1:], strict=True):
        value = _SMALL.get(word)
        if word == "and" and last == "scale" and following in _SMALL:
            continue
        joins = value is not None and (last == "scale" or (last == "ten" and 0 < value < 10))
        if last and not joins and word not in _SCALES:
            found.append(Fraction(total + group))
            total, group, last = 0, 0, ""
        if value is not None:
            group, last = group + value, "ten" if value >= 20 else "unit"
        elif word == "hundred":
            group, last = (group or 1) * 100, "scale"
        elif word in _SCALES:
            total, group, last = total + (group or 1) * _SCALES[word], 0, "scale"
        elif word in _ALONE:
            found.append(Fraction(_ALONE[word]))
    if last:
        found.append(Fraction(total + group))
    return found
