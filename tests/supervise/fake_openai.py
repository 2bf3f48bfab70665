"""A small real HTTP server on loopback that speaks the OpenAI protocol and can be made to misbehave."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from labelrel.supervise.engines import Asking
from labelrel.supervise.variants import Query
from labelrel.tasks.reading import read_choice, read_letter

Trouble = tuple[int, dict[str, str], str]  # status, headers, body
LETTERS = "ABCD"


class FakeServer:
    """Answers every prompt with the text that `write` makes of it.

    Attributes:
        write: prompt → text.
        tops: prompt → token → log-probability at the first position; None: a server without.
        trouble: (number of the request, body) → what goes wrong instead: a status with headers and
            body, "drop" or "hang"; None where nothing does.
        seconds: that every answer takes.
        form: of the log-probabilities at /completions, "old" or "chat" as llama.cpp has it.
        bodies: of the requests that came, refused ones too.
        keys: their Authorization headers.
        answered: how many got a completion.
        most_at_once: requests that were under way together.
    """

    def __init__(self) -> None:
        self.write: Callable[[str], str] = lambda prompt: " " + prompt.split()[-1]
        self.tops: Callable[[str], dict[str, float]] | None = None
        self.trouble: Callable[[int, dict[str, Any]], Trouble | str | None] = lambda number, body: None
        self.seconds = 0.0
        self.form = "old"
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.answered = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._dead = threading.Event()
        self._port = 0
        self._http: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Listen, after `die` on the same port as before."""
        self._dead.clear()
        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._http.daemon_threads = True
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def die(self) -> None:
        """Close the port and every connection, whatever is under way."""
        self._dead.set()
        if self._http is not None:
            http, self._http = self._http, None
            threading.Thread(target=http.shutdown, daemon=True).start()  # may be called by a handler
            http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._lock:
                    number = len(fake.bodies)
                    fake.bodies.append(body)
                    fake.paths.append(self.path)
                    fake.keys.append(self.headers["Authorization"])
                    fake._at_once += 1
                    fake.most_at_once = max(fake.most_at_once, fake._at_once)
                try:
                    reply = fake._reply(number, body)
                finally:
                    with fake._lock:
                        fake._at_once -= 1
                if reply is None or fake._dead.is_set():
                    self.close_connection = True
                    return
                status, headers, text = reply
                data = text.encode()
                if status == 200:
                    with fake._lock:
                        fake.answered += 1
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler

    def _reply(self, number: int, body: dict[str, Any]) -> Trouble | None:
        trouble = self.trouble(number, body)
        if trouble == "hang":
            self._dead.wait(30)
        if isinstance(trouble, str):
            return None
        if trouble is not None:
            return trouble
        time.sleep(self.seconds)
        return 200, {}, json.dumps({"choices": [self._choice(body)]})

    def _choice(self, body: dict[str, Any]) -> dict[str, Any]:
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        text = self.write(prompt)
        choice: dict[str, Any] = {"message": {"content": text}} if chat else {"text": text}
        count = body.get("top_logprobs") if chat else body.get("logprobs")
        if self.tops is None or count is None:
            return {**choice, "logprobs": None}
        tops = dict(sorted(self.tops(prompt).items(), key=lambda pair: -pair[1])[:count])
        if chat or self.form == "chat":
            listed = [{"token": token, "logprob": value} for token, value in tops.items()]
            return {**choice, "logprobs": {"content": [{"token": text, "logprob": -0.25, "top_logprobs": listed}]}}
        return {**choice, "logprobs": {"tokens": [text], "token_logprobs": [-0.25], "top_logprobs": [tops]}}


def refusal(status: int, message: str, **headers: str) -> Trouble:
    text = json.dumps({"error": {"message": message, "code": status}})
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, text


def letter_query(item: str, variant: str = "0", letters: str = LETTERS) -> Query:
    """A question whose options are listed under letters."""
    options = tuple(f" {letter}" for letter in letters)
    return Query(
        {"item_id": item, "choices": list(letters)},
        variant,
        f"Question {item} in wording {variant}\nAnswer:",
        options,
        lambda completion: read_letter(len(options), completion),
    )


def text_query(item: str, variant: str = "0", choices: tuple[str, ...] = ("Paris", "Rome")) -> Query:
    """A question whose options are not listed."""
    return Query(
        {"item_id": item, "choices": list(choices)},
        variant,
        f"Question {item}/{variant}",
        tuple(f" {choice}" for choice in choices),
        lambda completion: read_choice(list(choices), completion),
    )


def asking(cache: Any, mode: Any = "generate", temperature: float = 0.0, seed: int = 1, **changes: Any) -> Asking:
    def supervisor() -> Any:
        raise AssertionError("this engine has no business with the local supervisor")

    told = {"max_new_tokens": 20, "model": "smollm2-135m", **changes}
    return Asking(mode=mode, temperature=temperature, seed=seed, cache=cache, supervisor=supervisor, **told)
