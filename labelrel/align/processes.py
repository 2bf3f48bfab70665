"""One of several processes: what they tell each other goes through torch's process group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from labelrel.align.world import World
from labelrel.errors import ConfigError
from labelrel.models.load import pick_device

T = TypeVar("T")
R = TypeVar("R")


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
        for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
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
