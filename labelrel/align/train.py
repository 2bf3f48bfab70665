"""The training loop: batches in, an adapter and its loss curve out."""

from __future__ import annotations

import hashlib
import math
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from labelrel.align.checkpoint import Checkpoint, Saving, TrainingState
from labelrel.align.early_stop import EarlyStop
from labelrel.align.lora import adapter_parameters
from labelrel.align.objective import MICRO_TOKENS, Criterion, Example, Objective
from labelrel.align.order import plan_batches
from labelrel.align.world import ALONE, World
from labelrel.errors import InputError, some
from labelrel.models.decoder import Decoder

_WARMUP = 0.1
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Step:
    """What one optimiser step reported: number from 1, loss in nats, learning rate used."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """What a training run cost and how it went.

    Attributes:
        history: its steps, in order.
        num_tokens: tokens seen, padding not counted.
        seconds: wall seconds.
        seconds_before: those of them in processes that ended before this one took up their checkpoint.
    """

    history: list[Step]
    num_tokens: int
    seconds: float
    seconds_before: float = 0.0


def train(
    model: Any,
    decoder: Decoder,
    examples: Sequence[Example],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    criterion: Criterion | None = None,
    on_step: Callable[[Step], None] | None = None,
    checkpoint: Checkpoint | None = None,
    early_stop: EarlyStop | None = None,
    keep_checkpoint: bool = False,
    world: World = ALONE,
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
        criterion: the loss; None is the cross-entropy of the target.
        on_step: told of each step, also of those that an earlier process did.
        checkpoint: where the run's state is kept and taken up from; of this very run, as `training_key`
            tells. Interrupts wait for the end of the step then. The caller removes it.
        early_stop: looks at held-out accuracy and leaves the best adapter in the model.
        keep_checkpoint: save after the last step too.
        world: the processes that share each step; all must call with the same arguments.

    Returns:
        Loss by step and what it cost, the same but for seconds however often the run was cut short.

    Raises:
        InputError: a loss or gradient that is no finite number; the state before that step is kept.
    """
    parameters = adapter_parameters(model)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    schedule = _linear_schedule(steps)
    objective = Objective(decoder, examples, criterion or Criterion.named(), world)
    plan = plan_batches([len(e.prompt) for e in examples], steps=steps, batch_size=batch_size, seed=seed)
    torch.manual_seed(seed)
    state = TrainingState(parameters, optimizer, decoder.device, more=early_stop)
    if checkpoint:
        checkpoint.load(state, steps=steps)
        found = world.gather([len(state.history)])
        if len(set(found)) > 1:
            raise InputError(
                f"train: the processes take up checkpoints of different steps ({some(found)}) in "
                f"{checkpoint.path.parent}; all of them must see the same folder."
            )

    def tell(number: int) -> None:
        if on_step:
            on_step(Step(number, *state.history[number - 1]))

    for number in range(1, len(state.history) + 1):
        tell(number)
    objective.num_tokens = state.num_tokens
    model.train()
    with Saving(checkpoint, state, world) as saving:
        for batch in plan[len(state.history) :]:
            if early_stop and early_stop.over:
                break
            done = len(state.history)
            if world.size > 1:  # dropout of its own for each process, which a resumed run draws again
                torch.manual_seed((seed * steps + done) * world.size + world.rank)
            try:
                loss = objective.backward(batch, done / steps)
                world.sum_gradients(parameters)
                norm = float(torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRAD_NORM))
                if not math.isfinite(norm):
                    raise InputError(
                        f"the gradient is no finite number on {some([examples[i].item_id for i in batch])}"
                    )
            except InputError as error:
                kept = "; the checkpoint before it is kept" if checkpoint and checkpoint.save(state) else ""
                raise InputError(
                    f"train: step {done + 1} of {steps}: {error}{kept}. Lower the learning rate "
                    f"({learning_rate:g}), or look at these items."
                ) from None
            rate = learning_rate * schedule(done)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state.history.append((loss, rate))
            state.num_tokens = objective.num_tokens
            if early_stop:
                early_stop.look(done + 1)
            saving.step_done(partial(tell, len(state.history)))
        if checkpoint and keep_checkpoint:
            checkpoint.save(state)
    if early_stop:
        early_stop.take_best()
    model.eval()
    history = [Step(number, *told) for number, told in enumerate(state.history, start=1)]
    return Trained(history, state.num_tokens, state.seconds, state.seconds_before)


def training_key(
    model: Any,
    examples: Sequence[Example],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    criterion: Criterion | None = None,
) -> list[object]:
    """Return what determines a run of `train` besides the weights of `model`, as JSON-able values.

    Args:
        model: wrapped by peft; where it is counts, and in what precision.
        examples: as for `train`.
        steps: as for `train`.
        batch_size: as for `train`.
        learning_rate: as for `train`.
        seed: as for `train`.
        criterion: as for `train`.
    """
    criterion = criterion or Criterion.named()
    seen = hashlib.sha256()
    for example in examples:
        ids = [len(example.prompt.prefix), *(len(branch) for branch in example.prompt.branches), -1]
        seen.update(array("q", [*ids, *example.prompt.tokens]).tobytes() + struct.pack("d", example.weight))
        seen.update(array("d", example.targets or ()).tobytes())
    parameter = adapter_parameters(model)[0]
    device = parameter.device
    return [
        seen.hexdigest(),
        [steps, batch_size, learning_rate, seed, MICRO_TOKENS],
        [criterion.loss.name, criterion.params.model_dump()],
        sorted({str(p.dtype) for p in model.parameters()}),
        torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        [version(package) for package in ("torch", "transformers", "peft")],
    ]


def _linear_schedule(steps: int) -> Callable[[int], float]:
    """Return the share of the highest learning rate by number of steps done."""
    warmup = max(1, round(_WARMUP * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup + 1))

    return factor
