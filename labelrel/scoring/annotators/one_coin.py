"""One-coin Dawid-Skene: every annotator has one accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.em import EPS, EmParams, climb, total
from labelrel.scoring.annotators.finish import Posterior, finish, likelier_unvoted
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.softmax import posterior_of_pairs
from labelrel.scoring.annotators.table import Table, read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.encode import Codes
from labelrel.scoring.fitted import Fitted


@annotator_model("one_coin", params=EmParams, uses_gold=True)
def one_coin(inputs: Inputs, params: EmParams) -> Fitted:
    """Dawid-Skene with one accuracy per annotator: right with probability s, else any wrong answer alike.

    P(c | answers of i) is proportional to p_c prod_r (s_r where r said c, else (1 - s_r) / (K_i - 1)),
    K_i the possible answers of the item. E-step: these posteriors q. M-step: p = mean q, s_r = mean q
    of the answers r gave. Starts from the vote shares and stops as `dawid_skene` does; probabilities are at least
    1e-10. Items with gold have posterior 1 on it throughout. Few parameters: works with few answers
    per annotator and with any number of distinct answers. `score` = `label_quality` = q; of each
    annotator, `accuracy` is s.

    Source: Zhang, Chen, Zhou & Jordan 2016, "Spectral methods meet EM" (one-coin model); initial values
    and stopping rule as crowd-kit 1.4 `OneCoinDawidSkene`.
    """
    with Lanes() as lanes:
        table = read_table(inputs, lanes)
        state, _, _ = fit_em(table, lanes, params)
        posteriors = lanes.map(lambda block: _posterior(block, state), table.blocks)
        rated = table.annotators(accuracy=state.accuracy)
        return finish(inputs.votes, table, posteriors, rated, lanes)


@dataclass(frozen=True)
class State:
    """The parameters.

    Attributes:
        accuracy: (M,) s.
        log_right: (M,) ln s, and
        log_wrong: (M,) ln of the probability of one wrong answer where `possible` are possible.
        prior: (V,) class frequencies.
        possible: the most possible answers of any item.
    """

    accuracy: Floats
    log_right: Floats
    log_wrong: Floats
    prior: Floats
    possible: int


@dataclass
class Sums:
    """Expected counts under the posteriors of some parameters.

    Attributes:
        right: (M,) right answers of each annotator.
        classes: (V,) items by true class.
        answers: (V,) answers by the true class of their item.
        likelihood: ln of the probability of the answers, and of the gold labels.
    """

    right: Floats
    classes: Floats
    answers: Floats
    likelihood: float = 0.0

    def add(self, other: Sums) -> None:
        """Add the counts of other items."""
        self.right += other.right
        self.classes += other.classes
        self.answers += other.answers
        self.likelihood += other.likelihood


def fit_em(table: Table, lanes: Lanes, params: EmParams) -> tuple[State, Sums, list[float]]:
    """Fit by EM from the vote shares.

    Returns:
        The parameters behind the last posteriors, their expected counts, and the log-likelihood of every round.
    """
    num_rows = table.num_rows

    def zero() -> Sums:
        return Sums(np.zeros(len(num_rows)), np.zeros(len(table.classes)), np.zeros(len(table.classes)))

    def begin(sums: Sums, block: Block) -> None:
        shares = block.shares()
        block.pin(shares)
        _count(sums, block, shares, np.zeros(block.num_items), np.zeros(len(table.classes)))

    def expect(state: State) -> Sums:
        def gather(sums: Sums, block: Block) -> None:
            probs, unvoted, likelihood = expectation(block, state)
            _count(sums, block, probs, unvoted, state.prior)
            sums.likelihood += likelihood

        sums = total(lanes, table.blocks, zero, gather)
        sums.likelihood += float(num_rows @ state.log_wrong)
        return sums

    def maximise(sums: Sums) -> State:
        accuracy = sums.right / np.maximum(num_rows, 1)
        right = np.clip(accuracy, EPS, 1 - EPS)
        wrong = np.clip((1 - accuracy) / (table.most_possible - 1), EPS, 1 - EPS)
        prior = np.maximum(sums.classes / max(table.num_answered, 1), EPS)
        return State(accuracy, np.log(right), np.log(wrong), prior, table.most_possible)

    def bound(sums: Sums, old: State, new: State) -> float:
        # crowd-kit's, in which the prior counts once per answer; the posteriors' entropy is ln Z less
        # their mean log-likelihood, which the counts already know
        def mean(state: State, classes: Floats) -> float:
            wrong = num_rows - sums.right
            answers = sums.right @ state.log_right + wrong @ state.log_wrong
            return float(answers + classes @ np.log(state.prior))

        return (sums.likelihood - mean(old, sums.classes) + mean(new, sums.answers)) / max(table.total, 1)

    return climb(total(lanes, table.blocks, zero, begin), maximise, expect, bound, params)


def expectation(block: Block, state: State) -> tuple[Floats, Floats, float]:
    """Return the posteriors of a block and its log-likelihood.

    Returns:
        (P,) the posterior of every pair; (A,) the factor that makes the prior of a class without a vote
        its posterior; and the log-likelihood less that of nobody being right.
    """
    logit = block.by_pair @ (state.log_right - state.log_wrong)
    if int(block.possible.min()) < state.possible:  # a wrong answer is likelier where there are fewer
        logit += block.votes * np.log((block.possible - 1) / (state.possible - 1))[block.item]
    prior = state.prior[block.answer]
    reachable = _reachable(block, len(state.prior))
    rest = np.maximum(state.prior.sum() - block.pairs_of_item @ prior, 0.0) * reachable
    probs, inverse, log = posterior_of_pairs(block, logit, prior, rest)
    unvoted = inverse * reachable
    gold = block.gold
    if len(gold.item):
        voted = gold.pair >= 0
        log[gold.item] = np.log(state.prior[gold.code])
        log[gold.item[voted]] += logit[gold.pair[voted]]
        unvoted[gold.item] = 0.0
        block.pin(probs)
    return probs, unvoted, float(log.sum())


def _reachable(block: Block, num_classes: int) -> Floats:
    """(A,) share of the classes without a vote that the item can have: its possible answers may be fewer than all."""
    left = num_classes - block.distinct
    return np.asarray(np.minimum((block.possible - block.distinct) / np.maximum(left, 1), left > 0))


def _count(sums: Sums, block: Block, probs: Floats, unvoted: Floats, prior: Floats) -> None:
    sums.right += block.by_pair.T @ probs
    classes = _of_classes(block, probs, unvoted, prior, None)
    sums.classes += classes
    sizes = block.sizes
    uniform = int(sizes[0]) if int(sizes.min()) == int(sizes.max()) else None
    sums.answers += classes * uniform if uniform else _of_classes(block, probs, unvoted, prior, sizes)


def _of_classes(block: Block, probs: Floats, unvoted: Floats, prior: Floats, weight: Codes | None) -> Floats:
    """(V,) posteriors summed by class, those of classes without a vote included."""
    if weight is not None:
        probs, unvoted = probs * weight[block.item], unvoted * weight
    # every class as if nobody had voted for it, and what the voted ones have beyond that
    beyond = probs - unvoted[block.item] * prior[block.answer]
    classes = np.bincount(block.answer, weights=beyond, minlength=len(prior)) + prior * unvoted.sum()
    given = block.gold.pair < 0
    if given.any():
        number = np.ones(int(given.sum())) if weight is None else weight[block.gold.item[given]]
        np.add.at(classes, block.gold.code[given], number)
    return np.asarray(classes)


def _posterior(block: Block, state: State) -> Posterior:
    probs, unvoted, _ = expectation(block, state)
    return Posterior(probs, likelier_unvoted(block, probs, unvoted, state.prior))
