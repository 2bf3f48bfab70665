"""Weights of an item's voted classes, and of all others together → posteriors."""

from __future__ import annotations

import numpy as np

from labelrel.scoring.annotators.blocks import Block, Floats

_SAFE = 600.0  # exp is far from overflow and underflow below this


def posterior_of_pairs(
    block: Block, logit: Floats, weight: Floats | None, rest: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return the posterior of every pair, that of an unvoted class of weight 1, and the log of the normaliser.

    q_j = w_j exp(x_j) / Z_i with Z_i = sum over the item's pairs of w_j exp(x_j), + rest_i.

    Args:
        block: the items.
        logit: (P,) x, log-likelihood of the pair's answer relative to an answer without a vote.
        weight: (P,) w > 0, prior of the answer; None: 1.
        rest: (A,) summed prior of the classes without a vote, >= 0.

    Returns:
        (P,) q, (A,) 1 / Z on the scale where an answer without a vote has likelihood 1 (0 where that is
        smaller than a float can say), and (A,) ln Z.
    """
    shift = None
    if len(logit) and max(-float(logit.min()), float(logit.max())) > _SAFE:
        shift = np.maximum(block.most(logit), np.where(rest > 0, 0.0, -np.inf))
        logit = logit - shift[block.item]
        rest = rest * np.exp(-shift, where=rest > 0, out=np.zeros(len(rest)))
    power = np.exp(logit)
    if weight is not None:
        power *= weight
    total = block.pairs_of_item @ power
    total += rest
    inverse = 1.0 / total
    power *= inverse[block.item]
    log = np.log(total)
    if shift is not None:
        log += shift
        inverse *= np.exp(np.minimum(-shift, _SAFE))
    return power, inverse, log


def uniform_posterior(block: Block, logit: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the posteriors of a block whose classes are alike beforehand, gold labels in place.

    Args:
        block: the items.
        logit: (P,) log-likelihood of the pair's answer relative to an answer without a vote.

    Returns:
        (P,) the posterior of every pair, (A,) that of each class without a vote, and (A,) the
        log-likelihood of the item relative to nobody being right, times its possible answers.
    """
    left = (block.possible - block.distinct).astype(np.float64)
    probs, unvoted, log = posterior_of_pairs(block, logit, None, left)
    gold = block.gold
    if len(gold.item):
        log[gold.item] = np.where(gold.pair >= 0, np.append(logit, 0.0)[gold.pair], 0.0)
        unvoted[gold.item] = 0.0
        block.pin(probs)
    return probs, unvoted, log
