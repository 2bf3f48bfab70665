"""Whole files or none, and tables of every kind that is safe to read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import pickle
import random
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.files import (
    digest,
    digest_of,
    num_rows,
    read_batches,
    read_json,
    read_table,
    replacing,
    replacing_folder,
    table_schema,
    write_any_table,
    write_batches,
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
    write_table(tmp_path / "a.parquet", MANY)
    write_table(tmp_path / "b.parquet", pl.concat([MANY[:1], MANY[1:]], rechunk=False))
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


# --- text that people have -----------------------------------------------------------------------


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def line_of(path: Path) -> str:
    """Read what must be refused; return the one line after the path."""
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message.replace(str(path), "")) < 200
    assert message.startswith(f"{path} cannot be read as ")
    return message.partition(": ")[2]


A_B = [("1", "x"), ("2", None)]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("t.csv", b"a,b\n1,x\n2,\n", A_B),
        ("t.csv", b"\xef\xbb\xbfa,b\n1,x\n2,\n", A_B),
        ("t.csv", b"a,b\r\n1,x\r\n2,\r\n", A_B),
        ("t.csv", b"a,b\r1,x\r2,\r", A_B),
        ("t.csv", b"a,b\n1,x\n2,", A_B),
        ("t.csv", b"\n\na,b\n\n1,x\n2,\n,\n\n\n", A_B),
        ("t.csv", "a,b\n1,x\n2,\n".encode("utf-16"), A_B),
        ("t.csv", b"\xfe\xff" + "a,b\n1,x\n2,\n".encode("utf-16-be"), A_B),
        ("t.csv.gz", gzip.compress("a,b\n1,x\n2,\n".encode("utf-16")), A_B),
        ("t.csv.gz", gzip.compress(b"a,b\n1,x\n") + gzip.compress(b"2,\n"), A_B),
        ("t.csv", b"a;b\n1;x\n2;\n", A_B),
        ("t.csv", b"a\tb\n1\tx\n2\t\n", A_B),
        ("t.tsv", b"a,b\n1,x\n2,\n", A_B),
        ("t.csv", b"a,b,,\n1,x,,\n2,,,\n", A_B),
        ("t.csv", b'a,b\n"1","x"\n"2",\n', A_B),
        ("t.csv", b'"a","b"\r\n"1","x"\r\n\r\n"2",', A_B),
        ("t.csv", b"a,b\n", []),
        ("t.csv", b"a,b", []),
        ("t.csv", b'a,b\n"x,\r\ny","he said ""no"""\n', [("x,\r\ny", 'he said "no"')]),
        ("t.csv", b'a,b\n"",NA\nnan,\n', [("", "NA"), ("nan", None)]),
        ("t.csv", b'a,b\n5",x\n6",y\n', [('5"', "x"), ('6"', "y")]),
        ("t.csv", b'a,b\n5" pipe,x\n"q,r",\n', [('5" pipe', "x"), ("q,r", None)]),
        ("t.csv", b"a,b\n 1 , x \n", [(" 1 ", " x ")]),
        ("t.csv", b"a,b\n1," + b"x" * 1_000_000 + b"\n", [("1", "x" * 1_000_000)]),
        ("t.csv", b"a,b\n\n1," + b"x" * 1_000_000 + b"\n", [("1", "x" * 1_000_000)]),
        ("t[1].csv", b"a,b\n1,x\n2,\n", A_B),
        ("t.jsonl", b'{"a":"1","b":"x"}\n\n{"a":"2"}\r\n\n', A_B),
        ("t.jsonl", b'\xef\xbb\xbf{"a":"1","b":"x"}\n{"a":"2","b":null}', A_B),
        ("t.jsonl", '{"a":"1","b":"x"}\n{"a":"2"}\n'.encode("utf-16"), A_B),
        ("t.jsonl", b'{"a":1,"b":true}\n{"a":"x","b":"y"}\n', [("1", "true"), ("x", "y")]),
        ("t.jsonl", b'{"a":"x","b":[1,2]}\n{"a":1.50,"b":"y"}\n', [("x", "[1, 2]"), ("1.5", "y")]),
        ("t.jsonl", b'{"a":"cut \\ud83d","b":"\\ud83d\\ude00 \\\\ud83d"}\n', [("cut \ufffd", "\U0001f600 \\ud83d")]),
        ("t.jsonl", b'{"a":"' + b"x" * 1_000_000 + b'","b":null}\n', [("x" * 1_000_000, None)]),
    ],
)  # fmt: skip
def test_text_is_read(tmp_path, name, content, rows):
    table = read_table(written(tmp_path, name, content))
    assert table.columns == ["a", "b"]
    assert table.rows() == rows


@pytest.mark.parametrize("other", [b"a;b,c\n", b"a;b\tc\n", b'"a;b"\n'])
def test_separator_is_guessed_only_where_one_alone_would_do(tmp_path, other):
    assert len(read_table(written(tmp_path, "t.csv", other)).columns) == other.count(b",") + 1


def test_column_without_a_name_is_left_out_wherever_it_is(tmp_path):
    table = read_table(written(tmp_path, "t.csv", b",a, \n0,1,2\n"))  # pandas writes its index so
    assert table.rows(named=True) == [{"a": "1"}]


def test_csv_agrees_with_the_csv_module_or_is_refused(tmp_path, monkeypatch):
    # small steps, so that fields and quotes lie across them
    monkeypatch.setattr("labelrel.files.csv_text.STEP", 5)
    rng = random.Random(0)
    fields = ["a", "é", "", '""', '"a,b"', '"x\ny"', '"q""q"', '"",""', '5"', '"a"b', 'x"y']
    seen = {"read": 0, "refused": 0}
    for _ in range(400):
        width = rng.randint(1, 3)
        usual = fields if rng.random() < 0.3 else fields[:7]
        widths = [width if rng.random() < 0.95 else rng.randint(1, 4) for _ in range(rng.randint(1, 5))]
        lines = [",".join("hij"[:width]), *(",".join(rng.choice(usual) for _ in range(w)) for w in widths)]
        text = rng.choice(["\n", "\r\n"]).join(lines) + rng.choice(["", "\n", "\n\n"])
        path = written(tmp_path, "t.csv", text.encode())
        try:
            records = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
            whole = all(len(row) == width for row in records)
        except csv.Error:
            whole = False
        if whole:
            rows = [tuple(value or "" for value in row) for row in read_table(path).rows()]
            assert [row for row in rows if any(row)] == [tuple(row) for row in records[1:] if any(row)], text
        else:
            line_of(path)
        seen["read" if whole else "refused"] += 1
    assert min(seen.values()) > 50


def test_well_formed_csv_is_not_read_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("labelrel.files.csv_text.STEP", 7)  # steps that end inside of quotes
    monkeypatch.setattr("labelrel.files.csv_text._records", None)  # the slow way, line by line
    content = b'\xef\xbb\xbf"a","b,c"\r\n"1, ""2""",\n"x\r\ny",""\n,"z"\n'
    assert read_table(written(tmp_path, "t.csv", content)).rows() == [('1, "2"', None), ("x\r\ny", ""), (None, "z")]


# --- what cannot be read -------------------------------------------------------------------------


def parquet_bytes(rows: int = 1000) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"a": [f"item {i * i}" for i in range(rows)]}).write_parquet(buffer, row_group_size=100)
    return buffer.getvalue()


def workbook_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    return buffer.getvalue()


ZIPPED = gzip.compress("".join(f"item {i * i},{i}\n" for i in range(1000)).encode())


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"\xef\xbb\xbf\n \n", "the file is empty"),
        ("t.jsonl", b"\n", "the file is empty"),
        ("t.parquet", b"", "the file is empty"),
        ("t.csv.gz", gzip.compress(b""), "the file is empty"),
        ("t.csv", b",,\n1,2,3\n", "its first line names no column"),
        ("t.csv", b"a,b,a\n1,2,3\n", "its header names column 'a' 2 times"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields and the header 2"),
        ("t.csv", b"a,b\n1,2\n1\n3,4\n", "line 3 has 1 field and the header 2"),
        ("t.csv", b'a,b\n"x\ny",2\n1\n', "line 4 has 1 field and the header 2"),
        ("t.csv", b"a,b\n1\n1,2,", "line 2 has 1 field and"),
        ("t.csv", b'a,b\n1,2\n"x,1\ny,2\n', "line 3 opens a quote that is never closed"),
        ("t.csv", b'a,b\n1,"he said \\"hi\\""\n', "line 2 goes on after a closing quote"),
        ("t.csv", b"a,b\n1,2\nG\xfcnther,2\n", r"line 3 is not UTF-8 \(byte 0xfc at 9\)"),
        ("t.csv", b"a,b\n1,\x00\x01\n", "it seems to be binary, or UTF-16 without its mark"),
        ("t.csv", b"\xff\xfea\x00,", "it is not the UTF-16 that its mark says, at byte 4"),
        ("t.jsonl", b'{"a":1}\n\n{"a":\n', r"line 3 is not JSON: Expecting value \(column 6\)"),
        ("t.jsonl", b'{"a":1}\n{"a":2} {"a":3}\n', "line 2 is not JSON: Extra data"),
        ("t.jsonl", b'{"a":1}\n{"a":NaN}\n', "line 2 is not JSON: NaN is no JSON number; write null"),
        ("t.jsonl", b'{"a":-Infinity}\n', "line 1 is not JSON: -Infinity is no JSON number"),
        ("t.jsonl", b'{"a":1e999}\n', "line 1 is not JSON: the number 1e999 is too large"),
        ("t.jsonl", b'{"a":1}\n[1]\n', "line 2 holds a list, not an object"),
        ("t.jsonl", b'{"a":1}\nnull\n', "line 2 holds null, not an object"),
        ("t.jsonl", b'{"a":1}\n{"a":"\xff"}\n', r"line 2 is not UTF-8 \(byte 0xff at 14\)"),
        ("t.jsonl", b'{"a":1}\n{"a":true}\n', "'a' is a number in line 1 and true or false in line 2"),
        ("t.jsonl", b'{"a":1}\n{"b":0}\n{"a":[1]}\n', "'a' is a number in line 1 and a list in line 3"),
        ("t.csv.gz", ZIPPED[: len(ZIPPED) // 2], "the file is cut short: gzip ends early"),
        ("t.csv.gz", ZIPPED[:-1], "the file is cut short: gzip ends early"),
        ("t.jsonl.gz", ZIPPED[:40], "the file is cut short: gzip ends early"),
        ("t.csv.gz", ZIPPED[:60] + b"x" + ZIPPED[61:], "the gzip is damaged"),
        ("t.parquet.gz", gzip.compress(parquet_bytes()), "gunzip it first"),
        ("t.parquet", parquet_bytes()[:3000], "the file is cut short: it does not end as Parquet does"),
        ("t.parquet", parquet_bytes()[:500] + bytes(500) + parquet_bytes()[1000:], "Data corruption detected"),
        ("t.parquet", parquet_bytes()[:-900] + bytes(300) + parquet_bytes()[-600:], ""),
    ],
)  # fmt: skip
def test_damage_is_told_in_one_line_with_its_place(tmp_path, name, content, match):
    path = written(tmp_path, name, content)
    assert re.search(match, line_of(path))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", parquet_bytes(), "it seems to be Parquet; rename it to .parquet"),
        ("t.jsonl", parquet_bytes(), "it seems to be Parquet"),
        ("t.csv.gz", parquet_bytes(), "it is not gzip but seems to be Parquet"),
        ("t.csv.gz", gzip.compress(parquet_bytes()), "it seems to be Parquet"),
        ("t.csv.gz", b"a,b\n1,2\n", "it is not gzip but seems to be plain text"),
        ("t.csv", ZIPPED, "it seems to be gzip; add .gz to its name"),
        ("t.parquet", ZIPPED, "it seems to be gzip"),
        ("t.parquet", b"a,b\n1,2\n", "it seems to be plain text; name it after its format"),
        ("t.parquet", b'{"a": 1}\n', "it seems to be JSON lines; rename it to .jsonl"),
        ("t.csv", b'{"a": 1}\n', "it seems to be JSON lines"),
        ("t.jsonl", b"a,b\n1,2\n", "it seems to be plain text"),
        ("t.jsonl", b'[{"a": 1}, {"a": 2}]\n', r"it seems to be one JSON array; write one object per line \(jq"),
        ("t.jsonl", b'[\n  {"a": 1}\n]\n', "it seems to be one JSON array"),
        ("t.csv", b'[{"a": 1}]', "it seems to be one JSON array"),
        ("t.csv", workbook_bytes(), "it seems to be an Excel workbook .* save the sheet as CSV"),
        ("t.csv", b"<!DOCTYPE html><html>", "it seems to be a web page"),
        ("t.csv", pickle.dumps({"a": 1}), "it seems to be a Python pickle, which is never loaded"),
    ],
)
def test_wrong_extension_is_told_with_what_it_seems_to_be(tmp_path, name, content, match):
    path = written(tmp_path, name, content)
    assert re.search(match, line_of(path))
    with pytest.raises(InputError, match="cannot be read as"):
        table_schema(path)


@pytest.mark.parametrize("name", ["t.pkl", "t", "t.gz", "t.xlsx", "csv"])
def test_unknown_extension(tmp_path, name):
    with pytest.raises(InputError, match=r"unknown extension; readable are \.parquet, \.csv, \.tsv, \.jsonl"):
        read_table(written(tmp_path, name, b"x"))


def test_header_of_brackets_is_no_json(tmp_path):
    assert read_table(written(tmp_path, "t.csv", b"[a],{b}\n1,2\n")).columns == ["[a]", "{b}"]


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"no such file: .*t\.csv$"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(InputError, match=r"no such file: .*t\.csv is a folder; name a file in it\.$"):
        read_table(tmp_path / "t.csv")


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = written(tmp_path, "t.csv", b"a\n1\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read a file of any mode
    assert line_of(path) == "permission denied."


def test_rows_that_polars_loses_are_noticed(tmp_path, monkeypatch):
    path = written(tmp_path, "t.parquet", parquet_bytes(1000))
    whole = pl.LazyFrame.collect_batches
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", lambda self, **options: whole(self.head(700), **options))
    assert line_of(path) == "the file is damaged: 700 of 1000 rows are there; copy or write it again."


# --- tables in pieces ----------------------------------------------------------------------------

MANY = pl.DataFrame(
    {"item_id": [f"i{n // 3}" for n in range(2500)], "number": range(2500), "answer": [None, "a", "b", "", "c"] * 500}
)


@pytest.mark.parametrize("row_group", [100, 2500])
def test_batches_are_the_table_in_order_and_never_larger(tmp_path, row_group):
    MANY.write_parquet(tmp_path / "t.parquet", row_group_size=row_group)
    batches = list(read_batches(tmp_path / "t.parquet", ["answer", "item_id"], rows=300))
    assert len(batches) > 5
    assert max(batch.height for batch in batches) <= 300
    assert_frame_equal(pl.concat(batches), MANY.select("answer", "item_id"))


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_batches_of_any_kind_and_their_types(tmp_path, name):
    write_any_table(tmp_path / name, MANY)
    table = read_table(tmp_path / name)
    assert_frame_equal(pl.concat(read_batches(tmp_path / name)), table)
    assert_frame_equal(pl.concat(read_batches(tmp_path / name, ["answer"])), table.select("answer"))
    assert table_schema(tmp_path / name) == dict(table.schema)
    assert num_rows(tmp_path / name) == (2500 if name == "t.parquet" else None)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_table_without_rows_is_one_empty_batch(tmp_path, name):
    write_any_table(tmp_path / name, MANY.clear())
    (batch,) = read_batches(tmp_path / name, ["answer"])
    assert batch.shape == (0, 1)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_batches_of_a_column_that_is_not_there(tmp_path, name):
    write_any_table(tmp_path / name, FRAME)
    with pytest.raises(InputError, match=r"has no column 'label' \(found: item_id, answer\)"):
        list(read_batches(tmp_path / name, ["item_id", "label"]))


def test_words_of_a_dictionary_column_are_read(tmp_path):
    words = MANY.with_columns(pl.col("item_id").cast(pl.Categorical))
    words.write_parquet(tmp_path / "t.parquet", row_group_size=100)
    batches = pl.concat(read_batches(tmp_path / "t.parquet", rows=300))
    assert_frame_equal(batches.cast({"item_id": pl.String}), MANY)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_pieces_are_written_as_the_whole_would_be(tmp_path, name):
    write_any_table(tmp_path / f"whole.{name}", MANY)
    expected = (tmp_path / f"whole.{name}").read_bytes()
    assert write_batches(tmp_path / name, iter([MANY])) == 2500
    assert (tmp_path / name).read_bytes() == expected
    assert write_batches(tmp_path / name, iter([MANY[:1], MANY[1:1], MANY[1:2000], MANY[2000:]])) == 2500
    assert_frame_equal(read_table(tmp_path / name), read_table(tmp_path / f"whole.{name}"))
    if name != "t.parquet":
        assert (tmp_path / name).read_bytes() == expected
    assert listing(tmp_path) == sorted([name, f"whole.{name}"])


def test_metadata_and_plain_text_columns_of_pieces(tmp_path):
    import pyarrow.parquet as pq

    write_batches(tmp_path / "t.parquet", iter([MANY]), {"labelrel.method": "share"})
    assert pl.read_parquet_metadata(tmp_path / "t.parquet")["labelrel.method"] == "share"
    assert str(pq.read_schema(tmp_path / "t.parquet").field("item_id").type) == "large_string"


def test_pieces_that_fail_leave_the_old_file(tmp_path):
    write_table(tmp_path / "t.parquet", FRAME)
    before = (tmp_path / "t.parquet").read_bytes()

    def fail() -> Iterator[pl.DataFrame]:
        yield MANY
        yield MANY
        raise InputError("of item q7")

    with pytest.raises(InputError, match=r"^of item q7$"):
        write_batches(tmp_path / "t.parquet", fail())
    with pytest.raises(ValueError, match="frames to write differ"):
        write_batches(tmp_path / "t.parquet", iter([MANY, FRAME]))
    with pytest.raises(ValueError, match="no frame to write"):
        write_batches(tmp_path / "t.parquet", iter([]))
    assert (tmp_path / "t.parquet").read_bytes() == before
    assert listing(tmp_path) == ["t.parquet"]


def test_pieces_are_not_made_for_an_extension_that_is_not_written(tmp_path):
    def never() -> Iterator[pl.DataFrame]:
        raise AssertionError("a piece was made")
        yield MANY

    with pytest.raises(InputError, match="unknown extension; writable are"):
        write_batches(tmp_path / "t.tsv", never())


def test_digests(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert digest(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert len({digest_of(value) for value in ({"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, [1], [[1]])}) == 6
