"""How much goes through a model at once, and what happens when it was too much."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from labelrel.errors import InputError
from labelrel.models.packing import batches
from labelrel.progress import say

CPU_TOKENS = 2048
"""Padded tokens per batch on the CPU: beyond, nothing gets faster and the caches overflow."""

_FEWEST, _MOST = 2048, 131_072
_SHARE = 0.5  # of the card's memory that a batch may be reckoned to take; the rest is for what is not reckoned


def token_budget(device: torch.device, model: Any, *, total_memory: int | None = None) -> int:
    """Return how many padded tokens one batch may have.

    It depends on the model and on the kind of card, not on what happens to be free, so that a
    rerun makes the same batches and gives the same numbers to the last bit. Where it proves too
    much, `in_batches` makes the batches smaller.

    Args:
        device: where the model runs.
        model: a causal language model of transformers, plain or wrapped by peft.
        total_memory: of the card, in bytes; None asks the card.

    Returns:
        2048 on the CPU; on a card, the largest power of two that is reckoned to fit, in
        2048..131072. A power of two, so that cards which differ by a few MiB batch alike.
    """
    if device.type != "cuda":
        return CPU_TOKENS
    if total_memory is None:
        total_memory = int(torch.cuda.get_device_properties(device).total_memory)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    size = next(model.parameters()).element_size()
    fits = max(0, int(_SHARE * total_memory) - weights) // token_bytes(model.config, size)
    power: int = 1 << max(0, fits.bit_length() - 1)
    return min(_MOST, max(_FEWEST, power))


def token_bytes(config: Any, size: int) -> int:
    """Return the bytes that a token of a batch takes at most in a forward pass.

    Counted are its keys and values in every layer, the widest layer's activations, and its logits
    with the float32 copy and the log-softmax that scoring makes of them.

    Args:
        config: the model's configuration.
        size: bytes of one activation.
    """
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    keys_and_values = 2 * config.num_hidden_layers * kv_heads * head_dim * size
    activations = (4 * config.hidden_size + 3 * wide + 2 * heads * head_dim) * size
    logits = config.vocab_size * (size + 4 + 4)
    return int(keys_and_values + activations + logits)


def in_batches(
    lengths: Sequence[int],
    budget: int,
    run: Callable[[list[int]], None],
    *,
    told: Callable[[str], None] = say,
) -> int:
    """Run all sequences in groups of similar length, in smaller groups once memory runs out.

    Args:
        lengths: tokens of each sequence, with what is generated after it.
        budget: most padded tokens of a group; a single sequence that is longer is a group of its own.
        run: does one group, given as indices into `lengths`, and keeps the results by index. It may
            be stopped by an exhausted memory, and is then called again with part of the group.
        told: takes the line that is said when the groups are made smaller.

    Returns:
        The budget that held in the end.

    Raises:
        InputError: a single sequence does not fit into memory.
    """
    waiting = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    while waiting:
        done = 0
        for part in batches([lengths[i] for i in waiting], budget):
            group = [waiting[i] for i in part]
            if _fits(run, group):
                done += len(group)
                continue
            longest = lengths[group[-1]]
            if len(group) == 1:
                raise InputError(
                    f"a sequence of {longest} tokens does not fit into memory by itself; "
                    "shorten the prompts, generate less, or use a smaller model."
                )
            budget = len(group) * longest // 2
            told(f"out of memory with {len(group)} sequences of up to {longest} tokens; going on with half as many")
            break
        waiting = waiting[done:]
    return budget


def _fits(run: Callable[[list[int]], None], group: list[int]) -> bool:
    try:
        run(group)
        return True
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # outside the handler: within it the traceback keeps the tensors of the failed run alive
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: torch says so by an error type on a card, by its words on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("DefaultCPUAllocator", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
