"""Engine `transformers`: a local model, by the probability of each option or by what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labelrel.plugin import Params
from labelrel.supervise.engines import Asking, Reply, Supervisor, chosen, closed, engine
from labelrel.supervise.variants import Query

_BLOCK = 128
_BLOCK_ON_GPU = 8192
"""A GPU is busy with thousands of short queries at once, and a file per hundred would keep it waiting."""


class TransformersEngine:
    """Asks a model in this process.

    Args:
        supervisor: who is asked.
        asking: mode, temperature, seed, longest completion.
    """

    def __init__(self, supervisor: Supervisor, asking: Asking) -> None:
        self.name = supervisor.name
        self._device = next(supervisor.model.parameters()).device
        self.block = _BLOCK_ON_GPU if self._device.type == "cuda" else _BLOCK
        self.key = [supervisor.fingerprint, asking.mode, asking.temperature, asking.seed, asking.max_new_tokens]
        self._supervisor = supervisor
        self._asking = asking

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        """Return one reply per query.

        Raises:
            ConfigError: an open item in mode `choice`, which has no options to choose from.
        """
        return self._choose(queries) if self._asking.mode == "choice" else self._generate(queries)

    def _choose(self, queries: Sequence[Query]) -> list[Reply]:
        from labelrel.models.choice import choice_logprobs, tokenize
        from labelrel.models.decoder import Decoder

        prompts = tokenize(self._supervisor.tokenizer, [(query.prompt, closed(query)) for query in queries])
        scored = choice_logprobs(Decoder(self._supervisor.model), prompts, groups=_by_item(queries))
        return [chosen(query, logprobs, self._asking) for query, logprobs in zip(queries, scored, strict=True)]

    def _generate(self, queries: Sequence[Query]) -> list[Reply]:
        from labelrel.models.generate import generate
        from labelrel.models.memory import token_budget

        written = generate(
            self._supervisor.model,
            self._supervisor.tokenizer,
            [query.prompt for query in queries],
            max_new_tokens=self._asking.max_new_tokens,
            temperature=self._asking.temperature,
            seed=self._asking.seed,
            names=[f"{query.item['item_id']}/{query.variant_id}" for query in queries],
            budget=token_budget(self._device, self._supervisor.model),
        )
        replies = []
        for query, text in zip(queries, written, strict=True):
            answer = query.read(text.text).answer
            replies.append(Reply(text.text, answer, text.logprob, None))
        return replies


def _by_item(queries: Sequence[Query]) -> list[list[int]]:
    """Return the positions of the variants of each item: they share most of their prompt."""
    groups: dict[Any, list[int]] = {}
    for place, query in enumerate(queries):
        groups.setdefault(query.item["item_id"], []).append(place)
    return list(groups.values())


@engine("transformers", Params, tuned=True)
def transformers(asking: Asking, params: Params) -> TransformersEngine:
    """A local model: options scored as continuations of the prompt, or text generated in batches.

    Source: option scoring as in the evaluation of GPT-3 (Brown et al. 2020, arXiv 2005.14165, section 2.4).
    """
    return TransformersEngine(asking.supervisor(), asking)
