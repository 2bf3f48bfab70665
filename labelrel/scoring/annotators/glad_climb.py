"""Two ways up GLAD's penalised likelihood: expectation-maximisation, and straight to the top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.softmax import uniform_posterior
from labelrel.scoring.annotators.table import Table

_STEPS = 25  # of conjugate gradients in one maximisation
_SLOPE = 1e-2  # at which a maximisation is done


@dataclass(frozen=True)
class State:
    """The parameters.

    Attributes:
        ability: (M,) alpha.
        easiness: (A,) b of the answered items, on the log scale.
    """

    ability: Floats
    easiness: Floats

    @classmethod
    def start(cls, table: Table) -> State:
        """Return the means of the priors."""
        return cls(np.ones(len(table.raters)), np.ones(table.num_answered))

    def flat(self) -> Floats:
        """(M + A,) both in one."""
        return np.concatenate([self.ability, self.easiness])

    def like(self, flat: Floats) -> State:
        """Return the parameters of a vector as `flat` makes it."""
        return State(flat[: len(self.ability)], flat[len(self.ability) :])

    def penalty(self) -> float:
        """Squared distance from the means of the priors, halved."""
        return float(((self.ability - 1) ** 2).sum() + ((self.easiness - 1) ** 2).sum()) / 2


@dataclass(frozen=True)
class Parts:
    """A value and its gradients, of some blocks."""

    value: float
    ability: Floats
    easiness: list[Floats]


BlockValue = Callable[[Block, Floats, Floats, Any], tuple[float, Floats, Floats]]


def spans(table: Table) -> list[slice]:
    """Return where each block's items are among the answered ones."""
    ends = np.cumsum([0, *(block.num_items for block in table.blocks)])
    return [slice(int(low), int(high)) for low, high in pairwise(ends)]


def marginal(table: Table, lanes: Lanes, state: State) -> tuple[float, State]:
    """Return the penalised marginal log-likelihood and its gradient.

    ln P(answers, gold | alpha, b) - sum (alpha - 1)^2 / 2 - sum (b - 1)^2 / 2.
    """
    return _penalised(table, lanes, state, _marginal_of_block, [None] * len(table.blocks))


def maximise(table: Table, lanes: Lanes, iterations: int, tolerance: float) -> State:
    """Return a maximum of `marginal`, found by L-BFGS from the means of the priors.

    Args:
        table: the answers.
        lanes: where the work is done.
        iterations: at most so many steps.
        tolerance: stops when a step gains less than this part of the value.
    """
    from scipy.optimize import minimize

    start = State.start(table)
    if not table.blocks:
        return start
    # the curvature along a parameter is at most 1 for its prior and about 1/4 for each of its answers
    number = np.concatenate([table.num_rows, *(block.sizes for block in table.blocks)])
    scale = 1 / np.sqrt(1 + number / 4)

    def loss(steps: Floats) -> tuple[float, Floats]:
        value, slope = marginal(table, lanes, start.like(1 + steps * scale))
        return -value, -slope.flat() * scale

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": tolerance, "gtol": 1e-6}
    found = minimize(loss, np.zeros(len(scale)), jac=True, method="L-BFGS-B", options=options)
    return start.like(1 + found.x * scale)


def climb(table: Table, lanes: Lanes, iterations: int, tolerance: float) -> tuple[State, State, list[float]]:
    """Alternate expectation and maximisation from the means of the priors, as crowd-kit does.

    A maximisation is 25 steps of conjugate gradients at the most.

    Args:
        table: the answers.
        lanes: where the work is done.
        iterations: at most so many rounds.
        tolerance: stops when the expected penalised log-likelihood grows by less, per answer and class.

    Returns:
        The parameters behind the last posteriors, those that maximise their expectation, and the
        marginal of every round.
    """
    from scipy.optimize import minimize

    state = old = State.start(table)
    history: list[float] = []
    classes = sum(int(block.sizes @ block.possible) for block in table.blocks)
    reached = -np.inf
    for _ in range(iterations if table.blocks else 0):
        old = state
        believed = _believed(table, lanes, old)
        history.append(sum(belief.likelihood for belief in believed) - old.penalty())

        def loss(flat: Floats, given: State = old, beliefs: Sequence[_Belief] = believed) -> tuple[float, Floats]:
            value, slope = _penalised(table, lanes, given.like(flat), _expected_of_block, beliefs)
            return -value, -slope.flat()

        found = minimize(loss, old.flat(), jac=True, method="CG", tol=_SLOPE, options={"maxiter": _STEPS})
        state = old.like(found.x)
        constants = sum(belief.constant for belief in believed) - len(found.x) * np.log(2 * np.pi) / 2
        before, reached = reached, (constants - float(found.fun)) / classes
        if reached - before < tolerance:
            break
    return old, state, history


def _believed(table: Table, lanes: Lanes, state: State) -> list[_Belief]:
    return lanes.map(
        lambda work: _belief(work[0], state.ability, state.easiness[work[1]]),
        list(zip(table.blocks, spans(table), strict=True)),
    )


def _penalised(
    table: Table, lanes: Lanes, state: State, function: BlockValue, given: Sequence[Any]
) -> tuple[float, State]:
    work = list(zip(table.blocks, spans(table), given, strict=True))

    def run(part: Sequence[tuple[Block, slice, Any]]) -> Parts:
        value, slope, slopes = 0.0, np.zeros(len(state.ability)), []
        for block, where, more in part:
            mine, of_ability, of_easiness = function(block, state.ability, state.easiness[where], more)
            value += mine
            slope += of_ability
            slopes.append(of_easiness)
        return Parts(value, slope, slopes)

    parts = lanes.over(run, work)
    value = sum(part.value for part in parts) - state.penalty()
    slope = np.sum([part.ability for part in parts], axis=0) - (state.ability - 1)
    slopes = np.concatenate([slope for part in parts for slope in part.easiness]) - (state.easiness - 1)
    return value, State(slope, slopes)


def logits(block: Block, summed: Floats, scale: Floats) -> Floats:
    """(P,) ln P(answers | the pair's is right) - ln P(answers | nobody is).

    Args:
        block: the items.
        summed: (P,) sum of the abilities behind the pair's answer.
        scale: (A,) exp(b).
    """
    return np.asarray(summed * scale[block.item] + block.votes * np.log(block.possible - 1)[block.item])


def _chances(logit: Floats) -> tuple[Floats, Floats]:
    """Return sigmoid(x) and ln(1 - sigmoid(x)), neither overflowing."""
    small = np.exp(-np.abs(logit))
    right = np.where(logit >= 0, 1.0, small) / (1.0 + small)
    return right, -np.log1p(small) - np.maximum(logit, 0.0)


def _marginal_of_block(block: Block, ability: Floats, easiness: Floats, _: None) -> tuple[float, Floats, Floats]:
    scale = np.exp(easiness)
    of_rows = np.repeat(scale, block.sizes)
    mine = ability[block.index]
    right, log_wrong = _chances(mine * of_rows)
    summed = block.by_pair @ ability
    probs, _unvoted, log = uniform_posterior(block, logits(block, summed, scale))
    likelihood = log.sum() + log_wrong.sum() - block.sizes @ np.log(block.possible - 1) - np.log(block.possible).sum()
    # Fisher's identity: the gradient is the expected one under the posterior, of P(y is the truth) - P(right)
    right *= of_rows
    of_ability = block.by_pair.T @ (probs * scale[block.item]) - np.bincount(block.index, right, len(ability))
    right *= mine
    of_easiness = (block.pairs_of_item @ (probs * summed)) * scale - block.rows_of_item @ right
    return float(likelihood), of_ability, of_easiness


@dataclass(frozen=True)
class _Belief:
    """Posteriors that a maximisation takes for given.

    Attributes:
        right: (R,) that the row's answer is right.
        likelihood: ln of the probability of the answers, and of gold.
        constant: what parameters do not change of the expected log-likelihood.
    """

    right: Floats
    likelihood: float
    constant: float


def _belief(block: Block, ability: Floats, easiness: Floats) -> _Belief:
    scale = np.exp(easiness)
    _, log_wrong = _chances(ability[block.index] * np.repeat(scale, block.sizes))
    probs, _, log = uniform_posterior(block, logits(block, block.by_pair @ ability, scale))
    others = np.log(block.possible - 1)
    likelihood = log.sum() + log_wrong.sum() - block.sizes @ others - np.log(block.possible).sum()
    wrong = -float((block.votes * (1 - probs)) @ others[block.item])
    return _Belief(np.repeat(probs, block.votes), float(likelihood), wrong)


def _expected_of_block(
    block: Block, ability: Floats, easiness: Floats, belief: _Belief
) -> tuple[float, Floats, Floats]:
    scale = np.repeat(np.exp(easiness), block.sizes)
    mine = ability[block.index]
    logit = mine * scale
    right, log_wrong = _chances(logit)
    value = float(belief.right @ logit + log_wrong.sum())
    slope = (belief.right - right) * scale
    of_ability = np.asarray(np.bincount(block.index, slope, len(ability)), dtype=np.float64)
    return value, of_ability, block.rows_of_item @ (slope * mine)
