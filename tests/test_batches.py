"""Large tables a piece at a time: the same rows, in order, whole or not at all."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.batches import Batches, write_batches
from labelrel.errors import InputError
from labelrel.files import read_table

TABLE = pl.DataFrame({"item_id": [f"q{i}" for i in range(1000)], "score": [i / 7 for i in range(1000)], "ok": True})
PIECES = [TABLE[:1], TABLE[1:400], TABLE[400:400], TABLE[400:]]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_what_is_written_in_pieces_is_the_table(tmp_path, name):
    assert write_batches(tmp_path / name, TABLE.schema, iter(PIECES)) == 1000
    back = read_table(tmp_path / name)
    back = back.with_columns(pl.col("score").cast(pl.Float64), pl.col("ok").cast(pl.String) == "true")
    assert_frame_equal(back, TABLE)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_pieces_are_read_in_order_and_only_the_columns_asked_for(tmp_path):
    TABLE.write_parquet(tmp_path / "t.parquet", row_group_size=100)
    batches = Batches(tmp_path / "t.parquet")
    assert batches.schema == TABLE.schema
    assert batches.num_rows == 1000
    for _ in range(2):  # as often as asked
        parts = list(batches.read(["score"], rows=128))
        assert len(parts) > 3
        assert_frame_equal(pl.concat(parts), TABLE.select("score"))


def test_other_formats_come_as_one_piece(tmp_path):
    TABLE.write_csv(tmp_path / "t.csv")
    batches = Batches(tmp_path / "t.csv")
    assert batches.num_rows == 1000
    assert [part.shape for part in batches.read(["ok", "item_id"])] == [(1000, 2)]


def test_what_a_piece_raises_is_raised_and_nothing_is_left(tmp_path):
    def broken():
        yield TABLE[:10]
        raise InputError("the second piece is missing")

    with pytest.raises(InputError, match=r"^the second piece is missing$"):
        write_batches(tmp_path / "t.parquet", TABLE.schema, broken())
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_told_in_one_line(tmp_path):
    TABLE.write_parquet(tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read as parquet") as caught:
        list(Batches(tmp_path / "t.parquet").read(["score"]))
    assert "\n" not in str(caught.value)


def test_another_extension_is_told_before_any_piece_is_made(tmp_path):
    with pytest.raises(InputError, match=r"unknown extension; writable are \.parquet, \.csv and \.jsonl"):
        write_batches(tmp_path / "t.xlsx", TABLE.schema, iter(PIECES))
