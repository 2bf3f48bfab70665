"""Task `first_names`: first name → the country where it is at home (`name_lists` has the rules)."""

from __future__ import annotations

from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts
from labelrel.tasks.name_lists import SOURCE, name_options

MIXED = ("de_AT", "de_CH", "de_DE", "en_KE", "fr_BE", "fr_CH", "nl_BE", "nl_NL", "sv_SE", "tw_GH")
"""Lists with many names that immigrants, missionaries or films brought."""

MAX_PER_COUNTRY = 44

FAMILIES = {
    "country": Family(
        "In which country is {subject} a traditional first name?",
        (
            "{subject} is a first name from",
            "First name: {subject}\nCountry of origin:",
            "Q: Name the country that the first name {subject} comes from.\nA:",
            "Parents who call their child {subject} most likely live in",
        ),
    ),
}


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of the family."""
    return {"country": name_options("first", MIXED, MAX_PER_COUNTRY)}


FACTS = add_facts(
    Facts(
        name="first_names",
        summary="first names → the country where they are at home; four options",
        source=SOURCE,
        families=FAMILIES,
        options=options,
    )
)
