"""Each loss against numbers worked out by hand, and its gradient against the closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from labelrel.errors import ConfigError, UnknownNameError
from labelrel.losses import Batch, Step, hardened, losses, scales_weights

every_loss = pytest.mark.parametrize("name", list(losses))

F = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
"""What the model says; the first item has three options."""
HARD = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
SOFT = torch.tensor([[0.25, 0.75, 0.0, 0.0], [0.1, 0.0, 0.4, 0.5]], dtype=torch.float64)


def batch(targets: torch.Tensor, probs: torch.Tensor = F, progress: float = 0.5) -> Batch:
    """Two items of which one has an option less; scores are off from log f by a constant, which must not matter."""
    scores = (probs.log() - 3.0).requires_grad_(True)
    logprobs = scores.log_softmax(-1)
    step = Step(progress, torch.zeros(len(probs)), logprobs.detach(), targets)
    return Batch(scores=scores, logprobs=logprobs, targets=targets, rows=torch.arange(len(probs)), step=step)


def value(name: str, made: Batch, **params: Any) -> torch.Tensor:
    loss = losses.get(name)
    return loss.function(made, loss.parse(params, "loss"))


def gradient(name: str, made: Batch, **params: Any) -> torch.Tensor:
    """Return d loss_i / d score_ij."""
    return torch.autograd.grad(value(name, made, **params).sum(), made.scores)[0]


def close(found: torch.Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=1e-12, rtol=1e-12)


# the formulas


def test_cross_entropy_is_the_mean_over_the_targets_tokens():
    made = Batch(sums=torch.tensor([6.0, 2.0]), counts=torch.tensor([3.0, 1.0]), positions=10)
    assert value("cross_entropy", made).tolist() == [2.0, 2.0]


def test_the_papers_cross_entropy_is_the_mean_over_all_positions():
    made = Batch(sums=torch.tensor([6.0, 2.0]), counts=torch.tensor([3.0, 1.0]), positions=10)
    assert value("cross_entropy", made, protocol="paper").tolist() == pytest.approx([0.6, 0.2])
    loss = losses.get("cross_entropy")
    assert scales_weights("cross_entropy", loss.parse({}, ""))
    assert not scales_weights("cross_entropy", loss.parse({"protocol": "paper"}, ""))


def test_option_cross_entropy_of_hard_and_soft_labels():
    close(value("option_cross_entropy", batch(HARD)), [-math.log(0.25), -math.log(0.4)])
    expected = [
        -(0.25 * math.log(0.5) + 0.75 * math.log(0.25)),
        -(0.1 * math.log(0.1) + 0.4 * math.log(0.3) + 0.5 * math.log(0.4)),
    ]
    close(value("option_cross_entropy", batch(SOFT)), expected)


def test_gradient_of_the_option_cross_entropy_is_f_minus_q():
    close(gradient("option_cross_entropy", batch(SOFT)), F - SOFT)


def test_ranking_of_a_hard_label_is_the_mean_over_the_other_options():
    pairs = [[0.25 / 0.5, 0.25 / 0.25], [0.4 / 0.1, 0.4 / 0.2, 0.4 / 0.3]]  # exp of the difference of scores
    expected = [sum(math.log(1 + 1 / odds) for odds in row) / len(row) for row in pairs]
    close(value("option_ranking", batch(HARD)), expected)
    wider = [sum(math.log(1 + math.e / odds) for odds in row) / len(row) for row in pairs]
    close(value("option_ranking", batch(HARD), margin=1.0), wider)


def test_ranking_of_soft_labels_weighs_pairs_by_their_distance():
    # item 0: options 1 over 0 by .5, 1 over 2 by .75, 0 over 2 by .25
    terms = [(0.5, 0.25 / 0.5), (0.75, 0.25 / 0.25), (0.25, 0.5 / 0.25)]
    expected = sum(apart * math.log(1 + 1 / odds) for apart, odds in terms) / 1.5
    close(value("option_ranking", batch(SOFT))[0], expected)


def test_ranking_has_nothing_to_say_about_equal_options():
    even = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0.0], [0.25] * 4], dtype=torch.float64)
    assert value("option_ranking", batch(even)).tolist() == [0.0, 0.0]
    assert not gradient("option_ranking", batch(even)).any()


def test_gradient_of_the_ranking_pulls_each_pair_apart():
    found = gradient("option_ranking", batch(HARD))
    odds = [0.25 / 0.5, 0.25 / 0.25]
    pulls = [1 / (1 + value) / 2 for value in odds]
    close(found[0], [pulls[0], -sum(pulls), pulls[1], 0.0])


def test_ranking_survives_scores_far_apart():
    made = batch(HARD, torch.tensor([[1.0, 1e-300, 1e-300, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64))
    close(value("option_ranking", made)[0], (300 * math.log(10) + math.log(2)) / 2)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.05, 0.25), (0.1, 0.5), (0.9, 0.5)])
def test_confidence_mixes_the_label_with_the_models_own_opinion(progress, share):
    own = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]], dtype=torch.float64)
    mixed = (1 - share) * HARD + share * own
    close(value("confidence", batch(HARD, progress=progress)), -(mixed * F.clamp(min=1e-9).log()).sum(-1))
    close(gradient("confidence", batch(HARD, progress=progress)), F - mixed)


def test_confidence_without_a_share_is_the_option_cross_entropy():
    close(value("confidence", batch(SOFT), max_weight=0.0), value("option_cross_entropy", batch(SOFT)))


def test_confidence_without_warmup_begins_with_its_whole_share():
    close(value("confidence", batch(HARD, progress=0.0), warmup=0.0), value("confidence", batch(HARD, progress=1.0)))


def test_two_options_are_hardened_at_the_balance_of_the_labels():
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert hardened(probs.log(), labels).argmax(-1).tolist() == [0, 0, 1, 1]  # at one half all would be 0
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert hardened(probs.log(), one).argmax(-1).tolist() == [0, 0, 0, 1]


def test_more_options_are_hardened_to_the_best_whatever_the_labels():
    assert hardened(F.log(), SOFT).argmax(-1).tolist() == [0, 3]


def test_reverse_kl_of_hard_labels_is_finite_and_by_hand():
    found = value("reverse_kl", batch(HARD), smoothing=0.3)
    smooth = [0.1, 0.8, 0.1]  # .7 on the label and .3 over three options
    close(found[0], sum(f * math.log(f / q) for f, q in zip([0.5, 0.25, 0.25], smooth, strict=True)))


def test_reverse_kl_is_zero_where_the_model_says_what_the_target_says():
    smooth = 0.8 * SOFT[1:] + 0.2 / 4
    close(value("reverse_kl", batch(SOFT[1:], smooth), smoothing=0.2), [0.0])


def test_gradient_of_the_reverse_kl_is_the_closed_form():
    found = gradient("reverse_kl", batch(SOFT), smoothing=0.2)
    count = torch.tensor([[3.0], [4.0]], dtype=torch.float64)
    ratio = F.clamp(min=1e-9).log() - (0.8 * SOFT + 0.2 / count).log()
    close(found, F * (ratio - (F * ratio).sum(-1, keepdim=True)))


def test_forward_correction_is_the_probability_of_the_weak_label():
    likelihood = torch.tensor([[0.1, 0.8, 0.1, 0.0], [0.05, 0.05, 0.05, 0.85]], dtype=torch.float64)
    made = batch(likelihood)
    mass = (F * likelihood).sum(-1)
    close(value("forward_correction", made), -mass.log())
    close(gradient("forward_correction", batch(likelihood)), F - F * likelihood / mass.unsqueeze(-1))


def test_forward_correction_of_a_faultless_supervisor_is_the_cross_entropy():
    close(value("forward_correction", batch(HARD)), value("option_cross_entropy", batch(HARD)))
    close(gradient("forward_correction", batch(HARD)), F - HARD)


@pytest.mark.parametrize(
    ("progress", "forget", "kept"), [(0.0, 0.5, 10), (0.15, 0.5, 8), (0.3, 0.5, 5), (0.9, 0.3, 7), (0.9, 0.0, 10)]
)
def test_small_loss_keeps_the_smallest_of_the_step(progress, forget, kept):
    entropies = torch.tensor([5.0, 1, 9, 3, 7, 2, 8, 4, 6, 0.5])
    step = Step(progress, entropies)
    sums = (entropies * 2).requires_grad_(True)
    made = Batch(sums=sums, counts=torch.full((10,), 2.0), rows=torch.arange(10), step=step)
    found = value("small_loss", made, forget=forget, rampup=0.3)
    smallest = entropies.argsort()[:kept]
    expected = torch.zeros(10)
    expected[smallest] = entropies[smallest] * 10 / kept
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(found.sum(), sums)[0].count_nonzero() == kept


def test_small_loss_reads_its_rows_out_of_the_step():
    step = Step(1.0, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    made = Batch(sums=torch.tensor([3.0, 2.0]), counts=torch.ones(2), rows=torch.tensor([2, 1]), step=step)
    assert value("small_loss", made, forget=0.5).tolist() == [0.0, 4.0]


# what all of them promise


@every_loss
def test_gradients_are_finite_where_items_have_fewer_options(name):
    made = batch(HARD)
    target = torch.tensor([0.7, 0.9], dtype=torch.float64, requires_grad=True)
    if losses.get(name).reads == "target":
        made = Batch(sums=target, counts=torch.ones(2), positions=4, rows=made.rows, step=Step(0.5, target.detach()))
    leaf = target if losses.get(name).reads == "target" else made.scores
    found = torch.autograd.grad(value(name, made).sum(), leaf)[0]
    assert found.isfinite().all()
    assert found.any()


@every_loss
def test_documented(name):
    loss = losses.get(name)
    assert 20 < len(loss.summary) < 120
    assert len(loss.source) > 20
    assert "loss_i =" in (loss.function.__doc__ or "")
    assert all(field.description for field in loss.params.model_fields.values())


def test_impossible_parameters_and_names_are_told():
    with pytest.raises(ConfigError, match=r"select.x.loss.max_weight is wrong: .*got 2.0"):
        losses.get("confidence").parse({"max_weight": 2.0}, "select.x.loss")
    with pytest.raises(UnknownNameError, match="did you mean 'confidence'"):
        losses.get("confidance")
