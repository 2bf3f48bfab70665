"""Work on blocks in threads, with sums that do not depend on how many threads there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
T = TypeVar("T")
R = TypeVar("R")

NUM_LANES = 4
"""Into how many consecutive parts work is divided, on any machine: floating-point sums depend on it."""


class Lanes:
    """A few threads; numpy and scipy let others run while they work on arrays.

    Within `with`, BLAS has one thread of its own: its waiting threads would take the cores from ours, and
    beside another busy process that makes a fit thirty times slower.
    """

    def __init__(self) -> None:
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._threads = min(NUM_LANES, there)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def __enter__(self) -> Self:
        from threadpoolctl import threadpool_limits

        self._limits = threadpool_limits(1, user_api="blas")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._limits.restore_original_limits()
        if self._pool is not None:
            self._pool.shutdown()

    def map(self, function: Callable[[T], R], things: Sequence[T]) -> list[R]:
        """Return the function of each, in order."""
        if self._pool is None or len(things) < 2:
            return [function(thing) for thing in things]
        return list(self._pool.map(function, things))

    def over(self, function: Callable[[Sequence[T]], R], things: Sequence[T]) -> list[R]:
        """Return the function of each of `NUM_LANES` runs of consecutive things, in order; empty runs are left out."""
        bounds = [len(things) * lane // NUM_LANES for lane in range(NUM_LANES + 1)]
        runs = [things[low:high] for low, high in pairwise(bounds) if low < high]
        return self.map(function, runs)

    def sum(self, function: Callable[[T], Floats], things: Sequence[T], size: int) -> Floats:
        """(size,) sum of the function of each, holding one sum per lane."""

        def run(part: Sequence[T]) -> Floats:
            total = np.zeros(size)
            for thing in part:
                total += function(thing)
            return total

        return np.asarray(np.sum([np.zeros(size), *self.over(run, things)], axis=0))
