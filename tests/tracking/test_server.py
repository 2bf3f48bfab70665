"""A real tracking server on loopback, killed in the middle of a run and started again: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from labelrel import files
from labelrel.tracking import ChildRun, GitState, NoTracker, open_tracker, outbox

TASK = "served"


class Server:
    """`mlflow server` with a store and artifacts of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://user:word@127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["server", "--backend-store-uri", f"sqlite:///{self._folder}/served.db", "--host", "127.0.0.1"]
        arguments += ["--port", str(self.port), "--workers", "1", "--artifacts-destination", f"{self._folder}/kept"]
        quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *arguments],
                env=os.environ | quick,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its worker is a process of its own and must die with it
            )
        for _ in range(600):
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail("the server did not start")

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAX_RETRIES", "BACKOFF_FACTOR", "TIMEOUT"):  # what opening a server sets is for our process
            patch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", {"MAX_RETRIES": "1", "TIMEOUT": "20"}.get(name, "0"))
        one = Server(tmp_path_factory.mktemp("server"))
        one.start()
        yield one
        one.kill()


def child(tracker: Any, parent: str | None, method: str) -> AbstractContextManager[ChildRun]:
    return tracker.start_child(  # type: ignore[no-any-return]
        parent,
        method=method,
        role="method",
        seed=42,
        task=TASK,
        params={"align.epochs": 2.0},
        inputs={"items": {"path": "data/items.parquet", "sha256": "a" * 64}},
        git=GitState("c0ffee", False),
        dvc_md5s={},
    )


def log_all(run: ChildRun, steps: range, adapter: Path, name: str) -> None:
    """Log one of everything that a run logs."""
    run.log_history({"step": s, "loss": 1.0 / s, "learning_rate": 0.1} for s in steps)
    run.log_looks([(steps[-1], 0.5)])
    run.log_dataset(pl.DataFrame({"item_id": [name]}), name, "nowhere", "training")
    run.log_table_sample(pl.DataFrame({"item_id": [name]}), name)
    run.log_artifacts(adapter, name)
    run.log_metrics({f"{name}/accuracy": 0.75})


def expect_all(client: Any, run_id: str | None, names: list[str], tmp_path: Path) -> None:
    """Everything of steps 1 to 20 is there, once."""
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(s, 1.0 / s) for s in range(1, 21)]
    assert len(client.get_metric_history(run_id, "gold_dev/accuracy")) == len(names)
    assert run.data.params == {"align.epochs": "2.0"}
    assert run.data.tags["labelrel.method"] == run.info.run_name.rpartition("-")[0]
    assert [d.dataset.name for d in run.inputs.dataset_inputs].count("items") == 1
    assert {d.dataset.name for d in run.inputs.dataset_inputs} == {"items", *names}
    for name in names:
        assert [m.value for m in client.get_metric_history(run_id, f"{name}/accuracy")] == [0.75]
        table = client.download_artifacts(run_id, f"{name}.json", str(tmp_path))
        assert json.loads(Path(table).read_text())["data"] == [[name]]
        weights = client.download_artifacts(run_id, f"{name}/weights.bin", str(tmp_path))
        assert Path(weights).read_bytes() == b"weights"
    assert {t["path"] for t in json.loads(run.data.tags["mlflow.loggedArtifacts"])} == {f"{n}.json" for n in names}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path)


def write_adapter(folder: Path) -> Path:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights.bin").write_bytes(b"weights")
    return folder / "adapter"


@dataclass
class Open:
    """A run of a project of its own that is open when the server dies."""

    project: Path
    adapter: Path
    tracker: Any
    context: Any
    run: ChildRun

    @classmethod
    def begin(cls, folder: Path, uri: str, method: str) -> Open:
        folder.mkdir()
        tracker: Any = open_tracker(folder, uri=uri)
        context = child(tracker, tracker.comparison_run(TASK, "aa11"), method)
        opened = cls(folder, write_adapter(folder), tracker, context, context.__enter__())
        log_all(opened.run, range(1, 11), opened.adapter, "first")
        return opened

    def go_on(self) -> None:
        log_all(self.run, range(11, 21), self.adapter, "second")
        (self.adapter / "weights.bin").write_bytes(b"of a later run")  # what waits is a copy

    def end(self) -> None:
        self.context.__exit__(None, None, None)

    @property
    def waiting(self) -> list[Path]:
        return sorted((self.project / "data" / "cache" / "mlflow").rglob("*.json"))


def test_server_killed_in_the_middle(
    server: Server,
    tmp_path: Path,
    run_folder: Callable[..., Path],
    row: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two runs are open and a report is being logged; one run ends while the server is away, the other after."""
    monkeypatch.setattr(outbox, "END_SECONDS", 0.5)
    early = Open.begin(tmp_path / "early", server.uri, "early")
    late = Open.begin(tmp_path / "late", server.uri, "late")
    reporting: Any = open_tracker(tmp_path, uri=server.uri)
    looks = [{"step": 10, "accuracy": 0.5}, {"step": 20, "accuracy": 0.75}]
    stages = [{"test_accuracy": 0.25, "num_items": 3}, {"test_accuracy": 0.5, "num_items": 4}]
    folder = run_folder("naive", [True, False], early_stop=looks, stages=stages)
    report = {"rows": [row("naive", 0.5)], "folders": {"naive": [folder]}, "answer": "naive."}
    client = reporting.store.client
    upload = client.log_artifacts

    def die(*arguments: Any) -> None:
        server.kill()
        upload(*arguments)

    monkeypatch.setattr(client, "log_artifacts", die)  # half of the run that it restores is logged
    assert reporting.finish_comparison(TASK, "aa13", **report) is None
    assert "does not answer; the run is not logged now" in capsys.readouterr().err
    started = time.monotonic()
    early.go_on()
    early.end()
    assert time.monotonic() - started < 10  # MLflow's own settings take minutes
    late.go_on()
    told = capsys.readouterr().err
    assert told.count("the work goes on") == 2  # once for each run
    assert f"{len(early.waiting)} writes wait in" in told
    assert "word" not in told  # an address may hold a password
    assert len(early.waiting) == len(late.waiting) + 1 >= 7

    server.start()
    late.end()
    assert "answers again; it got the" in capsys.readouterr().err
    assert late.waiting == []
    expect_all(late.tracker.store.client, late.run.run_id, ["first", "second"], tmp_path)

    count = len(early.waiting)
    refused = {"do": "end", "run_id": "0" * 32, "status": "FINISHED", "at": 1}
    files.write_json(early.waiting[0].with_name("0.json"), refused)
    (early.waiting[1].with_name(".torn.json.x.tmp")).write_text('{"do": "ba')  # what a kill leaves
    later: Any = open_tracker(early.project, uri=server.uri)
    told = capsys.readouterr().err
    assert f"it got the {count} writes" in told
    assert "refuses a write that had waited" in told  # what it will never take holds up nothing else
    assert [file.parent.name for file in early.waiting] == ["refused"]
    expect_all(later.store.client, early.run.run_id, ["first", "second"], tmp_path)

    again: Any = open_tracker(tmp_path, uri=server.uri)
    (run,) = again.store.children(TASK, again.finish_comparison(TASK, "aa13", **report))
    assert (run.info.status, run.data.metrics["test/accuracy"]) == ("FINISHED", 0.5)
    dev = again.store.client.get_metric_history(run.info.run_id, "gold_dev/accuracy")
    assert [(m.step, m.value) for m in dev] == [(10, 0.5), (20, 0.75)]
    second = again.store.client.get_metric_history(run.info.run_id, "stages/test_accuracy")
    assert [(m.step, m.value) for m in second] == [(1, 0.25), (2, 0.5)]
    assert [f.path for f in again.store.client.list_artifacts(run.info.run_id)] == ["adapter"]


def test_call_sent_twice_changes_nothing(server: Server, tmp_path: Path, adapter: Path) -> None:
    """As when the server was killed between taking a call and saying so."""
    tracker: Any = open_tracker(tmp_path, uri=server.uri)
    sent: list[Any] = []
    store = tracker.store
    once = store.outbox.send

    def twice(call: Any, folder: Path | None = None) -> None:
        once(call, folder)
        sent.append(call)
        once(json.loads(json.dumps(call)), folder)

    store.outbox.send = twice
    with child(tracker, tracker.comparison_run(TASK, "aa12"), "twice") as run:
        log_all(run, range(1, 21), adapter, "first")
    assert {call["do"] for call in sent} == {"batch", "dataset", "table", "artifacts", "end"}
    expect_all(store.client, run.run_id, ["first"], tmp_path)


def test_server_away_from_the_start_is_told(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://user:word@127.0.0.1:{probe.getsockname()[1]}"
    assert isinstance(open_tracker(tmp_path, uri=uri), NoTracker)
    told = capsys.readouterr().err
    assert "does not answer; the run is not logged now; `labelrel report` logs it" in told
    assert "word" not in told
