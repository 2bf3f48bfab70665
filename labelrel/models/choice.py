"""How probable is each choice as the continuation of its prompt?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from labelrel.errors import InputError
from labelrel.models.decoder import Decoder
from labelrel.models.memory import in_batches, token_budget
from labelrel.models.packing import Packed, Prompt, pack
from labelrel.models.stem import Stem, pack_stems, stem_of
from labelrel.models.tree import Tree, grow, pack_trees


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
    budget = token_budget(decoder.device, decoder.model)
    results: list[list[float]] = [[] for _ in prompts]
    done = 0

    def keep(members: Sequence[int], packed: Packed, past: Any = None) -> None:
        nonlocal done
        tokens = decoder.token_logprobs([prompts[index] for index in members], packed, past).double()
        sums = torch.zeros(packed.num_branches, dtype=torch.float64, device=tokens.device)
        sums.index_add_(0, packed.owner, tokens)
        counts = [len(prompts[index].branches) for index in members]
        for index, scores in zip(members, torch.split(sums, counts), strict=True):
            results[index] = torch.log_softmax(scores, dim=0).tolist()
        done += len(members)
        if progress:
            progress(done, len(prompts))

    if decoder.cached:
        in_batches(
            [len(prompt) for prompt in prompts],
            budget,
            lambda batch: keep(batch, pack([prompts[i] for i in batch]).to(decoder.device)),
        )
        return results

    trees: list[tuple[Sequence[int], Tree]] = []
    stems: list[tuple[Sequence[int], Stem]] = []
    for group in [[index] for index in range(len(prompts))] if groups is None else groups:
        alike = [prompts[index] for index in group]
        tree = grow(alike)
        stem = stem_of(alike, tree)
        if stem is None:
            trees.append((group, tree))
        else:
            stems.append((group, stem))

    def run_trees(batch: list[int]) -> None:
        packed = pack_trees([trees[i][1] for i in batch])
        keep([index for i in batch for index in trees[i][0]], packed.to(decoder.device))

    def run_stems(batch: list[int]) -> None:
        ids, owner, packed = pack_stems([stems[i][1] for i in batch])
        past = decoder.past(ids.to(decoder.device), owner.to(decoder.device))
        keep([index for i in batch for index in stems[i][0]], packed.to(decoder.device), past)

    in_batches([len(tree) for _, tree in trees], budget, run_trees)
    in_batches([len(stem) for _, stem in stems], budget, run_stems)
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
