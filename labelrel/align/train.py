"""The training loop: batches in, an adapter and its loss curve out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from labelrel.align.lora import adapter_parameters
from labelrel.align.loss import mean_cross_entropy, scale_weights, weighted_loss
from labelrel.align.order import plan_batches
from labelrel.models.decoder import Decoder
from labelrel.models.packing import Prompt, pack

_WARMUP = 0.1
_MAX_GRAD_NORM = 1.0
_MICRO_TOKENS = 4096


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        prompt: the tokenised prompt with the target as its only branch.
        weight: how much it counts, at least 0.
    """

    prompt: Prompt
    weight: float


@dataclass(frozen=True)
class Step:
    """What one optimiser step reported: number from 1, loss in nats, learning rate used."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """What a training run cost and how it went."""

    history: list[Step]
    num_tokens: int
    seconds: float


def train(
    model: Any,
    decoder: Decoder,
    examples: Sequence[Example],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[Step], None] | None = None,
) -> Trained:
    """Train the adapter of `model` on weighted examples.

    AdamW without weight decay, linear warm-up over the first tenth of the steps, then linear
    decay to 0; gradients are clipped at norm 1. A step that does not fit in memory at once is
    split into micro-batches with the same gradient.

    Args:
        model: wrapped by peft; only the adapter learns.
        decoder: runs that model, whole or on a trunk cache that holds every example.
        examples: at least one, with a positive weight among them.
        steps: optimiser steps.
        batch_size: examples per step.
        learning_rate: the highest.
        seed: of the data order and of dropout.
        on_step: told of each step.

    Returns:
        Loss by step, tokens seen (padding not counted) and wall seconds.
    """
    started = time.perf_counter()
    parameters = adapter_parameters(model)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear_schedule(steps))
    weights = scale_weights(torch.tensor([example.weight for example in examples], dtype=torch.float64)).float()
    plan = plan_batches([len(e.prompt) for e in examples], steps=steps, batch_size=batch_size, seed=seed)
    torch.manual_seed(seed)
    model.train()
    history, num_tokens = [], 0
    for number, batch in enumerate(plan, start=1):
        loss = 0.0
        for micro in _micro_batches(batch, examples):
            prompts = [examples[index].prompt for index in micro]
            value = weighted_loss(
                example_losses(decoder, prompts), weights[micro].to(decoder.device), num_examples=len(batch)
            )
            value.backward()  # type: ignore[no-untyped-call]
            loss += float(value.detach())
            num_tokens += sum(len(prompt) for prompt in prompts)
        torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRAD_NORM)
        used = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        history.append(Step(number, loss, float(used)))
        if on_step:
            on_step(history[-1])
    model.eval()
    return Trained(history, num_tokens, time.perf_counter() - started)


def example_losses(decoder: Decoder, prompts: Sequence[Prompt]) -> torch.Tensor:
    """Return (B,) mean cross-entropy of each prompt's target, with gradients."""
    packed = pack(prompts).to(decoder.device)
    return mean_cross_entropy(decoder.token_logprobs(prompts, packed), packed.owner, packed.num_branches)


def _linear_schedule(steps: int) -> Callable[[int], float]:
    warmup = max(1, round(_WARMUP * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup + 1))

    return factor


def _micro_batches(batch: list[int], examples: Sequence[Example]) -> list[list[int]]:
    longest = max(len(examples[index].prompt) for index in batch)
    size = max(1, _MICRO_TOKENS // longest)
    return [batch[start : start + size] for start in range(0, len(batch), size)]
