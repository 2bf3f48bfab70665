"""Shared beginnings in a pass of their own: the same numbers, and only where it pays."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from labelrel.models import stem as module
from labelrel.models.choice import choice_logprobs
from labelrel.models.decoder import Decoder
from labelrel.models.packing import Prompt
from labelrel.models.stem import pack_stems, stem_of
from labelrel.models.tree import grow

VOCABULARY = 60


def ids(seed: str, number: int) -> tuple[int, ...]:
    draws = random.Random(seed)
    return tuple(draws.randrange(VOCABULARY) for _ in range(number))


def wordings(item: str, shared: int, count: int = 3) -> list[Prompt]:
    """Prompts that share their first tokens; the first has hardly any of its own, branches differ in length."""
    beginning = ids(item, shared)
    return [
        Prompt(
            beginning + ids(f"{item} {n}", n + (shared == 0)),
            tuple(ids(f"{item} {n} {k}", 1 + (n + k) % 4) for k in range(3)),
        )
        for n in range(count)
    ]


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stems for short texts too."""
    monkeypatch.setattr(module, "_SHORTEST", 2)
    monkeypatch.setattr(module, "_LONG_TREE", 0)


def test_stems_give_the_plain_log_probabilities(everywhere: None, family_model: Any, naive_logprobs: Any) -> None:
    items = [wordings("one", 9), wordings("two", 5, 2), wordings("three", 12, 4)]
    prompts = [prompt for item in items for prompt in item]
    groups = [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    stems = [stem_of(item, grow(item)) for item in items]
    assert None not in stems
    found = choice_logprobs(Decoder(family_model), prompts, groups=groups)
    for prompt, logprobs in zip(prompts, found, strict=True):
        with torch.inference_mode():
            sums = torch.stack([naive_logprobs(family_model, prompt.prefix, b).sum() for b in prompt.branches])
        assert logprobs == pytest.approx(torch.log_softmax(sums.double(), 0).tolist(), abs=5e-5)


def test_items_with_and_without_a_stem_in_one_call(everywhere: None, tiny_model: Any) -> None:
    prompts = [*wordings("one", 8), *wordings("two", 0)]
    decoder = Decoder(tiny_model)
    together = choice_logprobs(decoder, prompts, groups=[[0, 1, 2], [3, 4, 5]])
    alone = choice_logprobs(decoder, prompts)
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=5e-5)


def test_the_shared_tokens_are_as_many_as_can_be(everywhere: None) -> None:
    item = wordings("one", 9)
    stem = stem_of(item, grow(item))
    assert stem is not None
    # the first prompt ends where the others go on, and one token has to be its own
    assert stem.tokens == item[0].prefix[:-1]
    assert len(stem) == 8 + sum(len(tree) for tree in stem.trees)


@pytest.mark.parametrize(
    ("prompts", "why"),
    [
        (wordings("one", 40, 1), "one prompt shares with nobody"),
        (wordings("one", 40), "short trees are cheaper in one row"),
        ([Prompt(ids(f"p{n}", 90), (ids("b", 3), ids("c", 3))) for n in range(3)], "nothing is shared"),
        (
            [Prompt(ids("p", 16) + (n,) * (n > 0) + ids("q", 90), (ids(f"b{n}", 9),)) for n in (0, 1, 1, 1)],
            "most of what they share comes after the first difference",
        ),
    ],
)
def test_where_one_row_is_cheaper_there_is_no_stem(prompts: list[Prompt], why: str) -> None:
    assert stem_of(prompts, grow(prompts)) is None, why


def test_long_items_get_a_stem_by_themselves() -> None:
    item = [Prompt(ids("p", 60) + ids(f"q{n}", 3), tuple(ids(f"{n}{k}", 25) for k in range(4))) for n in range(5)]
    stem = stem_of(item, grow(item))
    assert stem is not None
    assert len(stem.tokens) == 60


def test_padding_of_a_stem_is_nobodys_past(everywhere: None) -> None:
    items = [wordings("one", 9), wordings("two", 5)]
    stems = [stem_of(item, grow(item)) for item in items]
    tokens, owner, packed = pack_stems([stem for stem in stems if stem is not None])
    assert owner.tolist() == [0, 0, 0, 1, 1, 1]
    assert tokens.shape == (2, 8)
    assert packed.attention_mask is not None
    past = packed.attention_mask[:, 0, :, :8]
    assert past[:3].all()
    assert past[3:, :, :4].all()
    assert not past[3:, :, 4:].any()
    assert packed.position_ids[:, 0].tolist() == [8, 8, 8, 4, 4, 4]
