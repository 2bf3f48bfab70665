"""What a task is: a data set turned into items, and the words around each of them.

A task never touches a model. It loads items, words them for a reader in several ways, says which
text stands for which canonical answer, reads an answer out of a completion, and checks it against
gold. Every function takes an item as a plain dict, one row of the items table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import polars as pl

from labelrel.errors import InputError
from labelrel.plugin import Params, Plugin
from labelrel.registry import Registry
from labelrel.schema import ITEMS

Item = Mapping[str, Any]
Kind = Literal["choice", "binary", "classes", "numeric", "text"]


@dataclass(frozen=True)
class Wording:
    """One way to ask an item.

    Attributes:
        prompt: the text before the answer; it does not end in a blank.
        options: the text that follows for each choice, in the item's own choice order whatever order
            they are listed in, leading blank included; None for an open item.
    """

    prompt: str
    options: tuple[str, ...] | None = None


class Reading(NamedTuple):
    """What was read out of a completion.

    Attributes:
        answer: canonical, in the item's own terms; null where there is none.
        cause: why there is none, one of a few fixed phrases ("empty", "names no option", "no number",
            …) by which unparsable completions are counted; null where there is an answer.
    """

    answer: str | None
    cause: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One data set with its wording, its answers and its gold check.

    Attributes:
        name: the registered name.
        kind: `choice` (one of the item's choices), `binary` (a choice of two words that mean the same in
            every item), `classes` (more such words), `numeric` or `text`. A task that learns it from the
            user's table keeps it in the items.
        summary: one line for `labelrel tasks`.
        source: where the data come from and under which licence.
        load: (source, sizes per split, seed) → items table; `source` None means the task's own. With
            `params` of its own, a fourth argument has them.
        params: model of `prepare.options`.
        wordings: item → the ways to ask it without listing the options, the canonical one first.
        target: (item, canonical answer) → the text that follows the prompt of an open item, leading
            blank included.
        parse: (item, completion) → what it says. Total: it never raises, whatever the completion.
        is_correct: (answer, gold label) → whether they mean the same; both canonical.
        orders: item → the same question with its answer words in other orders, the canonical one
            first; null: the options are listed in other orders instead.
    """

    name: str
    kind: Kind
    summary: str
    source: str
    load: Callable[..., pl.DataFrame]
    params: type[Params] = Params
    wordings: Callable[[Item], list[Wording]]
    target: Callable[[Item, str], str] = lambda item, answer: " " + answer
    parse: Callable[[Item, str], Reading]
    is_correct: Callable[[str, str], bool] = lambda answer, gold: answer == gold
    orders: Callable[[Item], list[Wording]] | None = None

    def make_items(
        self, source: str | None, sizes: Mapping[str, int], seed: int, options: Mapping[str, Any] | None = None
    ) -> pl.DataFrame:
        """Return the items table.

        Args:
            source: folder or file of the data, "hub", or null for the task's own.
            sizes: number of items per split, in the order in which splits are filled.
            seed: of splits and of whatever the task draws.
            options: `prepare.options`.

        Raises:
            ConfigError: an option that the task does not have.
            InputError: data that cannot be read, or too few of them.
        """
        params = self._plugin.parse(options or {}, "prepare.options")
        own = () if self.params is Params else (params,)
        return self.load(source, sizes, seed, *own)

    def problems(self, options: Mapping[str, Any], section: str) -> list[str]:
        """Return everything that is wrong with `prepare.options`, one line each."""
        return self._plugin.problems(options, section)

    @property
    def _plugin(self) -> Plugin:
        return Plugin(name=self.name, function=self.load, params=self.params)


def meta_of(item: Item) -> Mapping[str, Any]:
    """Return what a task's own items carry for their wording.

    Raises:
        InputError: the items were made by something else.
    """
    meta: Mapping[str, Any] | None = item.get("meta")
    if meta is None:
        raise InputError(
            f"item {item['item_id']} has no 'meta', which task '{item['task']}' needs to word it; make the items with "
            "`labelrel prepare`, or use task 'table' for your own."
        )
    return meta


tasks: Registry[Task] = Registry("task")


def stable_order(ids: list[str], seed: int) -> list[str]:
    """Order ids by a hash of (seed, id): an id keeps its rank when others come or go."""
    return sorted(ids, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())


def assign_splits(items: pl.DataFrame, sizes: Mapping[str, int], seed: int, task: str) -> pl.DataFrame:
    """Give each split its number of items, drawn by a stable hash of the item ids.

    Args:
        items: an items table whose `split` column is missing or to be replaced.
        sizes: number of items per split, in the order in which splits are filled.
        seed: of the hash.
        task: name for the message.

    Returns:
        The drawn items, ordered by split as in `sizes` and then by hash, `split` filled in.

    Raises:
        InputError: fewer items than the sizes add up to.
    """
    wanted = sum(sizes.values())
    if wanted > items.height:
        raise InputError(
            f"task '{task}' has {items.height} items but prepare.sizes asks for {wanted}; lower the sizes."
        )
    order = stable_order(items["item_id"].to_list(), seed)[:wanted]
    splits = [split for split, size in sizes.items() for _ in range(size)]
    drawn = pl.DataFrame({"item_id": order, "split": splits})
    rest = [c for c in items.columns if c not in ("item_id", "split")]
    return drawn.join(items.select("item_id", *rest), on="item_id", how="left", maintain_order="left").select(
        *ITEMS.names(), *[c for c in rest if c not in ITEMS]
    )
