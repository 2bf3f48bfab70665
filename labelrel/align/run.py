"""One run of LoRA training and its evaluation: tables in, adapter and tables out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from labelrel.align.checkpoint import Checkpoint
from labelrel.align.evaluate import is_open, item_prompts, predict, predict_open
from labelrel.align.lora import add_adapter, save_adapter
from labelrel.align.order import num_steps
from labelrel.align.train import Example, Step, Trained, train, training_key
from labelrel.config import Lora
from labelrel.files import replacing_folder, write_json, write_table
from labelrel.models.choice import tokenize
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.load import LoadedModel
from labelrel.models.packing import Prompt
from labelrel.models.trunk import TrunkCache
from labelrel.progress import progress
from labelrel.tasks import Prompting


@dataclass(frozen=True)
class Budget:
    """How much a run may train.

    Attributes:
        num_items: items of the full pool, whatever part of it a method keeps.
        epochs: passes over that pool.
        batch_size: examples per step.
        learning_rate: the highest.
    """

    num_items: int
    epochs: float
    batch_size: int
    learning_rate: float

    @property
    def steps(self) -> int:
        """Return the optimiser steps, the same for all methods of a comparison."""
        return num_steps(self.num_items, self.epochs, self.batch_size)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind: `model` with its adapter, predictions, curve and costs in seconds.

    `checkpoint` is what `write_run` removes when all the rest is safe; None where there is none.
    """

    model: Any
    predictions: pl.DataFrame
    trained: Trained
    num_examples: int
    seconds: float
    evaluate_seconds: float
    trunk_seconds: float
    trunk_tokens: int
    checkpoint: Checkpoint | None = None


def run(
    loaded: LoadedModel,
    prompting: Prompting,
    training: pl.DataFrame,
    test: pl.DataFrame,
    *,
    budget: Budget,
    lora: Lora,
    top_layers: int | None,
    seed: int,
    cache: Path,
    checkpoints: Path | None = None,
    pool: pl.DataFrame | None = None,
    on_step: Callable[[Step], None] | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train a fresh adapter on weighted examples and evaluate it on `test`.

    Args:
        loaded: the frozen model; it is changed in place by the adapter.
        prompting: wording and gold check.
        training: a checked training set.
        test: items to answer.
        budget: steps, batch size, learning rate.
        lora: the adapter.
        top_layers: adapt the last K layers and cache the trunk below; None: all layers, no cache.
        seed: of adapter and data order.
        cache: folder of the trunk cache.
        checkpoints: folder where the state of the training is kept until `write_run`, so that a run that
            was killed goes on; None keeps none.
        pool: items whose options are put into the trunk cache in the same pass, because other
            methods of the comparison will train on them.
        on_step: told of each optimiser step.
        quiet: no progress.
    """
    started = time.perf_counter()
    examples = _examples(loaded.tokenizer, training)
    closed = not is_open(test)
    test_prompts = item_prompts(prompting, loaded.tokenizer, test) if closed else []
    source, trunk_seconds = None, 0.0
    if top_layers is not None:
        source = TrunkCache(
            cache, Trunk(loaded.model, top_layers), fingerprint=loaded.fingerprint, top_layers=top_layers
        )
        pooled = item_prompts(prompting, loaded.tokenizer, pool) if closed and pool is not None else []
        trunk_seconds = _fill(source, [*pooled, *(e.prompt for e in examples), *test_prompts], quiet=quiet)
    model = add_adapter(loaded.model, lora, top_layers=top_layers, seed=seed)
    decoder = Decoder(model, top_layers=top_layers, source=source)
    settings: dict[str, Any] = {
        "steps": budget.steps,
        "batch_size": budget.batch_size,
        "learning_rate": budget.learning_rate,
        "seed": seed,
    }
    checkpoint = None
    if checkpoints is not None:
        key = [loaded.fingerprint, lora.model_dump(), top_layers, training_key(model, examples, **settings)]
        checkpoint = Checkpoint(checkpoints, key, quiet=quiet)
    with progress("train", quiet=quiet) as report:

        def step_done(step: Step) -> None:
            report(step.step, budget.steps)
            if on_step:
                on_step(step)

        trained = train(model, decoder, examples, **settings, on_step=step_done, checkpoint=checkpoint)
    evaluating = time.perf_counter()
    with progress("evaluate", quiet=quiet) as report:
        if closed:
            predictions = predict(decoder, prompting.task, test, test_prompts, report)
        else:
            predictions = predict_open(model, loaded.tokenizer, prompting, test, report)
    now = time.perf_counter()
    return Outcome(
        model=model,
        predictions=predictions,
        trained=trained,
        num_examples=budget.steps * budget.batch_size,
        seconds=now - started + trained.seconds_before,
        evaluate_seconds=now - evaluating,
        trunk_seconds=trunk_seconds,
        trunk_tokens=source.num_computed_tokens if source else 0,
        checkpoint=checkpoint,
    )


def _examples(tokenizer: Any, training: pl.DataFrame) -> list[Example]:
    rows = training.select("prompt", "target", "weight").rows()
    prompts = tokenize(tokenizer, [(prompt, [target]) for prompt, target, _ in rows])
    return [Example(prompt, weight) for prompt, (_, _, weight) in zip(prompts, rows, strict=True)]


def _fill(source: TrunkCache, prompts: Sequence[Prompt], *, quiet: bool) -> float:
    started = time.perf_counter()
    with progress("trunk", quiet=quiet) as report:
        source.fill(prompts, report)
    return time.perf_counter() - started


def write_run(folder: Path, outcome: Outcome, record: dict[str, Any], *, base: str) -> None:
    """Write a run's folder, whole or not at all, and then remove the run's checkpoint.

    Args:
        folder: gets `adapter/`, `predictions.parquet`, `history.parquet` and `run.json`.
        outcome: the run.
        record: what `run.json` says besides the costs.
        base: model reference that the adapter names as its base.
    """
    trained = outcome.trained
    with replacing_folder(folder) as temporary:
        (temporary / "adapter").mkdir()
        save_adapter(outcome.model, temporary / "adapter", base=base)
        write_table(temporary / "predictions.parquet", outcome.predictions)
        history = [(step.step, step.loss, step.learning_rate) for step in trained.history]
        schema = {"step": pl.Int64, "loss": pl.Float64, "learning_rate": pl.Float64}
        write_table(temporary / "history.parquet", pl.DataFrame(history, schema=schema, orient="row"))
        costs = {
            "num_steps": len(trained.history),
            "num_examples_seen": outcome.num_examples,
            "tokens": trained.num_tokens,
            "seconds": round(outcome.seconds, 2),
            "train_seconds": round(trained.seconds, 2),
            "evaluate_seconds": round(outcome.evaluate_seconds, 2),
            "trunk_seconds": round(outcome.trunk_seconds, 2),
            "trunk_tokens": outcome.trunk_tokens,
        }
        write_json(temporary / "run.json", {**record, **costs})
    if outcome.checkpoint:
        outcome.checkpoint.discard()
