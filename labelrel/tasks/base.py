"""What a task is: a data set turned into items, and the words around each of them.

A task never touches a model. It loads items, words them for a reader in several ways, says which
text stands for which canonical answer, reads an answer out of a completion, and checks it against
gold. Every function takes an item as a plain dict, one row of the items table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from labelrel.errors import InputError
from labelrel.registry import Registry
from labelrel.schema import ITEMS

Item = Mapping[str, Any]
Kind = Literal["choice", "binary", "numeric", "text"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One data set with its wording, its answers and its gold check.

    Attributes:
        name: the registered name.
        kind: `choice` (one of the item's choices), `binary` (a choice of two), `numeric` or `text`.
        summary: one line for `labelrel tasks`.
        source: where the data come from and under which licence.
        load: (source, sizes per split, seed) → items table; `source` None means the task's own.
        wordings: item → prompts, one per query variant, the canonical one first. The text to
            learn or to score follows a prompt directly.
        target: (item, canonical answer) → the text that follows the prompt, leading space included.
        parse: (item, completion) → canonical answer, or null where it cannot be read. Total: it
            never raises, whatever the completion.
        is_correct: (answer, gold label) → whether they mean the same; both canonical.
    """

    name: str
    kind: Kind
    summary: str
    source: str
    load: Callable[[str | None, Mapping[str, int], int], pl.DataFrame]
    wordings: Callable[[Item], list[str]]
    target: Callable[[Item, str], str]
    parse: Callable[[Item, str], str | None]
    is_correct: Callable[[str, str], bool] = lambda answer, gold: answer == gold

    def options(self, item: Item) -> list[str]:
        """Return the texts that may follow the prompt, in the item's own choice order.

        Raises:
            InputError: the item is an open question and has no options to choose from.
        """
        if item["choices"] is None:
            raise InputError(f"item {item['item_id']} is an open question: it has no choices to score.")
        return [self.target(item, str(index)) for index in range(len(item["choices"]))]


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
