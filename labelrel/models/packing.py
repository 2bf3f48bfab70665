"""Several continuations of one prompt in one row: the prompt is computed once for all of them.

A row holds the prompt and then every continuation ("branch"). A branch sees the prompt and its
own past, never another branch, and its positions count on from the end of the prompt. So one
forward pass gives each branch the hidden states it would have had alone, with the keys and values
of the prompt shared by all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Prompt:
    """A tokenised prompt and its tokenised continuations.

    Attributes:
        prefix: token ids of the prompt, at least one.
        branches: token ids of each continuation, at least one each.
    """

    prefix: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.prefix) + sum(len(branch) for branch in self.branches)

    @property
    def tokens(self) -> list[int]:
        """Return all token ids in packed order."""
        return [*self.prefix, *(token for branch in self.branches for token in branch)]


@dataclass(frozen=True)
class Packed:
    """A batch of prompts, padded on the right.

    Attributes:
        input_ids: (B, L) int64.
        position_ids: (B, L) int64; a branch goes on where its prompt ended.
        attention_mask: (B, 1, L, L) bool, true where row may look at column; None where plain
            causal attention is the same (no prompt has more than one branch).
        source: (R,) flat positions in (B·L) whose output predicts a branch token.
        target: (N,) the predicted tokens.
        owner: (N,) number of the branch each target belongs to, counted through the batch.
        num_branches: branches in the batch.
        shared: (N,) for each target its place in `source`, where several are predicted from one
            position; None where R = N and each has its own.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    source: torch.Tensor
    target: torch.Tensor
    owner: torch.Tensor
    num_branches: int
    shared: torch.Tensor | None = None

    def to(self, device: torch.device) -> Packed:
        """Return the batch on another device."""
        mask, shared = self.attention_mask, self.shared
        return Packed(
            self.input_ids.to(device),
            self.position_ids.to(device),
            None if mask is None else mask.to(device),
            self.source.to(device),
            self.target.to(device),
            self.owner.to(device),
            self.num_branches,
            None if shared is None else shared.to(device),
        )


def pack(prompts: Sequence[Prompt], pad: int = 0) -> Packed:
    """Lay prompts and their branches out as one padded batch."""
    length = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), length), pad)
    position_ids = torch.zeros((len(prompts), length), dtype=torch.int64)
    # each position's block: 0 is the prompt, k the k-th branch, -1 padding
    block = torch.full((len(prompts), length), -1)
    source: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    num_branches = 0
    for row, prompt in enumerate(prompts):
        start = len(prompt.prefix)
        input_ids[row, : len(prompt)] = torch.tensor(prompt.tokens)
        position_ids[row, :start] = torch.arange(start)
        block[row, :start] = 0
        at = start
        for number, branch in enumerate(prompt.branches, start=1):
            end = at + len(branch)
            position_ids[row, at:end] = torch.arange(start, start + len(branch))
            block[row, at:end] = number
            # the prompt's last token predicts the branch's first; after that each predicts the next
            source += [row * length + p for p in (start - 1, *range(at, end - 1))]
            target += branch
            owner += [num_branches] * len(branch)
            num_branches += 1
            at = end
    return Packed(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=_tree_mask(block) if any(len(p.branches) > 1 for p in prompts) else None,
        source=torch.tensor(source),
        target=torch.tensor(target),
        owner=torch.tensor(owner),
        num_branches=num_branches,
    )


def _tree_mask(block: torch.Tensor) -> torch.Tensor:
    same_or_prompt = (block.unsqueeze(2) == block.unsqueeze(1)) | (block.unsqueeze(1) == 0)
    causal = torch.ones(block.shape[1], block.shape[1], dtype=torch.bool).tril()
    # padding forms a block of its own and so attends to padding: no row of the softmax is empty
    return (same_or_prompt & causal).unsqueeze(1)


def batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Yield groups of indices of similar length whose padded size stays within `max_tokens`.

    A single sequence that is longer forms a group of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    group: list[int] = []
    for index in order:
        if group and lengths[index] * (len(group) + 1) > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
