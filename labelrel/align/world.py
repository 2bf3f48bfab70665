"""Whether this process trains alone or is one of several, and what they tell each other.

Under `torchrun` or `accelerate launch` each process takes its share of every step's batch, and their
gradients are summed: the step is that of one process, up to the rounding of a sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from labelrel.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")


class World:
    """One process that trains alone.

    Attributes:
        rank: number of this process.
        size: number of processes.
        sharded: whether each process holds a part of the frozen weights only; all of them must run the
            same number of forward and backward passes then.
    """

    rank = 0
    size = 1
    sharded = False

    @property
    def leads(self) -> bool:
        """Say whether this process writes the results."""
        return self.rank == 0

    def share(self, values: Sequence[T]) -> list[T]:
        """Return every `size`-th value from `rank` on: this process's part."""
        return list(values[self.rank :: self.size])

    def largest_share(self, count: int) -> int:
        """Return how many of `count` values the process with the most has."""
        return -(-count // self.size)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' tensors."""
        return tensor

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by the sum of all processes'."""

    def gather(self, values: Sequence[T]) -> list[T]:
        """Return the values of all processes, those of the leading one first; anything that pickles."""
        return list(values)

    def spread(self, function: Callable[[list[T]], Sequence[R]], values: Sequence[T]) -> list[R]:
        """Return `function(values)`, each process working on its share; all get the whole, in order.

        Args:
            function: returns a result for each value it is given, which may be none. Where the weights are
                sharded each process works on all values, in step with the others.
            values: the same in all processes.
        """
        return list(function(list(values)))

    def wait(self) -> None:
        """Return when all processes have come here."""

    def place(self, device: str) -> None:
        """Give this process its own card.

        Args:
            device: as in base.device; on the CPU there is nothing to do.

        Raises:
            ConfigError: more processes on this machine than cards.
        """


ALONE = World()


class Processes(World):
    """One of several processes, once torch's process group is there.

    Args:
        local_rank: number of this process on its machine, which is that of its card.
        sharded: see `World`.
    """

    def __init__(self, local_rank: int, *, sharded: bool = False) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.sharded = sharded
        self._local_rank = local_rank

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' tensors."""
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by the sum of all processes'; a missing one counts as zero."""
        # Adapters are small, so one sum after the last micro-batch is all there is to send. DDP would send after
        # each backward pass (or need no_sync around all but the last) and averages, where the loss is a sum.
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
        distributed.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def gather(self, values: Sequence[T]) -> list[T]:
        """Return the values of all processes, those of the leading one first; anything that pickles."""
        return [value for part in self._parts(list(values)) for value in part]

    def spread(self, function: Callable[[list[T]], Sequence[R]], values: Sequence[T]) -> list[R]:
        """Return `function(values)`, each process working on its share; all get the whole, in order."""
        if self.sharded:
            found = list(function(list(values)))
            return self.gather(found if self.leads else [])
        parts = self._parts(list(function(self.share(values))))
        whole: list[Any] = [None] * len(values)
        for rank, part in enumerate(parts):
            whole[rank :: self.size] = part
        return whole

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.gather([0])  # a barrier of NCCL would need a card, and may go to the wrong one

    def place(self, device: str) -> None:
        """Give this process its own card."""
        from labelrel.models.load import pick_device

        if pick_device(device).type != "cuda":
            return
        cards = torch.cuda.device_count()
        if self._local_rank >= cards:
            raise ConfigError(
                f"process {self._local_rank} of this machine has no card: torch sees {cards}; start one process "
                "per card (--nproc-per-node, --num_processes), or set base.device to 'cpu'."
            )
        torch.cuda.set_device(self._local_rank)

    def _parts(self, values: list[T]) -> list[list[T]]:
        parts: list[list[T]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(parts, values)
        return parts
