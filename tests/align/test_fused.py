"""One matrix product instead of peft's four: the same function, the same gradients, where it may be used."""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from labelrel.align.fused import fuse
from labelrel.align.lora import add_adapter, remove_adapter
from labelrel.config import Lora

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*lora_bias=True.*")
IDS = torch.arange(120).reshape(3, 40)


def wrapped(model: Any, **changes: Any) -> Any:
    """Return the model with an adapter that says something, as peft runs it."""
    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6.0, target_modules=["q_proj", "down_proj"], **changes)
    torch.manual_seed(0)
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1
    return model.train()


def learn(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logits = model(input_ids=IDS).logits
    model.zero_grad()
    logits.float().log_softmax(-1)[..., 7].mean().backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # qwen2 has biases
@pytest.mark.parametrize(
    "changes", [{}, {"use_rslora": True}, {"layers_to_transform": [2, 3], "layers_pattern": "layers"}]
)
def test_logits_and_gradients_are_those_of_peft(make_model, family, changes):
    model = wrapped(make_model(family), **changes)
    expected = learn(model)
    assert fuse(model) > 0
    found = learn(model)
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert len(found[1]) == len(expected[1]) > 0
    for ours, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert max(float(g.abs().max()) for g in expected[1]) > 1e-3


def test_gradients_by_finite_differences():
    """The function itself, in double precision."""
    from labelrel.align.fused import _LowRankLinear

    generator = torch.Generator().manual_seed(1)
    x, w, a, b = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 5, 4), (3, 4), (2, 4), (3, 2))
    )
    leaves = [t.requires_grad_(True) for t in (x, a, b)]
    assert torch.autograd.gradcheck(lambda x, a, b: _LowRankLinear.apply(x, w, a, b, 0.7), leaves)


@pytest.mark.parametrize(
    "changes", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}], ids=["dropout", "dora", "bias"]
)
def test_what_is_more_than_a_product_is_left_to_peft(make_model, changes):
    assert fuse(wrapped(make_model(), **changes)) == 0


def test_half_precision_weights_are_left_to_peft(make_model):
    assert fuse(wrapped(make_model().bfloat16())) == 0  # peft keeps the adapter in float32 then


def test_a_few_tokens_go_through_peft(make_model, monkeypatch):
    """Where text is written token by token, adding up the matrices would be most of the work."""
    model = wrapped(make_model()).eval()
    fuse(model)
    asked = []
    monkeypatch.setattr("labelrel.align.fused._LowRankLinear.apply", lambda *given: asked.append(len(given[0])))
    model(input_ids=IDS[:1, :4])
    assert asked == []


def test_a_disabled_or_merged_adapter_is_off(make_model):
    model = wrapped(make_model()).eval()
    plain = make_model()(input_ids=IDS).logits
    fuse(model)
    with model.disable_adapter():
        assert torch.equal(model(input_ids=IDS).logits, plain)
    adapted = model(input_ids=IDS).logits.detach()
    model.merge_adapter()
    torch.testing.assert_close(model(input_ids=IDS).logits.detach(), adapted, atol=1e-5, rtol=1e-5)


def test_a_copy_has_its_own_weights(make_model):
    model = wrapped(make_model())
    fuse(model)
    other = copy.deepcopy(model)
    before = model(input_ids=IDS).logits.detach()
    for name, parameter in other.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    assert torch.equal(model(input_ids=IDS).logits.detach(), before)
    torch.testing.assert_close(other(input_ids=IDS).logits.detach(), make_model()(input_ids=IDS).logits)


def test_our_adapters_are_fused_and_can_be_taken_off(make_model):
    model = add_adapter(make_model(), Lora(rank=2, alpha=4.0), top_layers=2, seed=0)
    layers = [m for m in model.modules() if hasattr(m, "lora_A")]
    assert layers
    assert all(isinstance(m.forward, MethodType) and m.forward.__func__.__module__ == fuse.__module__ for m in layers)
    assert torch.equal(remove_adapter(model)(input_ids=IDS).logits, make_model()(input_ids=IDS).logits)
