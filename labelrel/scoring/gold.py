"""Gold labels without a leak: the score of an item never depends on its own gold label.

Methods that learn from gold are fitted once on all of it, for the items without, and once per fold
without the fold's gold, for the fold's items. So what they say about an item with gold can be
compared with that gold.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel.scoring.encode import ABSTAINED
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.hashing import stable_hash

FOLDS = 5


def fold_of(item_ids: pl.Series) -> npt.NDArray[np.int64]:
    """Return the fold of each item, 0..FOLDS-1, the same in every table and on every machine."""
    return (stable_hash(item_ids.cast(pl.String)) % np.uint64(FOLDS)).astype(np.int64)


def cross_fit(item_ids: pl.Series, gold: pl.DataFrame, fit: Callable[[pl.DataFrame | None], Fitted]) -> Fitted:
    """Fit on all gold, then replace the items with gold by a fit that has not seen theirs.

    Args:
        item_ids: (N,) the items of the table.
        gold: `item_id, gold_label`.
        fit: gold, or None for none, → the fitted model.

    Returns:
        The fit on all gold; every item with gold has the posterior of its fold's fit.
    """
    gold = gold.filter(pl.col("item_id").is_in(item_ids.implode()))
    whole = fit(gold if gold.height else None)
    if gold.is_empty():
        return whole
    fold = fold_of(gold["item_id"])
    where = item_ids.to_frame("item_id").with_row_index("place")
    probs, best, best_prob, classes = whole.probs.copy(), whole.best.copy(), whole.best_prob.copy(), whole.classes
    for number in np.unique(fold):
        rest = gold.filter(pl.Series(fold != number))
        part = fit(rest if rest.height else None)
        mine = gold.filter(pl.Series(fold == number)).join(where, on="item_id")["place"].to_numpy().astype(np.int64)
        pairs = np.zeros(len(probs) + 1, dtype=np.int64)
        np.add.at(pairs, part.offsets[mine], 1)
        np.add.at(pairs, part.offsets[mine + 1], -1)
        inside = np.cumsum(pairs[:-1]) > 0
        probs[inside] = part.probs[inside]
        best_prob[mine] = part.best_prob[mine]
        code, classes = _translated(part.best[mine], part.classes, classes)
        best[mine] = code
    return Fitted(whole.offsets, probs, best, best_prob, classes, whole.annotators)


def _translated(codes: npt.NDArray[np.int32], theirs: pl.Series, ours: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Return codes of `theirs` as codes of `ours`, which grows by the classes it lacks."""
    new = theirs.filter(~theirs.is_in(ours.implode()))
    ours = pl.concat([ours, new]) if len(new) else ours
    place = pl.DataFrame({"name": ours}).with_row_index("code")
    table = theirs.to_frame("name").join(place, on="name", how="left", maintain_order="left")["code"].to_numpy()
    return np.append(table, ABSTAINED)[codes].astype(np.int32), ours
