"""The gradient of a step, for losses that compare options and for those that must see the whole step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from labelrel.align.objective import Criterion, Example, Objective
from labelrel.errors import InputError
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.packing import Prompt
from labelrel.models.trunk import TrunkCache

EXAMPLES = [
    Example(Prompt((1, 2, 3), ((4, 5), (6,), (7, 8, 9))), 2.0, (0.0, 1.0, 0.0), "a"),
    Example(Prompt((9, 8), ((10,), (11, 12))), 0.5, (0.3, 0.7), "b"),
    Example(Prompt((11, 12, 13, 14, 15), ((18, 19), (20, 21), (22,))), 1.0, (1.0, 0.0, 0.0), "c"),
    Example(Prompt((20, 21), ((22, 23), (24,), (25,))), 0.0, (0.0, 0.0, 1.0), "d"),
    Example(Prompt((25, 26, 27), ((28,), (29,), (30, 31))), 1.5, (0.1, 0.2, 0.7), "e"),
]
TARGETS = [Example(Prompt(e.prompt.prefix, e.prompt.branches[-1:]), e.weight, None, e.item_id) for e in EXAMPLES]
STEP = [4, 0, 1, 2, 3]

OPTION_LOSSES = ["option_cross_entropy", "option_ranking", "confidence", "reverse_kl", "forward_correction"]


def gradient(model: Any) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def naive(model: Any, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the gradient of the weighted mean, each option in a forward pass of its own."""
    total = sum(e.weight for e in EXAMPLES)
    loss = torch.zeros(())
    for example in EXAMPLES:
        scores = []
        for branch in example.prompt.branches:
            ids = torch.tensor([[*example.prompt.prefix, *branch]])
            logits = torch.log_softmax(model(input_ids=ids).logits[0], -1)
            start = len(example.prompt.prefix) - 1
            scores.append(torch.stack([logits[start + n, token] for n, token in enumerate(branch)]).sum())
        f = torch.stack(scores).log_softmax(0)
        loss = loss + example.weight / total * function(f, torch.tensor(example.targets))
    loss.backward()
    return gradient(model)


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return tiny_model.requires_grad_(True)


@pytest.mark.parametrize("micro_tokens", [1, 30, 4096])
def test_options_are_scored_as_each_alone(model, monkeypatch, micro_tokens):
    monkeypatch.setattr("labelrel.align.objective.MICRO_TOKENS", micro_tokens)
    expected = naive(model, lambda f, q: -(q * f).sum())
    loss = Objective(Decoder(model), EXAMPLES, Criterion.named("option_cross_entropy")).backward(STEP, 0.5)
    torch.testing.assert_close(gradient(model), expected, atol=1e-5, rtol=1e-5)
    assert loss > 0.5


@pytest.mark.parametrize("name", [*OPTION_LOSSES, "small_loss", "cross_entropy"])
def test_a_step_in_parts_is_the_step_in_one(model, monkeypatch, name):
    """Also where the loss must know the whole step: a quantile, or the smallest losses."""
    found = []
    examples = EXAMPLES if name in OPTION_LOSSES else TARGETS
    for micro_tokens in (4096, 14):
        monkeypatch.setattr("labelrel.align.objective.MICRO_TOKENS", micro_tokens)
        loss = Objective(Decoder(model), examples, Criterion.named(name)).backward(STEP, 0.5)
        found.append((loss, gradient(model)))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-5, rtol=1e-4)
    assert found[0][1].abs().max() > 1e-3


@pytest.mark.parametrize("name", OPTION_LOSSES)
def test_options_learn_from_the_trunk_cache_as_well(make_model, tmp_path, name):
    found = []
    for cached in (False, True):
        model = make_model()
        for layer in model.model.layers[2:]:
            layer.requires_grad_(True)
        source = TrunkCache(tmp_path, Trunk(model, 2), fingerprint="w", top_layers=2, dtype="float32")
        source.fill([example.prompt for example in EXAMPLES])
        decoder = Decoder(model, top_layers=2, source=source) if cached else Decoder(model)
        Objective(decoder, EXAMPLES, Criterion.named(name)).backward(STEP, 0.5)
        found.append(gradient(model))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


def test_the_papers_weighting_is_the_mean_over_all_positions(model):
    """Weights as they are; every padded position counts in the mean."""
    longest = max(len(e.prompt) for e in TARGETS)
    expected = torch.zeros(())
    for example in TARGETS:
        ids = torch.tensor([example.prompt.tokens])
        labels = ids.clone()
        labels[:, : len(example.prompt.prefix)] = -100
        tokens = len(example.prompt.branches[0])
        expected = expected + example.weight * model(input_ids=ids, labels=labels).loss * tokens
    expected = expected / (len(TARGETS) * (longest - 1))
    expected.backward()
    wanted = gradient(model)
    loss = Objective(Decoder(model), TARGETS, Criterion.named("cross_entropy", protocol="paper")).backward(STEP, 0.0)
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(gradient(model), wanted, atol=1e-6, rtol=1e-5)


def test_tokens_are_counted(model):
    objective = Objective(Decoder(model), EXAMPLES, Criterion.named("option_cross_entropy"))
    objective.backward([0, 1], 0.0)
    assert objective.num_tokens == len(EXAMPLES[0].prompt) + len(EXAMPLES[1].prompt)


@pytest.mark.parametrize("name", ["cross_entropy", "small_loss"])
def test_a_loss_that_is_no_number_names_its_items(model, name):
    with torch.no_grad():
        model.get_output_embeddings().weight[28] = float("inf")  # the target of item x alone
    examples = [*TARGETS, Example(Prompt((1, 2), ((28,),)), 1.0, None, "x")]
    with pytest.raises(InputError, match=r"the loss is no finite number on"):
        Objective(Decoder(model), examples, Criterion.named(name)).backward([0, 5], 0.0)
