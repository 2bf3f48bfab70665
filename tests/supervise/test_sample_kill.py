"""A sampling process is killed by the system in mid-run and started again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import labelrel

SCRIPT = """
import math, sys, time
from pathlib import Path

from labelrel.files import write_table
from labelrel.supervise.engines import Reply, draw
from labelrel.supervise.sample import discard_parts, sample
from labelrel.supervise.variants import Query
from labelrel.tasks import Reading

folder, hang_at = Path(sys.argv[1]), int(sys.argv[2])


class Slow:
    name = "slow"
    block = 128
    key = "key"
    calls = 0

    def ask(self, queries):
        if self.calls == hang_at:
            (folder / "hanging").touch()
            time.sleep(300)
        self.calls += 1
        with (folder / "asked.txt").open("a") as file:
            file.writelines(f"{q.item['item_id']}/{q.variant_id}\\n" for q in queries)
        logprobs = [math.log(0.7), math.log(0.3)]
        indices = [draw(logprobs, 1.0, 0, q.item["item_id"], q.variant_id) for q in queries]
        return [Reply(q.options[i], str(i), logprobs[i], logprobs) for q, i in zip(queries, indices)]


queries = [
    Query({"item_id": f"i{n // 5}"}, str(n % 5), f"Question {n // 5} in wording {n % 5}:", (" yes", " no"), Reading)
    for n in range(4 * 125 + 7)
]
answers = sample(Slow(), queries, parts=folder / "parts")
write_table(folder / "answers.parquet", answers)
discard_parts(folder / "parts")
"""
NEVER = "-1"


def start(folder: Path, hang_at: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    package = str(Path(labelrel.__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen([sys.executable, str(script), str(folder), hang_at], env={**os.environ, "PYTHONPATH": path})


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < deadline, "the process did not get there in time"
        time.sleep(0.02)


def asked(folder: Path) -> list[str]:
    return (folder / "asked.txt").read_text().splitlines()


def test_killed_process_goes_on_and_writes_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, NEVER).wait(timeout=120) == 0

    process = start(killed, "2")
    try:
        wait_for(killed / "hanging", process)
    finally:
        process.kill()  # SIGKILL: nothing in the process can react to it
        process.wait(timeout=60)
    assert not (killed / "answers.parquet").exists()
    before = asked(killed)
    assert before == asked(whole)[: 2 * 125]  # blocks of 128 are cut at items of 5

    assert start(killed, NEVER).wait(timeout=120) == 0
    assert asked(killed) == asked(whole)  # the finished blocks once, the rest now, nothing twice
    assert (killed / "answers.parquet").read_bytes() == (whole / "answers.parquet").read_bytes()
    assert not (killed / "parts").exists()
