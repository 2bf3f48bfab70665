"""Gradient checkpointing: the same gradient from less memory, with the trunk cache and without, under any adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from labelrel.align import objective
from labelrel.align.lora import adapter_parameters
from labelrel.align.run import Budget, run
from labelrel.config import Lora, Trunk
from labelrel.models.load import LoadedModel
from labelrel.schema import TRAINING, check_training
from labelrel.tasks import Prompting, Task

LAYERS = 4
STEPS = 2


@pytest.mark.parametrize("variant", ["lora", "dora"])
@pytest.mark.parametrize("top_layers", [2, None])
def test_gradient_is_the_same_and_layers_run_twice(
    make_model: Callable[..., Any],
    tiny_tokenizer: Any,
    tiny_task: Task,
    tiny_items: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    top_layers: int | None,
    variant: Any,
) -> None:
    items = tiny_items.filter(split="w2s")
    rows = [
        (i["item_id"], tiny_task.wordings(i)[0].prompt, f" {i['choices'][0]}", "0", 1.0)
        for i in items.iter_rows(named=True)
    ]
    training = check_training(pl.DataFrame(rows, schema=TRAINING, orient="row"))
    gradients: list[torch.Tensor] = []
    passes = [0] * LAYERS
    whole = objective.Objective.backward

    def backward(self: Any, *arguments: Any) -> float:
        before = list(passes)
        loss = whole(self, *arguments)
        per_step.append([now - then for now, then in zip(passes, before, strict=True)])
        gradients.append(torch.cat([p.grad.flatten() for p in adapter_parameters(self._decoder.model)]))
        return loss

    monkeypatch.setattr(objective.Objective, "backward", backward)
    counts = []
    for checkpointing in (False, True):
        per_step: list[list[int]] = []
        model = make_model()
        for number, layer in enumerate(model.model.layers):

            def count(*_: Any, number: int = number) -> None:
                passes[number] += 1

            layer.mlp.act_fn.register_forward_hook(count)
        outcome = run(
            LoadedModel(model, tiny_tokenizer, "tiny", "tiny"),
            Prompting(tiny_task),
            training,
            items,
            budget=Budget(8, 1, 4, 1e-3),
            lora=Lora(rank=2, dropout=0.1, variant=variant),
            top_layers=top_layers,
            seed=1,
            cache=tmp_path,
            trunk=Trunk(dtype="float32"),
            gradient_checkpointing=checkpointing,
            quiet=True,
        )
        counts.append(per_step)
        assert not any(getattr(module, "gradient_checkpointing", False) for module in outcome.model.modules())
    first = 0 if top_layers is None else LAYERS - top_layers
    assert counts[0] == [[0] * first + [1] * (LAYERS - first)] * STEPS
    assert counts[1] == [[0] * first + [2] * (LAYERS - first)] * STEPS
    for step in range(STEPS):  # dropout included: it is drawn again from the same state
        torch.testing.assert_close(gradients[STEPS + step], gradients[step], atol=1e-6, rtol=1e-5)
