"""Who answers: an engine takes queries and gives replies, one for one and in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from labelrel.errors import ConfigError
from labelrel.plugin import Params, Plugin
from labelrel.registry import Registry
from labelrel.supervise.variants import Query


@dataclass(frozen=True)
class Reply:
    """What the annotator said.

    Attributes:
        completion: the raw text.
        answer: canonical, in the item's own terms; None when it abstained or cannot be read.
        answer_logprob: natural log-probability of the answer; None where the engine has none.
        choice_logprobs: log-probability of each choice, normalised over the choices; None for
            open items or where the engine has none.
    """

    completion: str
    answer: str | None
    answer_logprob: float | None
    choice_logprobs: list[float] | None


@dataclass(frozen=True)
class Supervisor:
    """A local model that answers, tuned or as it is.

    Attributes:
        model: causal language model of transformers, plain or wrapped by peft.
        tokenizer: its tokenizer.
        name: what the answers call the annotator.
        fingerprint: digest of its weights, adapter included.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What every engine is told.

    Attributes:
        mode: `choice`: by the probability of each option; `generate`: by reading what is written.
        temperature: of the draw over options or tokens; 0 takes the best.
        seed: of the draws.
        max_new_tokens: longest completion, where text is generated.
        cache: folder for what an engine may keep and can lose.
        supervisor: loads the local supervisor; called only by an engine that needs it.
        model: the supervisor's model reference, for an engine that loads it in its own way.
    """

    mode: Literal["choice", "generate"]
    temperature: float
    seed: int
    max_new_tokens: int
    cache: Path
    supervisor: Callable[[], Supervisor]
    model: str


class Engine(Protocol):
    """Answers queries."""

    @property
    def name(self) -> str:
        """The `annotator_id` of the answers."""

    @property
    def block(self) -> int:
        """Queries that are asked together and kept together: what a kill can cost."""

    @property
    def key(self) -> object:
        """JSON-able; whatever the answers depend on besides the queries."""

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        """Return one reply per query, in order."""


@dataclass(frozen=True, kw_only=True)
class EngineKind(Plugin):
    """One way to ask.

    Attributes:
        function: (asking, checked options) → engine. It may take its time and load a model.
        tuned: whether it asks the supervisor that `supervise` tunes; otherwise there is nothing to
            tune, and `supervise` measures its floor by asking the test items.
    """

    tuned: bool

    def open(self, asking: Asking, options: dict[str, Any]) -> Engine:
        """Return the engine, ready to be asked.

        Raises:
            ConfigError: an unknown or impossible option.
        """
        engine: Engine = self.function(asking, self.parse(options, "sample.options"))
        return engine


engines: Registry[EngineKind] = Registry("engine")

Opener = Callable[[Asking, Any], Engine]


def engine(name: str, params: type[Params] = Params, *, tuned: bool) -> Callable[[Opener], Opener]:
    """Return a decorator that registers a function as the engine `name`."""

    def add(function: Opener) -> Opener:
        engines.add(name, EngineKind(name=name, function=function, params=params, tuned=tuned))
        return function

    return add


def closed(query: Query) -> tuple[str, ...]:
    """Return the options of a query.

    Raises:
        ConfigError: it asks an open question, which mode `choice` cannot.
    """
    if query.options is None:
        raise ConfigError(
            f"item {query.item['item_id']} is an open question and has no options to choose from; set "
            "sample.mode to generate."
        )
    return query.options


def chosen(query: Query, logprobs: list[float], asking: Asking) -> Reply:
    """Return the reply that draws one of a query's options.

    Args:
        query: with K options.
        logprobs: (K,) of the options, normalised over them.
        asking: temperature and seed.
    """
    index = draw(logprobs, asking.temperature, asking.seed, str(query.item["item_id"]), query.variant_id)
    return Reply(closed(query)[index], str(index), logprobs[index], logprobs)


def draw(logprobs: Sequence[float], temperature: float, seed: int, *names: str) -> int:
    """Draw an index from softmax(logprobs / temperature).

    The random number is a hash of the seed and the names (item and variant), so a draw does not
    depend on what was drawn before, and a run that was killed goes on as if it had not been.

    Args:
        logprobs: natural log-probabilities, not necessarily normalised.
        temperature: 0 takes the best, the first of equals.
        seed: of all draws.
        names: what this draw is for.
    """
    best = max(logprobs)
    if temperature == 0:
        return list(logprobs).index(best)
    weights = [math.exp((value - best) / temperature) for value in logprobs]
    key = "\x1f".join([str(seed), *names]).encode()
    point = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64 * sum(weights)
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return len(weights) - 1  # rounding left a sliver behind the last weight
