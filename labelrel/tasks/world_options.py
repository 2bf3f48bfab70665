"""What may be asked about the world, and which wrong options are plausible and surely wrong.

Every function returns one row per (question, option): `id, subject, option, rank`, where rank 0
is the right option, 1 a near miss (from a neighbouring country or the same continent) and 2 any
other wrong one, from anywhere in the world.
"""

from __future__ import annotations

import hashlib

import polars as pl

from labelrel.tasks.world_tables import CONTESTED, CONTESTED_CITIES, CONTINENTS, UNSETTLED_CONTINENTS, World

MIN_COUNTRY_POPULATION = 100_000
MIN_CITY_POPULATION = 150_000
MIN_CITY_NAMES = 20
MAX_CITIES_PER_COUNTRY = 20
"""A city counts as well known by its size and by how many names the languages of the world have
for it; the limit per country keeps China and India from being half of the questions."""

NUM_WELL_KNOWN_COUNTRIES = 30
MIN_CITIES_PER_WELL_KNOWN_COUNTRY = 5
"""Only cities of the most populous countries are asked for their country, and only these countries
are options: each answer then has enough examples for a small model to learn it by. A country with
hardly a well-known city does not take the place of one that can be asked about."""

MAX_CONTINENT_CITIES_PER_COUNTRY = 6
"""Cities of all other countries are asked for their continent; few of each, so that the questions
stay spread over the world."""

PLAIN_NAME = r"^[\p{Latin}\p{M} '\x{2019}.-]+$"  # leaves out "Paris 15 Vaugirard", "Mianzhu, Deyang, Sichuan"


def _only_offered(countries: pl.DataFrame) -> list[str]:
    """Choose, by a stable hash, the third of the countries whose capitals serve as wrong options only.

    A capital is the answer to one question. Were it also a wrong option elsewhere, a model that had
    memorised it as an answer would prefer it there, and be surest of exactly what is wrong.
    """
    return [c for c in countries["country"] if hashlib.sha256(c.encode()).digest()[0] % 3 == 0]


def capital_options(world: World) -> pl.DataFrame:
    """Return country → capital with every admissible wrong option, none of which is asked for elsewhere.

    Left out: unsettled capitals, and those that share a word with the country's name (Kuwait
    City, San Salvador) or contain it (Tunis in Tunisia) and so give the answer away.
    """
    shared_word = (
        pl.col("name")
        .str.to_lowercase()
        .str.extract_all(r"\p{L}{4,}")
        .list.set_intersection(pl.col("capital").str.to_lowercase().str.extract_all(r"\p{L}{4,}"))
    )
    known = _asked_countries(world).filter(
        pl.col("capital").is_not_null(), shared_word.list.len() == 0, ~_contains("name_key", "capital_key")
    )
    offered = _only_offered(known)
    asked = known.filter(~pl.col("country").is_in(offered))
    wrong = (
        _rivals(known)
        .filter(pl.col("country_other").is_in(offered), pl.col("capital_key") != pl.col("capital_key_other"))
        # San Jose is the capital of Costa Rica, but also a city in Guatemala
        .join(world.names, left_on=["country", "capital_key_other"], right_on=["country", "city_key"], how="anti")
        .select(id="country", option="capital_other", near="near")
    )
    return _with_answers(asked.select(id="country", subject="name", answer="capital"), wrong)


def continent_options(world: World) -> pl.DataFrame:
    """Return country → continent and city → continent with every admissible other continent.

    The cities are the well-known ones of the countries that `country_options` does not ask about.
    Left out: places in countries on two continents, and names that say it (South Africa). A
    continent where the city's name is a name of some city is no option.
    """
    countries = _asked_countries(world)
    known = _known_cities(world)
    cities = known.join(_well_known_countries(known), on="country", how="anti")
    cities = _largest_cities(cities, MAX_CONTINENT_CITIES_PER_COUNTRY)
    asked = pl.concat(
        [
            countries.select("country", id="country", subject="name", answer="continent"),
            cities.select("country", id=_city_id(), subject="city", answer="continent"),
        ]
    )
    named = pl.any_horizontal(
        pl.col("subject").str.contains(stem) for stem in ("Africa", "America", "Asia", "Europe", "Oceania")
    )
    asked = asked.filter(~pl.col("country").is_in(sorted(UNSETTLED_CONTINENTS)), ~named)
    elsewhere = (
        cities.select("city_key", id=_city_id())
        .join(world.names.join(world.countries, on="country").select("city_key", option="continent"), on="city_key")
        .select("id", "option")
    )
    wrong = (
        asked.join(pl.DataFrame({"option": list(CONTINENTS.values())}), how="cross")
        .filter(pl.col("option") != pl.col("answer"))
        .join(elsewhere, on=["id", "option"], how="anti")
        .select("id", "option", near=pl.lit(False))
    )
    return _with_answers(asked, wrong)


def country_options(world: World) -> pl.DataFrame:
    """Return city → country, both well known, with every admissible wrong option.

    A country where the city's name is an alternate name of some city is no option.
    """
    known = _known_cities(world)
    countries = _asked_countries(world).join(_well_known_countries(known), on="country", how="semi")
    cities = _largest_cities(known.join(countries, on="country", how="semi"), MAX_CITIES_PER_COUNTRY)
    asked = cities.select(id=_city_id(), subject="city", answer="name")
    wrong = (
        cities.select("city_key", "country", id=_city_id())
        .join(_rivals(countries), on="country")
        .join(world.names, left_on=["country_other", "city_key"], right_on=["country", "city_key"], how="anti")
        .select("id", option="name_other", near="near")
    )
    return _with_answers(asked, wrong)


def _known_cities(world: World) -> pl.DataFrame:
    """Return the cities that may be asked about, each with the columns of its country, largest first.

    Left out: capitals and their parts (Buda, South Dublin), cities claimed by two countries, names
    that two countries have a city of, and names that contain the country's or are another's
    (Armenia in Colombia).
    """
    shared = world.cities.group_by("city_key").agg(pl.col("country").n_unique()).filter(pl.col("country") > 1)
    return (
        world.cities.filter(
            pl.col("population") >= MIN_CITY_POPULATION,
            pl.col("num_names") >= MIN_CITY_NAMES,
            pl.col("city").str.contains(PLAIN_NAME) & ~pl.col("city").str.ends_with(" Province"),
            ~pl.col("geonameid").is_in(sorted(CONTESTED_CITIES)),
        )
        .join(_asked_countries(world), on="country", suffix="_country")
        .filter(~_contains("name_key", "city_key"), ~_contains("capital_key", "city_key").fill_null(False))
        .join(shared, on="city_key", how="anti")
        .join(world.countries, left_on="city_key", right_on="name_key", how="anti")
        # by every name: the capital Ulan Bator is also spelled Ulaanbaatar
        .join(world.names, left_on=["geonameid", "capital_key"], right_on=["geonameid", "city_key"], how="anti")
        .sort("population", "geonameid", descending=[True, False])
        .unique(["country", "city_key"], keep="first", maintain_order=True)
    )


def _well_known_countries(known: pl.DataFrame) -> pl.DataFrame:
    """Return the column `country` of the most populous countries with enough known cities."""
    return (
        known.group_by("country", pl.col("population_country").alias("people"))
        .len("num_cities")
        .filter(pl.col("num_cities") >= MIN_CITIES_PER_WELL_KNOWN_COUNTRY)
        .sort("people", "country", descending=[True, False])
        .head(NUM_WELL_KNOWN_COUNTRIES)
        .select("country")
    )


def _largest_cities(cities: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Keep the largest cities of each country, in table order."""
    return (
        cities.sort("population", "geonameid", descending=[True, False])
        .filter(pl.int_range(pl.len()).over("country") < limit)
        .sort("geonameid")
    )


def _city_id() -> pl.Expr:
    return pl.col("geonameid").cast(pl.String)


def _asked_countries(world: World) -> pl.DataFrame:
    return world.countries.filter(
        pl.col("population") >= MIN_COUNTRY_POPULATION, pl.col("continent").is_not_null()
    ).sort("country")


def _rivals(countries: pl.DataFrame) -> pl.DataFrame:
    """Pair every country with every other that it has no dispute with; `near`: neighbour or same continent."""
    contested = pl.DataFrame(
        [*CONTESTED, *((b, a) for a, b in CONTESTED)], schema=["country", "country_other"], orient="row"
    )
    return (
        countries.join(countries, how="cross", suffix="_other")
        .filter(pl.col("country") != pl.col("country_other"))
        .with_columns(
            near=pl.col("neighbours").list.contains(pl.col("country_other"))
            | (pl.col("continent") == pl.col("continent_other"))
        )
        .join(contested, on=["country", "country_other"], how="anti")
    )


def _contains(one: str, other: str) -> pl.Expr:
    """Tell whether either name key holds the other."""
    a, b = pl.col(one), pl.col(other)
    return a.str.contains(b, literal=True) | b.str.contains(a, literal=True)


def _with_answers(asked: pl.DataFrame, wrong: pl.DataFrame) -> pl.DataFrame:
    """Stack right and wrong options: `id, subject, option, rank` (0 right, 1 near, 2 other)."""
    right = asked.select("id", "subject", option="answer", rank=pl.lit(0))
    rest = wrong.join(asked.select("id", "subject"), on="id").select(
        "id", "subject", "option", rank=pl.when("near").then(1).otherwise(2)
    )
    return pl.concat([right, rest])
