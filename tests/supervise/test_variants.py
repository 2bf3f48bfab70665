"""Which questions are asked in which wordings."""

from __future__ import annotations

import polars as pl
import pytest

from labelrel.config import Prompt
from labelrel.errors import ConfigError
from labelrel.supervise.variants import query_variants
from labelrel.tasks import Prompting, Reading, Task


def test_variants_come_item_by_item_the_canonical_wording_first(
    tiny_prompting: Prompting, tiny_items: pl.DataFrame
) -> None:
    queries = list(query_variants(tiny_prompting, tiny_items.head(2), 2))
    assert [(q.item["item_id"], q.variant_id, q.prompt) for q in queries] == [
        ("i00", "0", "Colour of fig:"),
        ("i00", "1", "fig is"),
        ("i01", "0", "Colour of kiwi:"),
        ("i01", "1", "kiwi is"),
    ]


def test_options_stay_in_the_items_own_order(tiny_prompting: Prompting, tiny_items: pl.DataFrame) -> None:
    queries = query_variants(tiny_prompting, tiny_items.slice(1, 1), 3)
    assert [q.options for q in queries] == [(" green", " blue", " red")] * 3


def test_fewer_variants_are_the_first_of_more(tiny_prompting: Prompting, tiny_items: pl.DataFrame) -> None:
    few, more = (list(query_variants(tiny_prompting, tiny_items, number)) for number in (1, 3))
    assert few == [query for query in more if query.variant_id == "0"]
    assert len(more) == 3 * tiny_items.height


def test_open_item_has_no_options(tiny_prompting: Prompting, tiny_items: pl.DataFrame) -> None:
    items = tiny_items.head(1).with_columns(choices=pl.lit(None, pl.List(pl.String)))
    assert [query.options for query in query_variants(tiny_prompting, items, 2)] == [None, None]


def test_more_variants_than_wordings_are_refused_with_the_number_there_is(
    tiny_prompting: Prompting, tiny_items: pl.DataFrame
) -> None:
    with pytest.raises(ConfigError, match=r"has 3 wordings for item i00; set variants to at most 3\.$"):
        list(query_variants(tiny_prompting, tiny_items, 4))


def test_each_query_reads_for_its_own_item(tiny_prompting: Prompting, tiny_items: pl.DataFrame) -> None:
    """The options turn from item to item, so a reader of another item would give another index."""
    queries = list(query_variants(tiny_prompting, tiny_items.head(3), 2))
    assert [query.read(" blue").answer for query in queries] == ["2", "2", "1", "1", "0", "0"]
    assert queries[0].read("tan") == Reading(None, "names no option")


def test_each_query_reads_for_its_own_wording(tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    settings = Prompt(options="listed", answer="letter", vary="order")
    queries = list(query_variants(Prompting(tiny_task, settings), tiny_items.head(2), 6))
    for query in queries:
        assert query.options is not None
        assert [query.read(option).answer for option in query.options] == ["0", "1", "2"]
    assert len({query.read("A").answer for query in queries[:6]}) == 3


def test_queries_that_ask_the_same_are_equal(tiny_prompting: Prompting, tiny_items: pl.DataFrame) -> None:
    one, other = (list(query_variants(tiny_prompting, tiny_items, 3)) for _ in range(2))
    assert one == other
    assert "read" not in repr(one[0])
