"""Long beginnings that prompts share are computed once and kept as keys and values.

A tree in one row lets every token look at every other and then forbids most of it, which is cheap as
long as rows are short. Five wordings of a long text with four endings each are a row of many hundred
tokens, of which each needs to see a fifth. So the shared beginning ("stem") becomes a row of its own,
whose keys and values all prompts of the item read, and each prompt with its branches a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from labelrel.models.packing import Packed, Prompt
from labelrel.models.tree import Tree, common, grow, pack_trees

_SHORTEST = 16
_LONG_TREE = 192
"""A tree shorter than this costs less in one row than in two passes."""


@dataclass(frozen=True)
class Stem:
    """Prompts that begin alike.

    Attributes:
        tokens: the tokens that they share; each prompt has at least one more.
        trees: for each prompt, what follows the shared tokens, with its branches.
    """

    tokens: tuple[int, ...]
    trees: list[Tree]

    def __len__(self) -> int:
        return len(self.tokens) + sum(len(tree) for tree in self.trees)


def stem_of(prompts: Sequence[Prompt], tree: Tree) -> Stem | None:
    """Return the prompts as a stem, or None where one row is cheaper.

    Args:
        prompts: of one item.
        tree: all of them merged.
    """
    if len(prompts) < 2 or len(tree) < _LONG_TREE:
        return None
    shared = min(len(prompt.prefix) for prompt in prompts) - 1
    for prompt in prompts[1:]:
        shared = min(shared, common(prompts[0].prefix, prompt.prefix))
    if shared < _SHORTEST:
        return None
    rest = [grow([Prompt(prompt.prefix[shared:], prompt.branches)]) for prompt in prompts]
    stem = Stem(prompts[0].prefix[:shared], rest)
    # where the prompts share a long path after the first difference, the tree computes much less
    return stem if len(stem) <= 1.1 * len(tree) else None


def pack_stems(stems: Sequence[Stem], pad: int = 0) -> tuple[torch.Tensor, torch.Tensor, Packed]:
    """Lay stems out for two passes.

    Returns:
        The shared tokens, (S, R), padded on the right; for each row of the batch the number of its
        stem, (B,); and the batch of what follows, whose mask is (B, 1, L, R + L).
    """
    longest = max(len(stem.tokens) for stem in stems)
    ids = torch.full((len(stems), longest), pad)
    for row, stem in enumerate(stems):
        ids[row, : len(stem.tokens)] = torch.tensor(stem.tokens)
    owner = torch.tensor([number for number, stem in enumerate(stems) for _ in stem.trees])
    packed = pack_trees([tree for stem in stems for tree in stem.trees], pad)
    lengths = torch.tensor([len(stem.tokens) for stem in stems])[owner]
    assert packed.attention_mask is not None
    seen = torch.arange(longest) < lengths.view(-1, 1)  # padding of a stem is nobody's past
    past = seen.view(len(owner), 1, 1, longest).expand(-1, -1, packed.input_ids.shape[1], -1)
    return (
        ids,
        owner,
        replace(
            packed,
            position_ids=packed.position_ids + lengths.view(-1, 1),
            attention_mask=torch.cat([past, packed.attention_mask], dim=3),
        ),
    )
