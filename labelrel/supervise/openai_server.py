"""Engine `openai`: any server that speaks the OpenAI protocol, on this machine or elsewhere."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from labelrel.errors import ConfigError
from labelrel.plugin import Params
from labelrel.supervise.engines import Asking, Reply, chosen, closed, engine
from labelrel.supervise.openai_requests import Body, Completion, Requests, Server
from labelrel.supervise.response_cache import ResponseCache
from labelrel.supervise.seeds import derived_seed
from labelrel.supervise.variants import Query

CACHE = "replies.sqlite"

_BLOCK = 256
_ONE_TOKEN = 5
"""Longest option, in characters, that is looked for among single tokens: a letter, yes, no, true, false."""

_OWN = {
    "model": "sample.options.model",
    "prompt": "section prompt",
    "messages": "section prompt and sample.options.system",
    "max_tokens": "sample.max_new_tokens",
    "max_completion_tokens": "sample.max_new_tokens",
    "temperature": "sample.temperature",
    "seed": "base.seed",
    "logprobs": "sample.options.logprobs",
    "top_logprobs": "sample.options.top_logprobs",
    "stop": "sample.options.stop",
    "n": "sample.variants",
    "stream": None,
}


class OpenAIParams(Params):
    """Settings of engine `openai`.

    Attributes:
        base_url: address of the server up to where `/completions` follows, such as http://127.0.0.1:8080/v1.
        model: its name on the server; also the annotator's name in the answers.
        api_key_env: NAME of the environment variable with the key; null where the server wants none.
        api: `completions` goes on from the prompt as it is, which base models and small ones need;
            `chat` sends it as a message, for servers and models that know nothing else.
        system: system message, with `chat`.
        logprobs: ask for log-probabilities; a server that refuses is then asked without.
        top_logprobs: how many tokens per position; servers allow 5 to 20.
        stop: texts that end a completion; null means the end of the line with `completions`, where a
            base model would go on with the next question, and nothing with `chat`.
        extra: anything else for the body of each request, such as top_k.
        label: what the server is called in the cache; null means its base_url.
        concurrency: requests under way at once.
        timeout: seconds for one request.
        retries: how often a request that failed in passing is sent again.
    """

    base_url: str
    model: str = Field(min_length=1)
    api_key_env: str | None = "OPENAI_API_KEY"
    api: Literal["completions", "chat"] = "completions"
    system: str | None = None
    logprobs: bool = True
    top_logprobs: int = Field(20, ge=1, le=1000)
    stop: list[str] | None = None
    extra: dict[str, Any] = Field({})
    label: str | None = None
    concurrency: int = Field(8, ge=1, le=1024)
    timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    retries: int = Field(8, ge=0)


class OpenAIEngine:
    """Asks a server, and reads or weighs what it says.

    Args:
        requests: to the server.
        params: settings.
        asking: mode, temperature, seed, longest completion.
    """

    block = _BLOCK

    def __init__(self, requests: Requests, params: OpenAIParams, asking: Asking) -> None:
        self.name = params.model
        # how patiently it is asked does not change the answers, nor does where a server of a known name is
        settings = params.model_dump(exclude={"base_url", "label", "api_key_env", "concurrency", "timeout", "retries"})
        self.key: object = [
            requests.label,
            settings,
            asking.mode,
            asking.temperature,
            asking.seed,
            asking.max_new_tokens,
        ]
        self._requests = requests
        self._params = params
        self._asking = asking
        self._probed = False

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        """Return one reply per query.

        In mode `choice`, options that are single tokens are drawn by their probability as the first
        token; where the server does not tell it, and for longer options, the model writes and its text
        is read. In mode `generate` it always writes.

        Raises:
            ConfigError: an open item in mode `choice`.
            InputError: the server refuses or cannot be reached.
        """
        replies: dict[int, Reply] = {}
        if self._asking.mode == "choice":
            for query in queries:
                closed(query)
            replies = self._choose(queries)
        left = [place for place in range(len(queries)) if place not in replies]
        bodies = [self._writing(queries[place]) for place in left]
        for place, written in zip(left, self._requests.complete(bodies), strict=True):
            answer = queries[place].read(written.text).answer
            replies[place] = Reply(written.text, answer, written.logprob, None)
        return [replies[place] for place in range(len(queries))]

    def _choose(self, queries: Sequence[Query]) -> dict[int, Reply]:
        """Return the replies to those queries whose options all are among the first tokens."""
        places = [place for place, query in enumerate(queries) if _one_token_each(query.options or ())]
        if not self._params.logprobs or not places:
            return {}
        bodies = [self._weighing(queries[place]) for place in places]
        if not self._probed:
            self._probed = True
            self._requests.complete(bodies[:1])  # a server without log-probabilities need not be asked for all
        if not self._requests.gives_logprobs:
            return {}
        replies = {}
        for place, weighed in zip(places, self._requests.complete(bodies), strict=True):
            logprobs = _of_options(weighed, closed(queries[place]))
            if logprobs is not None:
                replies[place] = chosen(queries[place], logprobs, self._asking)
        return replies

    def _weighing(self, query: Query) -> Body:
        return self._body(query, 1, 0.0, self._params.top_logprobs)

    def _writing(self, query: Query) -> Body:
        return self._body(query, self._asking.max_new_tokens, self._asking.temperature, 1)

    def _body(self, query: Query, max_tokens: int, temperature: float, logprobs: int) -> Body:
        params = self._params
        body: dict[str, Any] = {"model": params.model, "max_tokens": max_tokens, "temperature": temperature}
        if temperature > 0:  # at 0 nothing is drawn, and equal prompts are one request
            body["top_p"] = 1.0  # many servers cut the tail by default
            body["seed"] = derived_seed(self._asking.seed, query)
        if params.api == "chat":
            system = [] if params.system is None else [{"role": "system", "content": params.system}]
            body["messages"] = [*system, {"role": "user", "content": query.prompt}]
            if params.logprobs:
                body |= {"logprobs": True, "top_logprobs": logprobs}
        else:
            body["prompt"] = query.prompt
            if params.logprobs:
                body["logprobs"] = logprobs
        if max_tokens > 1 and (stop := self._stop()):  # servers leave out the log-probabilities of a stop
            body["stop"] = stop
        return body | params.extra

    def _stop(self) -> list[str]:
        if self._params.stop is not None:
            return self._params.stop
        return ["\n"] if self._params.api == "completions" else []


def _one_token_each(options: Sequence[str]) -> bool:
    bare = [option.strip() for option in options]
    return len(set(bare)) == len(bare) and all(0 < len(b) <= _ONE_TOKEN and not b.count(" ") for b in bare)


def _of_options(weighed: Completion, options: Sequence[str]) -> list[float] | None:
    """Return the log-probabilities of the options, normalised over them; None where one is not told.

    A token counts for an option with and without a blank before it.
    """
    spoken: dict[str, float] = {}
    for token, logprob in (weighed.first or {}).items():
        bare = token.strip()
        spoken[bare] = _log_sum([logprob, *([spoken[bare]] if bare in spoken else [])])
    if any(option.strip() not in spoken for option in options):
        return None
    logprobs = [spoken[option.strip()] for option in options]
    total = _log_sum(logprobs)
    return None if math.isinf(total) else [logprob - total for logprob in logprobs]


def _log_sum(values: Sequence[float]) -> float:
    most = max(values)
    return most if math.isinf(most) else most + math.log(sum(math.exp(value - most) for value in values))


def _check(params: OpenAIParams) -> None:
    """Refuse settings that cannot work; none of the messages shows what may be a secret."""
    address = urlsplit(params.base_url)
    if address.username or address.password:
        raise ConfigError(
            "sample.options.base_url holds a user or password; put the key into an environment variable and its name "
            "into api_key_env."
        )
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigError(
            f"sample.options.base_url must be an address such as http://127.0.0.1:8080/v1, got {params.base_url!r}."
        )
    if params.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", params.api_key_env):
        raise ConfigError(
            "sample.options.api_key_env must be the NAME of an environment variable in capitals, such as "
            "OPENAI_API_KEY; what it holds is none (not shown, in case it is the key itself)."
        )
    if params.system is not None and params.api != "chat":
        raise ConfigError("sample.options.system needs api: chat; a plain completion has no system message.")
    for name in params.extra:
        if name in _OWN:
            instead = f"set {_OWN[name]}" if _OWN[name] else "leave it out"
            raise ConfigError(f"sample.options.extra cannot hold '{name}'; {instead}.")


def _key(params: OpenAIParams, environment: Mapping[str, str]) -> str | None:
    return (environment.get(params.api_key_env) or None) if params.api_key_env else None


@engine("openai", OpenAIParams, tuned=False)
def openai(asking: Asking, params: OpenAIParams) -> OpenAIEngine:
    """Any OpenAI-compatible server: OpenAI, llama.cpp, vLLM, Ollama; many requests at once, replies kept on disk.

    Source: OpenAI API reference, endpoints /completions and /chat/completions; letters weighed by the
    probability of the first token as in MMLU's evaluation (Hendrycks et al. 2021, arXiv 2009.03300).
    """
    _check(params)
    base_url = params.base_url.rstrip("/")
    server = Server(
        base_url=base_url,
        label=params.label or base_url,
        path="/chat/completions" if params.api == "chat" else "/completions",
        key=_key(params, os.environ),
        key_env=params.api_key_env,
        concurrency=params.concurrency,
        timeout=params.timeout,
        retries=params.retries,
    )
    return OpenAIEngine(Requests(server, ResponseCache(asking.cache / CACHE)), params, asking)
