"""One packed forward gives each branch what it would have got alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from labelrel.errors import ConfigError
from labelrel.models.decoder import Decoder, Trunk, check_top_layers
from labelrel.models.packing import Prompt, pack


def packed_logprobs(model: Any, prompts: list[Prompt], pad: int = 0) -> torch.Tensor:
    with torch.inference_mode():
        return Decoder(model).token_logprobs(prompts, pack(prompts, pad))


def alone(naive: Callable[..., torch.Tensor], model: Any, prompts: list[Prompt]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([naive(model, prompt.prefix, branch) for prompt in prompts for branch in prompt.branches])


def test_packed_branches_score_as_they_do_alone(
    family_model: Any, tiny_prompts: list[Prompt], naive_logprobs: Any
) -> None:
    expected = alone(naive_logprobs, family_model, tiny_prompts)
    assert expected.std() > 0.3  # nats: log-probabilities that are all alike would prove nothing
    torch.testing.assert_close(packed_logprobs(family_model, tiny_prompts), expected, atol=1e-5, rtol=0)


def test_single_branches_in_a_padded_batch_score_as_they_do_alone(
    family_model: Any, tiny_prompts: list[Prompt], naive_logprobs: Any
) -> None:
    singles = tiny_prompts[2:]
    assert pack(singles).attention_mask is None
    expected = alone(naive_logprobs, family_model, singles)
    torch.testing.assert_close(packed_logprobs(family_model, singles), expected, atol=1e-5, rtol=0)


def test_padding_token_does_not_matter(tiny_model: Any, tiny_prompts: list[Prompt]) -> None:
    torch.testing.assert_close(
        packed_logprobs(tiny_model, tiny_prompts, pad=0),
        packed_logprobs(tiny_model, tiny_prompts, pad=299),
        atol=0,
        rtol=0,
    )


def test_branch_does_not_see_the_one_before_it(tiny_model: Any) -> None:
    first = packed_logprobs(tiny_model, [Prompt((1, 2, 3), ((10, 11), (20, 21)))])
    other = packed_logprobs(tiny_model, [Prompt((1, 2, 3), ((70, 71), (20, 21)))])
    torch.testing.assert_close(first[2:], other[2:], atol=0, rtol=0)
    assert (first[:2] - other[:2]).abs().min() > 1e-3


def test_vocabulary_is_reached_only_where_a_branch_token_is_predicted(
    tiny_model: Any, tiny_prompts: list[Prompt]
) -> None:
    rows = []
    tiny_model.lm_head.register_forward_hook(lambda module, args, output: rows.append(output.shape[0]))
    packed_logprobs(tiny_model, tiny_prompts)
    assert rows == [sum(len(branch) for prompt in tiny_prompts for branch in prompt.branches)]


def test_trunk_and_top_layers_in_a_row_are_the_whole_model(family_model: Any, tiny_prompts: list[Prompt]) -> None:
    class Straight:
        """Hands the trunk's outputs on without a cache."""

        def hidden(self, prompts: Any, length: int) -> torch.Tensor:
            return Trunk(family_model, 3).run(pack(prompts))

    packed = pack(tiny_prompts)
    with torch.inference_mode():
        cut = Decoder(family_model, top_layers=3, source=Straight()).hidden(tiny_prompts, packed)
        whole = Decoder(family_model).hidden(tiny_prompts, packed)
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("top_layers", [0, -1, 5])
def test_top_layers_must_be_layers_of_the_model(tiny_model: Any, top_layers: int) -> None:
    with pytest.raises(ConfigError, match=rf"top_layers must lie in 1\.\.4 for this model, got {top_layers}\."):
        Trunk(tiny_model, top_layers)
    with pytest.raises(ConfigError, match=r"1\.\.4"):
        Decoder(tiny_model, top_layers=top_layers)


@pytest.mark.parametrize("top_layers", [1, 4])
def test_top_layers_from_one_to_all_are_allowed(top_layers: int) -> None:
    check_top_layers(top_layers, 4)
