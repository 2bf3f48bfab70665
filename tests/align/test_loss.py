"""The weighted loss against plain loops, and against the loss that transformers itself computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from labelrel.align.loss import scale_weights, token_sums, weighted_loss
from labelrel.models.decoder import Decoder
from labelrel.models.packing import Prompt, pack

PROMPTS = [
    Prompt((1, 2, 3), ((4, 5, 6, 7, 8),)),
    Prompt((9,), ((10,),)),
    Prompt((11, 12, 13, 14, 15, 16, 17), ((18, 19),)),
    Prompt((20, 21), ((22, 23, 24),)),
    Prompt((25, 26, 27), ((28,),)),
]
WEIGHTS = torch.tensor([2.0, 0.0, 0.5, 1.0, 3.5])


def naive_cross_entropy(model: Any, prompt: Prompt) -> torch.Tensor:
    """One example alone, prompt positions masked by -100: transformers averages over the target tokens."""
    ids = torch.tensor([prompt.tokens])
    labels = ids.clone()
    labels[:, : len(prompt.prefix)] = -100
    loss: torch.Tensor = model(input_ids=ids, labels=labels).loss
    return loss


@pytest.fixture
def trainable(tiny_model: Any) -> Any:
    return tiny_model.requires_grad_(True)


def example_losses(decoder: Decoder, prompts: list[Prompt]) -> torch.Tensor:
    """Return (B,) mean cross-entropy of each prompt's target."""
    packed = pack(prompts)
    sums, counts = token_sums(decoder.token_logprobs(prompts, packed), packed.owner, packed.num_branches)
    return sums / counts


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def naive_gradient(model: Any, weights: torch.Tensor) -> torch.Tensor:
    """Return the gradient of `sum_i w_i CE_i / sum_i w_i`, one example at a time."""
    model.zero_grad()
    for prompt, weight in zip(PROMPTS, weights, strict=True):
        (weight / weights.sum() * naive_cross_entropy(model, prompt)).backward()
    return gradient(model)


def step_gradient(model: Any, weights: torch.Tensor, size: int, prompts: list[Prompt] = PROMPTS) -> torch.Tensor:
    """Return the gradient that accumulates over micro-batches of `size`."""
    model.zero_grad()
    decoder, scaled = Decoder(model), scale_weights(weights)
    for start in range(0, len(prompts), size):
        losses = example_losses(decoder, prompts[start : start + size])
        weighted_loss(losses, scaled[start : start + size], len(prompts)).backward()
    return gradient(model)


def test_token_sums_are_over_each_branchs_own_tokens() -> None:
    logprobs = torch.tensor([-1.0, -3.0, -5.0, -0.5], requires_grad=True)
    # branch 0 has one token, branch 1 two, branch 2 one
    sums, counts = token_sums(logprobs, torch.tensor([1, 0, 1, 2]), 3)
    assert sums.tolist() == [3.0, 6.0, 0.5]
    assert counts.tolist() == [1.0, 2.0, 1.0]
    (sums / counts).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-0.5, -1.0, -0.5, -1.0]


def test_example_losses_are_those_of_each_example_alone_and_unpadded(tiny_model: Any) -> None:
    expected = torch.stack([naive_cross_entropy(tiny_model, prompt) for prompt in PROMPTS])
    assert expected.std() > 0.3
    torch.testing.assert_close(example_losses(Decoder(tiny_model), PROMPTS), expected, atol=1e-5, rtol=0)


def test_prompt_tokens_are_not_learnt(tiny_model: Any) -> None:
    """Predicting the prompt well or badly changes nothing: only the target's own logits enter."""
    decoder = Decoder(tiny_model)
    packed_rows: list[torch.Tensor] = []
    tiny_model.lm_head.register_forward_hook(lambda module, args, output: packed_rows.append(output))
    example_losses(decoder, PROMPTS)
    assert packed_rows[0].shape[0] == sum(len(prompt.branches[0]) for prompt in PROMPTS)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_gradient_is_the_weighted_mean_whatever_the_micro_batches(trainable: Any, size: int) -> None:
    expected = naive_gradient(trainable, WEIGHTS)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(step_gradient(trainable, WEIGHTS, size), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_losses_of_the_batches_average_to_the_weighted_mean_of_the_set(batch_size: int) -> None:
    entropies = torch.tensor([3.0, 1.0, 0.5, 2.0, 4.0, 7.0, 0.1, 1.5, 2.5, 6.0], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.25, 0.0, 3.0, 1.0, 0.5, 4.0, 1.0], dtype=torch.float64)
    scaled = scale_weights(weights)
    steps = [
        weighted_loss(entropies[start : start + batch_size], scaled[start : start + batch_size], batch_size)
        for start in range(0, 10, batch_size)
    ]
    expected = sum(w * e for w, e in zip(weights.tolist(), entropies.tolist(), strict=True)) / 12.75
    assert float(torch.stack(steps).mean()) == pytest.approx(expected, abs=1e-12)


def test_weight_zero_gives_no_gradient(trainable: Any) -> None:
    """Example 1 has weight 0: whatever its target, the gradient is the same to the bit."""
    assert WEIGHTS[1] == 0
    changed = [PROMPTS[0], Prompt((9,), ((250,),)), *PROMPTS[2:]]
    assert torch.equal(step_gradient(trainable, WEIGHTS, 1, changed), step_gradient(trainable, WEIGHTS, 1))
    even = torch.ones(5)
    assert not torch.equal(step_gradient(trainable, even, 1, changed), step_gradient(trainable, even, 1))


def test_only_the_ratios_of_the_weights_count(trainable: Any) -> None:
    torch.testing.assert_close(
        step_gradient(trainable, WEIGHTS * 37.0, 2), step_gradient(trainable, WEIGHTS, 2), atol=1e-6, rtol=1e-6
    )


def test_weight_one_is_the_plain_mean(trainable: Any) -> None:
    losses = [naive_cross_entropy(trainable, prompt).item() for prompt in PROMPTS]
    value = weighted_loss(example_losses(Decoder(trainable), PROMPTS), scale_weights(torch.ones(5)), 5)
    assert value.item() == pytest.approx(sum(losses) / 5, abs=1e-5)


def test_example_alone_in_its_batch_does_not_count_fully() -> None:
    """A loss divided by the batch's own weights would be 2.0 here, whatever the weight."""
    scaled = scale_weights(torch.tensor([0.5, 1.5]))
    assert float(weighted_loss(torch.tensor([2.0]), scaled[:1], 1)) == pytest.approx(1.0)


@pytest.mark.parametrize("convert", [torch.Tensor.float, torch.Tensor.double])
def test_scaled_weights_have_mean_one_and_keep_their_ratios(convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
    scaled = scale_weights(convert(torch.tensor([1.0, 0.0, 3.0, 4.0])))
    assert scaled.tolist() == [0.5, 0.0, 1.5, 2.0]
