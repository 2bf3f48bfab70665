"""Task `subdivisions`: state, province or region → its country, among thirty-eight well-known ones.

Items are made from the ISO 3166-2 tables in the package pycountry. A name that several countries have
a subdivision of (Punjab, Amazonas) is not asked, and a country that has a city of the name, by any of
its spellings in GeoNames, is no option. Left out: names with a hint of their country, and land
that two countries claim. One wrong option is of the same continent.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts, alike, keep_few, key_of, options_of
from labelrel.tasks.world_tables import CONTESTED, load_world

COUNTRIES = (
    *("AR", "AU", "BE", "BR", "CA", "CH", "CL", "CN", "CO", "DE", "EG", "ES", "FR", "GB", "GR", "ID", "IN", "IR", "IT"),
    *("JP", "KE", "KR", "MX", "MY", "NG", "PE", "PH", "PL", "PT", "RO", "RU", "TH", "TR", "UA", "US", "VE", "VN", "ZA"),
)

MAX_PER_COUNTRY = 30
"""So that no country is right much more often than another."""

MOST_ALIKE = 0.6

TRANSCRIBED = ("EG", "IN", "IR", "JP")
"""Their names carry the accents of a transcription that English leaves out: Rājasthān."""

CLAIMED = ("krym", "sevastopol", "kashmir", "ladakh", "arunachalpradesh", "gilgitbaltistan", "taiwan")
"""In the keys of lands that maps give to different countries."""

GENERIC = (
    r"(?i)[\s-]+(oblast'?|sheng|shi|l[aä]n|kray|zizhiqu|do|teukbyeolsi|gwangyeoksi|teukbyeoljachi(do|si)|governorate)$"
)
"""Words that say what a subdivision is, and in whose language."""

FAMILIES = {
    "country": Family(
        "Which country is the region of {subject} in?",
        (
            "{subject} is a region of",
            "Region: {subject}\nCountry:",
            "Q: Name the country that the region of {subject} belongs to.\nA:",
            "If you travel around {subject}, you are in",
        ),
    ),
}


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of the family."""
    import pycountry

    world = load_world()
    subject = pl.col("name").str.replace(r"\s*[\[(,].*$", "").str.replace(GENERIC, "").str.replace_all("\u2019", "'")
    every = (
        pl.DataFrame(
            [(s.code, s.country_code, s.name) for s in pycountry.subdivisions], ["id", "country", "name"], orient="row"
        )
        .with_columns(
            subject=pl.when(pl.col("country").is_in(TRANSCRIBED))
            .then(subject.str.normalize("NFKD").str.replace_all(r"\p{M}", ""))
            .otherwise(subject)
        )
        .with_columns(key=key_of(pl.col("subject")))
        .sort("id")
    )
    names = world.countries.select("country", answer="name", answer_key="name_key", continent="continent")
    settled = every.filter(pl.col("country").n_unique().over("key") == 1, pl.col("key").is_first_distinct())
    known = settled.filter(pl.col("country").is_in(COUNTRIES), ~pl.col("key").str.contains("|".join(CLAIMED))).join(
        names, on="country"
    )
    plain = known.filter(
        pl.col("subject").str.contains(r"^[\p{Latin}\p{M} '.-]+$"),
        pl.col("subject").str.count_matches(" ") <= 2,
        pl.Series([not alike(a, b, MOST_ALIKE) for a, b in known.select("key", "answer_key").iter_rows()]),
    )
    asked = keep_few(plain, "country", MAX_PER_COUNTRY)
    cities = asked.select("id", "key").join(world.names, left_on="key", right_on="city_key")
    claims = pl.DataFrame([*CONTESTED, *((b, a) for a, b in CONTESTED)], ["country", "other"], orient="row")
    rivals = asked.select("id", "country").join(claims, on="country").select("id", country="other")
    true = pl.concat([cities.select("id", "country"), rivals]).join(names, on="country").select("id", option="answer")
    sides = names.filter(pl.col("country").is_in(COUNTRIES)).select("answer", "continent")
    near = sides.join(sides.rename({"answer": "option"}), on="continent").select("answer", "option")
    return {"country": options_of(asked.select("id", "subject", "answer"), true=true, near=near)}


FACTS = add_facts(
    Facts(
        name="subdivisions",
        summary="states, provinces and regions → their country; four options, made from ISO 3166-2",
        source="ISO 3166-2 of Debian's iso-codes by way of the package pycountry; LGPL 2.1 or later",
        families=FAMILIES,
        options=options,
    )
)
