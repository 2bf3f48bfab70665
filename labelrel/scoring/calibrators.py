"""From a score to the probability that the label is right, learnt from labels with gold.

A score is any number that the caller has oriented so that higher = more likely right, and that was
made without the gold label of its own item. A calibrator keeps that order: none of the three kinds can
fall where the score rises, so a score that points the wrong way gives one constant probability.

Which kind: `platt` is the default. Gold sets are small and vote scores have a handful of values with
most labels on one of them. Its two parameters and smoothed targets settle with 50 labels, never say 0
or 1, and take any number. `beta`, for scores in [0, 1], has a third parameter and bends where Platt's
curve cannot; try it from about 300 labels. `isotonic` assumes nothing but the order and needs about
1,000; with fewer it follows chance, and it does say 0 and 1.

Where all labels of a fit are right or all are wrong, every kind gives the constant (right + 1) / (n + 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from labelrel.arrays import finite
from labelrel.errors import ConfigError, InputError, near_match
from labelrel.scoring.hashing import stable_hash

Floats = npt.NDArray[np.float64]
Numbers = Sequence[float | None] | npt.NDArray[Any] | pl.Series
Kind = Literal["platt", "isotonic", "beta"]

DEFAULT_KIND: Kind = "platt"
FOLDS = 5

_LEAST_LABELS = 10
_CLIP = 1e-3  # a score of 0 or 1 rests on a few votes; nearer to it the logarithms would rule the fit
_LEAST_SCORE = 1e-290  # below it a slope per unit of score is more than the largest number
_MOST_KNOTS = 100_000


class Strict(BaseModel):
    """Whatever is read from a file: nothing unknown, nothing converted, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Platt(Strict):
    """1 / (1 + exp(-(slope · score + intercept))).

    Source: Platt 1999, "Probabilistic outputs for support vector machines", section 2.2.
    """

    kind: Literal["platt"] = "platt"
    slope: float = Field(ge=0)
    intercept: float

    def probability(self, score: Floats) -> Floats:
        """Return P(right) of finite scores, (N,)."""
        from scipy.special import expit

        with np.errstate(over="ignore"):  # a product beyond the largest number is as sure as it gets
            return np.asarray(expit(self.slope * score + self.intercept))


class Beta(Strict):
    """1 / (1 + exp(-(a · ln s - b · ln(1 - s) + c))), s the score within [.001, .999].

    Source: Kull, Silva Filho & Flach 2017, "Beta calibration", section 4.
    """

    kind: Literal["beta"] = "beta"
    a: float = Field(ge=0)
    b: float = Field(ge=0)
    c: float

    def probability(self, score: Floats) -> Floats:
        """Return P(right) of scores in [0, 1], (N,).

        Raises:
            InputError: a score outside [0, 1].
        """
        from scipy.special import expit

        rising, falling = _logarithms(score)
        return np.asarray(expit(self.a * rising + self.b * falling + self.c))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples


Knots = Annotated[tuple[float, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=_MOST_KNOTS)]


class Isotonic(Strict):
    """Straight lines between the knots, constant beyond the first and the last.

    Source: Zadrozny & Elkan 2002, "Transforming classifier scores into accurate multiclass probability
    estimates", section 3.2.
    """

    kind: Literal["isotonic"] = "isotonic"
    scores: Knots
    probabilities: Knots

    @model_validator(mode="after")
    def _check_order(self) -> Isotonic:
        scores, heights = np.array(self.scores), np.array(self.probabilities)
        if scores.size != heights.size:
            raise ValueError(f"has {scores.size} scores but {heights.size} probabilities")
        if (scores[1:] <= scores[:-1]).any():
            raise ValueError("scores must rise from knot to knot")
        if (heights[1:] < heights[:-1]).any():
            raise ValueError("probabilities must not fall from knot to knot")
        if heights[0] < 0 or heights[-1] > 1:
            raise ValueError("probabilities must lie in [0, 1]")
        return self

    def probability(self, score: Floats) -> Floats:
        """Return P(right) of finite scores, (N,)."""
        return np.interp(score, self.scores, self.probabilities)


Curve = Annotated[Platt | Isotonic | Beta, Field(discriminator="kind")]


class Calibrator(Strict):
    """A fitted map from the score of one method to P(label is right).

    Attributes:
        method: the scoring method whose score it takes.
        score: the name of that score in the scores table.
        orientation: of the score as it has to come in.
        num_labels: how many labels with gold it was fitted on.
        curve: its kind and parameters.
    """

    method: str
    score: str = "label_quality"
    orientation: Literal["higher = more likely right"] = "higher = more likely right"
    num_labels: int = Field(ge=1)
    curve: Curve

    @property
    def kind(self) -> Kind:
        """`platt`, `isotonic` or `beta`."""
        return self.curve.kind

    def apply(self, scores: Numbers) -> pl.Series:
        """Return P(label is right) of every score, in [0, 1]; null where the score is null.

        Raises:
            InputError: a score that is not finite, or of `beta` one outside [0, 1].
        """
        given = pl.Series("probability", scores, strict=False).cast(pl.Float64)
        known = given.is_not_null().to_numpy()
        result = np.full(len(given), np.nan)
        result[known] = self.curve.probability(finite(given.drop_nulls(), "score", of="labels", empty=True))
        return pl.Series("probability", result, nan_to_null=True)


def fit_calibrator(
    kind: Kind, score: Numbers, correct: Numbers, *, method: str, score_name: str = "label_quality"
) -> Calibrator:
    """Fit on all labels; to measure how good it is take `cross_fit` on the same labels instead.

    Args:
        kind: `platt`, `isotonic` or `beta`.
        score: (N,) of at least 10 labels, finite, higher = more likely right; within [0, 1] for `beta`.
        correct: (N,) booleans or 0/1.
        method: the scoring method that made the score.
        score_name: what the score is called, for whoever reads the file.

    Raises:
        ConfigError: an unknown kind.
        InputError: fewer than 10 labels, different lengths, a value that is missing or not finite, or
            one outside its range.
    """
    scores, hits = _labels(kind, score, correct)
    return Calibrator(method=method, score=score_name, num_labels=scores.size, curve=_fit(kind, scores, hits))


def cross_fit(
    kind: Kind, score: Numbers, correct: Numbers, items: Iterable[Any], *, folds: int = FOLDS, seed: int = 0
) -> pl.Series:
    """Return P(right) of every label from a fit that has not seen its item, (N,).

    Items are dealt into folds of equal size by a hash of their id, so the order of rows does not matter.
    Where the other folds have one class only the probability is the constant of the module's last line.

    Args:
        kind: `platt`, `isotonic` or `beta`.
        score: (N,) of at least 10 labels, finite, higher = more likely right; within [0, 1] for `beta`.
        correct: (N,) booleans or 0/1.
        items: (N,) item of each label; labels of one item share a fold.
        folds: number of folds, at least 2; no more than items are used.
        seed: deals the items anew.

    Raises:
        ConfigError: an unknown kind, or fewer than 2 folds.
        InputError: as `fit_calibrator`, a missing item, or labels of one item only.
    """
    scores, hits = _labels(kind, score, correct)
    if folds < 2:
        raise ConfigError(f"folds must be at least 2, got {folds}.")
    fold = _folds(pl.Series("item", items), scores.size, folds, seed)
    result = np.empty(scores.size)
    for number in np.unique(fold):
        mine = fold == number
        result[mine] = _fit(kind, scores[~mine], hits[~mine]).probability(scores[mine])
    return pl.Series("probability", result)


def _fit(kind: Kind, score: Floats, correct: Floats) -> Platt | Isotonic | Beta:
    value, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    right = np.asarray(np.bincount(group, weights=correct), dtype=np.float64)
    size = np.asarray(counts, dtype=np.float64)
    num_right = float(right.sum())
    if num_right in (0, score.size):
        share = (num_right + 1) / (score.size + 2)
        logit = float(np.log(share) - np.log1p(-share))
        if kind == "isotonic":
            return Isotonic(scores=(float(value[0]),), probabilities=(share,))
        return Platt(slope=0.0, intercept=logit) if kind == "platt" else Beta(a=0.0, b=0.0, c=logit)
    if kind == "isotonic":
        return _fit_isotonic(value, right, size)
    if kind == "beta":
        slopes, intercept = _fit_logistic(np.stack(_logarithms(value), axis=1), right, size)
        return Beta(a=float(slopes[0]), b=float(slopes[1]), c=intercept)
    value = np.where(np.abs(value) < _LEAST_SCORE, 0.0, value)
    largest = float(np.abs(value).max()) or 1.0  # so that no sum of squares can overflow
    slopes, intercept = _fit_logistic(value[:, None] / largest, right, size)
    return Platt(slope=float(slopes[0] / largest), intercept=intercept)


def _fit_isotonic(value: Floats, right: Floats, size: Floats) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    model.fit(value, right / size, sample_weight=size)
    heights = np.maximum.accumulate(model.y_thresholds_)  # equal up to rounding is equal
    return Isotonic(scores=tuple(model.X_thresholds_.tolist()), probabilities=tuple(heights.tolist()))


def _fit_logistic(features: Floats, right: Floats, size: Floats) -> tuple[Floats, float]:
    """Return the slopes, at least 0, and the intercept that are likeliest given smoothed targets.

    A right label counts as (R + 1) / (R + 2) right, a wrong one as 1 / (W + 2), so that a score that
    separates them perfectly still has a finite slope (Platt 1999).

    Args:
        features: (G, F) of each distinct score.
        right: (G,) right labels.
        size: (G,) labels.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    total, num_right = float(size.sum()), float(right.sum())
    target = right * (num_right + 1) / (num_right + 2) + (size - right) / (total - num_right + 2)
    mean = size @ features / total
    spread = np.sqrt(size @ np.square(features - mean) / total)
    spread = np.where(spread > 1e-12 * np.abs(features).max(axis=0), spread, np.inf)  # a constant has slope 0
    inputs = np.column_stack([(features - mean) / spread, np.ones(len(features))])

    def loss(weights: Floats) -> tuple[float, Floats]:
        logit = inputs @ weights
        value = size @ np.logaddexp(0, logit) - target @ logit
        return float(value / total), inputs.T @ (size * expit(logit) - target) / total

    bounds = [(0, None)] * features.shape[1] + [(None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    found = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    slopes = found[:-1] / spread
    return slopes, float(found[-1] - slopes @ mean)


def _logarithms(score: Floats) -> tuple[Floats, Floats]:
    """Return the two features of beta calibration, ln s and -ln(1 - s), both rising with s."""
    _check_unit(score)
    clipped = np.clip(score, _CLIP, 1 - _CLIP)
    return np.log(clipped), -np.log1p(-clipped)


def _check_unit(score: Floats) -> None:
    outside = score[(score < 0) | (score > 1)]
    if outside.size:
        raise InputError(
            f"beta calibration takes scores in [0, 1], got {outside[0]:g} ({outside.size} such scores); "
            "take platt or isotonic."
        )


def _labels(kind: Kind, score: Numbers, correct: Numbers) -> tuple[Floats, Floats]:
    if kind not in get_args(Kind):
        known = list(get_args(Kind))
        raise ConfigError(f"unknown calibration {kind!r}{near_match(kind, known) or ';'} allowed: {', '.join(known)}.")
    scores, hits = (finite(v, name, of="labels", empty=True) for v, name in ((score, "score"), (correct, "correct")))
    if scores.size != hits.size:
        raise InputError(f"score has {scores.size} values but correct has {hits.size}; they belong to the same labels.")
    if scores.size < _LEAST_LABELS:
        raise InputError(
            f"calibration needs at least {_LEAST_LABELS} labels with gold, got {scores.size}; "
            "50 or more are sensible, 1,000 for isotonic."
        )
    strange = hits[(hits != 0) & (hits != 1)]
    if strange.size:
        raise InputError(f"correct must be 0 or 1, got {strange[0]:g} ({strange.size} such values).")
    if kind == "beta":
        _check_unit(scores)
    return scores, hits


def _folds(items: pl.Series, num_labels: int, folds: int, seed: int) -> npt.NDArray[np.int64]:
    if len(items) != num_labels:
        raise InputError(f"items has {len(items)} values but score has {num_labels}; they belong to the same labels.")
    if items.null_count():
        raise InputError(f"items: {items.null_count()} of {num_labels} labels have no item; leave them out first.")
    names = items.cast(pl.String)
    distinct = names.unique().sort()
    if len(distinct) < 2:
        raise InputError(f"cross-fitting needs labels of at least 2 items, got those of {distinct[0]!r} only.")
    order = np.argsort(stable_hash(f"{seed}/" + distinct), kind="stable")
    number = np.empty(len(distinct), dtype=np.int64)
    number[order] = np.arange(len(distinct)) % folds
    return np.asarray(number[distinct.search_sorted(names).to_numpy()])
