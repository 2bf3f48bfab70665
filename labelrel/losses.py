"""Training losses, one value per example: pure functions of what the model says, with formula and source.

A loss reads either the tokens of the target, so that it works for any text, or the options of a
closed question: f is the model's distribution over the options, q the one to learn. Nothing here
imports torch; tensors come in and go out, and their own methods are all that the formulas need.

Every loss returns (b,) values in nats, which the trainer weights: (1/B) sum_i w_i loss_i over an
optimiser step of B examples, the w_i with a mean of 1 over the training set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from labelrel import plugin
from labelrel.registry import Registry

Tensor = Any
"""A torch tensor of floats; torch itself is not imported here."""

Reads = Literal["target", "options"]
Part = Annotated[float, Field(ge=0, le=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Step:
    """What is known of all B examples of an optimiser step before any of them is weighed; no gradients.

    Attributes:
        progress: share of the steps done before this one, in [0, 1).
        losses: (B,) cross-entropy of each example, of its target tokens or of its options.
        logprobs: (B, K) log-probabilities of the options, -inf where an item has fewer; None for a
            loss that reads the target.
        targets: (B, K) what is to be learnt; None likewise.
    """

    progress: float
    losses: Tensor
    logprobs: Tensor | None = None
    targets: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """What the model says of b examples, with gradients, and the step that they are part of.

    Attributes:
        sums: (b,) negative log-probability of the target's tokens, summed.
        counts: (b,) tokens of the target.
        positions: positions of a padded sequence that predict something, the step's longest.
        scores: (b, K) log-probability of each option, the sum over its tokens; -inf where there is none.
        logprobs: (b, K) `scores` normalised over the options.
        targets: (b, K) what is to be learnt, 0 where there is no option.
        rows: (b,) places of the examples in the step.
        step: the whole step; None for a loss that does not read it.

    A loss that reads the target has `sums`, `counts` and `positions`, one that reads options the others.
    """

    sums: Tensor = None
    counts: Tensor = None
    positions: int = 0
    scores: Tensor = None
    logprobs: Tensor = None
    targets: Tensor = None
    rows: Tensor = None
    step: Step | None = None


@dataclass(frozen=True, kw_only=True)
class Loss(plugin.Plugin):
    """One way to turn what the model says into a number per example.

    Attributes:
        function: (batch, params) → (b,).
        reads: the target's tokens, or the options.
        reads_step: whether it must see the whole step first.
        targets: what a row's `option_probs` are to it: a distribution over the options, or how probable
            the weak label is where each of them is true.
    """

    reads: Reads
    reads_step: bool = False
    targets: Literal["distribution", "likelihood"] = "distribution"


losses: Registry[Loss] = Registry("loss")


def loss(
    name: str, params: type[plugin.Params] = plugin.Params, **traits: Any
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Return a decorator that registers a function as the loss `name`."""

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        losses.add(name, Loss(name=name, function=function, params=params, **traits))
        return function

    return add


class CrossEntropyParams(plugin.Params):
    """Parameters of the cross-entropy."""

    protocol: Literal["default", "paper"] = Field(
        "default", description="'paper': mean over all padded positions and weights as they are, as published"
    )


@loss("cross_entropy", CrossEntropyParams, reads="target")
def cross_entropy(batch: Batch, params: CrossEntropyParams) -> Tensor:
    """Cross-entropy of the target's tokens, their mean per example: plain fine-tuning.

        loss_i = -(1/T_i) sum_t ln p(target_it)

    `protocol: paper` divides by the positions of the step's longest sequence instead of T_i, prompts
    and padding included, and leaves the weights as they are instead of scaling them to a mean of 1.
    A target's share then shrinks with the length of the prompts beside it.

    Source: Guo & Yang 2024 (arXiv 2406.19032), reliability re-weighting, and its published code.
    """
    return batch.sums / (batch.counts if params.protocol == "default" else batch.positions)


def expected_cross_entropy(logprobs: Tensor, targets: Tensor) -> Tensor:
    """Return (b,) -sum_k q_k ln f_k; an option without any target mass adds nothing, however improbable."""
    return -(targets * logprobs.masked_fill(targets == 0, 0.0)).sum(-1)


@loss("option_cross_entropy", reads="options")
def option_cross_entropy(batch: Batch, params: plugin.Params) -> Tensor:
    """Expected cross-entropy over the options: what soft labels are learnt with.

        loss_i = -sum_k q_ik ln f_ik

    With a hard label, the cross-entropy of a classifier over the options.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2; Szegedy et al. 2016 (arXiv 1512.00567), section 7.
    """
    return expected_cross_entropy(batch.logprobs, batch.targets)


class RankingParams(plugin.Params):
    """Parameters of the ranking loss."""

    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(0.0, description="nats that count as a tie")


@loss("option_ranking", RankingParams, reads="options")
def option_ranking(batch: Batch, params: RankingParams) -> Tensor:
    """The preferred option should be more probable than each other one, pair by pair.

        loss_i = sum_{j,k: q_j > q_k} (q_j - q_k) softplus(margin - (s_j - s_k)) / sum (q_j - q_k)

    s are the options' log-probabilities. With a hard label, the mean over the other options of the
    pairwise logistic loss. An item whose options are all equally good teaches nothing.

    Source: Burges et al. 2005, "Learning to rank using gradient descent" (RankNet); pairs weighted by how
    far their targets are apart.
    """
    there = ~batch.scores.isinf()
    pair = there.unsqueeze(-1) & there.unsqueeze(-2)
    apart = (batch.targets.unsqueeze(-1) - batch.targets.unsqueeze(-2)).clamp(min=0).masked_fill(~pair, 0.0)
    scores = batch.scores.masked_fill(~there, 0.0)
    wrong = params.margin - (scores.unsqueeze(-1) - scores.unsqueeze(-2))
    softplus = wrong.logaddexp(wrong.new_zeros(()))
    total = apart.sum((-1, -2))
    return (apart * softplus).sum((-1, -2)) / total.masked_fill(total == 0, 1.0)


class ConfidenceParams(plugin.Params):
    """Parameters of the confidence loss."""

    max_weight: Part = Field(0.5, description="share of the model's own opinion after the warm-up")
    warmup: Part = Field(0.1, description="share of the steps over which that share rises from 0")


@loss("confidence", ConfidenceParams, reads="options", reads_step=True)
def confidence(batch: Batch, params: ConfidenceParams) -> Tensor:
    """The weak label mixed with the model's own hardened opinion, so that it may overrule what it doubts.

        loss_i = (1 - a) CE(f_i, q_i) + a CE(f_i, hardened f_i)

    a rises linearly from 0 over the warm-up. With two options f is hardened at an adaptive threshold,
    the quantile of f over the step that leaves as many above it as the weak labels say; the middle
    between two neighbours, so that no example lies on it. With more, options are interchangeable and
    have no balance to keep: f is hardened to its best. No gradient flows through the hardened opinion.

    Source: Burns et al. 2023 (arXiv 2312.09390), section 4.3.2; the published code climbs to a tenth of
    a during the warm-up and then jumps, here it climbs to a.
    """
    step = batch.step
    assert step is not None
    assert step.logprobs is not None
    share = params.max_weight * min(1.0, step.progress / params.warmup if params.warmup else 1.0)
    own = hardened(step.logprobs, step.targets)[batch.rows]
    weak = expected_cross_entropy(batch.logprobs, batch.targets)
    return (1 - share) * weak + share * expected_cross_entropy(batch.logprobs, own)


def hardened(logprobs: Tensor, targets: Tensor) -> Tensor:
    """Return (B, K) one-hot opinions: each row's best option, with two options at the balance of the targets."""
    best = logprobs.argmax(-1)
    if logprobs.shape[-1] == 2 and not logprobs.isinf().any():
        wanted = round(float(targets[:, 1].sum() / targets.sum()) * len(targets))
        order = (logprobs[:, 1] - logprobs[:, 0]).argsort(descending=True, stable=True)
        best = best.new_zeros(len(best))
        best[order[:wanted]] = 1
    return logprobs.new_zeros(logprobs.shape).scatter(-1, best.unsqueeze(-1), 1.0)


class ReverseParams(plugin.Params):
    """Parameters of the reverse divergence."""

    smoothing: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="share of the target spread over all options; without it a hard label is infinitely far"
    )


@loss("reverse_kl", ReverseParams, reads="options")
def reverse_kl(batch: Batch, params: ReverseParams) -> Tensor:
    """Reverse Kullback-Leibler divergence: the model may drop what the target says faintly.

        loss_i = sum_k f_ik (ln f_ik - ln q'_ik)        q' = (1 - s) q + s / K

    Source: Yao et al. 2025 (arXiv 2502.11107), reverse KL; the smoothing is ours, for hard labels.
    """
    there = ~batch.logprobs.isinf()
    count = there.sum(-1, keepdim=True).to(batch.targets.dtype)
    smooth = (1 - params.smoothing) * batch.targets + params.smoothing / count
    logprobs = batch.logprobs.masked_fill(~there, 0.0)
    return (there * logprobs.exp() * (logprobs - smooth.log())).sum(-1)


@loss("forward_correction", reads="options", targets="likelihood")
def forward_correction(batch: Batch, params: plugin.Params) -> Tensor:
    """Forward correction: how probable is the weak label if the model is right about the truth?

        loss_i = -ln sum_k f_ik P(weak label of i | k is true)

    The targets are those likelihoods, the weak label's column of the noise matrix, which rule
    `forward_correction` writes; a hard label is the matrix of a faultless supervisor.

    Source: Patrini et al. 2017 (arXiv 1609.03872), section 4.2 (forward loss correction).
    """
    return -(batch.logprobs + batch.targets.log()).logsumexp(-1)


class SmallLossParams(plugin.Params):
    """Parameters of the selection by small loss."""

    forget: Below1 = Field(0.3, description="share of each step left out at the end; the share of wrong labels")
    rampup: Part = Field(0.3, description="share of the steps over which that share rises from 0")


@loss("small_loss", SmallLossParams, reads="target", reads_step=True)
def small_loss(batch: Batch, params: SmallLossParams) -> Tensor:
    """Leave out the examples with the largest cross-entropy: what is hard to learn is likely wrong.

        loss_i = CE_i [i among the ceil((1 - r) B) smallest of the step] B / their number

    r rises linearly to `forget`. Models learn what is regular before they learn noise by heart.

    Source: Han et al. 2018 (arXiv 1804.06872), algorithm 1, with one network instead of two.
    """
    step = batch.step
    assert step is not None
    size = len(step.losses)
    rate = params.forget * min(1.0, step.progress / params.rampup if params.rampup else 1.0)
    keep = max(1, math.ceil(round((1 - rate) * size, 6)))  # 0.7 * 10 is a hair above 7, which must not make it 8
    kept = step.losses.new_zeros(size)
    kept[step.losses.argsort(stable=True)[:keep]] = size / keep
    return batch.sums / batch.counts * kept[batch.rows]


DEFAULT = "cross_entropy"
"""The loss of a training set that names none."""


def scales_weights(name: str, params: plugin.Params) -> bool:
    """Say whether weights are scaled to a mean of 1 over the training set; the paper's are not."""
    return not (name == "cross_entropy" and getattr(params, "protocol", "default") == "paper")
