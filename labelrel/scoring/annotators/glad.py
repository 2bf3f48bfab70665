"""GLAD: annotators with abilities, items with difficulties."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from labelrel.plugin import Params
from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.finish import Posterior, finish, likelier_unvoted
from labelrel.scoring.annotators.glad_climb import climb, logits, maximise, spans
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.order import in_order_of_ids
from labelrel.scoring.annotators.softmax import uniform_posterior
from labelrel.scoring.annotators.table import read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.fitted import Fitted


class GladParams(Params):
    """Parameters of GLAD."""

    climb: Literal["em", "direct"] = Field("em", description="expectation-maximisation, or L-BFGS to the maximum")
    iterations: int = Field(100, ge=1, description="at most so many rounds (em) or steps (direct)")
    tolerance: float | None = Field(
        None,
        ge=0,
        description="stops below this gain: per answer and class (em, null: 1e-5), relative (direct, null: 1e-9)",
    )


@annotator_model("glad", params=GladParams, uses_gold=True)
def glad(inputs: Inputs, params: GladParams) -> Fitted:
    """GLAD: an answer is right with probability sigmoid(ability of the annotator * easiness of the item).

    P(y_ir | c) = sigmoid(alpha_r exp(b_i)) where y = c, else the rest shared by the K_i - 1 wrong answers;
    every class alike beforehand; alpha and b are normal with mean 1 and variance 1. `climb: em` takes
    crowd-kit's way from alpha = b = 1: it stops when the expected log-likelihood no longer grows, often
    after two rounds, which keeps abilities near their prior where answers are few. `climb: direct` goes
    to the maximum of the same penalised likelihood, which tells adversaries apart, but trusts few
    answers too much. Items with gold have posterior 1 on it. `score` = `label_quality` = posterior; of
    each annotator, `ability` is alpha: 0 answers by chance, below 0 against the truth.

    Source: Whitehill, Ruvolo, Wu, Bergsma & Movellan 2009, "Whose vote should count more"; priors,
    initial values, maximisation and stopping rule of `em` as crowd-kit 1.4 `GLAD`.
    """
    return in_order_of_ids(inputs, lambda ordered: _fit(ordered, params))


def _fit(inputs: Inputs, params: GladParams) -> Fitted:
    with Lanes() as lanes:
        table = read_table(inputs, lanes)
        tolerance = params.tolerance
        if params.climb == "em":
            state, last, _ = climb(table, lanes, params.iterations, 1e-5 if tolerance is None else tolerance)
        else:
            state = last = maximise(table, lanes, params.iterations, 1e-9 if tolerance is None else tolerance)
        posteriors = lanes.map(
            lambda work: _posterior(work[0], state.ability, state.easiness[work[1]], len(table.classes)),
            list(zip(table.blocks, spans(table), strict=True)),
        )
        return finish(inputs.votes, table, posteriors, table.annotators(ability=last.ability), lanes)


def _posterior(block: Block, ability: Floats, easiness: Floats, num_classes: int) -> Posterior:
    probs, unvoted, _ = uniform_posterior(block, logits(block, block.by_pair @ ability, np.exp(easiness)))
    return Posterior(probs, likelier_unvoted(block, probs, unvoted, np.ones(num_classes)))
