"""Task `word_languages`: a word → the language it is from, one of fourteen that are written in Latin letters.

Items are made from the Unicode CLDR tables in the package Babel: the words for weekdays, months,
countries, languages and units of measure. Each of the languages has a word for each of these things, so it
is known which others spell it nearly the same: they are no options. A word that two languages have for
whatever thing, or that English has, is not asked. One wrong option is a relative of the right one where
there is one left.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts, alike, keep_few, key_of, options_of
from labelrel.tasks.translations import cldr_names

RELATIVES = (("es", "fr", "it", "pt", "ro"), ("de", "nl", "sv", "da"), ("pl", "cs"), ("fi", "hu"), ("tr",))

UNITS = (
    *("duration-century", "duration-decade", "duration-year", "duration-month", "duration-week", "duration-day"),
    *("duration-hour", "duration-minute", "duration-second", "length-inch", "length-foot", "length-mile", "mass-pound"),
)
"""Of each, the word after the number five."""

MAX_PER_LANGUAGE = 62
"""So that no language is right much more often than another."""

MOST_ALIKE = 0.75
"""Of 1, how much of its letters a word may share with the word for the same thing in a language offered."""

FAMILIES = {
    "word": Family(
        'Which language is the word "{subject}" from?',
        (
            'The word "{subject}" is',
            "Word: {subject}\nLanguage:",
            'Q: Name the language of the word "{subject}".\nA:',
            'Somebody who says "{subject}" is speaking',
        ),
    ),
}


def _words(locale: str) -> list[tuple[str, str | None, str]]:
    """Return (locale, thing, word) of everything that there is a word for, null for a thing that is not asked."""
    from babel import Locale
    from babel.units import format_unit

    tables = Locale.parse(locale)
    asked = [(f"{family}-{code}", name) for family, code, name in cldr_names(locale)]
    asked += [(unit, format_unit(5, unit, locale=locale).strip("5 \u00a0")) for unit in UNITS]
    rest = [(None, name) for table in (tables.territories, tables.languages) for name in table.values()]
    return [(locale, thing, word) for thing, word in (*asked, *rest)]


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of the family."""
    from babel import Locale

    locales = [locale for relatives in RELATIVES for locale in relatives]
    names = {locale: Locale.parse(locale).get_display_name("en") for locale in locales}
    every = pl.DataFrame(
        [row for locale in ("en", *locales) for row in _words(locale)], ["locale", "thing", "subject"], orient="row"
    ).with_columns(key=key_of(pl.col("subject")))
    asked = (
        every.filter(
            pl.col("locale").n_unique().over("key") == 1,
            pl.col("thing").is_not_null(),
            pl.col("locale") != "en",
            pl.col("subject").str.contains(r"^[\p{Latin}\p{M}]{3,}$"),
        )
        .sort("locale", "thing")
        .unique(["locale", "key"], keep="first", maintain_order=True)
        .with_columns(id=pl.concat_str("locale", pl.lit("-"), "thing"), answer=pl.col("locale").replace_strict(names))
    )
    pairs = asked.join(every.select("thing", "key", other="locale"), on="thing", suffix="_other").filter(
        pl.col("other") != pl.col("locale")
    )
    close = pairs.filter(pl.Series([alike(a, b, MOST_ALIKE) for a, b in pairs.select("key", "key_other").iter_rows()]))
    # what is nearly English is an international word
    asked = asked.join(close.filter(other="en"), on="id", how="anti")
    true = close.filter(pl.col("other") != "en").select("id", option=pl.col("other").replace_strict(names))
    near = [(names[a], names[b]) for relatives in RELATIVES for a in relatives for b in relatives if a != b]
    few = keep_few(asked.select("id", "subject", "answer"), "answer", MAX_PER_LANGUAGE)
    return {"word": options_of(few, true=true, near=pl.DataFrame(near, ["answer", "option"], orient="row"))}


FACTS = add_facts(
    Facts(
        name="word_languages",
        summary="words → the language they are from; four options, made from Unicode CLDR",
        source="Unicode CLDR by way of the package Babel; Unicode License v3",
        families=FAMILIES,
        options=options,
    )
)
