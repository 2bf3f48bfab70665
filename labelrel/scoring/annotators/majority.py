"""Majority vote, as the other models say it: a posterior per answer and a rating per annotator."""

from __future__ import annotations

import numpy as np

from labelrel.plugin import Params
from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.finish import NOBODY, Posterior, finish
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.table import read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.fitted import Fitted


@annotator_model("majority")
def majority(inputs: Inputs, params: Params) -> Fitted:
    """Majority vote: the posterior of an answer is its share of the votes, every annotator counts the same.

    `score` = `label_quality` = votes / parsed answers of the item. Of each annotator, `accuracy` is
    the mean share of the answers given, own vote included: how far the others go along.

    Source: majority vote; crowd-kit 1.4 `MajorityVote` (probabilities equal, ties fairer).
    """
    with Lanes() as lanes:
        table = read_table(inputs, lanes)
        shares = [block.shares() for block in table.blocks]
        total = np.zeros(len(table.raters))
        for part in lanes.map(lambda pair: agreement(*pair), list(zip(table.blocks, shares, strict=True))):
            total += part
        rated = table.annotators(accuracy=total / np.maximum(table.num_rows, 1))
        return finish(inputs.votes, table, [Posterior(share, NOBODY) for share in shares], rated, lanes)


def agreement(block: Block, values: Floats) -> Floats:
    """(M,) sum over every annotator's rows of a number per pair."""
    return np.asarray(block.by_pair.T @ values)
