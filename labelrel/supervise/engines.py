"""Who answers: an engine takes queries and gives replies, one for one and in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from labelrel.errors import InputError
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


class Engine(Protocol):
    """Answers queries. `name` becomes the `annotator_id` of the answers."""

    name: str

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        """Return one reply per query, in order."""
        ...


engines: Registry[Callable[..., Engine]] = Registry("engine")


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


@engines.register("transformers")
class TransformersEngine:
    """A local model that chooses among an item's options by their probability.

    The options are not part of the prompt; each is scored as its continuation, the prompt
    computed once for all of them.

    Args:
        decoder: the supervisor.
        tokenizer: its tokenizer.
        name: what the answers call the annotator.
        temperature: of the draw; 0 takes the most probable option.
        seed: of the draws.
    """

    def __init__(self, decoder: Any, tokenizer: Any, *, name: str, temperature: float, seed: int) -> None:
        self.name = name
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._temperature = temperature
        self._seed = seed

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        """Return one drawn option per query with the log-probabilities of all.

        Raises:
            InputError: a query for an open item, which has no options to choose from.
        """
        from labelrel.models.choice import choice_logprobs, tokenize

        texts = []
        for query in queries:
            if query.options is None:
                raise InputError(
                    f"item {query.item['item_id']} is an open question; engine 'transformers' chooses only."
                )
            texts.append((query.prompt, query.options))
        replies = []
        scored = choice_logprobs(self._decoder, tokenize(self._tokenizer, texts))
        for query, (_, options), logprobs in zip(queries, texts, scored, strict=True):
            index = draw(logprobs, self._temperature, self._seed, str(query.item["item_id"]), query.variant_id)
            replies.append(Reply(options[index], str(index), logprobs[index], logprobs))
        return replies
