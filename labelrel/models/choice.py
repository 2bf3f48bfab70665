"""How probable is each choice as the continuation of its prompt?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from labelrel.errors import InputError
from labelrel.models.decoder import Decoder
from labelrel.models.packing import Prompt, batches, pack

_BATCH_TOKENS = 1024


@torch.inference_mode()
def choice_logprobs(
    decoder: Decoder, prompts: Sequence[Prompt], progress: Callable[[int, int], None] | None = None
) -> list[list[float]]:
    """Score every continuation of every prompt, each prompt computed once.

    Args:
        decoder: the model, whole or on a trunk cache.
        prompts: tokenised prompts with their choices as branches.
        progress: called with (prompts done, prompts in all).

    Returns:
        For each prompt the natural log-probabilities of its choices, normalised over the choices
        (their exponentials sum to 1). A choice's own log-probability is the sum over its tokens.
    """
    results: list[list[float]] = [[] for _ in prompts]
    done = 0
    for group in batches([len(prompt) for prompt in prompts], _BATCH_TOKENS):
        members = [prompts[index] for index in group]
        packed = pack(members).to(decoder.device)
        tokens = decoder.token_logprobs(members, packed).double()
        sums = torch.zeros(packed.num_branches, dtype=torch.float64, device=tokens.device)
        sums.index_add_(0, packed.owner, tokens)
        counts = [len(member.branches) for member in members]
        for index, scores in zip(group, torch.split(sums, counts), strict=True):
            results[index] = torch.log_softmax(scores, dim=0).tolist()
        done += len(group)
        if progress:
            progress(done, len(prompts))
    return results


def tokenize(tokenizer: Any, texts: Sequence[tuple[str, Sequence[str]]]) -> list[Prompt]:
    """Tokenise prompts and their continuations apart, so that a prompt's tokens never depend on them.

    Args:
        tokenizer: a transformers tokenizer.
        texts: (prompt, continuations) pairs; a continuation starts with its blank.

    Raises:
        InputError: a prompt or a continuation without any token.
    """
    prefixes = tokenizer([prompt for prompt, _ in texts])["input_ids"]
    flat = [text for _, continuations in texts for text in continuations]
    branches_ = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    prompts = [
        Prompt(tuple(prefix), tuple(tuple(next(branches_)) for _ in continuations))
        for prefix, (_, continuations) in zip(prefixes, texts, strict=True)
    ]
    for prompt, (text, continuations) in zip(prompts, texts, strict=True):
        if not prompt.prefix or not all(prompt.branches):
            empty = "prompt" if not prompt.prefix else f"continuation (one of {list(continuations)!r})"
            raise InputError(f"an empty {empty} cannot be scored; the prompt is {text!r}.")
    return prompts
