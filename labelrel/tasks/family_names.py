"""Task `family_names`: family name → the country where it is at home (`name_lists` has the rules)."""

from __future__ import annotations

from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts
from labelrel.tasks.name_lists import SOURCE, name_options

MIXED = ("en", "fr_BE", "fr_CH", "is_IS", "nl_BE")
"""Lists of countries where several languages are at home, and Iceland's, which are of fathers' names."""

MAX_PER_COUNTRY = 36

FAMILIES = {
    "country": Family(
        "In which country is {subject} a traditional family name?",
        (
            "{subject} is a family name from",
            "Family name: {subject}\nCountry of origin:",
            "Q: Name the country that the family name {subject} comes from.\nA:",
            "The ancestors of somebody called {subject} most likely lived in",
        ),
    ),
}


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of the family."""
    return {"country": name_options("last", MIXED, MAX_PER_COUNTRY)}


FACTS = add_facts(
    Facts(
        name="family_names",
        summary="family names → the country where they are at home; four options",
        source=SOURCE,
        families=FAMILIES,
        options=options,
    )
)
