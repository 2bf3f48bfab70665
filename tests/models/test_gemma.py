"""Gemma 3: scaled embeddings, two kinds of layers with rotary embeddings of their own, tied output weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from labelrel.align.lora import adapter_parameters, add_adapter, load_adapter, save_adapter
from labelrel.config import Lora
from labelrel.errors import ConfigError
from labelrel.models.choice import choice_logprobs
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.load import load_model
from labelrel.models.packing import Prompt, pack
from labelrel.models.reference import parse_reference
from labelrel.models.trunk import TrunkCache

KINDS = ["sliding_attention", "sliding_attention", "full_attention"] * 2
LAYERS = len(KINDS)
WINDOW = 24
VOCAB = 100
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def made() -> Any:
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=WINDOW,
        layer_types=KINDS,
        max_position_embeddings=256,
        # so far apart that a layer with the other kind's angles shows within a few tokens
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
        },
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    return model.requires_grad_(False).eval()


@pytest.fixture
def gemma(made: Any) -> Any:
    """A Gemma 3 of 6 layers, every third of which sees everything; a fresh copy."""
    return copy.deepcopy(made)


def ids(seed: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


PREFIX = ids(0, 9)
PROMPTS = [
    Prompt((*PREFIX, *ids(1, 6)), (ids(2, 3), ids(3, 1), ids(4, 5))),
    Prompt((*PREFIX, *ids(5, 3)), (ids(2, 3), ids(3, 1), ids(4, 5))),
    Prompt(ids(6, 1), (ids(7, 4), (*ids(7, 3), 1))),
    Prompt(ids(8, 12), (ids(9, 2),)),
]
GROUPS = [[0, 1], [2], [3]]


def plain(naive: Any, model: Any, prompts: Sequence[Prompt] = PROMPTS) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([naive(model, p.prefix, branch) for p in prompts for branch in p.branches])


def plain_choices(naive: Any, model: Any) -> list[list[float]]:
    results = []
    for prompt in PROMPTS:
        sums = [float(plain(naive, model, [Prompt(prompt.prefix, (b,))]).double().sum()) for b in prompt.branches]
        total = math.log(math.fsum(math.exp(value) for value in sums))
        results.append([value - total for value in sums])
    return results


def cached(model: Any, top_layers: int, folder: Path, prompts: Sequence[Prompt] = PROMPTS) -> TrunkCache:
    cache = TrunkCache(folder, Trunk(model, top_layers), fingerprint="weights", top_layers=top_layers, dtype="float32")
    cache.fill(prompts)
    return cache


def adapted(model: Any, top_layers: int | None) -> Any:
    """Put an adapter on the model whose second factor is not 0, so that it changes the outputs."""
    wrapped = add_adapter(model, Lora(rank=3, alpha=6.0), top_layers=top_layers, seed=0)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return wrapped.eval()


# --- probabilities -------------------------------------------------------------------------------


def test_the_tiny_model_has_what_makes_gemma_special(gemma: Any, naive_logprobs: Any) -> None:
    assert gemma.lm_head.weight is gemma.model.embed_tokens.weight
    embedded = gemma.model.embed_tokens(torch.tensor([5]))
    torch.testing.assert_close(embedded[0], gemma.lm_head.weight[5] * math.sqrt(32))
    expected = plain(naive_logprobs, gemma)
    assert expected.std() > 0.3  # nats: log-probabilities that are all alike would prove nothing
    gemma.config.layer_types = KINDS[::-1]
    assert (plain(naive_logprobs, gemma) - expected).abs().max() > 0.01  # the kind of a layer matters


def test_packed_branches_score_as_they_do_alone(gemma: Any, naive_logprobs: Any) -> None:
    with torch.inference_mode():
        packed = Decoder(gemma).token_logprobs(PROMPTS, pack(PROMPTS))
    torch.testing.assert_close(packed, plain(naive_logprobs, gemma), atol=1e-5, rtol=0)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_choices_score_as_in_plain_forwards(gemma: Any, naive_logprobs: Any, groups: Any) -> None:
    scored = choice_logprobs(Decoder(gemma), PROMPTS, groups=groups)
    for one, expected in zip(scored, plain_choices(naive_logprobs, gemma), strict=True):
        assert one == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("top_layers", range(1, LAYERS + 1))
def test_every_cut_scores_as_the_whole_model(gemma: Any, naive_logprobs: Any, tmp_path: Path, top_layers: int) -> None:
    decoder = Decoder(gemma, top_layers=top_layers, source=cached(gemma, top_layers, tmp_path))
    with torch.inference_mode():
        tokens = decoder.token_logprobs(PROMPTS, pack(PROMPTS))
    torch.testing.assert_close(tokens, plain(naive_logprobs, gemma), atol=1e-5, rtol=0)
    for one, expected in zip(choice_logprobs(decoder, PROMPTS), plain_choices(naive_logprobs, gemma), strict=True):
        assert one == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("top_layers", range(1, LAYERS + 1))
def test_trunk_gives_the_hidden_states_between_the_layers(gemma: Any, top_layers: int) -> None:
    prompt = Prompt(ids(0, 7), (ids(1, 4),))
    with torch.inference_mode():
        states = gemma(input_ids=torch.tensor([prompt.tokens]), output_hidden_states=True).hidden_states
    trunk = Trunk(gemma, top_layers).run(pack([prompt]))
    torch.testing.assert_close(trunk, states[LAYERS - top_layers], atol=1e-5, rtol=0)


def test_one_option_beyond_the_window_is_scored_with_the_window(
    gemma: Any, naive_logprobs: Any, tmp_path: Path
) -> None:
    long = [Prompt(ids(0, 2 * WINDOW), (ids(1, 3),)), Prompt(ids(2, 5), (ids(3, 2),))]
    expected = plain(naive_logprobs, gemma, long)
    whole, cut = Decoder(gemma), Decoder(gemma, top_layers=2, source=cached(gemma, 2, tmp_path, long))
    with torch.inference_mode():
        for decoder in (whole, cut):
            torch.testing.assert_close(decoder.token_logprobs(long, pack(long)), expected, atol=1e-5, rtol=0)
    gemma.config.sliding_window = 4 * WINDOW
    assert (plain(naive_logprobs, gemma, long) - expected)[:3].abs().max() > 0.01  # the window matters


@pytest.mark.parametrize(("length", "fits"), [(WINDOW - 2, True), (WINDOW - 1, False)])
def test_options_beyond_the_window_are_refused(gemma: Any, naive_logprobs: Any, length: int, fits: bool) -> None:
    prompts = [Prompt(ids(0, length), (ids(1, 2), ids(2, 1)))]
    if not fits:
        with pytest.raises(ConfigError, match=rf"has {WINDOW + 1} tokens, more than .* window of {WINDOW};"):
            Decoder(gemma).token_logprobs(prompts, pack(prompts))
        return
    with torch.inference_mode():
        tokens = Decoder(gemma).token_logprobs(prompts, pack(prompts))
    torch.testing.assert_close(tokens, plain(naive_logprobs, gemma, prompts), atol=1e-5, rtol=0)


# --- the first layers only ---------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 3, 4, 6])
def test_first_layers_of_a_saved_model(
    gemma: Any, tiny_tokenizer: Any, naive_logprobs: Any, quiet_transformers: None, tmp_path: Path, layers: int
) -> None:
    gemma.save_pretrained(tmp_path / "gemma")
    tiny_tokenizer.save_pretrained(tmp_path / "gemma")
    loaded = load_model(parse_reference(f"{tmp_path / 'gemma'}@layers={layers}"))
    assert loaded.num_layers == len(loaded.model.model.layers) == layers
    assert list(loaded.model.config.layer_types) == KINDS[:layers]
    tokens = torch.tensor([ids(0, 12)])
    with torch.inference_mode():
        states = gemma(input_ids=tokens, output_hidden_states=True).hidden_states[layers]
        # the last of them comes after the norm already
        expected = gemma.lm_head(states if layers == LAYERS else gemma.model.norm(states))
        torch.testing.assert_close(loaded.model(input_ids=tokens).logits, expected, atol=1e-5, rtol=0)
        packed = Decoder(loaded.model).token_logprobs(PROMPTS, pack(PROMPTS))
    torch.testing.assert_close(packed, plain(naive_logprobs, loaded.model), atol=1e-5, rtol=0)


# --- adapters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_layers", [2, None])
def test_adapter_sits_on_the_linear_layers_of_the_top_only(gemma: Any, top_layers: int | None) -> None:
    model = adapted(gemma, top_layers)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    places = {tuple(name.split(".layers.")[1].split(".lora_")[0].split(".")) for name in names}
    first = 0 if top_layers is None else LAYERS - top_layers
    assert {int(layer) for layer, *_ in places} == set(range(first, LAYERS))
    assert {name for *_, name in places} == LINEAR  # neither norms nor the tied embeddings
    assert len(names) == len(adapter_parameters(model)) == 2 * len(LINEAR) * (LAYERS - first)


def test_adapter_scores_and_learns_alike_on_the_cache(gemma: Any, naive_logprobs: Any, tmp_path: Path) -> None:
    before = plain(naive_logprobs, gemma)
    cache = cached(gemma, 2, tmp_path)
    model = adapted(gemma, 2)
    gradients = []
    scores = (
        Decoder(model, top_layers=2, source=cache).token_logprobs(PROMPTS, pack(PROMPTS)),
        torch.cat([naive_logprobs(model, p.prefix, branch) for p in PROMPTS for branch in p.branches]),
    )
    for score in scores:
        model.zero_grad()
        score.mean().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad})
    assert (scores[1] - before).abs().max() > 0.1  # the adapter does something
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=0)
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, atol=1e-5, rtol=0, msg=name)
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


def test_adapter_comes_back_as_it_was_saved(gemma: Any, made: Any, tmp_path: Path) -> None:
    model = adapted(gemma, 2)
    save_adapter(model, tmp_path, base="gemma3-270m")
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert len(stored) == 2 * len(LINEAR) * 2
    assert not any("embed" in name or "lm_head" in name for name in stored)
    again = load_adapter(copy.deepcopy(made), tmp_path)
    tokens = torch.tensor([ids(0, 12)])
    with torch.inference_mode():
        assert torch.equal(again(input_ids=tokens).logits, model(input_ids=tokens).logits)
        assert not torch.allclose(again(input_ids=tokens).logits, made(input_ids=tokens).logits, atol=0.01)
