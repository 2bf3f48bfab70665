"""GLAD: annotators with abilities, items with difficulties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydantic import Field

from labelrel.plugin import Params
from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.finish import Posterior, finish, likelier_unvoted
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.order import in_order_of_ids
from labelrel.scoring.annotators.softmax import uniform_posterior
from labelrel.scoring.annotators.table import Table, read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.fitted import Fitted

_BLOCK_ROWS = 1 << 14  # even 50 000 answers are worth sharing out: there are a hundred steps


class GladParams(Params):
    """Parameters of GLAD."""

    iterations: int = Field(200, ge=1, description="at most so many steps of the optimiser")
    tolerance: float = Field(1e-9, ge=0, description="stops when a step gains less than this part of the objective")


@annotator_model("glad", params=GladParams, uses_gold=True)
def glad(inputs: Inputs, params: GladParams) -> Fitted:
    """GLAD: an answer is right with probability sigmoid(ability of the annotator * easiness of the item).

    P(y_ir | c) = sigmoid(alpha_r exp(b_i)) where y = c, else the rest shared by the K_i - 1 wrong answers;
    every class alike beforehand; alpha and b are normal with mean 1 and variance 1, as in crowd-kit.
    crowd-kit climbs that penalised likelihood by EM; this climbs the same one directly (L-BFGS from
    alpha = b = 1, gradient by Fisher's identity), so it ends at least as high. Items with gold have
    posterior 1 on it. `score` = `label_quality` = posterior; of each annotator, `ability` is alpha:
    0 answers by chance, below 0 against the truth.

    Source: Whitehill, Ruvolo, Wu, Bergsma & Movellan 2009, "Whose vote should count more"; priors and
    initial values as crowd-kit 1.4 `GLAD`.
    """
    return in_order_of_ids(inputs, lambda sorted_inputs: _fit(sorted_inputs, params))


def _fit(inputs: Inputs, params: GladParams) -> Fitted:
    with Lanes() as lanes:
        table = read_table(inputs, lanes, rows=_BLOCK_ROWS)
        ability, easiness = maximise(table, lanes, params)
        bounds = _bounds(table)
        posteriors = lanes.map(
            lambda pair: _posterior(pair[0], ability, easiness[pair[1]], len(table.classes)),
            list(zip(table.blocks, bounds, strict=True)),
        )
        return finish(inputs.votes, table, posteriors, table.annotators(ability=ability), lanes)


def _bounds(table: Table) -> list[slice]:
    """Return where each block's items are among the answered ones."""
    ends = np.cumsum([0, *(block.num_items for block in table.blocks)])
    return [slice(int(low), int(high)) for low, high in pairwise(ends)]


@dataclass(frozen=True)
class _Parts:
    objective: float
    ability: Floats
    easiness: list[Floats]


def objective(table: Table, lanes: Lanes, ability: Floats, easiness: Floats) -> tuple[float, Floats, Floats]:
    """Return the penalised marginal log-likelihood and its gradients.

    Args:
        table: the answers.
        lanes: where the work is done.
        ability: (M,) alpha.
        easiness: (A,) b of the answered items, on the log scale.

    Returns:
        ln P(answers, gold | alpha, b) - sum (alpha - 1)^2 / 2 - sum (b - 1)^2 / 2, and its gradients
        (M,) and (A,).
    """
    work = list(zip(table.blocks, _bounds(table), strict=True))

    def run(part: Sequence[tuple[Block, slice]]) -> _Parts:
        value, slope, slopes = 0.0, np.zeros(len(ability)), []
        for block, where in part:
            likelihood, of_ability, of_easiness = _block_objective(block, ability, easiness[where])
            value += likelihood
            slope += of_ability
            slopes.append(of_easiness)
        return _Parts(value, slope, slopes)

    parts = lanes.over(run, work)
    value = sum(part.objective for part in parts) - float(((ability - 1) ** 2).sum() + ((easiness - 1) ** 2).sum()) / 2
    slope = np.sum([part.ability for part in parts], axis=0) - (ability - 1)
    slopes = np.concatenate([slope for part in parts for slope in part.easiness]) - (easiness - 1)
    return value, slope, slopes


def _block_objective(block: Block, ability: Floats, easiness: Floats) -> tuple[float, Floats, Floats]:
    scale = np.exp(easiness)
    of_rows = np.repeat(scale, block.sizes)
    mine = ability[block.index]
    right, log_wrong = _chances(mine * of_rows)
    summed = block.by_pair @ ability
    probs, _, log = uniform_posterior(block, _logits(block, summed, scale))
    likelihood = log.sum() + log_wrong.sum() - block.sizes @ np.log(block.possible - 1) - np.log(block.possible).sum()
    # the gradient of ln P(answers) is the mean one under the posterior: sum of (P(y is the truth) - P(right))
    right *= of_rows
    of_ability = block.by_pair.T @ (probs * scale[block.item]) - np.bincount(block.index, right, len(ability))
    right *= mine
    of_easiness = (block.pairs_of_item @ (probs * summed)) * scale - block.rows_of_item @ right
    return float(likelihood), of_ability, of_easiness


def _chances(logit: Floats) -> tuple[Floats, Floats]:
    """Return sigmoid(x) and ln(1 - sigmoid(x)), neither overflowing."""
    small = np.exp(-np.abs(logit))
    right = np.where(logit >= 0, 1.0, small) / (1.0 + small)
    return right, -np.log1p(small) - np.maximum(logit, 0.0)


def _logits(block: Block, summed: Floats, scale: Floats) -> Floats:
    """(P,) ln P(answers | the pair's is right) - ln P(answers | nobody is), of summed abilities behind every pair."""
    return np.asarray(summed * scale[block.item] + block.votes * np.log(block.possible - 1)[block.item])


def _posterior(block: Block, ability: Floats, easiness: Floats, num_classes: int) -> Posterior:
    probs, unvoted, _ = uniform_posterior(block, _logits(block, block.by_pair @ ability, np.exp(easiness)))
    return Posterior(probs, likelier_unvoted(block, probs, unvoted, np.ones(num_classes)))


def maximise(table: Table, lanes: Lanes, params: GladParams) -> tuple[Floats, Floats]:
    """Return the abilities, (M,), and the items' easiness, (A,), of a maximum of the objective."""
    from scipy.optimize import minimize

    num_raters = len(table.raters)

    if not table.blocks:
        return np.ones(num_raters), np.ones(0)
    # the curvature along a parameter is at most 1 for its prior and about 1/4 for each of its answers
    number = np.concatenate([table.num_rows, *(block.sizes for block in table.blocks)])
    scale = 1 / np.sqrt(1 + number / 4)

    def loss(steps: Floats) -> tuple[float, Floats]:
        x = 1 + steps * scale
        value, slope, slopes = objective(table, lanes, x[:num_raters], x[num_raters:])
        return -value, -np.concatenate([slope, slopes]) * scale

    options = {"maxiter": params.iterations, "maxfun": 2 * params.iterations, "ftol": params.tolerance, "gtol": 1e-6}
    found = minimize(loss, np.zeros(len(scale)), jac=True, method="L-BFGS-B", options=options)
    x = 1 + found.x * scale
    return x[:num_raters], x[num_raters:]
