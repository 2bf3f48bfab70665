"""Tables as integers: the same votes whatever the pieces, the types and the order of rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.scoring.encode import Encoder, Votes, pieces
from labelrel.scoring.frames import as_answers, read_answers


def make_table(num_items: int = 500, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = num_items * 5
    return pl.DataFrame(
        {
            "item_id": np.repeat(np.arange(num_items), 5) * 7,
            "annotator_id": rng.integers(-3, 9, size=rows),
            "answer": pl.Series(rng.integers(100_000, 100_004, size=rows)).set(pl.Series(rng.random(rows) < 0.1), None),
            "answer_logprob": -rng.random(rows),
        }
    )


def encode(table: pl.DataFrame, rows: int) -> Votes:
    encoder = Encoder()
    for start in range(0, table.height, rows):
        encoder.add(as_answers(table[start : start + rows], "answers"))
    return encoder.finish()


TABLE = make_table()
AS_TEXT = TABLE.with_columns(pl.col("item_id", "annotator_id", "answer").cast(pl.String))


@pytest.mark.parametrize("table", [TABLE, AS_TEXT, TABLE.sample(fraction=1, shuffle=True, seed=1)])
@pytest.mark.parametrize("rows", [1, 7, 333])  # pieces that end in the middle of an item
def test_pieces_give_what_the_whole_table_gives(table, rows):
    table = table.head(300)
    assert_frame_equal(encode(table, rows).frame(), read_answers(table).frame())


def test_numbers_and_their_texts_are_the_same_table():
    assert_frame_equal(read_answers(TABLE).frame(), read_answers(AS_TEXT).frame())


def test_every_row_comes_back_once_with_its_own_columns():
    shuffled = TABLE.sample(fraction=1, shuffle=True, seed=3)
    columns = ["item_id", "annotator_id", "answer", "answer_logprob"]
    back = read_answers(shuffled).frame().select(columns)
    expected = AS_TEXT.select(columns)
    assert_frame_equal(back, expected, check_row_order=False, check_exact=True)
    first = shuffled["item_id"].cast(pl.String).unique(maintain_order=True)
    assert back["item_id"].unique(maintain_order=True).equals(first)
    runs = back["item_id"].rle().len()
    assert runs == first.len()  # rows of an item stand together


def test_rows_of_an_item_keep_their_order():
    table = pl.DataFrame({"item_id": [*"abab"], "answer": ["4", "3", "2", "1"]})
    assert read_answers(table).frame()["answer"].to_list() == ["4", "2", "3", "1"]


def test_codes_are_in_the_order_of_the_texts():
    votes = read_answers(TABLE)
    assert votes.answers.to_list() == ["100000", "100001", "100002", "100003"]
    assert votes.annotator_ids.is_sorted()


def test_a_slice_is_the_table_of_its_items():
    votes = read_answers(TABLE)
    part = votes.slice(100, 200)
    ids = votes.item_ids[100:200]
    assert_frame_equal(part.frame(), votes.frame().filter(pl.col("item_id").is_in(ids.implode())))
    assert part.offsets[0] == 0
    assert part.num_items == 100


def test_pieces_cover_every_item_once():
    votes = read_answers(TABLE)
    spans = pieces(votes, 37)
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == votes.num_items
    assert all(votes.offsets[stop] - votes.offsets[start] <= 37 for start, stop in spans)
    assert pieces(votes, 1) == [(i, i + 1) for i in range(votes.num_items)]  # an item is never cut


def test_a_rater_is_the_annotator_or_with_variants_each_pair():
    rows = {"item_id": [*"aabb"], "annotator_id": [*"xyxy"], "answer": [*"1212"]}
    assert read_answers(pl.DataFrame(rows)).raters[1].to_list() == ["x", "y"]
    codes, names = read_answers(pl.DataFrame({**rows, "variant_id": [0, 0, 1, 0]})).raters
    assert names.gather(codes).to_list() == ["x/0", "y/0", "x/1", "y/0"]


def test_duplicates_are_found_across_the_pieces_they_lie_in():
    table = pl.DataFrame({"item_id": [*"abba"], "annotator_id": "x", "variant_id": [0, 0, 1, 0], "answer": [*"1234"]})
    with pytest.raises(InputError, match=r"2 rows that share their \(item_id, annotator_id, variant_id\): a/x/0\."):
        encode(table, 1)
