"""The training loop: what a step learns, what it leaves alone, and that a seed repeats it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from labelrel.align.lora import adapter_parameters, add_adapter
from labelrel.align.objective import Example
from labelrel.align.train import Step, Trained, train
from labelrel.config import Lora
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.packing import Prompt
from labelrel.models.trunk import TrunkCache

EXAMPLES = [
    Example(Prompt((1, 2, 3), ((4, 5, 6, 7, 8),)), 2.0),
    Example(Prompt((9,), ((10,),)), 0.0),
    Example(Prompt((11, 12, 13, 14, 15, 16, 17), ((18, 19),)), 0.5),
    Example(Prompt((20, 21), ((22, 23, 24),)), 1.0),
    Example(Prompt((25, 26, 27), ((28,),)), 3.5),
    Example(Prompt((29, 30), ((31, 32),)), 1.0),
]


def adapted(model: Any, *, dropout: float = 0.0, top_layers: int | None = 2) -> Any:
    """Put an adapter on the model whose second factor is not 0, so that all its gradients speak."""
    wrapped = add_adapter(model, Lora(rank=3, alpha=6.0, dropout=dropout), top_layers=top_layers, seed=0)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return wrapped


def run(model: Any, examples: list[Example] = EXAMPLES, **changes: Any) -> Trained:
    settings: dict[str, Any] = {"steps": 2, "batch_size": 3, "learning_rate": 1e-2, "seed": 0, **changes}
    return train(model, settings.pop("decoder", None) or Decoder(model), examples, **settings)


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The gradient of every optimiser step as the loop had it before clipping."""
    taken: list[torch.Tensor] = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters: list[torch.nn.Parameter], norm: float) -> torch.Tensor:
        taken.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        return clip(parameters, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    return taken


def naive_gradient(model: Any, examples: list[Example]) -> torch.Tensor:
    """Return the gradient of `sum_i w_i CE_i / sum_i w_i`, by the loss that transformers computes."""
    model.zero_grad()
    total = sum(example.weight for example in examples)
    for example in examples:
        ids = torch.tensor([example.prompt.tokens])
        labels = ids.clone()
        labels[:, : len(example.prompt.prefix)] = -100
        (example.weight / total * model(input_ids=ids, labels=labels).loss).backward()
    found = torch.cat([p.grad.flatten() for p in adapter_parameters(model)])
    model.zero_grad()
    return found


@pytest.mark.parametrize("micro_tokens", [1, 20, 4096])
def test_step_over_the_whole_set_has_the_gradient_of_the_weighted_mean(
    tiny_model: Any, gradients: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch, micro_tokens: int
) -> None:
    monkeypatch.setattr("labelrel.align.objective.MICRO_TOKENS", micro_tokens)
    model = adapted(tiny_model)
    expected = naive_gradient(model, EXAMPLES)
    assert expected.abs().max() > 0.1
    run(model, steps=1, batch_size=len(EXAMPLES))
    torch.testing.assert_close(gradients[0], expected, atol=1e-5, rtol=1e-5)


def test_cached_trunk_trains_as_all_layers_from_token_ids(
    make_model: Callable[..., Any], gradients: list[torch.Tensor], tmp_path: Path
) -> None:
    plain = run(adapted(make_model()))
    base = make_model()
    cache = TrunkCache(tmp_path, Trunk(base, 2), fingerprint="weights", top_layers=2, dtype="float32")
    cache.fill([example.prompt for example in EXAMPLES])
    model = adapted(base)
    cached = run(model, decoder=Decoder(model, top_layers=2, source=cache))
    torch.testing.assert_close(gradients[2], gradients[0], atol=1e-5, rtol=1e-5)
    assert [s.loss for s in cached.history] == pytest.approx([s.loss for s in plain.history], abs=1e-4)


def test_no_step_carries_the_gradient_of_the_one_before(tiny_model: Any, gradients: list[torch.Tensor]) -> None:
    """A learning rate of 0 keeps the model as it is, so every step over one example is the same."""
    run(adapted(tiny_model), EXAMPLES[:1], steps=2, batch_size=1, learning_rate=0.0)
    assert gradients[0].abs().max() > 0.1
    assert torch.equal(gradients[1], gradients[0])


def test_steps_of_a_pass_average_to_the_weighted_mean(make_model: Callable[..., Any]) -> None:
    """A learning rate of 0 keeps the model as it is, so the losses of one pass are those of one model."""
    whole = run(adapted(make_model()), steps=1, batch_size=6, learning_rate=0.0).history[0].loss
    for steps, batch_size in ((6, 1), (3, 2), (2, 3)):
        history = run(adapted(make_model()), steps=steps, batch_size=batch_size, learning_rate=0.0).history
        assert sum(step.loss for step in history) / steps == pytest.approx(whole, abs=1e-5)


def test_scaling_all_weights_changes_nothing(make_model: Callable[..., Any]) -> None:
    scaled = [Example(example.prompt, example.weight * 8.0) for example in EXAMPLES]
    first, second = adapted(make_model()), adapted(make_model())
    assert run(first).history == run(second, scaled).history
    assert all(torch.equal(p, state(second)[name]) for name, p in state(first).items())


def test_target_of_an_example_of_weight_zero_does_not_matter(make_model: Callable[..., Any]) -> None:
    other = [*EXAMPLES]
    other[1] = Example(Prompt((9,), ((200,),)), 0.0)
    first, second = adapted(make_model()), adapted(make_model())
    assert run(first).history == run(second, other).history
    assert all(torch.equal(p, state(second)[name]) for name, p in state(first).items())


def test_weights_arrive(make_model: Callable[..., Any]) -> None:
    """Two examples teach opposite things; the heavier one is learnt."""
    question = (1, 2, 3)

    def losses(weights: tuple[float, float]) -> list[float]:
        model = adapted(make_model())
        pair = [Example(Prompt(question, ((token,),)), w) for token, w in zip((50, 60), weights, strict=True)]
        run(model, pair, steps=20, batch_size=2)
        with torch.inference_mode():
            logprobs = torch.log_softmax(model(torch.tensor([question])).logits[0, -1], -1)
        return [-float(logprobs[token]) for token in (50, 60)]

    first, second = losses((9.0, 1.0))
    assert first < second
    first, second = losses((1.0, 9.0))
    assert second < first


def test_only_the_adapter_changes(tiny_model: Any) -> None:
    model = adapted(tiny_model)
    before = state(model)
    run(model, steps=2)
    changed = {name for name, p in state(model).items() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_same_seed_gives_the_same_run_and_another_seed_another(make_model: Callable[..., Any]) -> None:
    models = [adapted(make_model(), dropout=0.3) for _ in range(3)]
    histories = [run(model, seed=seed, steps=4).history for model, seed in zip(models, (1, 1, 2), strict=True)]
    assert histories[0] == histories[1]
    assert all(torch.equal(p, state(models[1])[name]) for name, p in state(models[0]).items())
    assert histories[0] != histories[2]


def test_dropout_is_on_while_training_and_off_after(make_model: Callable[..., Any]) -> None:
    plain, dropped = adapted(make_model()), adapted(make_model(), dropout=0.5).eval()
    assert run(plain, steps=1).history != run(dropped, steps=1).history
    assert not dropped.training
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(dropped(ids).logits, dropped(ids).logits)


def test_learning_rate_warms_up_over_a_tenth_and_decays_to_nothing(tiny_model: Any) -> None:
    rates = [step.learning_rate for step in run(adapted(tiny_model), steps=20, learning_rate=1.0).history]
    assert rates[:2] == [0.5, 1.0]
    # 18 steps are left, from 18/19 of the peak down to 1/19: the step after the last would be 0
    assert rates[2:] == pytest.approx([left / 19 for left in range(18, 0, -1)])


def test_single_step_uses_the_full_learning_rate(tiny_model: Any) -> None:
    assert run(adapted(tiny_model), steps=1, learning_rate=0.25).history[0].learning_rate == 0.25


def test_gradients_are_clipped_at_norm_one(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(tiny_model)
    norms: list[float] = []

    class Spy(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            norms.append(float(torch.cat([p.grad.flatten() for p in adapter_parameters(model)]).norm()))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    assert naive_gradient(model, EXAMPLES).norm() > 1.2
    run(model, steps=1, batch_size=6)
    assert norms == pytest.approx([1.0], abs=1e-4)


def test_history_and_tokens_tell_what_was_done(tiny_model: Any) -> None:
    told: list[Step] = []
    trained = run(adapted(tiny_model), steps=4, batch_size=3, on_step=told.append)
    assert [step.step for step in trained.history] == [1, 2, 3, 4]
    assert told == trained.history
    # 4 steps of 3 are two passes over the 6 examples; padding is not counted
    assert trained.num_tokens == 2 * sum(len(example.prompt) for example in EXAMPLES)
    assert trained.seconds > 0


def test_loss_goes_down(tiny_model: Any) -> None:
    history = run(adapted(tiny_model), steps=30, batch_size=6).history
    assert history[-1].loss < 0.5 * history[0].loss
