"""Canonical forms are total, stay as they are, and join what means the same number or text."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.errors import UnknownNameError
from labelrel.scoring.canonical import canonicalise, canonicalisers, number, text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("12", "12"),
        ("007", "7"),
        ("1,234.50", "1234.5"),
        ("1,234,567", "1234567"),
        ("$3", "3"),
        ("-$3.20", "-3.2"),
        ("$-3", "-3"),
        ("€ 5", "5"),
        ("5 apples", "5"),
        ("5kg", "5"),
        ("5 m²", "5"),
        ("50%", "50"),
        ("\u22125", "-5"),
        ("+5.", "5"),
        (".5", "0.5"),
        ("-0", "0"),
        ("1.5e3", "1500"),
        ("1e-7", "0.0000001"),
        ("3/4", "0.75"),
        ("2/6", "1/3"),
        ("-1/3", "-1/3"),
        ("1 1/2", "1.5"),
        ("3½", "3.5"),
        ("5 million", "5000000"),
        ("２５", "25"),  # noqa: RUF001
        ("**42**", "42"),
        ("(5)", "5"),
        ("Answer: 5", "5"),
        ("- 5", "5"),  # a point of a list
        ("The answer is 5. So 5 apples.", "5"),
        ("COVID-19 had 5 cases", "5"),
        ("3 + 4 = 7 apples", "7"),
        ("so 2 and 3\n#### 1,000", "1000"),
        ("from $x = 3$ we get \\boxed{42}", "42"),
    ],
)
def test_a_number_is_read(written, read):
    assert number(written) == read


@pytest.mark.parametrize(
    "written",
    [
        *("", "none", "...", "NaN", "inf", "x =", "H2O"),
        *("5 or 6", "3-5", "12:30", "2020-01-02", "1/2/3", "1.2.3", "1,5", "1.234,50", "1,23", "10^3", "10²", "<5"),
        *("1/0", "--5", "-$-5", "1e9999", "9" * 5000, "1" + "0" * 401),
    ],
)
def test_what_is_no_number_or_could_be_two_is_null(written):
    assert number(written) is None


def test_a_number_is_exact_or_null():
    assert number(f"1/{2**40}") == "0.0000000000009094947017729282379150390625"
    assert number(f"1/{2**400}") is None  # 400 decimals, more than are written


@pytest.mark.parametrize(
    "answer", ["a" + "-" * 10**5 + "b", "(" * 10**5, "([" * 10**5, "1" * 10**5, "1 " * 10**5, "$ " * 10**5]
)
def test_a_long_text_is_read_in_time(answer):
    for name in canonicalisers:
        canonicalisers.get(name)(answer)  # what is quadratic would take minutes


LIKE_NUMBERS = st.text(st.sampled_from("0123456789.,/-+eE$%=#^ ()½²٣ax*_\n"), max_size=20)


@settings(deadline=None)
@given(st.one_of(st.text(), LIKE_NUMBERS))
def test_canonical_forms_never_raise_and_stay_as_they_are(answer):
    for name in canonicalisers:
        form = canonicalisers.get(name)(answer)
        if form is not None:
            assert form
            assert canonicalisers.get(name)(form) == form


@settings(deadline=None)
@given(st.decimals(-(10**9), 10**9, places=4))
def test_dressed_numbers_keep_their_value(value):
    forms = {number(str(value)), number(f"{value:,}"), number(f"It is ${value:,}."), number(f"2 + 2 = {value} kg")}
    assert len(forms) == 1
    assert Decimal(forms.pop() or "") == value


@settings(deadline=None)
@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_keep_their_value(top, bottom):
    assert Fraction(number(f"{top}/{bottom}") or "") == Fraction(top, bottom)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('  The  "Blue\nWhale". ', "blue whale"),
        ("Straße", "strasse"),
        ("ﬁne", "fine"),
        ("**Yes!**", "yes"),
        ("(b)", "b"),
        ('("the [Seine]")', "seine"),
        ("b)", "b"),
        ("f(x)", "f(x)"),
        ("(a) and (b)", "(a) and (b)"),
        ("an apple", "apple"),
        ("a", "a"),
        ("The", "the"),
        ("C#", "c#"),
        ("C++", "c++"),
        ("-5", "-5"),
        (".5", ".5"),
        ("50%", "50%"),
        ("- Paris", "paris"),
    ],
)
def test_a_text_is_read(written, read):
    assert text(written) == read


@pytest.mark.parametrize("written", ["", "  ", "...", '"-"', "()"])
def test_a_text_without_anything_in_it_is_null(written):
    assert text(written) is None


def test_a_column_keeps_its_name_its_nulls_and_its_order():
    answers = pl.Series("answer", ["$1", None, "one", "1.0", "$1"])
    assert canonicalise(answers, "number").equals(pl.Series("answer", ["1", None, None, "1", "1"]), check_names=True)


def test_a_column_of_numbers_is_read_too():
    assert canonicalise(pl.Series("answer", [1.0, 2.5, None]), "number").to_list() == ["1", "2.5", None]
    assert canonicalise(pl.Series("answer", [None, None], dtype=pl.Int64), "text").to_list() == [None, None]


def test_each_distinct_text_is_read_once(monkeypatch):
    seen = []
    monkeypatch.setitem(canonicalisers._entries, "number", lambda text: seen.append(text) or text)
    canonicalise(pl.Series(["a", "b", "a", None, "a"]), "number")
    assert sorted(seen) == ["a", "b"]


def test_an_unknown_form_is_told_with_those_there_are():
    with pytest.raises(UnknownNameError, match="unknown canonical form 'numbers'; did you mean 'number'"):
        canonicalise(pl.Series(["1"]), "numbers")
