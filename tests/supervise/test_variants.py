"""Which questions are asked in which wordings."""

from __future__ import annotations

import polars as pl
import pytest

from labelrel.errors import ConfigError
from labelrel.supervise.variants import query_variants
from labelrel.tasks import Task


def test_variants_come_item_by_item_the_canonical_wording_first(tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    queries = list(query_variants(tiny_task, tiny_items.head(2), 2))
    assert [(q.item["item_id"], q.variant_id, q.prompt) for q in queries] == [
        ("i00", "0", "Colour of fig:"),
        ("i00", "1", "fig is"),
        ("i01", "0", "Colour of kiwi:"),
        ("i01", "1", "kiwi is"),
    ]


def test_options_stay_in_the_items_own_order(tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    queries = query_variants(tiny_task, tiny_items.slice(1, 1), 3)
    assert [q.options for q in queries] == [[" green", " blue", " red"]] * 3


def test_fewer_variants_are_the_first_of_more(tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    few, more = (list(query_variants(tiny_task, tiny_items, number)) for number in (1, 3))
    assert few == [query for query in more if query.variant_id == "0"]
    assert len(more) == 3 * tiny_items.height


def test_open_item_has_no_options(tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    items = tiny_items.head(1).with_columns(choices=pl.lit(None, pl.List(pl.String)))
    assert [query.options for query in query_variants(tiny_task, items, 2)] == [None, None]


def test_more_variants_than_wordings_are_refused_with_the_number_there_is(
    tiny_task: Task, tiny_items: pl.DataFrame
) -> None:
    with pytest.raises(ConfigError, match=r"task 'toy' has 3 wordings for item i00; set variants to at most 3\."):
        list(query_variants(tiny_task, tiny_items, 4))
