"""In which order examples are seen: seeded, with an equal budget for every method."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_WINDOW = 8


def num_steps(num_items: int, epochs: float, batch_size: int) -> int:
    """Return the optimiser steps of `epochs` passes over `num_items`, at least 1.

    Every method of a comparison gets the steps of the full weak-labelled split, so that a method
    that keeps fewer labels is not also trained less.
    """
    return max(1, math.ceil(num_items * epochs / batch_size))


def plan_batches(lengths: Sequence[int], *, steps: int, batch_size: int, seed: int) -> list[list[int]]:
    """Plan which examples each step sees.

    Examples come in seeded passes without replacement; a new pass starts where the last one ends,
    in the middle of a batch if need be, so every step is full. Within windows of a few batches
    examples are sorted by length, which saves padding and keeps the order close to random.

    Args:
        lengths: (N,) tokens per example, N at least 1.
        steps: number of batches.
        batch_size: examples per batch.
        seed: of the order.

    Returns:
        `steps` lists of `batch_size` indices into `lengths`.
    """
    rng = np.random.default_rng(seed)
    passes = math.ceil(steps * batch_size / len(lengths))
    stream = np.concatenate([rng.permutation(len(lengths)) for _ in range(passes)])[: steps * batch_size]
    length = np.asarray(lengths)
    plan: list[list[int]] = []
    # a window that spans several passes would sort copies of one example into the same batch
    size = batch_size * min(_WINDOW, max(1, len(length) // batch_size))
    for start in range(0, len(stream), size):
        window = stream[start : start + size]
        window = window[np.argsort(length[window], kind="stable")]
        groups = [window[i : i + batch_size].tolist() for i in range(0, len(window), batch_size)]
        plan += [groups[i] for i in rng.permutation(len(groups))]
    return plan
