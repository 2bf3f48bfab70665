"""What a model of the annotators says of every item."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.scoring.encode import Codes, Ints


@dataclass(frozen=True)
class Fitted:
    """What a model of the annotators says: a posterior per observed answer, and the likeliest label.

    N items, P observed (item, answer) pairs, abstentions left out.

    Attributes:
        offsets: (N + 1,) the pairs of item i are offsets[i]:offsets[i + 1], answers ascending.
        probs: (P,) posterior probability of each pair, in [0, 1]; an item's may sum to less than 1,
            the rest is on answers that nobody gave.
        best: (N,) code of the likeliest label in `classes`, `ABSTAINED` where nobody answered.
        best_prob: (N,) its posterior, NaN where nobody answered.
        classes: text of every code; begins with the distinct answers of the votes, in their order.
        annotators: one row per annotator: `annotator, num_answers` and what the model learnt of it.
    """

    offsets: Ints
    probs: npt.NDArray[np.float64]
    best: Codes
    best_prob: npt.NDArray[np.float64]
    classes: pl.Series
    annotators: pl.DataFrame

    def piece(self, start: int, stop: int) -> Fitted:
        """Return the same for items start..stop-1."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return replace(
            self,
            offsets=self.offsets[start : stop + 1] - low,
            probs=self.probs[low:high],
            best=self.best[start:stop],
            best_prob=self.best_prob[start:stop],
        )
