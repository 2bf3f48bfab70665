"""Early stopping: when it gives up, what it keeps, and that a killed run goes on as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from labelrel.align.checkpoint import Checkpoint
from labelrel.align.early_stop import EarlyStop
from labelrel.align.lora import adapter_parameters, add_adapter
from labelrel.align.objective import Example
from labelrel.align.train import train
from labelrel.config import Lora
from labelrel.errors import InputError
from labelrel.models.decoder import Decoder
from labelrel.models.packing import Prompt

EXAMPLES = [Example(Prompt((n, n + 1), ((n + 2,),)), 1.0, None, f"i{n}") for n in range(1, 9)]


def make(accuracies: list[float], **settings: int) -> tuple[EarlyStop, torch.nn.Parameter, list[float]]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    left = list(accuracies)
    return EarlyStop([parameter], lambda: left.pop(0), **{"every": 1, "patience": 2, **settings}), parameter, left


def play(stop: EarlyStop, parameter: torch.nn.Parameter, steps: int) -> int:
    """Train as the loop does: the parameter is the number of the step. Return the steps done."""
    for step in range(1, steps + 1):
        if stop.over:
            return step - 1
        parameter.data.fill_(float(step))
        stop.look(step)
    return steps


def test_it_gives_up_after_looks_without_a_better_one_and_keeps_the_best():
    stop, parameter, left = make([0.5, 0.7, 0.6, 0.7, 0.9])
    assert play(stop, parameter, 9) == 4  # .6 and .7 are not better than .7
    assert left == [0.9]
    stop.take_best()
    assert parameter.item() == 2.0
    assert stop.looks == [(1, 0.5), (2, 0.7), (3, 0.6), (4, 0.7)]


def test_it_looks_every_so_many_steps():
    stop, parameter, left = make([0.1, 0.2, 0.3], every=3)
    assert play(stop, parameter, 10) == 10
    assert [step for step, _ in stop.looks] == [3, 6, 9]
    assert left == []


def test_without_a_look_the_last_adapter_stays():
    stop, parameter, _ = make([], every=50)
    play(stop, parameter, 3)
    stop.take_best()
    assert parameter.item() == 3.0


def run(
    model: Any,
    folder: Path | None,
    die_at: int | None = None,
    looks: list[float] | None = None,
    states: list[torch.Tensor] | None = None,
) -> Any:
    wrapped = add_adapter(model, Lora(rank=2, alpha=4.0), top_layers=2, seed=0)
    parameters = adapter_parameters(wrapped)
    accuracies = looks if looks is not None else []

    def accuracy() -> float:
        accuracies.append([0.2, 0.8, 0.1, 0.3, 0.9][len(stop.looks)])
        return accuracies[-1]

    stop = EarlyStop(parameters, accuracy, every=2, patience=2)

    def on_step(step: Any) -> None:
        if states is not None:
            states.append(torch.cat([p.detach().flatten() for p in parameters]))
        if die_at is not None and step.step == die_at:
            raise KeyboardInterrupt

    checkpoint = None if folder is None else Checkpoint(folder, ["early"], quiet=True)
    trained = train(
        wrapped, Decoder(wrapped), EXAMPLES, steps=10, batch_size=2, learning_rate=0.01, seed=0,
        checkpoint=checkpoint, early_stop=stop, on_step=on_step,
    )  # fmt: skip
    return trained, torch.cat([p.detach().flatten() for p in parameters]), stop


def test_the_loop_stops_and_leaves_the_best_adapter(make_model):
    states: list[torch.Tensor] = []
    trained, best, stop = run(make_model(), None, states=states)
    assert len(trained.history) == 8
    assert stop.looks == [(2, 0.2), (4, 0.8), (6, 0.1), (8, 0.3)]
    assert torch.equal(best, states[3])
    assert not torch.equal(best, states[7])


@pytest.mark.parametrize("die_at", [3, 5, 7])
def test_killed_and_taken_up_again_it_is_the_same_run(make_model, tmp_path, die_at):
    whole = run(make_model(), None)
    with pytest.raises(KeyboardInterrupt):
        run(make_model(), tmp_path, die_at)
    measured: list[float] = []
    again = run(make_model(), tmp_path, looks=measured)
    assert torch.equal(again[1], whole[1])
    assert again[2].looks == whole[2].looks
    assert [s.loss for s in again[0].history] == [s.loss for s in whole[0].history]
    assert len(measured) == 4 - die_at // 2  # what was measured before is not measured again


# a loss or a gradient that is no number


def poisoned(make_model: Any, tmp_path: Path, at: int) -> tuple[Any, Checkpoint]:
    """A model that turns to NaN in the middle of the run."""
    wrapped = add_adapter(make_model(), Lora(rank=2, alpha=4.0), top_layers=2, seed=0)

    def on_step(step: Any) -> None:
        if step.step == at:
            wrapped.get_output_embeddings().weight.data.fill_(float("nan"))

    checkpoint = Checkpoint(tmp_path, ["poisoned"], quiet=True)
    with pytest.raises(InputError) as caught:
        train(
            wrapped, Decoder(wrapped), EXAMPLES, steps=10, batch_size=2, learning_rate=0.01, seed=0,
            checkpoint=checkpoint, on_step=on_step,
        )  # fmt: skip
    return caught.value, checkpoint


def test_nan_stops_with_step_items_and_a_kept_checkpoint(make_model, tmp_path):
    error, checkpoint = poisoned(make_model, tmp_path, 3)
    assert "train: step 4 of 10: the loss is no finite number on i" in str(error)
    assert "the checkpoint before it is kept. Lower the learning rate (0.01)" in str(error)
    assert "\n" not in str(error)
    wrapped = add_adapter(make_model(), Lora(rank=2, alpha=4.0), top_layers=2, seed=0)
    steps: list[int] = []
    trained = train(
        wrapped, Decoder(wrapped), EXAMPLES, steps=10, batch_size=2, learning_rate=0.01, seed=0,
        checkpoint=checkpoint, on_step=lambda step: steps.append(step.step),
    )  # fmt: skip
    assert len(trained.history) == 10
    assert all(p.isfinite().all() for p in adapter_parameters(wrapped))


def test_a_gradient_that_is_no_number_never_reaches_the_adapter(make_model, monkeypatch):
    wrapped = add_adapter(make_model(), Lora(rank=2, alpha=4.0), top_layers=2, seed=0)
    parameters = adapter_parameters(wrapped)
    parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(InputError, match=r"step 1 of 4: the gradient is no finite number on i\d"):
        train(wrapped, Decoder(wrapped), EXAMPLES, steps=4, batch_size=2, learning_rate=0.01, seed=0)
    assert all(p.isfinite().all() for p in parameters)
