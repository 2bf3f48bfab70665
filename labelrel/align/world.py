"""Whether this process trains alone or is one of several, and what they tell each other.

Under `torchrun` or `accelerate launch` each process takes its share of every step's batch, and their
gradients are summed: the step is that of one process, up to the rounding of a sum in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


class World:
    """One process that trains alone.

    Attributes:
        rank: number of this process.
        size: number of processes.
    """

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Say whether this process writes the results."""
        return self.rank == 0

    def share(self, values: Sequence[T]) -> list[T]:
        """Return every `size`-th value from `rank` on: this process's part."""
        return list(values[self.rank :: self.size])

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' tensors."""
        return tensor

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by the sum of all processes'."""


ALONE = World()
