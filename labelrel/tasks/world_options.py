"""What may be asked about the world, and which wrong options are plausible and surely wrong.

Every function returns one row per (question, option): `id, subject, option, rank`, where rank 0
is the right option, 1 a near miss (a neighbouring country) and 2 another of the same continent.
"""

from __future__ import annotations

import polars as pl

from labelrel.tasks.world_tables import CONTESTED, CONTESTED_CITIES, CONTINENTS, UNSETTLED_CONTINENTS, World

MIN_COUNTRY_POPULATION = 100_000
MIN_CITY_POPULATION = 150_000
MIN_CITY_NAMES = 20
MAX_CITIES_PER_COUNTRY = 20
"""A city counts as well known by its size and by how many names the languages of the world have
for it; the limit per country keeps China and India from being half of the questions."""

PLAIN_NAME = r"^[\p{Latin}\p{M} '\x{2019}.-]+$"  # leaves out "Paris 15 Vaugirard", "Mianzhu, Deyang, Sichuan"


def capital_options(world: World) -> pl.DataFrame:
    """Return country → capital with every admissible wrong option.

    Left out: unsettled capitals, and those that share a word with the country's name (Kuwait
    City, San Salvador) or contain it (Tunis in Tunisia) and so give the answer away.
    """
    shared_word = (
        pl.col("name")
        .str.to_lowercase()
        .str.extract_all(r"\p{L}{4,}")
        .list.set_intersection(pl.col("capital").str.to_lowercase().str.extract_all(r"\p{L}{4,}"))
    )
    asked = _asked_countries(world).filter(
        pl.col("capital").is_not_null(), shared_word.list.len() == 0, ~_contains("name_key", "capital_key")
    )
    wrong = (
        _rivals(asked)
        .filter(pl.col("capital_key") != pl.col("capital_key_other"))
        # San Jose is the capital of Costa Rica, but also a city in Guatemala
        .join(world.names, left_on=["country", "capital_key_other"], right_on=["country", "city_key"], how="anti")
        .select(id="country", option="capital_other", near="near")
    )
    return _with_answers(asked.select(id="country", subject="name", answer="capital"), wrong)


def continent_options(world: World) -> pl.DataFrame:
    """Return country → continent with all other continents as wrong options.

    Left out: countries on two continents, and names that say it (South Africa).
    """
    named = pl.any_horizontal(
        pl.col("name").str.contains(stem) for stem in ("Africa", "America", "Asia", "Europe", "Oceania")
    )
    asked = _asked_countries(world).filter(~pl.col("country").is_in(sorted(UNSETTLED_CONTINENTS)), ~named)
    asked = asked.select(id="country", subject="name", answer="continent")
    wrong = (
        asked.join(pl.DataFrame({"option": list(CONTINENTS.values())}), how="cross")
        .filter(pl.col("option") != pl.col("answer"))
        .select("id", "option", near=pl.lit(False))
    )
    return _with_answers(asked, wrong)


def country_options(world: World) -> pl.DataFrame:
    """Return city → country with every admissible wrong option.

    Left out: capitals, cities claimed by two countries, names that two countries have a city of,
    and names that contain the country's. A country where the city's name is an alternate name of
    some city is no option.
    """
    countries = _asked_countries(world)
    shared = world.cities.group_by("city_key").agg(pl.col("country").n_unique()).filter(pl.col("country") > 1)
    known = (
        world.cities.filter(
            pl.col("population") >= MIN_CITY_POPULATION,
            pl.col("num_names") >= MIN_CITY_NAMES,
            pl.col("city").str.contains(PLAIN_NAME) & ~pl.col("city").str.ends_with(" Province"),
            ~pl.col("geonameid").is_in(sorted(CONTESTED_CITIES)),
        )
        .join(countries, on="country")
        .filter(~_contains("name_key", "city_key"))
        .join(shared, on="city_key", how="anti")
        # by every name: the city of Washington stands in the tables as "Washington, D.C."
        .join(world.names, left_on=["geonameid", "capital_key"], right_on=["geonameid", "city_key"], how="anti")
        .sort("population", "geonameid", descending=[True, False])
        .unique(["country", "city_key"], keep="first", maintain_order=True)
        .filter(pl.int_range(pl.len()).over("country") < MAX_CITIES_PER_COUNTRY)
        .sort("geonameid")
    )
    asked = known.select(id=pl.col("geonameid").cast(pl.String), subject="city", answer="name")
    wrong = (
        known.select("geonameid", "city_key", "country")
        .join(_rivals(countries), on="country")
        .join(world.names, left_on=["country_other", "city_key"], right_on=["country", "city_key"], how="anti")
        .select(id=pl.col("geonameid").cast(pl.String), option="name_other", near="near")
    )
    return _with_answers(asked, wrong)


def _asked_countries(world: World) -> pl.DataFrame:
    return world.countries.filter(
        pl.col("population") >= MIN_COUNTRY_POPULATION, pl.col("continent").is_not_null()
    ).sort("country")


def _rivals(countries: pl.DataFrame) -> pl.DataFrame:
    """Pair every country with those it may be mistaken for: neighbours and its own continent."""
    contested = pl.DataFrame(
        [*CONTESTED, *((b, a) for a, b in CONTESTED)], schema=["country", "country_other"], orient="row"
    )
    return (
        countries.join(countries, how="cross", suffix="_other")
        .filter(pl.col("country") != pl.col("country_other"))
        .with_columns(near=pl.col("neighbours").list.contains(pl.col("country_other")))
        .filter(pl.col("near") | (pl.col("continent") == pl.col("continent_other")))
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
