"""How probable is each choice as the continuation of its prompt?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from labelrel.errors import InputError
from labelrel.models.decoder import Decoder
from labelrel.models.memory import in_batches, token_budget
from labelrel.models.packing import Prompt, pack
from labelrel.models.tree import grow, pack_trees


@torch.inference_mode()
def choice_logprobs(
    decoder: Decoder,
    prompts: Sequence[Prompt],
    progress: Callable[[int, int], None] | None = None,
    groups: Sequence[Sequence[int]] | None = None,
) -> list[list[float]]:
    """Score every continuation of every prompt, each token that prompts of a group share computed once.

    Args:
        decoder: the model, whole or on a trunk cache.
        prompts: tokenised prompts with their choices as branches.
        progress: called with (prompts done, prompts in all).
        groups: positions of prompts that begin alike, such as the wordings of one item; None means
            that none do. A trunk cache holds prompts by themselves, so there they are taken one by one.

    Returns:
        For each prompt the natural log-probabilities of its choices, normalised over the choices
        (their exponentials sum to 1). A choice's own log-probability is the sum over its tokens.
    """
    if groups is None or decoder.cached:
        groups = [[index] for index in range(len(prompts))]
    trees = None if decoder.cached else [grow([prompts[index] for index in group]) for group in groups]
    lengths = [len(tree) for tree in trees] if trees is not None else [len(prompt) for prompt in prompts]
    results: list[list[float]] = [[] for _ in prompts]
    done = 0

    def run(batch: list[int]) -> None:
        nonlocal done
        members = [index for group in batch for index in groups[group]]
        packed = pack([prompts[i] for i in members]) if trees is None else pack_trees([trees[i] for i in batch])
        packed = packed.to(decoder.device)
        tokens = decoder.token_logprobs([prompts[index] for index in members], packed).double()
        sums = torch.zeros(packed.num_branches, dtype=torch.float64, device=tokens.device)
        sums.index_add_(0, packed.owner, tokens)
        counts = [len(prompts[index].branches) for index in members]
        for index, scores in zip(members, torch.split(sums, counts), strict=True):
            results[index] = torch.log_softmax(scores, dim=0).tolist()
        done += len(members)
        if progress:
            progress(done, len(prompts))

    in_batches(lengths, token_budget(decoder.device, decoder.model), run)
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
