from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import labelrel
from labelrel.errors import InputError
from labelrel.supervise.response_cache import ResponseCache

WRITER = """
import sys
from pathlib import Path
from labelrel.supervise.response_cache import ResponseCache

cache = ResponseCache(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    kept = cache.put(f"key {number}", f"by {sys.argv[3]}")
    print(number, kept, flush=True)
"""


def start(path: Path, count: int, name: str) -> subprocess.Popen[str]:
    package = str(Path(labelrel.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", WRITER, str(path), str(count), name]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str]) -> list[str]:
    with process:
        assert process.stdout is not None
        return process.stdout.read().splitlines()


def test_what_was_put_is_there_after_reopening(tmp_path):
    path = tmp_path / "folder" / "replies.sqlite"
    cache = ResponseCache(path)
    assert cache.get("a") is None
    assert cache.put("a", "é\n") == "é\n"
    cache.close()
    again = ResponseCache(path)
    assert again.get("a") == "é\n"
    again.close()


def test_the_first_reply_counts(tmp_path):
    cache = ResponseCache(tmp_path / "replies.sqlite")
    assert cache.put("a", "first") == "first"
    assert cache.put("a", "second") == "first"
    cache.close()


def test_two_processes_agree_on_every_reply(tmp_path):
    path = tmp_path / "replies.sqlite"
    one, other = start(path, 60, "one"), start(path, 60, "other")
    told = lines(one), lines(other)
    assert one.returncode == other.returncode == 0
    assert told[0] == told[1]
    assert len(told[0]) == 60


def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path):
    path = tmp_path / "replies.sqlite"
    process = start(path, 100_000, "killed")
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(50)]
    process.kill()
    with process:
        pass
    cache = ResponseCache(path)
    for number in range(50):
        assert seen[number] == f"{number} by killed\n"
        assert cache.get(f"key {number}") == "by killed"
    cache.close()


def test_a_damaged_file_is_set_aside(tmp_path, capsys):
    path = tmp_path / "replies.sqlite"
    path.write_bytes(b"this is no database" * 100)
    cache = ResponseCache(path)
    assert cache.put("a", "b") == "b"
    cache.close()
    assert (tmp_path / "replies.sqlite.damaged").is_file()
    assert "is damaged" in capsys.readouterr().err


def test_a_file_that_cannot_be_opened_is_told_in_one_line(tmp_path):
    (tmp_path / "replies.sqlite").mkdir()
    with pytest.raises(InputError, match=r"replies\.sqlite cannot be opened"):
        ResponseCache(tmp_path / "replies.sqlite")


def test_trouble_while_writing_is_told_in_one_line(tmp_path):
    path = tmp_path / "replies.sqlite"
    cache = ResponseCache(path)
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE replies")
    other.close()
    with pytest.raises(InputError, match="cannot be read or written: no such table"):
        cache.put("a", "b")
    cache.close()
