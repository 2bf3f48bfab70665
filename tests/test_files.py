"""Whole files or none, and tables of every kind that is safe to read."""

from __future__ import annotations

import gzip
import hashlib
import stat
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.files import (
    digest,
    digest_of,
    read_json,
    read_table,
    replacing,
    replacing_folder,
    write_any_table,
    write_json,
    write_table,
)

FRAME = pl.DataFrame({"item_id": ["007", "a,b"], "answer": ["1.0", None]})


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_the_block_is_done_and_not_before(tmp_path):
    target = tmp_path / "deep" / "x.txt"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename across file systems would not be atomic
    assert target.read_text() == "new"
    assert listing(target.parent) == ["x.txt"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_old_file_stays_when_the_block_fails(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["x.txt"]


def test_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "left over").write_text("old")
    with replacing_folder(target) as temporary:
        (temporary / "new").write_text("new")
        assert listing(target) == ["left over"]
    assert listing(target) == ["new"]
    assert listing(tmp_path) == ["run"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_old_folder_stays_when_the_block_fails(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").write_text("old")

    def fail() -> None:
        with replacing_folder(target) as temporary:
            (temporary / "half").write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert listing(target) == ["old"]
    assert listing(tmp_path) == ["run"]


def test_json_there_and_back(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"b": [1, None], "a": "é"})
    assert read_json(file) == {"b": [1, None], "a": "é"}
    assert file.read_text(encoding="utf-8").startswith('{\n  "b"')
    assert "é" in file.read_text(encoding="utf-8")


def test_json_refuses_nan_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "match"), [(None, "no such file"), (b"{", "is not JSON"), (b"\xff", "is not JSON")]
)
def test_json_that_cannot_be_read(tmp_path, content, match):
    file = tmp_path / "x.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=match):
        read_json(file)


def test_equal_frames_give_equal_bytes(tmp_path):
    write_table(tmp_path / "a.parquet", FRAME)
    write_table(tmp_path / "b.parquet", FRAME.clone())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_metadata_of_a_table_is_kept(tmp_path):
    write_table(tmp_path / "a.parquet", FRAME, {"labelrel.method": "filter"})
    assert pl.read_parquet_metadata(tmp_path / "a.parquet")["labelrel.method"] == "filter"


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl", "my.table.csv"])
def test_table_there_and_back(tmp_path, name):
    write_any_table(tmp_path / name, FRAME)
    assert_frame_equal(read_table(tmp_path / name), FRAME)


def test_unknown_extension_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"t\.xlsx: unknown extension; writable are \.parquet, \.csv and \.jsonl"):
        write_any_table(tmp_path / "t.xlsx", FRAME)
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"item_id,answer\n007,1.0\n"),
        ("T.CSV", b"item_id,answer\n007,1.0\n"),
        ("t.csv.gz", gzip.compress(b"item_id,answer\n007,1.0\n")),
        ("t.tsv", b"item_id\tanswer\n007\t1.0\n"),
        ("t.tsv.gz", gzip.compress(b"item_id\tanswer\n007\t1.0\n")),
        ("t.jsonl", b'{"item_id": "007", "answer": "1.0"}\n'),
        ("t.ndjson", b'{"item_id": "007", "answer": "1.0"}\n'),
        ("t.jsonl.gz", gzip.compress(b'{"item_id": "007", "answer": "1.0"}\n')),
    ],
)
def test_ids_and_answers_stay_the_text_they_are(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert_frame_equal(read_table(tmp_path / name), pl.DataFrame({"item_id": ["007"], "answer": ["1.0"]}))


def test_types_that_change_late_in_a_jsonl_do_not_matter(tmp_path):
    lines = ['{"item_id": "a", "answer": null}'] * 300 + ['{"item_id": "b", "answer": "x"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    assert read_table(tmp_path / "t.jsonl")["answer"].drop_nulls().to_list() == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", None, r"no such file: .*t\.csv"),
        ("t.csv", b"", "cannot be read as csv"),
        ("t.csv", b"a,b\n1,2,3\n", "cannot be read as csv"),
        ("t.jsonl", b"{\n", "cannot be read as jsonl"),
        ("t.parquet", b"not parquet at all", "cannot be read as parquet"),
        ("t.csv.gz", b"\x1f\x8bnot gzip", "cannot be read as csv"),
        ("t.pkl", b"x", "unknown extension; readable are"),
        ("t", b"x", "unknown extension"),
        ("t.gz", b"x", "unknown extension"),
    ],
)
def test_table_that_cannot_be_read_is_one_line(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_folder_is_no_table(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "t.csv")


def test_digests(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert digest(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert len({digest_of(value) for value in ({"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, [1], [[1]])}) == 6
