"""Expectation-maximisation as Dawid-Skene's models do it: parameters, sums over blocks, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

import numpy as np
from pydantic import Field

from labelrel.plugin import Params
from labelrel.scoring.annotators.blocks import Block
from labelrel.scoring.annotators.lanes import Lanes

EPS = 1e-10
"""The least probability of an answer or a class, as in crowd-kit."""


class EmParams(Params):
    """Parameters of expectation-maximisation."""

    iterations: int = Field(100, ge=1, description="at most so many rounds of expectation and maximisation")
    tolerance: float = Field(
        1e-5, ge=0, description="stops when the bound, divided by the number of answers, grows by less"
    )


class Sums(Protocol):
    """What the posteriors of some items add up to; `likelihood` is the log of their answers' probability."""

    likelihood: float

    def add(self, other: Self) -> None:
        """Add the sums of other items."""


S = TypeVar("S", bound=Sums)
State = TypeVar("State")


def total(lanes: Lanes, blocks: Sequence[Block], zero: Callable[[], S], gather: Callable[[S, Block], None]) -> S:
    """Return the sums over all blocks; `gather` adds one block's."""

    def run(part: Sequence[Block]) -> S:
        sums = zero()
        for block in part:
            gather(sums, block)
        return sums

    first, *others = lanes.over(run, blocks) or [zero()]
    for other in others:
        first.add(other)
    return first


def climb(
    start: S,
    maximise: Callable[[S], State],
    expect: Callable[[State], S],
    bound: Callable[[S, State, State], float],
    params: EmParams,
) -> tuple[State, S, list[float]]:
    """Alternate expectation and maximisation until the bound grows by less than the tolerance.

    Args:
        start: sums under the first posteriors.
        maximise: sums → the parameters that suit them best.
        expect: parameters → sums under their posteriors.
        bound: (sums, parameters behind them, new parameters) → what has to grow.
        params: how long and how far.

    Returns:
        The parameters behind the last posteriors, their sums, and the log-likelihood of every round.
    """
    state = old = maximise(start)
    sums = start
    history: list[float] = []
    reached = -np.inf
    for _ in range(params.iterations):
        old = state
        sums = expect(old)
        state = maximise(sums)
        history.append(sums.likelihood)
        before, reached = reached, bound(sums, old, state)
        if reached - before < params.tolerance:
            break
    return old, sums, history
