"""Decoders of every family: cut, packed and adapted they give what the plain model gives."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from labelrel.align.lora import add_adapter, load_adapter, save_adapter
from labelrel.config import Lora
from labelrel.errors import ConfigError
from labelrel.models.choice import choice_logprobs
from labelrel.models.decoder import Decoder, Trunk, num_decoder_layers, trunk_problem
from labelrel.models.families import TESTED, find_layout, view_layers
from labelrel.models.packing import Prompt, pack
from labelrel.models.trunk import TrunkCache

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
HEADS = {"head_dim": 8}
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "llama": ({}, LINEAR),
    "gemma3_text": ({**HEADS, "query_pre_attn_scalar": 8, "layer_types": KINDS, "sliding_window": 32}, LINEAR),
    "qwen3": (HEADS, LINEAR),
    "gpt_neox": ({}, {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    "gpt2": ({}, {"c_attn", "c_proj", "c_fc"}),
    "mistral": ({}, LINEAR),
    "qwen2": ({}, LINEAR),
    "olmo": ({}, LINEAR),
    "olmo2": ({}, LINEAR),
    "phi": ({}, {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"}),
    "phi3": ({}, {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
}
UNLISTED: dict[str, dict[str, Any]] = {
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64},
    "falcon": {},
    "mixtral": {"num_local_experts": 4},
    "gptj": {"rotary_dim": 4},
}
"""Families that no list names: that they can be cut is found out."""
PER_LAYER = {**HEADS, "vocab_size_per_layer_input": 300, "hidden_size_per_layer_input": 8}
ATTENTION = {"gptj": "eager", "bloom": "eager"}


def build(family: str, **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**SHAPE, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attention = ATTENTION.get(family, "sdpa")
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # which start at 0, where a forgotten one would not show
                parameter.data = torch.randn(parameter.shape) * 0.1
    return model.requires_grad_(False).eval()


_made: dict[str, Any] = {}


@pytest.fixture
def make() -> Callable[[str], Any]:
    """Return a maker of fresh tiny models by family."""

    def fresh(family: str) -> Any:
        if family not in _made:
            settings = {**FAMILIES.get(family, ({},))[0], **UNLISTED.get(family, {})}
            _made[family] = build(family, **settings)
        return copy.deepcopy(_made[family])

    return fresh


def adapted(model: Any, top_layers: int | None, variant: str = "lora") -> Any:
    """Put an adapter on the model whose second factor is not 0, so that all its gradients speak."""
    lora = Lora.model_validate({"rank": 3, "alpha": 6.0, "variant": variant})
    wrapped = add_adapter(model, lora, top_layers=top_layers, seed=0)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return wrapped


def on_cache(folder: Path, base: Any, top_layers: int, prompts: list[Prompt]) -> TrunkCache:
    trunk = Trunk(base, top_layers)
    cache = TrunkCache(folder, trunk, fingerprint="weights", top_layers=top_layers, dtype="float32")
    cache.fill(prompts)
    return cache


def alone(naive: Any, model: Any, prompts: list[Prompt]) -> torch.Tensor:
    return torch.cat([naive(model, prompt.prefix, branch) for prompt in prompts for branch in prompt.branches])


def gradients(model: Any, logprobs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a mean in which every log-probability counts differently, so that none can stand for another."""
    model.zero_grad()
    (logprobs * torch.linspace(0.5, 1.5, len(logprobs))).mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def same_as_plain(model: Any, decoder: Decoder, prompts: list[Prompt], naive: Any) -> dict[str, torch.Tensor]:
    """Compare log-probabilities and gradients with plain forwards, and return the gradients."""
    logprobs, expected = decoder.token_logprobs(prompts, pack(prompts)), alone(naive, model, prompts)
    assert expected.detach().std() > 0.3  # nats: log-probabilities that are all alike would prove nothing
    torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=0)
    found, wanted = gradients(model, logprobs), gradients(model, expected)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5, msg=name)
    return wanted


@pytest.mark.parametrize("top_layers", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_gradients_on_the_cache_are_those_of_the_plain_model(
    make: Any, tiny_prompts: list[Prompt], naive_logprobs: Any, tmp_path: Path, family: str, top_layers: int
) -> None:
    base = make(family)
    before = alone(naive_logprobs, base, tiny_prompts)
    cache = on_cache(tmp_path, base, top_layers, tiny_prompts)
    fresh = Decoder(base, top_layers=top_layers, source=cache)
    torch.testing.assert_close(fresh.token_logprobs(tiny_prompts, pack(tiny_prompts)), before, atol=1e-5, rtol=0)
    model = adapted(base, top_layers)
    decoder = Decoder(model, top_layers=top_layers, source=cache)
    found = same_as_plain(model, decoder, tiny_prompts, naive_logprobs)
    assert (alone(naive_logprobs, model, tiny_prompts) - before).abs().max() > 0.05  # the adapter does something
    places = {tuple(name.split(".lora_")[0].rsplit(".", 1)) for name in found}
    layers, linear = find_layout(base.get_decoder()).layers, FAMILIES[family][1]  # type: ignore[union-attr]
    assert {int(parent.split(f".{layers}.")[1].split(".")[0]) for parent, _ in places} == set(range(3 - top_layers, 3))
    assert {name for _, name in places} == linear
    assert all(gradient.abs().max() > 1e-5 for gradient in found.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_model_scores_and_learns_as_the_plain_one(
    make: Any, tiny_prompts: list[Prompt], naive_logprobs: Any, family: str
) -> None:
    model = adapted(make(family), None)
    same_as_plain(model, Decoder(model), tiny_prompts, naive_logprobs)


@pytest.mark.parametrize("variant", ["dora", "rslora"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_other_adapters_learn_on_the_cache_as_without(
    make: Any, tiny_prompts: list[Prompt], naive_logprobs: Any, tmp_path: Path, family: str, variant: str
) -> None:
    base = make(family)
    cache = on_cache(tmp_path, base, 2, tiny_prompts)
    model = adapted(base, 2, variant)
    found = same_as_plain(model, Decoder(model, top_layers=2, source=cache), tiny_prompts, naive_logprobs)
    assert any("magnitude" in name for name in found) == (variant == "dora")


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_of_the_embeddings_is_not_applied_between_layers(make: Any, family: str) -> None:
    """Training switches dropout on; what the trunk has computed went through that of the embeddings already."""
    decoder = make(family).get_decoder()
    for module in decoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.99
    view = view_layers(decoder, 3, 3, from_tokens=False, final_norm=False).train()
    states = torch.randn(1, 5, 32)
    assert torch.equal(view(inputs_embeds=states, use_cache=False).last_hidden_state, states)


def test_tested_families_are_those_that_are_not_probed() -> None:
    assert set(FAMILIES) == TESTED


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_said_of_tested_families_is_what_a_probe_finds(
    make: Any, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr("labelrel.models.decoder.TESTED", frozenset())
    assert trunk_problem(make(family)) is None
    Decoder(make(family))


@pytest.mark.parametrize("family", UNLISTED)
def test_unlisted_family_is_cut_where_a_probe_finds_it_can_be(
    make: Any, tiny_prompts: list[Prompt], naive_logprobs: Any, tmp_path: Path, family: str
) -> None:
    base = make(family).train()
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert trunk_problem(base) is None
    assert all(module.training for module in base.modules())  # as it was, and the probe was not misled by dropout
    base.eval()
    model = adapted(base, 2)
    decoder = Decoder(model, top_layers=2, source=on_cache(tmp_path, base, 2, tiny_prompts))
    same_as_plain(model, decoder, tiny_prompts, naive_logprobs)


# --- where a cache cannot be used --------------------------------------------------------------------


def bloom() -> Any:
    """A model that knows distances but no positions, and takes no mask of its own."""
    return build("bloom")


def per_layer() -> Any:
    """A model whose layers each read the tokens again."""
    return build("gemma4_text", **PER_LAYER, final_logit_softcapping=None)


def recurrent() -> Any:
    """A model with layers in which each token leaves its trace to whatever comes after it in the row."""
    return build("lfm2", layer_types=["conv", "full_attention", "conv"])


@pytest.mark.parametrize(
    ("maker", "reason"),
    [
        (bloom, "BloomForCausalLM cannot take several options in one row"),
        (per_layer, "the layers of Gemma4ForCausalLM read more than the states that the layer below hands on"),
        (recurrent, "Lfm2ForCausalLM cannot take several options in one row"),
    ],
)
def test_model_that_cannot_be_cut_says_why_and_runs_whole(
    maker: Callable[[], Any], reason: str, tiny_prompts: list[Prompt], naive_logprobs: Any
) -> None:
    base = maker()
    assert trunk_problem(base) == reason
    with pytest.raises(ConfigError, match=f"the trunk cache cannot be used: {reason}; set top_layers to null"):
        Trunk(base, 1)
    model = adapted(base, 1)  # the layers can still be counted
    assert trunk_problem(model) == reason
    same_as_plain(model, Decoder(model), tiny_prompts, naive_logprobs)


def test_choices_of_a_model_that_ignores_masks_score_as_they_do_alone(
    tiny_prompts: list[Prompt], naive_logprobs: Any
) -> None:
    model = bloom()
    long = tuple(range(100, 300))  # long enough for a beginning that is computed once
    prompts = [*tiny_prompts, *(Prompt((*long, end), ((1, 2), (3,))) for end in (5, 6, 7))]
    groups = [[0], [1], [2], [3], [4, 5, 6]]
    assert Decoder(model).past(torch.tensor([long]), torch.zeros(3, dtype=torch.int64)) is None  # no pass for nothing
    scored = choice_logprobs(Decoder(model), prompts, groups=groups)
    for prompt, one in zip(prompts, scored, strict=True):
        sums = torch.stack([naive_logprobs(model, prompt.prefix, branch).sum() for branch in prompt.branches])
        assert one == pytest.approx(torch.log_softmax(sums.double(), dim=0).tolist(), abs=5e-5)


def test_model_without_a_layer_list_trains_whole(tiny_prompts: list[Prompt], naive_logprobs: Any) -> None:
    base = build("llama")
    decoder = base.get_decoder()
    decoder.layers = torch.nn.ModuleList([*decoder.layers, torch.nn.Identity()])  # what is a layer is not plain
    assert trunk_problem(base) == "LlamaForCausalLM has no plain layer list"
    with pytest.raises(ConfigError, match="LlamaForCausalLM has no plain layer list to cut; set top_layers to null"):
        num_decoder_layers(base)
    with pytest.raises(ConfigError, match="set top_layers to null to train all layers"):
        add_adapter(base, Lora(rank=3), top_layers=2, seed=0)
    model = adapted(base, None)
    assert len(same_as_plain(model, Decoder(model), tiny_prompts, naive_logprobs)) == 3 * 7 * 2


def test_logits_that_are_not_the_output_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="type 'cohere' are not supported: their config sets logit_scale"):
        Decoder(build("cohere"))
    scaled = build("cohere")
    scaled.config.logit_scale = None  # hidden where the settings do not show it
    with pytest.raises(ConfigError, match="type 'cohere' are not supported: their logits are not the output layer's"):
        Decoder(scaled)


# --- views -------------------------------------------------------------------------------------------


def test_view_shares_weights_and_leaves_the_model_whole(make: Any) -> None:
    decoder = make("gpt2").get_decoder()
    before = dict(decoder.named_modules())
    view = view_layers(decoder, 1, 3, from_tokens=False, final_norm=False)
    assert list(view.h) == list(decoder.h)[1:3]
    assert view.config.num_hidden_layers == 2
    assert dict(decoder.named_modules()) == before
    assert decoder.config.num_hidden_layers == 3


def test_view_keeps_the_kind_of_each_layer(make: Any) -> None:
    decoder = make("gemma3_text").get_decoder()
    view = view_layers(decoder, 1, 3, from_tokens=False, final_norm=True)
    assert list(view.config.layer_types) == KINDS[1:3]
    assert list(decoder.config.layer_types) == KINDS


# --- adapters on disk --------------------------------------------------------------------------------


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model.eval()(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits
    return result


@pytest.mark.parametrize("top_layers", [2, None])
@pytest.mark.parametrize("variant", ["lora", "dora", "rslora"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_saved_adapter_loads_anywhere_with_the_same_logits(
    make: Any, tmp_path: Path, family: str, variant: str, top_layers: int | None
) -> None:
    from peft import PeftModel

    model = adapted(make(family), top_layers, variant)
    expected = logits(model)
    assert (expected - logits(make(family))).abs().max() > 0.05
    save_adapter(model, tmp_path, base="some-model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers will drop
        by_peft = PeftModel.from_pretrained(make(family), tmp_path)
        by_transformers = make(family)
        by_transformers.load_adapter(str(tmp_path))
    assert torch.equal(logits(by_peft), expected)
    assert torch.equal(logits(by_transformers), expected)
    assert torch.equal(logits(load_adapter(make(family), tmp_path)), expected)
