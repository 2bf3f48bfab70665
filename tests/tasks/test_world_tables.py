from __future__ import annotations

import polars as pl
import pytest

from labelrel.tasks.facts import key_of
from labelrel.tasks.world_tables import clean


def record(iso: str, name: str, capital: str, neighbours: str = "") -> dict:
    return {
        "iso": iso,
        "name": name,
        "capital": capital,
        "continentcode": "EU",
        "population": 1,
        "neighbours": neighbours,
    }


CITY = {
    "geonameid": 7,
    "name": "Città ",
    "countrycode": "IT",
    "population": 20_000,
    "alternatenames": ["Citta", "City"],
}


def countries(*records: dict) -> dict[str, dict]:
    return {row["country"]: row for row in clean(list(records), [CITY]).countries.to_dicts()}


@pytest.mark.parametrize(
    ("given", "column", "expected"),
    [
        (record("FR", " France ", " Paris "), "name", "France"),
        (record("FR", "France", " Paris "), "capital", "Paris"),
        (record("NL", "The Netherlands", "Amsterdam"), "name", "the Netherlands"),
        (record("NL", "The Netherlands", "Amsterdam"), "name_key", "netherlands"),
        (record("PH", "Philippines", "Manila"), "name", "the Philippines"),
        (record("XX", "Nowhere", ""), "capital", None),
        (record("IL", "Israel", "Jerusalem"), "capital", None),
        (record("KZ", "Kazakhstan", "Nur-Sultan"), "capital", "Astana"),
        (record("FR", "France", "Paris", "ES,IT"), "neighbours", ["ES", "IT"]),
        (record("FR", "France", "Paris"), "continent", "Europe"),
    ],
)
def test_country_is_cleaned(given, column, expected):
    assert countries(given)[given["iso"]][column] == expected


def test_dissolved_countries_and_territories_are_dropped():
    assert list(
        countries(record("AN", "Netherlands Antilles", "W"), record("MQ", "Martinique", "F"), record("FR", "F", "P"))
    ) == ["FR"]


def test_cities_keep_their_name_and_every_alternate_is_a_key():
    world = clean([record("IT", "Italy", "Rome")], [CITY])
    assert world.cities.row(0, named=True) == {
        "geonameid": 7,
        "city": "Città",
        "country": "IT",
        "population": 20_000,
        "city_key": "citta",
        "num_names": 3,  # "Città ", "Citta", "City"
    }
    assert sorted(world.names.rows()) == [(7, "IT", "citta"), (7, "IT", "city")]


def test_key_ignores_accents_blanks_punctuation_and_case():
    keys = pl.DataFrame({"n": ["São Tomé", "SAO-TOME", "sao tome "]}).select(key_of(pl.col("n"))).to_series()
    assert keys.to_list() == ["saotome"] * 3
