"""The merged tree of an item's wordings: by hand, against a set of prefixes, and in models against the plain way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.models.decoder import Decoder
from labelrel.models.packing import Packed, Prompt
from labelrel.models.tree import Tree, grow, pack_trees

ONE = Prompt((1, 2), ((5, 6), (7,)))
LONGER = Prompt((1, 2, 3), ((5,), (5, 8)))

BRANCHES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4).map(tuple)
PROMPTS = st.lists(
    st.builds(Prompt, st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), BRANCHES), min_size=1, max_size=4
)
"""Three tokens only, so that prompts share beginnings, end in each other and repeat."""


def read_sequences(prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    """Return what a model must read to score each branch: all but its last token."""
    return [(*prompt.prefix, *branch[:-1]) for prompt in prompts for branch in prompt.branches]


def line(tree: Tree, node: int) -> list[int]:
    """Return the nodes above a node and the node itself, from the root on, by `ends`."""
    return [above for above in range(node + 1) if node < tree.ends[above]]


def test_grow_merges_what_is_shared_depth_first() -> None:
    tree = grow([ONE, LONGER])
    # 1-2 is shared by all; below it 3 with 5, for the option (5, 8), and then 5, for the option (5, 6)
    assert tree.tokens == [1, 2, 3, 5, 5]
    assert tree.depths == [0, 1, 2, 3, 2]
    assert tree.ends == [5, 5, 4, 4, 5]
    assert tree.paths == [[1, 4], [1], [2], [2, 3]]
    assert tree.targets == [(5, 6), (7,), (5,), (5, 8)]
    assert len(tree) == 5


def test_grow_lays_prompts_that_share_nothing_side_by_side() -> None:
    tree = grow([Prompt((4, 5), ((1,),)), Prompt((2,), ((1,),))])
    assert tree.tokens == [2, 4, 5]
    assert tree.depths == [0, 0, 1]
    assert tree.ends == [1, 3, 3]
    assert tree.paths == [[2], [0]]


def test_option_of_one_token_costs_nothing_beyond_its_prompt() -> None:
    assert len(grow([Prompt((1, 2, 3), ((7,), (8,), (9,)))])) == 3


def test_last_token_of_an_option_is_no_node() -> None:
    assert grow([Prompt((1,), ((7, 8, 9),))]).tokens == [1, 7, 8]


def test_prompt_that_comes_twice_is_read_once() -> None:
    tree = grow([ONE, ONE])
    assert tree.tokens == grow([ONE]).tokens
    assert tree.paths[:2] == tree.paths[2:] == grow([ONE]).paths


@settings(deadline=None)
@given(PROMPTS)
def test_tree_has_one_node_for_each_distinct_beginning(prompts: list[Prompt]) -> None:
    prefixes = {sequence[:length] for sequence in read_sequences(prompts) for length in range(1, len(sequence) + 1)}
    tree = grow(prompts)
    assert len(tree) == len(tree.depths) == len(tree.ends) == len(prefixes)
    assert {tuple(tree.tokens[n] for n in line(tree, node)) for node in range(len(tree))} == prefixes


@settings(deadline=None)
@given(PROMPTS)
def test_depth_counts_the_nodes_above_and_ends_are_nested(prompts: list[Prompt]) -> None:
    tree = grow(prompts)
    for node in range(len(tree)):
        above = line(tree, node)
        assert tree.depths[node] == len(above) - 1
        assert node < tree.ends[node] <= len(tree)
        assert all(tree.ends[node] <= tree.ends[other] for other in above)
        # everything up to its end is below it, and what follows is not
        assert all(tree.depths[below] > tree.depths[node] for below in range(node + 1, tree.ends[node]))
        assert tree.ends[node] == len(tree) or tree.depths[tree.ends[node]] <= tree.depths[node]


@settings(deadline=None)
@given(PROMPTS)
def test_path_reads_the_branch_after_its_prompt(prompts: list[Prompt]) -> None:
    tree = grow(prompts)
    branches = [(prompt.prefix, branch) for prompt in prompts for branch in prompt.branches]
    assert tree.targets == [branch for _, branch in branches]
    for (prefix, branch), path in zip(branches, tree.paths, strict=True):
        assert len(path) == len(branch)
        for place, node in enumerate(path):
            assert [tree.tokens[n] for n in line(tree, node)] == [*prefix, *branch[:place]]


@settings(deadline=None)
@given(PROMPTS, st.randoms(use_true_random=False))
def test_order_of_the_prompts_does_not_matter(prompts: list[Prompt], random: Any) -> None:
    order = list(range(len(prompts)))
    random.shuffle(order)
    tree, other = grow(prompts), grow([prompts[index] for index in order])
    assert (other.tokens, other.depths, other.ends) == (tree.tokens, tree.depths, tree.ends)
    starts = [sum(len(prompt.branches) for prompt in prompts[:index]) for index in range(len(prompts))]
    places = [starts[index] + k for index in order for k in range(len(prompts[index].branches))]
    assert other.paths == [tree.paths[place] for place in places]
    assert other.targets == [tree.targets[place] for place in places]


def drawn(packed: Packed, row: int) -> list[str]:
    assert packed.attention_mask is not None
    return ["".join("x" if seen else "." for seen in line) for line in packed.attention_mask[row, 0].tolist()]


def test_pack_shows_a_node_its_own_line_only() -> None:
    packed = pack_trees([grow([ONE, LONGER]), grow([ONE])], pad=9)
    assert packed.input_ids.tolist() == [[1, 2, 3, 5, 5], [1, 2, 5, 9, 9]]
    assert packed.position_ids.tolist()[0] == [0, 1, 2, 3, 2]
    assert packed.position_ids.tolist()[1][:3] == [0, 1, 2]
    assert drawn(packed, 0) == ["x....", "xx...", "xxx..", "xxxx.", "xx..x"]
    assert drawn(packed, 1) == ["x....", "xx...", "xxx..", "...x.", "....x"]  # padding sees itself and is seen by none


def test_pack_predicts_from_each_place_once_and_keeps_every_target() -> None:
    packed = pack_trees([grow([ONE]), grow([LONGER])])
    assert packed.source.tolist() == [1, 2, 6, 7]  # the second row, of 4 nodes, starts at 4
    assert packed.shared is not None
    assert packed.source[packed.shared].tolist() == [1, 2, 1, 6, 6, 7]
    assert packed.target.tolist() == [5, 6, 7, 5, 5, 8]
    assert packed.owner.tolist() == [0, 0, 1, 2, 3, 3]
    assert packed.num_branches == 4


def test_to_moves_every_tensor() -> None:
    moved = pack_trees([grow([ONE])]).to(torch.device("meta"))
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    assert {tensor.device.type for tensor in tensors} == {"meta"}


# --- in models -----------------------------------------------------------------------------------


def ids(seed: int, number: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, 300, (number,), generator=generator).tolist())


STEM = ids(1, 9)
GROUPS = {
    "shared beginnings": [
        Prompt((*STEM, *ids(2, 3)), (ids(3, 2), ids(4, 4))),
        Prompt((*STEM, *ids(5, 6)), (ids(3, 2), ids(4, 4))),
        Prompt((*STEM[:4], *ids(6, 2)), (ids(3, 2), ids(4, 4))),
    ],
    "one ends in another": [Prompt(STEM[:5], (STEM[5:8], ids(7, 3))), Prompt(STEM, (ids(8, 2),))],
    "equal prompts": [Prompt(STEM, (ids(9, 3), ids(10, 1))), Prompt(STEM, (ids(9, 3), ids(11, 2)))],
    "nothing shared": [Prompt(ids(12, 4), (ids(13, 2),)), Prompt(ids(14, 7), (ids(15, 3), ids(16, 1)))],
    "options of one token": [Prompt(STEM, tuple((token,) for token in ids(17, 4)))],
    "options that begin each other": [Prompt(STEM, ((20,), (20, 21), (20, 21, 22), (20, 23), (20,)))],
    "single": [Prompt(ids(18, 6), (ids(19, 3),))],
    "prompt of one token": [Prompt((7,), ((8,), (7, 8)))],
}


def plain(naive: Callable[..., Any], model: Any, prompts: Sequence[Prompt]) -> torch.Tensor:
    """Return the log-probabilities of all branch tokens, one ordinary forward per branch."""
    with torch.inference_mode():
        return torch.cat([naive(model, prompt.prefix, branch) for prompt in prompts for branch in prompt.branches])


def by_tree(model: Any, groups: Sequence[Sequence[Prompt]], pad: int = 0) -> torch.Tensor:
    prompts = [prompt for group in groups for prompt in group]
    with torch.inference_mode():
        return Decoder(model).token_logprobs(prompts, pack_trees([grow(group) for group in groups], pad))


@pytest.mark.parametrize("name", GROUPS)
def test_tree_scores_as_the_plain_way(family_model: Any, naive_logprobs: Callable[..., Any], name: str) -> None:
    expected = plain(naive_logprobs, family_model, GROUPS[name])
    torch.testing.assert_close(by_tree(family_model, [GROUPS[name]]), expected, atol=5e-5, rtol=0)


def test_batch_of_trees_of_all_sizes_scores_as_the_plain_way(
    family_model: Any, naive_logprobs: Callable[..., Any]
) -> None:
    groups = list(GROUPS.values())
    assert len({len(grow(group)) for group in groups}) > 4
    expected = plain(naive_logprobs, family_model, [prompt for group in groups for prompt in group])
    torch.testing.assert_close(by_tree(family_model, groups), expected, atol=5e-5, rtol=0)


def test_padding_does_not_leak(tiny_model: Any) -> None:
    """Whatever stands where nothing is: to the last bit."""
    groups = [GROUPS["shared beginnings"], GROUPS["single"], GROUPS["prompt of one token"]]
    assert torch.equal(by_tree(tiny_model, groups, pad=0), by_tree(tiny_model, groups, pad=299))


def test_vocabulary_is_reached_in_parts_with_the_same_result(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = list(GROUPS.values())
    whole = by_tree(tiny_model, groups)
    for places in (1, 2, 7):
        monkeypatch.setattr("labelrel.models.decoder._LOGITS_AT_ONCE", places * 300)
        torch.testing.assert_close(by_tree(tiny_model, groups), whole, atol=5e-5, rtol=0)
