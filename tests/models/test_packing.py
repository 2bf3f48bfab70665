"""The layout of packed prompts, by hand; what it is worth in a model is tested in test_decoder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.models.packing import Prompt, batches, pack

TREE = Prompt((11, 12, 13), ((21, 22), (31,)))
SINGLE = Prompt((41,), ((51, 52),))


def test_prompt_lists_its_tokens_in_packed_order() -> None:
    assert TREE.tokens == [11, 12, 13, 21, 22, 31]
    assert len(TREE) == 6


def test_pack_lays_out_rows_and_pads_on_the_right() -> None:
    packed = pack([TREE, SINGLE], pad=9)
    assert packed.input_ids.tolist() == [[11, 12, 13, 21, 22, 31], [41, 51, 52, 9, 9, 9]]


def test_pack_counts_positions_of_each_branch_on_from_its_prompt() -> None:
    packed = pack([TREE, SINGLE])
    assert packed.position_ids.tolist()[0] == [0, 1, 2, 3, 4, 3]
    assert packed.position_ids.tolist()[1][:3] == [0, 1, 2]


def test_pack_predicts_each_branch_token_from_the_token_before_it() -> None:
    packed = pack([TREE, SINGLE])
    # the first token of every branch is predicted by the prompt's last token, at 2 in the first row
    # and at 0 in the second, which starts at 6 in the flattened batch
    assert packed.source.tolist() == [2, 3, 2, 6, 7]
    assert packed.target.tolist() == [21, 22, 31, 51, 52]
    assert packed.owner.tolist() == [0, 0, 1, 2, 2]
    assert packed.num_branches == 3


def test_pack_lets_a_branch_see_prompt_and_own_past_only() -> None:
    mask = pack([TREE, SINGLE]).attention_mask
    assert mask is not None
    assert mask.shape == (2, 1, 6, 6)
    drawn = ["".join("x" if seen else "." for seen in row) for row in mask[0, 0].tolist()]
    assert drawn == [
        "x.....",
        "xx....",
        "xxx...",
        "xxxx..",
        "xxxxx.",
        "xxx..x",  # the second branch does not see the first
    ]
    assert ["".join("x" if seen else "." for seen in row) for row in mask[1, 0].tolist()][:3] == [
        "x.....",
        "xx....",
        "xxx...",
    ]


def test_pack_never_shows_padding_to_a_token_and_leaves_no_row_of_the_softmax_empty() -> None:
    mask = pack([TREE, SINGLE]).attention_mask
    assert mask is not None
    assert not mask[1, 0, :3, 3:].any()
    assert mask.any(dim=-1).all()


def test_pack_needs_no_mask_where_no_prompt_has_two_branches() -> None:
    assert pack([SINGLE, Prompt((1, 2), ((3,),))]).attention_mask is None


@pytest.mark.parametrize("prompts", [[TREE, SINGLE], [SINGLE]], ids=["mask", "no mask"])
def test_to_moves_every_tensor(prompts: list[Prompt]) -> None:
    moved = pack(prompts).to(torch.device("meta"))
    tensors = [moved.input_ids, moved.position_ids, moved.source, moved.target, moved.owner, moved.attention_mask]
    assert {tensor.device.type for tensor in tensors if tensor is not None} == {"meta"}
    assert (moved.attention_mask is None) == (len(prompts) == 1)
    assert moved.num_branches == pack(prompts).num_branches


def test_batches_groups_similar_lengths_within_the_limit() -> None:
    # sorted by length: 1 (#1), 2 (#3), 5 (#0), 5 (#4), 9 (#2); 3 · 5 tokens would be too many
    assert list(batches([5, 1, 9, 2, 5], max_tokens=10)) == [[1, 3], [0, 4], [2]]


def test_batches_gives_a_sequence_beyond_the_limit_a_group_of_its_own() -> None:
    assert list(batches([3, 100, 3], max_tokens=6)) == [[0, 2], [1]]


def test_batches_of_nothing_are_none() -> None:
    assert list(batches([], max_tokens=6)) == []


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_batches_name_every_sequence_once_within_the_limit(lengths: list[int], limit: int) -> None:
    groups = list(batches(lengths, limit))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or max(lengths[i] for i in group) * len(group) <= limit for group in groups)
    flat = [lengths[index] for group in groups for index in group]
    assert flat == sorted(flat)
