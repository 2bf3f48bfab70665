"""How the losses of examples become that of a step, whatever batch, padding or accumulation."""

from __future__ import annotations

import torch


def token_sums(
    token_logprobs: torch.Tensor, owner: torch.Tensor, num_branches: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed negative log-probability of each branch's own tokens, and their number.

    Args:
        token_logprobs: (N,) log-probabilities of all branch tokens of a batch, in nats.
        owner: (N,) which branch each token belongs to, 0 to num_branches - 1.
        num_branches: M.

    Returns:
        Two (M,) tensors. Padding and prompt tokens never enter.
    """
    zeros = torch.zeros(num_branches, dtype=token_logprobs.dtype, device=token_logprobs.device)
    return zeros.index_add(0, owner, -token_logprobs), zeros.index_add(0, owner, torch.ones_like(token_logprobs))


def weighted_loss(values: torch.Tensor, weights: torch.Tensor, num_examples: int) -> torch.Tensor:
    """Return one micro-batch's share of the loss of an optimiser step.

        loss(step) = (1/B) sum_i w_i loss_i          with the w_i scaled to a mean of 1

    Summed over a data set this is `sum_i w_i loss_i / sum_i w_i`, and so it stays whatever the batch
    size, the padding or the accumulation. (Dividing by each batch's own weights would not: alone
    in its batch, an example would count fully whatever its weight.)

    Args:
        values: (b,) loss per example of the micro-batch.
        weights: (b,) weights, scaled by `scale_weights` over the whole training set.
        num_examples: B, the examples of the whole optimiser step, all micro-batches together.

    Source:
        The weighting of Guo & Yang (arXiv 2406.19032, reliability re-weighting), with the mean
        over target tokens instead of theirs over all positions including masked ones.
    """
    return (weights * values).sum() / num_examples


def scale_weights(weights: torch.Tensor) -> torch.Tensor:
    """Scale the weights of a whole training set to a mean of 1.

    Args:
        weights: (N,) weights of at least 0, not all 0.
    """
    return weights / weights.mean()
