"""Task `translations`: countries, languages, weekdays and months by their names in other languages.

Items are made from the Unicode CLDR tables in the package Babel: a word of one of fourteen languages
that are written in Latin letters, to be named in English. One wrong option begins with the same letter
as the right one where there is one.

Left out: words that look like their English name, words that mean two things (Finnish "saksa" is
German and Germany), and the second of two languages that share a word: one fact may not sit on both
sides of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts, alike, key_of, options_of
from labelrel.tasks.world_tables import load_world

LANGUAGES = ("es", "fr", "de", "it", "pt", "nl", "sv", "da", "pl", "cs", "hr", "tr", "fi", "hu")
"""In the order in which they keep a word that several of them share."""

MOST_ALIKE = 0.65
"""Of 1, how much of its letters a word may share with its English name."""

MAX_WORDS = 2
"""Longer names are phrases that explain themselves."""

MIN_POPULATION = 1_000_000

NOT_ASKED = ("CD", "CG")
"""The two Congos: their names differ by what is left out in speech."""

SPOKEN = tuple(
    """
    af am ar az be bg bn bs ca cs cy da de el en es et eu fa fi fr ga gl gu he hi hr ht hu hy id is it ja ka kk
    km kn ko ku ky la lo lt lv mi mk ml mn mr ms mt my ne nl no pa pl ps pt ro ru sd si sk sl so sq sr sv sw ta
    te tg th tk tr uk ur uz vi wo xh yi yo zh zu
    """.split()  # noqa: SIM905 - a list literal would be a page of quotes
)
"""CLDR codes of the languages asked for, as an English reader knows them."""

PROMPTS = (
    'The {language} word "{subject}" means',
    "{language}: {subject}\nEnglish:",
    'Q: Translate the {language} word "{subject}" into English.\nA:',
    'When a speaker of {language} says "{subject}", an English speaker says',
)

FAMILIES = {
    "country": Family('Which country is called "{subject}" in {language}?', PROMPTS),
    "language": Family('Which language is called "{subject}" in {language}?', PROMPTS),
    "calendar": Family('Which day or month is called "{subject}" in {language}?', PROMPTS),
}


def cldr_names(locale: str) -> Iterator[tuple[str, str, str]]:
    """Yield (family, code, name) of every country, language, weekday and month in a CLDR locale."""
    from babel import Locale

    tables = Locale.parse(locale)
    for code in load_world().countries.filter(pl.col("population") >= MIN_POPULATION)["country"]:
        if code not in NOT_ASKED:
            yield "country", code, tables.territories[code]
    for code in SPOKEN:
        yield "language", code, tables.languages[code]
    for day, name in tables.days["stand-alone"]["wide"].items():
        yield "calendar", f"d{day}", name
    for month, name in tables.months["stand-alone"]["wide"].items():
        yield "calendar", f"m{month}", name


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of each family."""
    from babel import Locale

    english = {(family, code): name for family, code, name in cldr_names("en")}
    # as English speaks them: Turkey, the Netherlands
    english |= {("country", code): name for code, name in load_world().countries.select("country", "name").iter_rows()}
    english |= {("language", "bn"): "Bengali"}
    rows = [
        (family, f"{locale}-{code}", Locale.parse(locale).get_display_name("en"), name, english[family, code], place)
        for place, locale in enumerate(LANGUAGES)
        for family, code, name in cldr_names(locale)
    ]
    words = pl.DataFrame(rows, ["family", "id", "language", "subject", "answer", "place"], orient="row").with_columns(
        pl.col("subject").str.replace_all("\u2019", "'"),
        key=key_of(pl.col("subject")),
        answer_key=key_of(pl.col("answer")),
    )
    settled = words.filter(pl.col("answer").n_unique().over("key") == 1)
    asked = (
        settled.filter(
            pl.col("subject").str.count_matches(" ") < MAX_WORDS,
            pl.col("subject").str.contains(r"^[\p{L}\p{M} '.-]+$"),
            pl.Series([not alike(a, b, MOST_ALIKE) for a, b in settled.select("key", "answer_key").iter_rows()]),
        )
        .sort("place", "id")
        .unique("key", keep="first", maintain_order=True)
        .sort("id")
    )
    return {family: _family(asked.filter(family=family)) for family in FAMILIES}


def _family(asked: pl.DataFrame) -> pl.DataFrame:
    answers = asked["answer"].unique().sort()
    initial = pl.col("answer").str.head(1)
    near = asked.select("answer").unique().join(answers.rename("option").to_frame(), how="cross")
    near = near.filter(initial == pl.col("option").str.head(1), pl.col("answer") != pl.col("option"))
    return options_of(asked.select("id", "subject", "language", "answer"), near=near)


FACTS = add_facts(
    Facts(
        name="translations",
        summary="names of countries, languages, days and months in fourteen languages → English; four options",
        source="Unicode CLDR by way of the package Babel; Unicode License v3",
        families=FAMILIES,
        options=options,
    )
)
