"""Whether this process trains alone or is one of several, and what they tell each other.

Under `torchrun` or `accelerate launch` each process takes its share of every step's batch, and their
gradients are summed: the step is that of one process, up to the rounding of a sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # whoever trains alone asks before torch is needed
    import torch

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
