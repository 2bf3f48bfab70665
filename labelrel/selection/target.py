"""The largest set of labels whose accuracy is at least a target, with a bound that survives the search.

A set is {score >= t}. The threshold that looks best on gold is biased: of twenty sets that are all a
little too bad, one will look good. So every candidate t is a test of H: "accuracy < target", and the
tests together err with probability at most 1 - confidence (familywise error).

- Candidates come from the scores of the pool and the number of gold labels, never from gold itself:
  distinct values, so ties stay whole, at evenly spaced coverages. So the gold labels at or above t
  are a random sample of its set, and the number of right ones is binomial (where gold is drawn from the
  pool without replacement it is closer to its mean than that).
- p = P(Bin(n, target) >= k), k of n gold labels right: exact for any n.
- The error 1 - confidence is split equally and handed on: candidates are tested from the smallest set to
  the largest, and one that passes leaves its share to the next (fallback procedure). It is never weaker
  than a Bonferroni correction, and asks for no accuracy that falls as the set grows.
- A set too small to pass even with all its gold labels right (target^n > share) would waste its share.
  Its coverage tells how many gold labels to expect in it, so such sets are left out beforehand, and where
  gold is scarce there are fewer candidates, half the least n or more apart on average. That
  choice is as blind to gold as the rest.

Assumed: gold labels are a random sample of the items that the pool comes from, one label per item, and
no score was made with the gold label of its own item. The accuracy is that of all items like these; in a
small kept set the share that happens to be right scatters around it.

Source: Wiens 2003, "A fixed sequence Bonferroni procedure for testing multiple endpoints"; Wiens &
Dmitrienko 2005, "The fallback procedure for evaluating a single family of hypotheses"; Clopper & Pearson
1934. Tests of the risk at each threshold: Angelopoulos et al. 2021, "Learn then Test" (arXiv 2110.01052).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from labelrel.arrays import finite
from labelrel.errors import ConfigError, InputError
from labelrel.selection.base import Inside, Params, Pool, rule

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Numbers = Sequence[float] | npt.NDArray[Any] | pl.Series

_MOST_CANDIDATES = 20


@dataclass(frozen=True)
class Certified:
    """The cut at a target accuracy, or that there is none.

    Attributes:
        target: the accuracy asked for.
        confidence: with which the kept set has it.
        threshold: keep `score >= threshold`; None where no candidate passed.
        num_kept: labels of the pool at or above it; 0 where there is none.
        kept_fraction: `num_kept` / labels of the pool.
        num_gold: gold labels in the set; without a threshold, in the best candidate, that with the highest
            lower bound.
        num_correct: those that are right.
        accuracy: `num_correct` / `num_gold`; None where the set has no gold label.
        lower_bound: Clopper-Pearson lower bound of the set's accuracy at the error its test had.
        tried: one row per candidate, the smallest set first: `threshold, num_kept, kept_fraction,
            num_gold, num_correct, accuracy, error` (of its test), `lower_bound` and `passed`.
        total_gold: gold labels in all.
    """

    target: float
    confidence: float
    threshold: float | None
    num_kept: int
    kept_fraction: float
    num_gold: int
    num_correct: int
    accuracy: float | None
    lower_bound: float
    tried: pl.DataFrame
    total_gold: int

    def as_dict(self) -> dict[str, Any]:
        """Return the same as a JSON-able dict, `tried` as a list of rows."""
        return {**vars(self), "tried": self.tried.to_dicts()}

    def sentence(self) -> str:
        """Say in one line what is kept, or why nothing is and what would help."""
        goal = f"accuracy {self.target:g} with confidence {self.confidence:.3g}"
        on_gold = f"{self.num_correct} of {self.num_gold} gold labels right"
        if self.accuracy is not None:
            on_gold += f" ({self.accuracy:.3f}, at least {self.lower_bound:.3f})"
        if self.threshold is not None:
            return (
                f"{goal}: keep scores of at least {self.threshold!r}, {self.num_kept} labels "
                f"({self.kept_fraction:.1%} of the pool), {on_gold}."
            )
        return f"no threshold qualifies for {goal}: the safest set tried has {on_gold}; {self._advice()}."

    def _advice(self) -> str:
        if self.accuracy is None:
            return "gold labels of items like those of the pool are needed"
        if self.accuracy <= self.target:
            return "that is not above the target, so lower the target or take another score"
        error = self.tried["error"][0]  # none passed on its share, so all have the same
        needed = _needed(self.num_gold, self.accuracy, self.target, error)
        if needed is None:
            return "that is hardly above the target, so lower the target or take another score"
        in_all = math.ceil(needed * self.total_gold / self.num_gold)
        return (
            f"at that accuracy about {in_all} gold labels in all would do (there are {self.total_gold}), "
            "or lower the target"
        )


def certify(
    gold_score: Numbers,
    gold_correct: Numbers,
    pool_score: Numbers,
    *,
    target: float,
    confidence: float,
    max_candidates: int = _MOST_CANDIDATES,
) -> Certified:
    """Return the largest set {score >= t} of the pool that has the target accuracy with confidence.

    Of draws of the gold labels, at most 1 - confidence lead to a set whose accuracy is below the target,
    however good or bad the score is. See the module for the procedure and what it assumes.

    Args:
        gold_score: (G,) of gold items, finite, higher = more likely right; one label per item.
        gold_correct: (G,) booleans or 0/1, whether the label is the gold label.
        pool_score: (P,) of the labels to choose from; those of gold items may be among them.
        target: accuracy that the kept set shall have, in (0, 1).
        confidence: in (0, 1).
        max_candidates: most thresholds to test, at least 1.

    Raises:
        ConfigError: a target, confidence or number of candidates outside its range.
        InputError: no gold or no pool, different lengths, or a value that is missing or impossible.
    """
    for name, value in (("target", target), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"{name} must lie in (0, 1), got {value:g}.")
    if max_candidates < 1:
        raise ConfigError(f"max_candidates must be at least 1, got {max_candidates}.")
    scores, correct = finite(gold_score, "gold_score", of="labels"), finite(gold_correct, "gold_correct", of="labels")
    pool = finite(pool_score, "pool_score", of="labels")
    if scores.size != correct.size:
        raise InputError(f"gold_score has {scores.size} values but gold_correct has {correct.size}.")
    if not np.isin(correct, (0, 1)).all():
        raise InputError(f"gold_correct must be 0 or 1, got {correct[~np.isin(correct, (0, 1))][0]:g}.")
    levels, sizes = np.unique(-pool, return_counts=True)  # best first
    kept = np.cumsum(sizes)
    chosen = _candidates(kept, scores.size, target, 1 - confidence, max_candidates)
    thresholds, kept = -levels[chosen], kept[chosen]
    num_gold = _at_least(thresholds, scores)
    num_correct = _at_least(thresholds, scores[correct == 1])
    passed, error = _fallback(_p_value(num_gold, num_correct, target), 1 - confidence)
    lower = _lower_bound(num_gold, num_correct, error)
    tried = pl.DataFrame(
        {
            "threshold": thresholds,
            "num_kept": kept,
            "kept_fraction": kept / pool.size,
            "num_gold": num_gold,
            "num_correct": num_correct,
            "accuracy": num_correct / np.where(num_gold > 0, num_gold, np.nan),
            "error": error,
            "lower_bound": lower,
            "passed": passed,
        }
    ).with_columns(pl.col("accuracy").fill_nan(None))
    best = int(np.flatnonzero(passed)[-1]) if passed.any() else int(np.argmax(lower))
    shown = tried.row(best, named=True)
    return Certified(
        target=target,
        confidence=confidence,
        threshold=shown["threshold"] if passed.any() else None,
        num_kept=shown["num_kept"] if passed.any() else 0,
        kept_fraction=shown["kept_fraction"] if passed.any() else 0.0,
        num_gold=shown["num_gold"],
        num_correct=shown["num_correct"],
        accuracy=shown["accuracy"],
        lower_bound=shown["lower_bound"],
        tried=tried,
        total_gold=scores.size,
    )


class TargetParams(Params):
    """Parameters of the cut at a target accuracy."""

    score: str = Field("share", min_length=1, description="scoring method whose label quality ranks items")
    target: Inside = Field(0.9, description="least accuracy of the kept labels")
    confidence: Inside = Field(0.9, description="with which it holds, although the threshold is searched")

    def reads(self) -> tuple[str, ...]:
        """Return the scoring methods whose rows the rule reads."""
        return (self.score,)


@rule("target_accuracy", TargetParams, reads_gold_dev=True)
def target_accuracy(pool: Pool, params: TargetParams) -> pl.DataFrame:
    """The largest set of weak labels that is as accurate as asked for, certified on gold_dev.

    Labels with a label quality of at least t, all weights 1; t is searched on the gold labels of split
    gold_dev with a bound that allows for the search, and never sees one of the items that train. An item
    whose label quality is not defined is left out.

    Raises:
        InputError: gold_dev has no weak label with a label quality and gold, or no threshold qualifies.

    Source: Wiens & Dmitrienko 2005 (fallback procedure); Angelopoulos et al. 2021 (arXiv 2110.01052).
    """
    labels = pool.labels(params.score).drop_nulls("label_quality")
    gold = pool.gold_labels(params.score).drop_nulls("label_quality")
    if labels.is_empty():
        return labels.with_columns(weight=1.0)
    if gold.is_empty():
        raise InputError(
            "rule 'target_accuracy' needs gold labels of split 'gold_dev', but none of its items has one and a label "
            f"quality by '{params.score}'; sample and score that split too, or leave the rule out of select.methods."
        )
    certified = certify(
        gold["label_quality"],
        gold["answer"] == gold["gold_label"],
        labels["label_quality"],
        target=params.target,
        confidence=params.confidence,
    )
    if certified.threshold is None:
        raise InputError(f"rule 'target_accuracy', score '{params.score}': {certified.sentence()}")
    return labels.filter(pl.col("label_quality") >= certified.threshold).with_columns(weight=1.0)


def _candidates(kept: Ints, num_gold: int, target: float, error: float, most: int) -> Ints:
    """Return which thresholds to test, the smallest set first, from sizes of sets and the number of gold labels.

    Args:
        kept: (L,) labels of the pool in the set of each distinct score, rising.
        num_gold: gold labels in all.
        target: accuracy asked for.
        error: that all tests may make together.
        most: candidates at most.
    """
    expected = num_gold * kept / kept[-1]
    for count in range(min(most, kept.size), 0, -1):
        least = math.ceil(math.log(error / count) / math.log(target))
        able = np.flatnonzero(expected >= least)
        apart = (num_gold - expected[able[0]]) / (count - 1) if able.size and count > 1 else math.inf
        if able.size >= count and apart >= least / 2:
            break
    else:
        return np.array([kept.size - 1])  # none can pass; the whole pool says how far away that is
    if able.size == count:
        return able
    least_expected = expected[able[0]]
    wanted = np.linspace(least_expected, num_gold, count) if count > 1 else (least_expected + num_gold) / 2
    place = np.searchsorted(expected[able], wanted)
    return np.unique(able[np.minimum(place, able.size - 1)])


def _fallback(p_value: Floats, error: float) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return which tests pass in their order, and the error that each was allowed."""
    share, carried = error / p_value.size, 0.0
    passed, allowed = np.zeros(p_value.size, dtype=bool), np.empty(p_value.size)
    for i, p in enumerate(p_value):
        allowed[i] = carried + share
        passed[i] = p <= allowed[i]
        carried = allowed[i] if passed[i] else 0.0
    return passed, allowed


def _p_value(n: Ints, k: Ints, target: float) -> Floats:
    """P(Bin(n, target) >= k), 1 where k is 0."""
    from scipy.special import betainc

    return np.where(k > 0, betainc(np.maximum(k, 1), n - k + 1, target), 1.0)


def _lower_bound(n: Ints, k: Ints, error: Floats) -> Floats:
    """The accuracy at which k or more of n right have probability `error`, 0 where k is 0."""
    from scipy.special import betaincinv

    return np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, error), 0.0)


def _needed(n: int, accuracy: float, target: float, error: float) -> int | None:
    """Return how many gold labels of that accuracy would pass, about; None beyond a thousand times n."""
    sizes = np.unique(np.ceil(n * 1.02 ** np.arange(350)).astype(np.int64))
    enough = np.flatnonzero(_p_value(sizes, np.floor(accuracy * sizes + 1e-9).astype(np.int64), target) <= error)
    return int(sizes[enough[0]]) if enough.size else None


def _at_least(thresholds: Floats, scores: Floats) -> Ints:
    """Return how many scores are at or above each threshold."""
    return np.asarray(scores.size - np.searchsorted(np.sort(scores), thresholds, side="left"), dtype=np.int64)
