"""Which questions are asked, and in which wordings (pure: no model, no files)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import polars as pl

from labelrel.tasks import Prompting, Reading
from labelrel.tasks.base import Item, Wording


@dataclass(frozen=True)
class Query:
    """One wording of one item, ready to be asked.

    Attributes:
        item: the item's row.
        variant_id: "0" is the canonical wording, "1", "2", … the others.
        prompt: the text before the answer.
        options: the texts that may follow, in the item's own choice order; None for an open item.
        read: completion → what it says, in the item's own terms.
    """

    item: Item
    variant_id: str
    prompt: str
    options: tuple[str, ...] | None
    read: Callable[[str], Reading] = field(compare=False, repr=False)


def query_variants(prompting: Prompting, items: pl.DataFrame, variants: int) -> Iterator[Query]:
    """Yield the first `variants` wordings of each item, items in table order.

    Raises:
        ConfigError: an item has fewer wordings than asked for.
    """
    for item in items.iter_rows(named=True):
        for number, wording in enumerate(prompting.variants(item, variants)):
            yield Query(item, str(number), wording.prompt, wording.options, _reader(prompting, item, wording))


def _reader(prompting: Prompting, item: Item, wording: Wording) -> Callable[[str], Reading]:
    return lambda completion: prompting.read(item, wording, completion)
