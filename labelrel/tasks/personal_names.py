"""Task `personal_names`: first name or surname → the country where it is at home.

Items are made from the lists of names in the package Faker, one or more per country. A name is asked
where only one country has it, or only countries whose names mix; none of these is an option beside
another, nor is a country that has the name in any of its lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts, keep_few, key_of, options_of

MAX_PER_COUNTRY = 22
"""Names of a country in each family, so that no country is right much more often than another."""

REGIONS = (
    {
        "es_ES": "Spain",
        "es_AR": "",
        "es_CA": "",
        "es_CL": "",
        "es_CO": "",
        "es_MX": "",
        "pt_PT": "Portugal",
        "pt_BR": "",
    },
    {"da_DK": "Denmark", "no_NO": "Norway", "sv_SE": "Sweden", "is_IS": "Iceland"},
    {"fi_FI": "Finland", "et_EE": ""},
    {"pl_PL": "Poland", "cs_CZ": "Czechia", "sk_SK": "", "hr_HR": "Croatia", "sl_SI": ""},
    {"de_DE": "Germany", "de_AT": "", "de_CH": "", "de_LI": "", "de_LU": "", "nl_NL": "the Netherlands", "nl_BE": ""},
    {"fr_FR": "France", "fr_BE": "", "fr_CH": "", "fr_CA": "", "fr_QC": ""},
    {"en_GB": "", "en_IE": "Ireland", "en_NZ": "", "en_US": "", "ga_IE": ""},
    {"it_IT": "Italy"},
    {"hu_HU": "Hungary"},
    {"ro_RO": "Romania"},
    {"lt_LT": "Lithuania", "lv_LV": ""},
    {"tr_TR": "Turkey", "az_AZ": ""},
    {"en_IN": "India", "en_PK": ""},
    {"id_ID": "Indonesia"},
    {"ja_JP": "Japan"},
    {"zh_CN": "China", "zh_TW": ""},
    {"vi_VN": "Vietnam"},
    {"yo_NG": "Nigeria", "en_NG": "", "ig_NG": "", "ha_NG": ""},
    {"tw_GH": "Ghana"},
    {"en_KE": "Kenya", "sw": ""},
)
"""Locales of Faker whose names mix, with the countries that are asked for; the others only say what
else has a name. A locale that is not here is a region of its own."""

MIXED = {
    "first": ("en", "de_AT", "de_CH", "de_DE", "fr_BE", "fr_CH", "nl_BE", "sv_SE", "tw_GH"),
    "last": ("en", "fr_BE", "fr_CH", "is_IS", "nl_BE"),
}
"""Lists that hold names from elsewhere as well, or stems of names in Iceland: a name may be in these too, but
their own are not asked."""

FAMILIES = {
    "first": Family(
        "In which country is {subject} a traditional first name?",
        (
            "{subject} is a first name from",
            "First name: {subject}\nCountry of origin:",
            "Q: Name the country that the first name {subject} comes from.\nA:",
            "Parents who call their child {subject} most likely live in",
        ),
    ),
    "last": Family(
        "In which country is {subject} a traditional family name?",
        (
            "{subject} is a family name from",
            "Family name: {subject}\nCountry of origin:",
            "Q: Name the country that the family name {subject} comes from.\nA:",
            "The ancestors of somebody called {subject} most likely lived in",
        ),
    ),
}


def _names() -> Iterator[tuple[str, str, str]]:
    """Yield (locale, family, name) of every list of names, romanised ones too."""
    from importlib import import_module
    from pkgutil import iter_modules

    from faker.providers import person

    for locale in sorted(module.name for module in iter_modules(person.__path__)):
        provider = import_module(f"{person.__name__}.{locale}").Provider
        for attribute in dir(provider):
            family, _, rest = attribute.partition("_")
            found = getattr(provider, attribute)
            if family in FAMILIES and "names" in rest and isinstance(found, (list, tuple, dict)):
                yield from ((locale, family, name) for name in found if isinstance(name, str))


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of each family."""
    places = pl.DataFrame(
        [
            (locale, str(number), country or None)
            for number, region in enumerate(REGIONS)
            for locale, country in region.items()
        ],
        ["locale", "region", "answer"],
        orient="row",
    )
    every = (
        pl.DataFrame(list(_names()), ["locale", "family", "subject"], orient="row")
        .join(places, on="locale", how="left")
        .with_columns(pl.col("region").fill_null(pl.col("locale")), key=key_of(pl.col("subject")))
    )
    return {family: _family(every.filter(family=family), MIXED[family]) for family in FAMILIES}


def _family(names: pl.DataFrame, mixed: tuple[str, ...]) -> pl.DataFrame:
    telling = names.filter(~pl.col("locale").is_in(mixed))
    asked = (
        telling.filter(pl.col("region").n_unique().over("key") == 1, pl.col("answer").n_unique().over("key") == 1)
        .filter(pl.col("answer").is_not_null(), pl.col("subject").str.contains(r"^\p{Latin}[\p{Latin}\p{M}'-]{2,}$"))
        .sort("key", "subject")
        .unique("key", keep="first", maintain_order=True)
        .select(
            pl.concat_str(pl.col("locale").str.slice(3), pl.lit("-"), "key").alias("id"),
            "subject",
            "answer",
            "region",
            "key",
        )
    )
    asked = keep_few(asked, "answer", MAX_PER_COUNTRY)
    countries = names.select("region", "answer").drop_nulls().unique()
    neighbours = asked.select("id", "region").join(countries, on="region").select("id", option="answer")
    listed = (
        asked.select("id", "key")
        .join(names.select("key", "answer").drop_nulls(), on="key")
        .select("id", option="answer")
    )
    return options_of(asked.select("id", "subject", "answer"), true=pl.concat([neighbours, listed]))


FACTS = add_facts(
    Facts(
        name="personal_names",
        summary="first names and family names → the country where they are at home; four options",
        source="the lists of names in the package Faker; MIT",
        families=FAMILIES,
        options=options,
    )
)
