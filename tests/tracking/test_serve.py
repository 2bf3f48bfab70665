"""`labelrel ui`: what is said before anything starts. Starting it takes 10 s and is asked for by LABELREL_SLOW=1."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from labelrel.errors import InputError
from labelrel.tracking import serve


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    return tmp_path


def test_missing_store_says_to_run_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=r"mlflow\.db does not exist; run the pipeline first"):
        serve(tmp_path)


def test_taken_port_tells_the_option(store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} .*--port"):
            serve(store, port)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_impossible_port_is_refused(store: Path, port: int) -> None:
    with pytest.raises(InputError, match=r"1\.\.65535"):
        serve(store, port)


def test_store_that_is_a_server_has_its_own_ui(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:word@tracking.example.org")
    with pytest.raises(InputError, match="tracking server") as caught:
        serve(store)
    assert "word" not in str(caught.value)  # an address may hold a password


@pytest.mark.skipif(os.environ.get("LABELREL_SLOW") != "1", reason="starts a server; set LABELREL_SLOW=1")
def test_ui_answers_on_loopback_and_stops(tracker: Any, project: Path) -> None:
    tracker.comparison_run("served", "a1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = (
        f"from labelrel.tracking import serve; serve({str(project)!r}, {port}, say=lambda s: print(s, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as ui:
        try:
            assert ui.stdout is not None
            assert f"http://127.0.0.1:{port}" in ui.stdout.readline()
            address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=served"
            with urllib.request.urlopen(address, timeout=10) as reply:
                assert json.load(reply)["experiment"]["name"] == "served"
        finally:
            ui.send_signal(signal.SIGTERM)
            ui.wait(timeout=30)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
