"""All wordings of an item and all their options in one row, each token that they share computed once.

The token sequences of an item form a tree: what two of them begin with is one path. A row holds the
nodes in depth-first order, a node attends to its ancestors and to itself, and its position is its
depth, so every node gets the hidden state that it would have in its sequence alone. The last token
of an option is only predicted and never read, so it is no node: an option of one token costs nothing
beyond its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labelrel.models.packing import Packed, Prompt


@dataclass(frozen=True)
class Tree:
    """The merged token sequences of some prompts with their branches.

    Attributes:
        tokens: token id of each node, depth first.
        depths: of each node; the first is 0.
        ends: for each node the number of the first node after it that is not below it.
        paths: per branch, prompts in order and each one's branches in order: the nodes that predict its
            tokens.
        targets: per branch its tokens.
    """

    tokens: list[int]
    depths: list[int]
    ends: list[int]
    paths: list[list[int]]
    targets: list[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.tokens)


def grow(prompts: Sequence[Prompt]) -> Tree:
    """Merge prompts that may begin alike, and their branches."""
    branches = [(prompt.prefix, branch) for prompt in prompts for branch in prompt.branches]
    read = [(*prefix, *branch[:-1]) for prefix, branch in branches]
    tokens: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    paths: list[list[int]] = [[] for _ in branches]
    path: list[int] = []
    before: tuple[int, ...] = ()
    for number in sorted(range(len(read)), key=read.__getitem__):  # in this order a tree is laid depth first
        sequence = read[number]
        shared = common(before, sequence)
        for node in path[shared:]:
            ends[node] = len(tokens)
        del path[shared:]
        first = len(tokens)
        count = len(sequence) - shared
        path.extend(range(first, first + count))
        tokens.extend(sequence[shared:])
        depths.extend(range(shared, len(sequence)))
        ends.extend([0] * count)
        paths[number] = path[len(branches[number][0]) - 1 :]
        before = sequence
    for node in path:
        ends[node] = len(tokens)
    return Tree(tokens, depths, ends, paths, [branch for _, branch in branches])


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def pack_trees(trees: Sequence[Tree], pad: int = 0) -> Packed:
    """Lay trees out as one padded batch; branches are counted through the trees in order."""
    length = max(len(tree) for tree in trees)
    input_ids = torch.full((len(trees), length), pad)
    position_ids = torch.zeros((len(trees), length), dtype=torch.int64)
    # padding is a node of its own that attends to itself: no row of the softmax is empty
    ends = torch.arange(1, length + 1).repeat(len(trees), 1)
    source: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    num_branches = 0
    for row, tree in enumerate(trees):
        size = len(tree)
        input_ids[row, :size] = torch.tensor(tree.tokens)
        position_ids[row, :size] = torch.tensor(tree.depths)
        ends[row, :size] = torch.tensor(tree.ends)
        start = row * length
        for path, tokens in zip(tree.paths, tree.targets, strict=True):
            source += [start + node for node in path]
            target += tokens
            owner += [num_branches] * len(tokens)
            num_branches += 1
    rows, shared = torch.unique(torch.tensor(source), return_inverse=True)
    return Packed(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=_ancestors(ends),
        source=rows,
        target=torch.tensor(target),
        owner=torch.tensor(owner),
        num_branches=num_branches,
        shared=shared,
    )


def _ancestors(ends: torch.Tensor) -> torch.Tensor:
    """Return (B, 1, L, L), true where the column is an ancestor of the row or the row itself."""
    place = torch.arange(ends.shape[1], device=ends.device)
    causal = place.unsqueeze(0) <= place.unsqueeze(1)
    inside = place.view(1, -1, 1) < ends.unsqueeze(1)
    return (causal & inside).unsqueeze(1)
