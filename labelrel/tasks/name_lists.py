"""Lists of names from all over the world, for the tasks `first_names` and `family_names`.

They come with the package Faker, one or more per country. A name is asked where only one country has
it, or only countries whose names mix; none of these is an option beside another, nor is a country that has
the name in any of its lists.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from labelrel.tasks.facts import keep_few, key_of, options_of

SOURCE = "the lists of names in the package Faker; MIT"

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
    {
        **{"da_DK": "Denmark", "no_NO": "Norway", "sv_SE": "Sweden", "is_IS": "Iceland", "de_DE": "Germany"},
        **{"de_AT": "", "de_CH": "", "de_LI": "", "de_LU": "", "nl_NL": "the Netherlands", "nl_BE": ""},
    },
    {"fi_FI": "Finland", "et_EE": ""},
    {"pl_PL": "Poland", "cs_CZ": "Czechia", "sk_SK": "", "hr_HR": "Croatia", "sl_SI": ""},
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


def _names(kind: str) -> Iterator[tuple[str, str]]:
    """Yield (locale, name) of every list of "first" or "last" names, romanised ones too."""
    from importlib import import_module
    from pkgutil import iter_modules

    from faker.providers import person

    for locale in sorted(module.name for module in iter_modules(person.__path__)):
        provider = import_module(f"{person.__name__}.{locale}").Provider
        for attribute in dir(provider):
            found = getattr(provider, attribute)
            # Poland's are called male_last_names
            if (
                f"{kind}_" in attribute
                and attribute.partition(f"{kind}_")[2].find("names") >= 0
                and isinstance(found, (list, tuple, dict))
            ):
                yield from ((locale, name) for name in found if isinstance(name, str))


def name_options(kind: str, mixed: tuple[str, ...], limit: int) -> pl.DataFrame:
    """Return name → country with every admissible other country.

    Args:
        kind: "first" or "last".
        mixed: lists that hold names from elsewhere as well: a name may be in these too, but theirs are not asked.
        limit: names per country, so that no country is right much more often than another.
    """
    places = [
        (locale, str(number), country or None)
        for number, region in enumerate(REGIONS)
        for locale, country in region.items()
    ]
    names = (
        pl.DataFrame(list(_names(kind)), ["locale", "subject"], orient="row")
        .join(pl.DataFrame(places, ["locale", "region", "answer"], orient="row"), on="locale", how="left")
        .with_columns(pl.col("region").fill_null(pl.col("locale")), key=key_of(pl.col("subject")))
    )
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
    asked = keep_few(asked, "answer", limit)
    countries = names.select("region", "answer").drop_nulls().unique()
    neighbours = asked.select("id", "region").join(countries, on="region").select("id", option="answer")
    listed = (
        asked.select("id", "key")
        .join(names.select("key", "answer").drop_nulls(), on="key")
        .select("id", option="answer")
    )
    return options_of(asked.select("id", "subject", "answer"), true=pl.concat([neighbours, listed]))
