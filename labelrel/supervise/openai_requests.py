"""Requests to an OpenAI-compatible server: few at a time, patient with trouble, none sent twice.

What passes by itself (too many requests, a server that starts or is overloaded, a broken connection)
is waited out; what does not (a wrong key, an unknown model) ends the work at once with one line.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from labelrel.errors import InputError
from labelrel.files import digest_of
from labelrel.progress import say
from labelrel.supervise.optional import optional
from labelrel.supervise.response_cache import ResponseCache

Body = Mapping[str, Any]

_FORMAT = 1
"""Of the replies that are kept; part of their key, so that those of another format are not found."""

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
"""Seconds before the second try, doubled for each that follows, and the most of them."""

_LONGEST_ASKED = 300.0
"""Seconds that a server may ask us to wait; what asks for more is a quota and no overload."""

_SAY_SECONDS = 10.0
_SHORTEST_KEY = 8
_FEW_LOGPROBS = 5
"""What the oldest servers allow per token."""

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}


@dataclass(frozen=True)
class Completion:
    """What a server wrote.

    Attributes:
        text: the completion.
        logprob: natural log-probability of its tokens, summed; None where the server tells none.
        first: token text → log-probability, of the most probable tokens at the first position; None
            where the server tells none.
    """

    text: str
    logprob: float | None = None
    first: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where requests go, and how.

    Attributes:
        base_url: up to and without `/completions`.
        label: what the server is called in the cache.
        path: `/completions` or `/chat/completions`.
        key: sent as bearer token; None sends a placeholder, since the client insists on one.
        key_env: the name of the environment variable that it came from, for messages.
        concurrency: requests under way at once, at most.
        timeout: seconds for one request.
        retries: how often a request that failed is sent again.
    """

    base_url: str
    label: str
    path: str
    key: str | None
    key_env: str | None
    concurrency: int
    timeout: float
    retries: int

    def clean(self, text: str) -> str:
        """Return a text without the key, whoever put it there.

        What is short, as EMPTY, is a placeholder and no secret, and may be a word of the text.
        """
        return text.replace(self.key, "***") if self.key and len(self.key) >= _SHORTEST_KEY else text


class Requests:
    """Sends requests and remembers the replies.

    Args:
        server: where to.
        cache: replies by what was asked.

    Attributes:
        label: what the server is called in the cache.

    Raises:
        ConfigError: the client library is not installed.
    """

    def __init__(self, server: Server, cache: ResponseCache) -> None:
        self.label = server.label
        self._openai = optional("openai", "openai")
        self._server = server
        self._cache = cache
        self._most_logprobs: int | None = None  # None: as many as are asked for
        self._renamed = False  # the server knows max_completion_tokens only
        self._not_before = 0.0
        self._said = -_SAY_SECONDS

    def complete(self, bodies: Sequence[Body]) -> list[Completion]:
        """Return one completion per request, in order; equal requests are sent once.

        Raises:
            InputError: the server refuses, or is in trouble for longer than the retries last. Replies
                that came before are in the cache.
        """
        keys = [digest_of([_FORMAT, self._server.label, self._server.path, body]) for body in bodies]
        done: dict[str, Completion] = {}
        missing: dict[str, Body] = {}
        for key, body in dict(zip(keys, bodies, strict=True)).items():
            kept = self._cache.get(key)
            if kept is None:
                missing[key] = body
                continue
            done[key] = Completion(**json.loads(kept))
            if "logprobs" in body and done[key].text and done[key].logprob is None:
                self._most_logprobs = 0  # found out in an earlier run
        if missing:
            _run(lambda: self._send_all(missing, done))
        return [done[key] for key in keys]

    @property
    def gives_logprobs(self) -> bool:
        """Whether the server has not refused log-probabilities so far."""
        return self._most_logprobs != 0

    async def _send_all(self, missing: Mapping[str, Body], done: dict[str, Completion]) -> None:
        left = iter(missing.items())
        client = self._openai.AsyncOpenAI(
            base_url=self._server.base_url,
            api_key=self._server.key or "none",
            timeout=self._server.timeout,
            max_retries=0,  # ours say what they wait for
        )

        async def work() -> None:
            for key, body in left:
                completion = await self._send(client, body)
                kept = self._cache.put(key, json.dumps(asdict(completion), ensure_ascii=False))
                done[key] = Completion(**json.loads(kept))

        try:
            async with client, asyncio.TaskGroup() as workers:
                for _ in range(min(self._server.concurrency, len(missing))):
                    workers.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others fail of the same

    async def _send(self, client: Any, body: Body) -> Completion:
        failures = 0
        while True:
            if (pause := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(pause * random.uniform(1.0, 1.2))  # jitter, as below
            sent = self._adapted(body)
            try:
                reply = await client.post(self._server.path, cast_to=object, body=sent)
            except self._openai.APIStatusError as error:
                status, told = error.status_code, self._told(error)
                if status not in _PASSING and (self._adapted(body) != sent or self._adapt(sent, told, status)):
                    continue  # sent again in the way the server understands
                if status not in _PASSING or error.code == "insufficient_quota":
                    raise InputError(self._advice(status, told, sent)) from None
                trouble, asked = f"HTTP {status}: {told}", _retry_after(error.response.headers)
            except self._openai.APITimeoutError:
                trouble, asked = f"no answer within {self._server.timeout:g} s", None
            except self._openai.APIConnectionError as error:
                reason = " ".join(str(error.__cause__ or error).split())
                trouble, asked = self._server.clean(reason.rstrip(".") or "the connection broke off"), None
            except ValueError:
                trouble, asked = "an answer that breaks off", None
            else:
                return self._read(reply, sent)
            failures += 1
            await self._wait(trouble, asked, failures)

    async def _wait(self, trouble: str, asked: float | None, failures: int) -> None:
        where = f"the server at {self._server.base_url}"
        if failures > self._server.retries or (asked or 0) > _LONGEST_ASKED:
            tries = f"{failures} {'tries' if failures > 1 else 'try'}"
            wish = f" and asks for {asked:.0f} s" if asked else ""
            raise InputError(
                f"{where} does not answer after {tries} ({trouble}){wish}; when it does, run the same command again: "
                "what was answered is kept and not asked again."
            )
        # jitter: workers that failed together would otherwise come back together
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)
        if asked is not None:
            wait = max(wait, asked)
            self._not_before = max(self._not_before, time.monotonic() + asked)  # for all workers
        if time.monotonic() - self._said >= _SAY_SECONDS:
            self._said = time.monotonic()
            say(f"  {where}: {trouble}; again in {wait:.1f} s (try {failures + 1} of {self._server.retries + 1})")
        await asyncio.sleep(wait)

    def _adapted(self, body: Body) -> dict[str, Any]:
        """Return a request in the form that the server is known to accept."""
        sent = dict(body)
        count = "top_logprobs" if "messages" in sent else "logprobs"
        if self._most_logprobs == 0:
            sent.pop("logprobs", None)
            sent.pop("top_logprobs", None)
        elif self._most_logprobs is not None and count in sent:
            sent[count] = min(sent[count], self._most_logprobs)
        if self._renamed:
            sent["max_completion_tokens"] = sent.pop("max_tokens")
        return sent

    def _adapt(self, sent: Body, told: str, status: int) -> bool:
        """Learn from a refusal what to ask otherwise; whether there is something to learn."""
        if status in (401, 403, 404):
            return False
        if "max_completion_tokens" in told and "max_tokens" in sent:
            self._renamed = True
            return True
        if "logprobs" in sent and "logprob" in told.lower():
            many = sent.get("top_logprobs", sent["logprobs"]) > _FEW_LOGPROBS
            self._learn(_FEW_LOGPROBS if many else 0, told)
            return True
        return False

    def _learn(self, most: int, told: str) -> None:
        self._most_logprobs = most
        kept = f"asking for the {most} most probable tokens" if most else "going on without, answers are read from text"
        say(f"  the server at {self._server.base_url} gives no such log-probabilities ({told}); {kept}")

    def _read(self, reply: object, sent: Body) -> Completion:
        try:
            choice = reply["choices"][0]  # type: ignore[index]
            text = choice["message"]["content"] if "messages" in sent else choice["text"]
            tokens, tops = _tokens(choice.get("logprobs") or {})
        except (TypeError, KeyError, IndexError, AttributeError, ValueError):
            shown = self._server.clean(" ".join(str(reply).split()))[:200]
            raise InputError(
                f"what the server at {self._server.base_url} answers is no completion: {shown!r}; check "
                "sample.options.base_url, which ends in /v1 for most servers."
            ) from None
        if "logprobs" in sent and not tokens and text and self.gives_logprobs:
            self._learn(0, "it leaves them out")
        return Completion(self._server.clean(text or ""), sum(tokens) if tokens else None, tops)

    def _told(self, error: Any) -> str:
        """Return what the server says of its refusal, in one line and without the key."""
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or error.message)
        return self._server.clean(" ".join(message.split()))[:300]

    def _advice(self, status: int, told: str, sent: Body) -> str:
        where = f"the server at {self._server.base_url}"
        if status in (401, 403):
            name = self._server.key_env
            if name is None:
                do = "name the environment variable that holds its key in sample.options.api_key_env"
            else:
                do = f"put the right key into the environment variable {name}"
                do += "" if self._server.key else ", which is not set"
            return f"{where} refuses the key (HTTP {status}: {told}); {do}."
        if status in (404, 405, 501):
            other = "completions" if "messages" in sent else "chat"
            return (
                f"{where} does not offer model '{sent['model']}' at {self._server.path} (HTTP {status}: {told}); check "
                f"sample.options.model and base_url, or set api to {other}."
            )
        return f"{where} refuses what it is asked (HTTP {status}: {told}); check sample.options."


def _tokens(logprobs: Mapping[str, Any]) -> tuple[list[float], dict[str, float] | None]:
    """Return (log-probability of each token, token → log-probability at the first position).

    Servers answer in the form of the chat endpoint or of the older completions endpoint, some in the
    first on both.
    """
    if logprobs.get("content"):
        content = logprobs["content"]
        tops = {top["token"]: float(top["logprob"]) for top in reversed(content[0].get("top_logprobs") or ())}
        return [float(token["logprob"]) for token in content], tops or None
    values = [float(value) for value in logprobs.get("token_logprobs") or () if value is not None]
    first = (logprobs.get("top_logprobs") or [None])[0]
    return values, {str(token): float(value) for token, value in first.items()} if first else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, given as a number or as a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end, also where an event loop is running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work())
        return
    failed: list[BaseException] = []

    def apart() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=apart)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
