"""What a tracking server that does not answer has not got yet: kept on disk in order, and sent when it is back.

Training never waits for a server: a call that does not get through is written to a file of its own, whole or not
at all, and so are those after it, until the server takes them again. The next command on the same server sends
what is left by an earlier one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException, RestException
from requests.exceptions import HTTPError, RequestException

from labelrel import files
from labelrel.progress import say
from labelrel.tracking.calls import Call, perform

END_SECONDS = 15.0
"""How long the end of a run waits for a server that is away."""

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 120.0  # between two attempts while a run goes on

_PASSING = {408, 429}
"""HTTP codes below 500 that say "later", not "no"."""


class Outbox:
    """Sends calls to a server, or keeps them until it takes them.

    Args:
        client: `mlflow.MlflowClient`.
        uri: of the server.
        folder: where calls wait.
    """

    def __init__(self, client: Any, uri: str, folder: Path) -> None:
        self._client, self._uri = client, uri
        self.folder = folder / hashlib.sha256(uri.encode()).hexdigest()[:16]  # the address may hold a password
        self._lock = threading.RLock()
        self._sequence = 0
        self._pause, self._next_attempt = FIRST_PAUSE, 0.0
        self._told = False

    @property
    def waiting(self) -> list[Path]:
        """Return the files of the calls that wait, oldest first."""
        return sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []

    def send(self, call: Call, folder: Path | None = None) -> None:
        """Send a call, after those that wait, or keep it; `folder` is what a call of artifacts copies.

        Raises:
            Exception: the server answers, and refuses.
        """
        with self._lock:
            if self.waiting and (time.monotonic() < self._next_attempt or not self.drain()):
                return self._keep(call, folder)
            try:
                perform(self._client, call, folder)
            except Exception as error:
                if not is_outage(error) and answers(self._uri):
                    raise
                self._postpone()
                self._keep(call, folder)
                if not self._told:
                    self._told = True
                    say(
                        f"mlflow: {shown_address(self._uri)} does not answer; the work goes on, and what it should get "
                        f"waits in {self.folder}"
                    )

    def drain(self, *, seconds: float = 0.0) -> bool:
        """Send what waits, trying again for `seconds`, and say whether nothing is left."""
        deadline = time.monotonic() + seconds
        sent = 0
        with self._lock:
            while waiting := self.waiting:
                taken, done = self._send_waiting(waiting) if answers(self._uri) else (0, False)
                sent += taken
                if not done:
                    if time.monotonic() >= deadline:
                        self._postpone()
                        return False
                    time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
            if sent:
                say(f"mlflow: {shown_address(self._uri)} answers again; it got the {sent} writes that had waited")
            self._pause, self._told = FIRST_PAUSE, False
            return True

    def close(self) -> None:
        """Wait a little for a server that is away, and say what is left."""
        if self.waiting and not self.drain(seconds=END_SECONDS):
            say(
                f"mlflow: {len(self.waiting)} writes wait in {self.folder}; the next `labelrel align` or "
                "`labelrel report` that finds the server sends them"
            )

    def _send_waiting(self, waiting: list[Path]) -> tuple[int, bool]:
        """Send in order; return how many arrived, and whether none is left."""
        sent = 0
        for file in waiting:
            copied = file.with_suffix(".files")
            try:
                call = files.read_json(file)
                if call["do"] != "artifacts" or copied.is_dir():
                    perform(self._client, call, copied)
            except Exception as error:
                if not file.exists():  # another process has sent it
                    continue
                if is_outage(error) or not answers(self._uri):
                    return sent, False
                self._put_aside(file, error)
                continue
            shutil.rmtree(copied, ignore_errors=True)
            file.unlink(missing_ok=True)
            sent += 1
        return sent, True

    def _put_aside(self, file: Path, error: Exception) -> None:
        aside = self.folder / "refused"
        aside.mkdir(exist_ok=True)
        for path in (file.with_suffix(".files"), file):
            if path.exists():
                path.replace(aside / path.name)
        reason = str(error).strip().splitlines() or [type(error).__name__]
        say(f"mlflow: the server refuses a write that had waited ({reason[0]}); it is kept as {aside / file.name}")

    def _keep(self, call: Call, folder: Path | None) -> None:
        self._sequence += 1
        file = self.folder / f"{time.time_ns():020d}-{os.getpid()}-{self._sequence:06d}.json"
        if folder is not None:  # a later run of the same name will replace it
            with files.replacing_folder(file.with_suffix(".files")) as temporary:
                shutil.copytree(folder, temporary, dirs_exist_ok=True)
        files.write_json(file, call)

    def _postpone(self) -> None:
        self._next_attempt = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def is_server(uri: str) -> bool:
    """Say whether a tracking URI names a server."""
    return uri.startswith(("http://", "https://"))


def is_outage(error: BaseException) -> bool:
    """Say whether an error means that the server did not answer, or could not for now, not that it refused."""
    if isinstance(error, RestException):
        return _is_passing(error.get_http_status_code())
    if isinstance(error, MlflowException):
        code = re.search(r"failed with error code (\d+)", str(error))
        return _is_passing(int(code[1])) if code else str(error).startswith("API request to ")
    if isinstance(error, HTTPError) and error.response is not None:
        return _is_passing(error.response.status_code)
    return isinstance(error, RequestException)


def answers(uri: str) -> bool:
    """Say within two seconds whether somebody listens at a server's address."""
    address = urllib.parse.urlsplit(uri)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=2):
            return True
    except OSError:
        return False


def shown_address(uri: str) -> str:
    """Return the address of a server without the name and password that it may hold."""
    address = urllib.parse.urlsplit(uri)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"


def _is_passing(code: int) -> bool:
    return code >= 500 or code in _PASSING
