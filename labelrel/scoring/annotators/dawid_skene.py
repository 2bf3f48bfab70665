"""Dawid-Skene: every annotator has a confusion matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labelrel.errors import InputError
from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.em import EPS, EmParams, climb, total
from labelrel.scoring.annotators.finish import DECIMALS, Posterior, Unvoted, finish, rounded
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.table import BLOCK_ROWS, Cells, Table, read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.fitted import Fitted

_MOST_CONFUSIONS = 50_000_000  # 400 MB, of which a few are held at once
_MOST_POSTERIORS = 1_000_000_000  # several seconds per iteration
_BLOCK_POSTERIORS = 1 << 19
_SAFE = 600.0  # exp neither overflows nor underflows below this


@annotator_model("dawid_skene", params=EmParams, uses_gold=True)
def dawid_skene(inputs: Inputs, params: EmParams) -> Fitted:
    """Dawid-Skene: a confusion matrix per annotator and the class frequencies, fitted by EM.

    P(c | answers of i) is proportional to p_c prod_r e_r(y_ir | c). E-step: these posteriors q. M-step:
    p = mean q, e_r(y | c) proportional to the sum of q_i(c) over the items that r answered with y.
    Starts from the vote shares; probabilities are at least 1e-10. It stops when crowd-kit does: when
    the bound per answer, in which the class frequencies count once per answer, grows by less than
    `tolerance`. Items with gold have posterior 1 on it throughout. The classes are the distinct
    answers of the table, whatever `choices` says. `score` = `label_quality` = q; of each annotator,
    `accuracy` is the expected share of right answers.

    Raises:
        InputError: so many distinct answers that confusion matrices cannot be.

    Source: Dawid & Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM
    algorithm"; initial values, floor and stopping rule as crowd-kit 1.4 `DawidSkene`.
    """
    num_classes, num_rows = len(inputs.votes.answers), inputs.votes.num_rows
    _refuse(num_classes**2, inputs.votes.num_items * num_classes, num_classes)  # an answer has a cell at least
    confusions = min(min(len(inputs.votes.raters[1]) * num_classes, num_rows) * num_classes, _MOST_CONFUSIONS)
    rows = max(_BLOCK_POSTERIORS, confusions // 4) // max(num_classes, 1)
    with Lanes() as lanes:
        table = read_table(inputs, lanes, use_cells=True, rows=min(max(rows, 1), BLOCK_ROWS))
        assert table.cells is not None
        _refuse(len(table.cells.rater) * len(table.classes), 0, num_classes)
        state, sums, _ = fit_em(table, table.cells, lanes, params)
        posteriors = lanes.map(lambda block: _posterior(block, state), table.blocks)
        right = np.bincount(table.cells.rater, sums.diagonal(table.cells), minlength=len(table.raters))
        rated = table.annotators(accuracy=right / np.maximum(table.num_rows, 1))
        return finish(inputs.votes, table, posteriors, rated, lanes)


def _refuse(confusions: int, posteriors: int, num_classes: int) -> None:
    if confusions > _MOST_CONFUSIONS or posteriors > _MOST_POSTERIORS:
        raise InputError(
            f"dawid_skene estimates how often each answer is given for each other one, and {num_classes} distinct "
            f"answers are too many here (at most {_MOST_CONFUSIONS} confusions and {_MOST_POSTERIORS} posteriors); "
            "bring the answers into fewer forms, or use one_coin, wawa, majority or share."
        )


@dataclass(frozen=True)
class State:
    """The parameters: C cells, K classes.

    Attributes:
        log_errors: (C, K) ln of the probability that the cell's annotator gives its answer, per true class.
        log_prior: (K,) ln of the class frequencies.
    """

    log_errors: Floats
    log_prior: Floats


@dataclass
class Sums:
    """Expected counts under the posteriors of some parameters.

    Attributes:
        counts: (C, K) rows of each cell by true class.
        classes: (K,) items by true class.
        likelihood: ln of the probability of the answers, and of the gold labels.
    """

    counts: Floats
    classes: Floats
    likelihood: float = 0.0

    def add(self, other: Sums) -> None:
        """Add the counts of other items."""
        self.counts += other.counts
        self.classes += other.classes
        self.likelihood += other.likelihood

    def diagonal(self, cells: Cells) -> Floats:
        """(C,) expected right answers of each cell."""
        return self.counts[np.arange(len(cells.answer)), cells.answer]


def fit_em(table: Table, cells: Cells, lanes: Lanes, params: EmParams) -> tuple[State, Sums, list[float]]:
    """Fit by EM from the vote shares.

    Returns:
        The parameters behind the last posteriors, their expected counts, and the log-likelihood of every round.
    """
    shape = (len(cells.rater), len(table.classes))

    def expect(posterior: Callable[[Block], tuple[Floats, float]]) -> Sums:
        def gather(sums: Sums, block: Block) -> None:
            probs, likelihood = posterior(block)
            sums.add(Sums(block.by_item.T @ probs, np.ones(len(probs)) @ probs, likelihood))

        return total(lanes, table.blocks, lambda: Sums(np.zeros(shape), np.zeros(shape[1])), gather)

    return climb(
        expect(lambda block: (_vote_shares(block, shape[1]), 0.0)),
        lambda sums: _maximise(sums, cells, table.num_answered),
        lambda state: expect(lambda block: expectation(block, state)),
        lambda sums, old, new: _bound(sums, old, new) / max(table.total, 1),
        params,
    )


def _maximise(sums: Sums, cells: Cells, num_items: int) -> State:
    errors = np.maximum(sums.counts, EPS)
    totals = np.add.reduceat(errors, cells.starts, axis=0) if len(cells.starts) else errors
    errors /= np.repeat(totals, np.diff(np.append(cells.starts, len(errors))), axis=0)
    prior = np.maximum(sums.classes / max(num_items, 1), EPS)
    return State(np.log(errors, out=errors), np.log(prior))


def _bound(sums: Sums, old: State, new: State) -> float:
    """crowd-kit's bound of the new parameters, under the posteriors of the old: the prior counts once per answer.

    The entropy of the posteriors is ln Z less their mean log-likelihood, which the counts already know.
    """
    entropy = sums.likelihood - float(np.vdot(sums.counts, old.log_errors)) - float(sums.classes @ old.log_prior)
    return entropy + float(np.vdot(sums.counts, new.log_errors)) + float(sums.counts.sum(axis=0) @ new.log_prior)


def _vote_shares(block: Block, num_classes: int) -> Floats:
    probs = np.zeros((block.num_items, num_classes))
    probs[block.item, block.answer] = block.shares()
    _pin(block, probs)
    return probs


def _pin(block: Block, probs: Floats) -> None:
    probs[block.gold.item] = 0.0
    probs[block.gold.item, block.gold.code] = 1.0


def expectation(block: Block, state: State) -> tuple[Floats, float]:
    """Return the posteriors, (A, K), and the log-likelihood of a block."""
    joint = block.by_item @ state.log_errors
    joint += state.log_prior
    of_gold = float(joint[block.gold.item, block.gold.code].sum())
    shift = None
    if int(block.sizes.max()) * float(state.log_errors.min()) + float(state.log_prior.min()) < -_SAFE:
        shift = joint.max(axis=1)
        joint -= shift[:, None]
    np.exp(joint, out=joint)
    mass = joint @ np.ones(joint.shape[1])
    joint /= mass[:, None]
    log = np.log(mass) if shift is None else np.log(mass) + shift
    log[block.gold.item] = 0.0
    _pin(block, joint)
    return joint, float(log.sum()) + of_gold


def _posterior(block: Block, state: State) -> Posterior:
    probs, _ = expectation(block, state)
    of_pairs = probs[block.item, block.answer]
    probs[block.item, block.answer] = -1.0
    item, code = np.nonzero(np.round(probs, DECIMALS) > block.most(rounded(of_pairs))[:, None])
    return Posterior(of_pairs, Unvoted(item, code, probs[item, code]))
