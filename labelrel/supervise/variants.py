"""Which questions are asked, and in which wordings (pure: no model, no files)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from labelrel.errors import ConfigError
from labelrel.tasks import Task
from labelrel.tasks.base import Item


@dataclass(frozen=True)
class Query:
    """One wording of one item, ready to be asked.

    Attributes:
        item: the item's row.
        variant_id: "0" is the task's canonical wording, "1", "2", … the others.
        prompt: the text before the answer.
        options: the texts that may follow, in the item's own choice order; None for an open item.
    """

    item: Item
    variant_id: str
    prompt: str
    options: list[str] | None


def query_variants(task: Task, items: pl.DataFrame, variants: int) -> Iterator[Query]:
    """Yield the first `variants` wordings of each item, items in table order.

    Raises:
        ConfigError: the task has fewer wordings than asked for.
    """
    for item in items.iter_rows(named=True):
        prompts = task.wordings(item)
        if variants > len(prompts):
            raise ConfigError(
                f"{variants} variants are asked for, but task '{task.name}' has {len(prompts)} wordings for item "
                f"{item['item_id']}; set variants to at most {len(prompts)}."
            )
        options = None if item["choices"] is None else task.options(item)
        for number, prompt in enumerate(prompts[:variants]):
            yield Query(item, str(number), prompt, options)
