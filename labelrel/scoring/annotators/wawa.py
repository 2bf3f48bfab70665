"""Worker agreement with aggregate: one re-vote with the annotators weighed."""

from __future__ import annotations

import numpy as np

from labelrel.plugin import Params
from labelrel.scoring.annotators.blocks import Block, Floats
from labelrel.scoring.annotators.finish import NOBODY, Posterior, finish
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.table import read_table
from labelrel.scoring.base import Inputs, annotator_model
from labelrel.scoring.fitted import Fitted


@annotator_model("wawa", uses_gold=True)
def wawa(inputs: Inputs, params: Params) -> Fitted:
    """Majority vote weighed by how often each annotator agrees with the majority (Wawa).

    weight_r = share of r's answers that are the item's majority answer; `score` = `label_quality` =
    sum of the weights behind the answer / sum of all weights of the item. Where t answers share the
    most votes each counts 1/t, the expectation of a fair draw, so that neither order nor names
    matter. An item with gold rates its annotators by the gold label instead of the majority; its own
    posterior stays the weighed vote. Where all weights of an item are 0 its votes count the same. Of
    each annotator, `accuracy` is the weight.

    Source: "worker agreement with aggregate", Appen; crowd-kit 1.4 `Wawa` (equal where no vote is tied; of a
    tie it takes whichever answer its table has first).
    """
    with Lanes() as lanes:
        table = read_table(inputs, lanes)
        right = lanes.sum(lambda block: block.by_pair.T @ _reference(block), table.blocks, len(table.raters))
        weight = right / np.maximum(table.num_rows, 1)
        posteriors = lanes.map(lambda block: Posterior(_shares(block, weight), NOBODY), table.blocks)
        return finish(inputs.votes, table, posteriors, table.annotators(accuracy=weight), lanes)


def _reference(block: Block) -> Floats:
    """(P,) 1 for the answer that is taken for right, or 1/t for each of t tied ones."""
    votes = block.votes.astype(np.float64)
    top: Floats = (votes == block.most(votes)[block.item]).astype(np.float64)
    top /= (block.pairs_of_item @ top)[block.item]
    block.pin(top)
    return top


def _shares(block: Block, weight: Floats) -> Floats:
    behind = block.by_pair @ weight
    total = (block.pairs_of_item @ behind)[block.item]
    return np.asarray(np.divide(behind, total, out=block.shares(), where=total > 0))
