"""The MLflow UI on the project's store, on this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelrel.errors import InputError
from labelrel.tracking.moved import repair_links
from labelrel.tracking.view import shared_views

HOST = "127.0.0.1"
START_SECONDS = 90.0  # a cold start takes some 10 s; a busy machine several times that


def default_uri(root: Path | str = ".") -> str:
    """Return `MLFLOW_TRACKING_URI` where set, else the project's own SQLite store."""
    project = Path(root).resolve() / "mlruns" / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project}"


def sqlite_file(uri: str) -> Path | None:
    """Return the database file of a SQLite URI; null for any other kind of store."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def serve(root: Path | str = ".", port: int = 5000, *, say: Callable[[str], None] = print) -> None:
    """Run the MLflow UI until it is interrupted; in a project that has moved, its artifact links follow first.

    Args:
        root: project folder.
        port: on the loopback interface.
        say: takes the line with the address, once the UI answers, and one for each task.

    Raises:
        InputError: no store yet, a store that is a server with a UI of its own, or a port that is taken.
    """
    uri = default_uri(root)
    database = sqlite_file(uri)
    if uri.startswith(("http://", "https://", "databricks")):
        raise InputError("MLFLOW_TRACKING_URI names a tracking server; open that server's address, its UI is there.")
    if database is not None and not database.is_file():
        raise InputError(f"no runs yet: {database} does not exist; run the pipeline first (`dvc repro`).")
    _require_free(port)
    if database is not None:
        repair_links(database)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--no-serve-artifacts"]
    if database is not None:
        command += ["--default-artifact-root", (database.parent / "artifacts").as_uri()]
    # without its job runner the server is ready in a quarter of the time and stops when told to
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _stop_on_sigterm()
            _wait_until_ready(server, port, log)
            say(f"MLflow UI: http://{HOST}:{port} (Ctrl-C stops it)")
            for task, place in (shared_views(database) if database else {}).items():
                say(f"  {task}, with the columns that matter: http://{HOST}:{port}/{place}")
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
            try:
                server.wait(timeout=15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _require_free(port: int) -> None:
    if not 0 < port < 65536:
        raise InputError(f"--port must lie in 1..65535, got {port}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed counts as free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port {port} cannot be used ({error.strerror}); name another one with --port.") from None


def _stop_on_sigterm() -> None:
    """Turn SIGTERM into an interrupt, so that the server never outlives this process."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    raise RuntimeError(f"the MLflow UI did not start: {lines[-1]}")
