"""What all fact tasks share: wrong options, their order, prompts, the items table.

A fact task asks about a table that a package ships, so its gold labels are known to be right and
nothing has to be downloaded. It is one short file: the table, five wordings per family of questions,
and which wrong options are admissible. The options are never listed in a prompt: models small enough
to be weak supervisors do not bind letters to options and answer by habit instead.

The table of a family has one row per (question, option): `id, subject, option, rank`, where rank 0
is the right option, 1 a near miss and 2 any other wrong one. Further columns are for the wordings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter

import polars as pl

from labelrel.errors import InputError
from labelrel.tasks.base import Item, Task, Wording, assign_splits, meta_of, tasks
from labelrel.tasks.reading import parse_choice

NUM_DISTRACTORS = 3

CANONICAL = "Question: {question}\nAnswer:"
"""The first wording of every fact; whoever changes an item's `question` changes what is asked."""


@dataclass(frozen=True)
class Family:
    """The wordings of one kind of question, with the columns of its table in braces.

    Attributes:
        question: asked in the canonical wording, and the item's `question`.
        prompts: the other wordings; none ends in a blank.
    """

    question: str
    prompts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A table of facts and the words around it.

    Attributes:
        name: of the task.
        summary: one line for `labelrel tasks`.
        source: which package ships the table, and under which licence.
        families: name → wordings.
        options: () → name of the family → its table of options; imports the package when called.
    """

    name: str
    summary: str
    source: str
    families: Mapping[str, Family]
    options: Callable[[], Mapping[str, pl.DataFrame]]

    def make_items(self, seed: int, options: Mapping[str, pl.DataFrame] | None = None) -> pl.DataFrame:
        """Make every item there is, without splits: families one after the other, ids sorted.

        An item's text depends on its id, the seed and its own admissible options, so it stays the
        same when others come or go.

        Args:
            seed: of the wrong options and the order of all.
            options: tables of options in place of the task's own.

        Returns:
            Columns `item_id, task, question, choices, gold_label, meta` (family, subject and whatever
            else the wordings need).
        """
        found = self.options() if options is None else options
        return pl.concat([self._compose(family, found[family], seed) for family in self.families])

    def load(self, source: str | None, sizes: Mapping[str, int], seed: int) -> pl.DataFrame:
        """Return the items table.

        Args:
            source: must be null; the table comes with an installed package.
            sizes: number of items per split, in the order in which splits are filled.
            seed: of the wrong options, their order and the splits.

        Raises:
            InputError: a source was given, or the sizes add up to more items than there are.
        """
        if source is not None:
            raise InputError(f"task '{self.name}' makes its own items: prepare.source must be null, got {source!r}.")
        return assign_splits(self.make_items(seed), sizes, seed, self.name)

    def wordings(self, item: Item) -> list[Wording]:
        """Return the five ways to ask an item, the canonical one first, none ending in a blank."""
        meta = meta_of(item)
        others = [prompt.format(**meta) for prompt in self.families[meta["family"]].prompts]
        options = tuple(f" {choice}" for choice in item["choices"])
        # a capital: "The Netherlands is on ..."
        return [Wording(p[0].upper() + p[1:], options) for p in (CANONICAL.format(question=item["question"]), *others)]

    def _compose(self, family: str, options: pl.DataFrame, seed: int) -> pl.DataFrame:
        """Draw the wrong options and the order of all; items with too few wrong options are left out.

        The first wrong option is a near one where there is one; the others are drawn from all the rest,
        the remaining near ones included.
        """
        rows = options.with_columns(item_id=pl.concat_str(pl.lit(f"{family}-"), "id"))
        meta = [column for column in options.columns if column not in ("id", "option", "rank")]
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
            .group_by("item_id", *meta, maintain_order=True)
            .agg(choices="option", gold_label=pl.col("rank").arg_min().cast(pl.String))
            .select(
                "item_id",
                pl.lit(self.name).alias("task"),
                _filled(self.families[family].question).alias("question"),
                "choices",
                "gold_label",
                pl.struct(pl.lit(family).alias("family"), *meta).alias("meta"),
            )
        )


def add_facts(facts: Facts) -> Facts:
    """Register a table of facts as a task and return it."""
    tasks.add(
        facts.name,
        Task(
            name=facts.name,
            kind="choice",
            summary=facts.summary,
            source=facts.source,
            load=facts.load,
            wordings=facts.wordings,
            parse=parse_choice,
        ),
    )
    return facts


def options_of(
    asked: pl.DataFrame,
    *,
    answers: pl.Series | None = None,
    true: pl.DataFrame | None = None,
    near: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Give every question the answers to all others as wrong options.

    Args:
        asked: `id, subject, answer`, and further columns for the wordings.
        answers: what can be an option; null: the answers that occur in `asked`.
        true: pairs `id, option` that are right too, or might be; they are no options.
        near: pairs `answer, option` of right answers and the near misses for them.

    Returns:
        One row per (question, option), as at the top of this module.
    """
    pool = (asked["answer"] if answers is None else answers).unique().sort().rename("option")
    wrong = asked.join(pool.to_frame(), how="cross").filter(pl.col("option") != pl.col("answer"))
    if true is not None:
        wrong = wrong.join(true, on=["id", "option"], how="anti")
    closeness = pl.DataFrame(schema={"answer": pl.String, "option": pl.String}) if near is None else near
    wrong = wrong.join(closeness.unique().with_columns(rank=pl.lit(1)), on=["answer", "option"], how="left")
    right = asked.with_columns(option="answer", rank=pl.lit(0))
    return pl.concat([right, wrong.with_columns(pl.col("rank").fill_null(2))]).drop("answer")


def keep_few(rows: pl.DataFrame, by: str, limit: int) -> pl.DataFrame:
    """Keep at most so many questions per group, chosen by a hash of their ids and not by their place."""
    order = pl.Series("order", [hashlib.sha256(i.encode()).hexdigest() for i in rows["id"]], dtype=pl.String)
    return rows.with_columns(order).filter(pl.col("order").rank("ordinal").over(by) <= limit).drop("order").sort("id")


def key_of(text: pl.Expr) -> pl.Expr:
    """Reduce names to their bare letters and digits, so that spellings compare equal."""
    return text.str.normalize("NFKD").str.replace_all(r"[^\p{L}\p{Nd}]", "").str.to_lowercase()


def alike(one: str, other: str, most: float) -> bool:
    """Tell whether two keys share more than a part of their letters (Ratcliff/Obershelp), or one holds the other."""
    from difflib import SequenceMatcher

    return one in other or other in one or SequenceMatcher(None, one, other, autojunk=False).ratio() > most


def _filled(template: str) -> pl.Expr:
    """Fill a template with the columns that it names."""
    columns = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    return pl.format(template.format_map(dict.fromkeys(columns, "{}")), *columns)


def _draws(rows: pl.DataFrame, purpose: str, seed: int) -> pl.Series:
    """Hash (seed, purpose, item, option): a draw that other rows, versions and machines do not change."""
    return pl.Series(
        [
            int.from_bytes(hashlib.sha256(f"{seed}:{purpose}:{item}:{option}".encode()).digest()[:8], "big")
            for item, option in rows.select("item_id", "option").iter_rows()
        ],
        dtype=pl.UInt64,
    )
