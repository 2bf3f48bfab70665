"""MACE: annotators who know, and annotators who answer without looking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from labelrel.plugin import Params
from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.finish import Posterior, finish, likelier_unvoted
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.softmax import uniform_posterior
from labelrel.scoring.annotators.table import Cells, Table, read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.encode import Votes
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.hashing import stable_hash

_ALL = 100_000  # up to so many answers every restart runs on all of them
_SAMPLE = 50_000  # answers of the sample that restarts are compared on otherwise
_STRATEGY_PRIOR = 10.0  # of the Dirichlet on an annotator's answers when spamming, as in crowd-kit


class MaceParams(Params):
    """Parameters of MACE."""

    restarts: int = Field(10, ge=1, description="random starts, of which the likeliest is kept")
    iterations: int = Field(50, ge=1, description="at most so many rounds of every start")
    method: Literal["vb", "em"] = Field("vb", description="variational Bayes with priors, or EM with smoothing")
    alpha: float = Field(0.5, gt=0, description="vb: prior count of spamming")
    beta: float = Field(0.5, gt=0, description="vb: prior count of knowing")
    smoothing: float | None = Field(None, gt=0, description="em: added to every count; null: 0.01 / possible answers")
    tolerance: float = Field(1e-6, ge=0, description="stops when no annotator's competence changes by more")
    seed: int = Field(0, ge=0, description="of the random starts")


@annotator_model("mace", params=MaceParams, uses_gold=True)
def mace(inputs: Inputs, params: MaceParams) -> Fitted:
    """Multi-annotator competence estimation: with probability theta an annotator knows, else answers from habit.

    P(y_ir = a | c) = theta_r 1[a = c] + (1 - theta_r) xi_r(a), every class alike beforehand. E-step: the
    posteriors q of the classes and of knowing. M-step: theta and xi from the expected counts, by
    variational Bayes (exp digamma, priors `alpha`, `beta` and 10 per answer) or with smoothing. Of
    `restarts` random theta, xi uniform, the one with the highest likelihood is kept. Above 100 000
    answers the restarts run on a sample of items with 50 000 and the best is finished on all.
    Items with gold have posterior 1 on it throughout. `score` = `label_quality` = q; of each annotator,
    `competence` is theta.

    Source: Hovy, Berg-Kirkpatrick, Vaswani & Hovy 2013, "Learning whom to trust with MACE"; priors as
    crowd-kit 1.4 `MACE`, whose restarts however are all the same one.
    """
    with Lanes() as lanes:
        table = read_table(inputs, lanes, use_cells=True)
        assert table.cells is not None
        model = Model(table.cells, len(table.raters), table.most_possible, params)
        state = _best(inputs.votes, table, model, lanes, params)
        posteriors = lanes.map(lambda block: _posterior(block, model, state), table.blocks)
        return finish(inputs.votes, table, posteriors, table.annotators(competence=state.know), lanes)


@dataclass(frozen=True)
class State:
    """The parameters; with variational Bayes they sum to a little less than 1.

    Attributes:
        spam: (M,) 1 - theta.
        know: (M,) theta.
        strategy: (C,) xi, the probability of the cell's answer when its annotator spams.
    """

    spam: Floats
    know: Floats
    strategy: Floats


@dataclass(frozen=True)
class Model:
    """How expected counts become parameters.

    Attributes:
        cells: the (annotator, answer) cells, C of them.
        num_raters: M.
        possible: how many answers an annotator can give.
        params: the parameters of the method.
    """

    cells: Cells
    num_raters: int
    possible: int
    params: MaceParams

    def start(self, rng: np.random.Generator) -> State:
        """Return a random start: knowing and spamming uniform in [1, 2.5], normalised."""
        draws = rng.uniform(1.0, 2.5, size=(self.num_raters, 2))
        spam, know = (draws / draws.sum(axis=1, keepdims=True)).T
        return State(spam, know, np.full(len(self.cells.rater), 1 / self.possible))

    def maximise(self, spammed: Floats, knew: Floats) -> State:
        """Return the parameters that suit expected counts: (C,) answers from habit, and from knowledge."""
        rater = self.cells.rater
        of_spam = np.bincount(rater, spammed, self.num_raters)
        of_know = np.bincount(rater, knew, self.num_raters)
        if self.params.method == "em":
            add = self.params.smoothing if self.params.smoothing is not None else 0.01 / self.possible
            both = of_spam + of_know + 2 * add
            strategy = (spammed + add) / (of_spam + self.possible * add)[rater]
            return State((of_spam + add) / both, (of_know + add) / both, strategy)
        alpha, beta = self.params.alpha, self.params.beta
        both = _geometric(of_spam + of_know + alpha + beta)
        habits = _geometric(of_spam + self.possible * _STRATEGY_PRIOR)
        strategy = _geometric(spammed + _STRATEGY_PRIOR) / habits[rater]
        return State(_geometric(of_spam + alpha) / both, _geometric(of_know + beta) / both, strategy)


def _geometric(count: npt.NDArray[np.floating]) -> Floats:
    """exp(digamma(count)), the variational stand-in for a count."""
    from scipy.special import digamma

    return np.asarray(np.exp(digamma(count)))


def climb(
    blocks: Sequence[Block], model: Model, state: State, params: MaceParams, lanes: Lanes | None = None
) -> tuple[State, list[float]]:
    """Alternate expectation and maximisation from given parameters.

    Returns:
        The parameters, and the log-likelihood of every round, of these parameters last.
    """
    number = _rows_per_cell(blocks, model)
    history = []
    for _ in range(params.iterations):
        right, likelihood = _expect(blocks, model, state, number, lanes)
        history.append(likelihood)
        knew = _known(model, state) * right
        new = model.maximise(np.maximum(number - knew, 0.0), knew)
        change = float(np.abs(new.know - state.know).max(initial=0.0))
        state = new
        if change <= params.tolerance:
            break
    return state, [*history, _expect(blocks, model, state, number, lanes)[1]]


def _rows_per_cell(blocks: Sequence[Block], model: Model) -> Floats:
    number = np.zeros(len(model.cells.rater))
    for block in blocks:
        number += np.bincount(block.index, minlength=len(number))
    return number


def _known(model: Model, state: State) -> Floats:
    """(C,) probability that an annotator who is right knew."""
    know, spam = state.know[model.cells.rater], state.spam[model.cells.rater]
    return know / (know + spam * state.strategy)


def _logits(model: Model, state: State) -> tuple[Floats, Floats]:
    """(C,) ln P(answer | right) - ln P(answer | wrong), and ln P(answer | wrong)."""
    know, habit = state.know[model.cells.rater], state.spam[model.cells.rater] * state.strategy
    return np.log1p(know / habit), np.log(habit)


def _expect(
    blocks: Sequence[Block], model: Model, state: State, number: Floats, lanes: Lanes | None
) -> tuple[Floats, float]:
    """Return the expected right answers of every cell, (C,), and the log-likelihood."""
    logit, wrong = _logits(model, state)

    def run(part: Sequence[Block]) -> tuple[Floats, float]:
        right, likelihood = np.zeros(len(logit)), 0.0
        for block in part:
            probs, _, log = uniform_posterior(block, block.by_pair @ logit)
            right += block.by_pair.T @ probs
            likelihood += float(log.sum() - np.log(block.possible).sum())
        return right, likelihood

    parts = lanes.over(run, blocks) if lanes else [run(blocks)]
    right = np.sum([part for part, _ in parts], axis=0)
    return right, sum(ln for _, ln in parts) + float(number @ wrong)


def _posterior(block: Block, model: Model, state: State) -> Posterior:
    probs, _, _ = uniform_posterior(block, block.by_pair @ _logits(model, state)[0])
    # a class without a vote is never likelier than one with: only gold labels that nobody gave are left
    return Posterior(probs, likelier_unvoted(block, probs, np.zeros(block.num_items), np.zeros(1)))


def _best(votes: Votes, table: Table, model: Model, lanes: Lanes, params: MaceParams) -> State:
    """Return the parameters of the likeliest restart."""
    if not table.blocks:
        return model.start(np.random.default_rng(params.seed))
    starts = [model.start(np.random.default_rng([params.seed, number])) for number in range(params.restarts)]
    screened = table.total > _ALL and len(starts) > 1
    blocks = _sample(votes.item_ids, table, lanes) if screened else table.blocks
    ends = lanes.map(lambda start: climb(blocks, model, start, params), starts)
    state, _ = max(ends, key=lambda end: end[1][-1])
    return climb(table.blocks, model, state, params, lanes)[0] if screened else state


def _sample(item_ids: pl.Series, table: Table, lanes: Lanes) -> list[Block]:
    """Return about `_SAMPLE` answers as blocks, of items drawn by the hash of their id."""
    share = np.uint64(int(_SAMPLE / table.total * 2.0**63) * 2)
    drawn = lanes.map(lambda block: block.subset(stable_hash(item_ids.gather(block.items)) < share), table.blocks)
    return [block for block in drawn if block.num_items] or table.blocks
