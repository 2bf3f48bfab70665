"""The loss of one optimiser step and its gradient, in as many forward passes as memory asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from labelrel.align.loss import scale_weights, token_sums, weighted_loss
from labelrel.align.world import ALONE, World
from labelrel.errors import InputError, some
from labelrel.losses import DEFAULT, Batch, Loss, Step, expected_cross_entropy, losses, scales_weights
from labelrel.models.decoder import Decoder
from labelrel.models.packing import Packed, Prompt, pack
from labelrel.plugin import Params

MICRO_TOKENS = 4096
"""Padded tokens of one forward pass."""


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        prompt: the tokenised prompt with what may follow as branches: the target alone, or, for a loss
            that compares options, each option.
        weight: how much it counts, at least 0.
        targets: for a loss that compares options, a number per option; None else.
        item_id: what messages call it.
    """

    prompt: Prompt
    weight: float
    targets: tuple[float, ...] | None = None
    item_id: str = ""


@dataclass(frozen=True)
class Criterion:
    """A loss with its parameters."""

    loss: Loss
    params: Params

    @classmethod
    def named(cls, name: str = DEFAULT, **params: object) -> Criterion:
        """Return the loss of that name.

        Raises:
            UnknownNameError: there is none.
            ConfigError: parameters that it does not have or that are impossible.
        """
        loss = losses.get(name)
        return cls(loss, loss.parse(params, f"loss.{name}"))


class Objective:
    """The weighted loss over examples, (1/B) sum_i w_i loss_i for a step of B.

    Args:
        decoder: runs the model, whole or on a trunk cache that holds every example.
        examples: all that the run may see.
        criterion: the loss.
        world: the processes that share each step.
    """

    def __init__(
        self, decoder: Decoder, examples: Sequence[Example], criterion: Criterion, world: World = ALONE
    ) -> None:
        self._decoder, self._examples, self._criterion, self._world = decoder, examples, criterion, world
        self._num_options = max(len(example.prompt.branches) for example in examples)
        weights = torch.tensor([example.weight for example in examples], dtype=torch.float64)
        scaled = scale_weights(weights) if scales_weights(criterion.loss.name, criterion.params) else weights
        self._weights = scaled.float().to(decoder.device)
        self.num_tokens = 0

    def backward(self, step: Sequence[int], progress: float) -> float:
        """Add the gradient of one optimiser step and return its loss.

        Args:
            step: indices of its examples, those of all processes.
            progress: share of the steps done before, in [0, 1).

        Raises:
            InputError: the loss of an example is NaN or infinite; names the items.
        """
        mine = self._world.share(list(enumerate(step)))
        longest = max(len(self._examples[index].prompt) for index in step)
        groups = list(self._groups(mine, longest))
        alone = len(groups) == 1 and self._world.size == 1
        # where the weights are sharded, a process with less to do keeps the others company with a pass that counts 0
        most = math.ceil(self._world.largest_share(len(step)) / self._micro_size(longest))
        idle = self._world.sharded and len(groups) < most
        reads_step = self._criterion.loss.reads_step
        whole = self._look(step, groups, progress, longest, idle) if reads_step and not alone else None
        total = torch.zeros((), dtype=torch.float64, device=self._decoder.device)
        wrong: list[str] = []
        for group in groups:
            made = self._batch(group, longest)
            if reads_step:
                made = replace(made, step=whole or self._whole(made, progress))
            values = self._criterion.loss.function(made, self._criterion.params)
            index = [index for _, index in group]
            if not bool(values.detach().isfinite().all()):
                flags = values.detach().isfinite().tolist()
                wrong += [self._examples[i].item_id for i, fine in zip(index, flags, strict=True) if not fine]
            value = weighted_loss(values, self._weights[index], num_examples=len(step))
            value.backward()  # type: ignore[no-untyped-call]
            total += value.detach().double()
        if idle:
            (0.0 * self._logprobs(step[:1])[0].sum()).backward()  # type: ignore[no-untyped-call]
        total = self._world.sum(total)
        if not bool(total.isfinite()):
            names = self._world.gather(wrong) or [self._examples[index].item_id for index in step]
            raise InputError(f"the loss is no finite number on {some(names)}")
        self.num_tokens += sum(len(self._examples[index].prompt) for index in step)
        return float(total)

    def _micro_size(self, longest: int) -> int:
        return max(1, MICRO_TOKENS // longest)

    def _groups(self, mine: Sequence[tuple[int, int]], longest: int) -> Iterator[list[tuple[int, int]]]:
        """Yield (place in the step, index) in groups of one forward pass."""
        size = self._micro_size(longest)
        for start in range(0, len(mine), size):
            yield list(mine[start : start + size])

    def _logprobs(self, indices: Sequence[int]) -> tuple[torch.Tensor, Packed]:
        prompts = [self._examples[index].prompt for index in indices]
        packed = pack(prompts).to(self._decoder.device)
        return self._decoder.token_logprobs(prompts, packed), packed

    def _batch(self, group: Sequence[tuple[int, int]], longest: int) -> Batch:
        prompts = [self._examples[index].prompt for _, index in group]
        logprobs, packed = self._logprobs([index for _, index in group])
        sums, counts = token_sums(logprobs, packed.owner, packed.num_branches)
        rows = torch.tensor([place for place, _ in group], device=sums.device)
        if self._criterion.loss.reads == "target":
            return Batch(sums=sums, counts=counts, positions=longest - 1, rows=rows)
        scores = sums.new_full((len(group), self._num_options), -torch.inf)
        targets = torch.zeros_like(scores)
        here = [(row, option) for row, prompt in enumerate(prompts) for option in range(len(prompt.branches))]
        row, option = torch.tensor(here, device=sums.device).T
        scores = scores.index_put((row, option), -sums)
        given = [number for _, index in group for number in self._examples[index].targets or ()]
        targets[row, option] = torch.tensor(given, dtype=sums.dtype, device=sums.device)
        return Batch(scores=scores, logprobs=scores.log_softmax(-1), targets=targets, rows=rows)

    @torch.no_grad()
    def _look(
        self,
        step: Sequence[int],
        groups: Sequence[Sequence[tuple[int, int]]],
        progress: float,
        longest: int,
        idle: bool,
    ) -> Step:
        """Return what the whole step looks like, one forward pass more where it does not fit into one."""
        parts = [self._batch(group, longest) for group in groups]
        if idle:
            self._logprobs(step[:1])
        wide = (len(step), self._num_options)
        device = self._decoder.device
        rows = torch.cat([part.rows for part in parts]) if parts else torch.zeros(0, dtype=torch.int64, device=device)

        def gathered(values: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
            whole = torch.zeros(shape, device=device)
            if values:
                whole[rows] = torch.cat(values).float()
            return self._world.sum(whole)

        if self._criterion.loss.reads == "target":
            return Step(progress, gathered([part.sums / part.counts for part in parts], wide[:1]))
        logprobs = gathered([part.logprobs for part in parts], wide)
        targets = gathered([part.targets for part in parts], wide)
        return Step(progress, expected_cross_entropy(logprobs, targets), logprobs, targets)

    def _whole(self, made: Batch, progress: float) -> Step:
        """Return the step that one batch is all of."""
        if self._criterion.loss.reads == "target":
            return Step(progress, (made.sums / made.counts).detach())
        logprobs = made.logprobs.detach()
        return Step(progress, expected_cross_entropy(logprobs, made.targets), logprobs, made.targets)
