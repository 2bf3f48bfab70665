"""Canonical forms of open answers, so that votes for the same answer in other clothes count together.

A canonicaliser takes any text, never raises, gives null where there is no answer to read, and leaves
a canonical form as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction

import polars as pl

from labelrel.registry import Registry

canonicalisers: Registry[Callable[[str], str | None]] = Registry("canonical form")


def canonicalise(answers: pl.Series, name: str) -> pl.Series:
    """Return the canonical form of every answer.

    Args:
        answers: texts or numbers; null = abstained.
        name: `number` or `text`.

    Returns:
        Texts under the same column name; null where there is no answer, or none to be read.

    Raises:
        UnknownNameError: no such form.

    Example:
        >>> canonicalise(pl.Series(["$1,234.50", "#### 7", "no idea"]), "number").to_list()
        ['1234.5', '7', None]
    """
    function = canonicalisers.get(name)
    texts = answers.cast(pl.String)
    distinct = texts.drop_nulls().unique()
    if distinct.is_empty():
        return texts
    forms = pl.Series([function(text) for text in distinct], dtype=pl.String)
    return texts.replace_strict(distinct, forms, default=None, return_dtype=pl.String).alias(answers.name)


_LONGEST = 400  # characters of a number; beyond, a text is no answer but an accident
_LITERAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_WORD = re.compile(
    rf"""
    (?P<sign>[-+]?)[$€£¥]?(?P<inner>[-+]?)
    (?:(?P<whole>[0-9]+)\+(?=[0-9]+/))?                     # 1 1/2, joined by a plus
    (?P<top>(?:{_LITERAL})(?:[eE][-+]?[0-9]{{1,3}}(?![0-9]))?)
    (?:/(?P<bottom>{_LITERAL}))?
    (?![\^⁰¹²³⁴⁵⁶⁷⁸⁹⁻])                                      # a power
    """,
    re.VERBOSE,
)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"))
_BEFORE = re.compile(r"^(?:[^\w.+\-$€£¥<>≤≥]|_)+")
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


@canonicalisers.register("number")
def number(text: str) -> str | None:
    r"""Read the one number that a text holds.

    It stands after the last "####", else in the last \boxed{}, else after the last "=", else
    anywhere. Signs, thousands separated by commas, exponents, fractions ("3/4", "1 1/2", "½") and
    "million" are read; currency signs, a percent sign and units are dropped, so "50%" is "50". A
    digit inside a word ("H2O") is no number.

    Returns:
        A decimal without needless zeros, or a fraction in lowest terms where no decimal is exact.
        Null where there is no number, several different ones, or one that can be read in two ways
        ("1,5", "3-5", "10^3").

    Example:
        >>> [number(text) for text in ("$1,234.50", "3 + 4 = 7 apples", "2/6", "5 or 6")]
        ['1234.5', '7', '1/3', None]
    """
    text = _answer_part(text if text.isascii() else "".join(map(_plain, text)).translate(_DASHES))
    text = re.sub(r"(?<=[0-9])\s*/\s*(?=[0-9.])", "/", text)
    text = re.sub(r"(?<![^\s(\[{$€£¥+-])([0-9]+)\s+(?=[0-9]+/[0-9])", r"\1+", text)
    text = re.sub(r"([$€£¥])\s+(?=[-+.0-9])", r"\1", text)
    values = set()
    words = re.split(r"[\s:;|]+", text)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if not re.search(r"[0-9]", word):
            continue
        bare = _BEFORE.sub("", word)
        if bare[0].isalpha():
            continue
        found = _WORD.match(bare) if len(bare) <= _LONGEST else None
        if found is None or re.search(r"[0-9]", bare[found.end() :]):
            return None
        value = _value(found, _scale(bare[found.end() :] or following))
        if value is None:
            return None
        values.add(value)
    return _written(values.pop()) if len(values) == 1 else None


def _plain(character: str) -> str:
    """Return digits of any script as ASCII, and ½ as a fraction of its own."""
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    compatible = unicodedata.normalize("NFKC", character)
    if "\u2044" in compatible:
        return " " + compatible.replace("\u2044", "/")
    return compatible if compatible in tuple("$,.%+=/") else character


def _answer_part(text: str) -> str:
    if "####" in text:
        return text.rpartition("####")[2]
    if boxed := re.findall(r"\\boxed\s*\{([^{}]*)\}", text):
        return str(boxed[-1])
    return text.rpartition("=")[2]


def _scale(unit: str) -> int:
    return _SCALES.get(unit.strip(".,!?)]}\"'*_").lower(), 1)


def _value(found: re.Match[str], scale: int) -> Fraction | None:
    top = Fraction(found["top"].replace(",", ""))
    bottom = Fraction((found["bottom"] or "1").replace(",", ""))
    if bottom == 0 or (found["sign"] and found["inner"]):
        return None
    value = (int(found["whole"] or 0) + top / bottom) * scale
    return -value if "-" in (found["sign"], found["inner"]) else value


def _written(value: Fraction) -> str | None:
    rest, places = value.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        places = max(places, power)
    if places > _LONGEST:
        return None
    if rest > 1:
        text = f"{value.numerator}/{value.denominator}"
    else:
        digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
        point = len(digits) - places
        text = ("-" if value < 0 else "") + digits[:point] + ("." + digits[point:] if places else "")
    return text if len(text) <= _LONGEST else None


_MARKS = "\"'*_`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2026"  # quotes, emphasis, ellipsis
_STOPS = ".,;:!?-\u2013\u2014"
_LEADING = re.compile(rf"^(?:[\s{_MARKS}]|[{re.escape(_STOPS)}](?!\w)|(?:a|an|the)\s+(?=\S))+")
_BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ("<", ">"))


@canonicalisers.register("text")
def text(answer: str) -> str | None:
    r"""Return a text without its capitals, its needless blanks, and the marks and articles around it.

    Compatible characters are unified (NFKC) and case is folded; runs of blanks become one; quotes,
    emphasis, sentence marks and brackets without a partner inside go from both ends, and "a", "an"
    or "the" from the beginning.

    Returns:
        The text; null where nothing is left.

    Example:
        >>> [text(answer) for answer in (' The  "Blue\nWhale". ', "(b)", "f(x)", "-5", "...")]
        ['blue whale', 'b', 'f(x)', '-5', None]
    """
    before = None
    while answer != before:  # each step may lay bare what the next one takes
        before = answer
        answer = " ".join(unicodedata.normalize("NFKC", answer.casefold()).split())
        answer = _LEADING.sub("", answer).rstrip(f" {_MARKS}{_STOPS}")
        answer = _without_brackets(answer)
    return answer or None


def _without_brackets(text: str) -> str:
    for opening, closing in _BRACKETS:
        if text.startswith(opening) and text.endswith(closing) and text.count(opening) == text.count(closing) == 1:
            return text[1:-1]
    lone_openings = "".join(opening for opening, closing in _BRACKETS if closing not in text)
    lone_closings = "".join(closing for opening, closing in _BRACKETS if opening not in text)
    return text.lstrip(lone_openings).rstrip(lone_closings)
