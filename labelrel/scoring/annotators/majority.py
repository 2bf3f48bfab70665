"""Majority vote, as the other models say it: a posterior per answer and a rating per annotator."""

from __future__ import annotations

import numpy as np

from labelrel.plugin import Params
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
        with_others = lanes.sum(lambda block: block.by_pair.T @ block.shares(), table.blocks, len(table.raters))
        rated = table.annotators(accuracy=with_others / np.maximum(table.num_rows, 1))
        posteriors = [Posterior(block.shares(), NOBODY) for block in table.blocks]
        return finish(inputs.votes, table, posteriors, rated, lanes)
