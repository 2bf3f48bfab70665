"""Choices scored as continuations, against one plain forward per choice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from labelrel.errors import InputError
from labelrel.models.choice import choice_logprobs, tokenize
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.packing import Prompt
from labelrel.models.trunk import TrunkCache


def expected_logprobs(naive: Any, model: Any, prompt: Prompt) -> list[float]:
    with torch.inference_mode():
        sums = [float(naive(model, prompt.prefix, branch).double().sum()) for branch in prompt.branches]
    total = math.log(math.fsum(math.exp(value) for value in sums))
    return [value - total for value in sums]


@pytest.mark.parametrize("batch_tokens", [1, 20, 1024])
def test_choices_score_as_in_plain_forwards_in_the_order_given(
    tiny_model: Any,
    tiny_prompts: list[Prompt],
    naive_logprobs: Any,
    monkeypatch: pytest.MonkeyPatch,
    batch_tokens: int,
) -> None:
    monkeypatch.setattr("labelrel.models.choice.token_budget", lambda device, model: batch_tokens)
    prompts = [*tiny_prompts, *tiny_prompts[:2]]  # neither sorted by length nor all different
    scored = choice_logprobs(Decoder(tiny_model), prompts)
    for prompt, logprobs in zip(prompts, scored, strict=True):
        assert logprobs == pytest.approx(expected_logprobs(naive_logprobs, tiny_model, prompt), abs=5e-5)


@pytest.mark.parametrize("batch_tokens", [1, 40, 1024])
def test_prompts_of_a_group_score_as_by_themselves(
    tiny_model: Any, naive_logprobs: Any, monkeypatch: pytest.MonkeyPatch, batch_tokens: int
) -> None:
    """Groups of different sizes, not in order, with members from all over."""
    monkeypatch.setattr("labelrel.models.choice.token_budget", lambda device, model: batch_tokens)
    stems = [(1, 2, 3, 4), (5, 6), (1, 2, 9)]
    prompts = [Prompt((*stems[n % 3], 10 + n // 3), ((20 + n, 21), (22,), (20 + n, 23))) for n in range(8)]
    scored = choice_logprobs(Decoder(tiny_model), prompts, groups=[[7, 4, 1], [0], [5, 2], [3, 6]])
    for prompt, logprobs in zip(prompts, scored, strict=True):
        assert logprobs == pytest.approx(expected_logprobs(naive_logprobs, tiny_model, prompt), abs=5e-5)


def test_prompts_of_a_group_share_their_tokens(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    plain = Decoder.token_logprobs

    def note(self: Decoder, prompts: Any, packed: Any, past: Any = None) -> Any:
        seen.append(tuple(packed.input_ids.shape))
        return plain(self, prompts, packed, past)

    monkeypatch.setattr(Decoder, "token_logprobs", note)
    prompts = [Prompt((*range(10), n), ((20,), (21,))) for n in range(5)]
    choice_logprobs(Decoder(tiny_model), prompts, groups=[range(5)])
    choice_logprobs(Decoder(tiny_model), prompts)
    assert seen == [(1, 15), (5, 11)]  # 10 shared tokens and 5 of their own, against 5 times 11


def test_choices_are_normalised_over_the_choices(tiny_model: Any, tiny_prompts: list[Prompt]) -> None:
    for logprobs in choice_logprobs(Decoder(tiny_model), tiny_prompts):
        assert math.fsum(math.exp(value) for value in logprobs) == pytest.approx(1, abs=1e-12)


def test_choices_score_the_same_on_the_trunk_cache(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> None:
    cache = TrunkCache(tmp_path, Trunk(tiny_model, 2), fingerprint="weights", top_layers=2, dtype="float32")
    cache.fill(tiny_prompts)
    plain = choice_logprobs(Decoder(tiny_model), tiny_prompts)
    for groups in (None, [[3, 0], [1, 2]]):  # which a cache of single prompts cannot use, and need not
        cached = choice_logprobs(Decoder(tiny_model, top_layers=2, source=cache), tiny_prompts, groups=groups)
        for one, other in zip(cached, plain, strict=True):
            assert one == pytest.approx(other, abs=5e-5)


def test_progress_counts_prompts_to_the_end(
    tiny_model: Any, tiny_prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelrel.models.choice.token_budget", lambda device, model: 1)
    told: list[tuple[int, int]] = []
    choice_logprobs(Decoder(tiny_model), tiny_prompts, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    told.clear()
    grouped = [[0, 1, 2], [3]]  # the smaller one first
    choice_logprobs(Decoder(tiny_model), tiny_prompts, lambda done, total: told.append((done, total)), groups=grouped)
    assert told == [(1, 4), (4, 4)]


def test_no_prompts_score_to_nothing(tiny_model: Any) -> None:
    assert choice_logprobs(Decoder(tiny_model), []) == []


def test_tokenize_keeps_prompts_and_continuations_apart(tiny_tokenizer: Any) -> None:
    texts = [("Q: a?\nA:", [" red", " green"]), ("B:", [" c"])]
    prompts = tokenize(tiny_tokenizer, texts)
    for prompt, (text, continuations) in zip(prompts, texts, strict=True):
        assert tiny_tokenizer.decode(prompt.prefix) == text
        assert [tiny_tokenizer.decode(branch) for branch in prompt.branches] == continuations


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (("", [" a"]), "an empty prompt cannot be scored; the prompt is ''"),
        (("Q:", [" a", ""]), r"an empty continuation \(one of \[' a', ''\]\) cannot be scored; the prompt is 'Q:'"),
    ],
)
def test_tokenize_refuses_what_has_no_token(tiny_tokenizer: Any, text: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        tokenize(tiny_tokenizer, [("A:", [" b"]), text])


def test_tokenize_adds_special_tokens_to_prompts_only() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "b": 2, "?": 3}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="?")
    assert tokenize(tokenizer, [("a b", [" a", " b b"])]) == [Prompt((0, 1, 2), ((1,), (2, 2)))]
