"""One run of LoRA training and its evaluation: tables in, adapter and tables out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from labelrel.align.card import write_card
from labelrel.align.checkpoint import Checkpoint
from labelrel.align.early_stop import EarlyStop
from labelrel.align.evaluate import is_open, item_prompts, predict, predict_open
from labelrel.align.examples import check_lengths, read_examples
from labelrel.align.lora import adapter_parameters, add_adapter, save_adapter
from labelrel.align.objective import Criterion
from labelrel.align.order import num_steps
from labelrel.align.train import Step, Trained, train, training_key
from labelrel.align.world import ALONE, World
from labelrel.config import EarlyStop as EarlyStopSettings
from labelrel.config import Lora, Trunk
from labelrel.errors import InputError
from labelrel.files import replacing_folder, write_json, write_table
from labelrel.models.decoder import Decoder, plain_model, trunk_problem
from labelrel.models.decoder import Trunk as FrozenTrunk
from labelrel.models.load import LoadedModel
from labelrel.models.packing import Prompt
from labelrel.models.trunk import TrunkCache, TrunkCacheFull
from labelrel.progress import progress, say
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

    `looks` are (step, accuracy on gold_dev) where the run could stop early. `checkpoint` is what
    `write_run` removes when all the rest is safe; None where there is none.
    """

    model: Any
    predictions: pl.DataFrame
    trained: Trained
    num_examples: int
    seconds: float
    evaluate_seconds: float
    trunk_seconds: float
    trunk_tokens: int
    looks: list[tuple[int, float]] | None = None
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
    trunk: Trunk | None = None,
    criterion: Criterion | None = None,
    checkpoints: Path | None = None,
    keep_checkpoint: bool = False,
    pool: pl.DataFrame | None = None,
    early_stop: tuple[EarlyStopSettings, pl.DataFrame] | None = None,
    gradient_checkpointing: bool = False,
    on_step: Callable[[Step], None] | None = None,
    world: World = ALONE,
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
        trunk: precision and size of that cache; None: the defaults.
        criterion: the loss; None is the cross-entropy of the target.
        checkpoints: folder where the state of the training is kept until `write_run`, so that a run that
            was killed goes on; None keeps none.
        keep_checkpoint: save at the end too, because more follows before `write_run`.
        pool: items whose options are put into the trunk cache in the same pass, because other
            methods of the comparison will train on them.
        early_stop: when to look at which closed items, and when to stop; None trains all steps.
        gradient_checkpointing: compute activations anew in the backward pass.
        on_step: told of each optimiser step.
        world: the processes that share the work; all get the same outcome.
        quiet: no progress.

    Raises:
        InputError: an example longer than the model's context, one without what the loss reads, or a
            loss that is no finite number.
    """
    started = time.perf_counter()
    criterion, trunk = criterion or Criterion.named(), trunk or Trunk()
    examples = read_examples(loaded, training, criterion, quiet=quiet)
    closed = not is_open(test)
    test_prompts = _item_prompts(loaded, prompting, test) if closed else []
    dev = early_stop[1] if early_stop else None
    dev_prompts = [] if dev is None else _item_prompts(loaded, prompting, dev)
    pooled = item_prompts(prompting, loaded.tokenizer, pool) if closed and pool is not None else []
    prompts = [*pooled, *(e.prompt for e in examples), *test_prompts, *dev_prompts]
    source, trunk_seconds = None, 0.0
    if top_layers is not None:
        filling = time.perf_counter()
        source = fill_trunk(loaded, prompts, top_layers, cache, trunk, world, quiet=quiet)
        trunk_seconds = time.perf_counter() - filling
    computed = world.gather([source.num_computed_tokens if source else 0])
    trunk_tokens = computed[0] if world.sharded else sum(computed)
    model = add_adapter(loaded.model, lora, top_layers=top_layers, seed=seed)
    if gradient_checkpointing:
        plain_model(model).activation_checkpointing_enable({"use_reentrant": False})
    decoder = Decoder(model, top_layers=top_layers if source else None, source=source)
    settings: dict[str, Any] = {
        "steps": budget.steps,
        "batch_size": budget.batch_size,
        "learning_rate": budget.learning_rate,
        "seed": seed,
        "criterion": criterion,
    }
    stopping = None
    if early_stop and dev is not None:

        def accuracy() -> float:
            model.eval()
            found = predict(decoder, prompting.task, dev, dev_prompts, world=world)["correct"].cast(pl.Float64).mean()
            model.train()
            return float(found)  # type: ignore[arg-type]

        rule = early_stop[0]
        stopping = EarlyStop(adapter_parameters(model), accuracy, every=rule.every, patience=rule.patience)
    checkpoint = None
    if checkpoints is not None:
        key: list[object] = [
            loaded.fingerprint,
            lora.model_dump(),
            top_layers,
            training_key(model, examples, **settings),
            trunk.dtype if source else None,
            [early_stop[0].model_dump(), early_stop[1]["item_id"].to_list()] if early_stop else None,
            world.size,
        ]
        checkpoint = Checkpoint(checkpoints, key, quiet=quiet, writes=world.leads)
    with progress("train", quiet=quiet) as report:

        def step_done(step: Step) -> None:
            report(step.step, budget.steps)
            if on_step:
                on_step(step)

        trained = train(
            model,
            decoder,
            examples,
            **settings,
            on_step=step_done,
            checkpoint=checkpoint,
            early_stop=stopping,
            keep_checkpoint=keep_checkpoint,
            world=world,
        )
    if gradient_checkpointing:  # a later adapter on the same model would take it for its own
        plain_model(model).activation_checkpointing_disable()
    evaluating = time.perf_counter()
    with progress("evaluate", quiet=quiet) as report:
        if closed:
            predictions = predict(decoder, prompting.task, test, test_prompts, report, world)
        else:
            predictions = predict_open(model, loaded.tokenizer, prompting, test, report, world)
    now = time.perf_counter()
    return Outcome(
        model=model,
        predictions=predictions,
        trained=trained,
        num_examples=len(trained.history) * budget.batch_size,
        seconds=now - started + trained.seconds_before,
        evaluate_seconds=now - evaluating,
        trunk_seconds=trunk_seconds,
        trunk_tokens=trunk_tokens,
        looks=stopping.looks if stopping else None,
        checkpoint=checkpoint,
    )


def _item_prompts(loaded: LoadedModel, prompting: Prompting, items: pl.DataFrame) -> list[Prompt]:
    prompts = item_prompts(prompting, loaded.tokenizer, items)
    check_lengths(loaded, list(zip(items["item_id"], prompts, strict=True)), "items")
    return prompts


def fill_trunk(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    top_layers: int,
    cache: Path,
    settings: Trunk,
    world: World = ALONE,
    *,
    quiet: bool = False,
) -> TrunkCache | None:
    """Return the trunk cache with all of `prompts`; None, after one line that says why, where it cannot be.

    Without it the layers below run in every step: the same training, slower.

    Raises:
        InputError: the cache turns out too small in the middle of the work of sharded processes.
    """
    problem = trunk_problem(loaded.model)
    if problem is None:
        source = TrunkCache(
            cache,
            FrozenTrunk(loaded.model, top_layers),
            fingerprint=loaded.fingerprint,
            top_layers=top_layers,
            dtype=settings.dtype,
            max_gib=settings.max_gib,
        )
        problem = _fill(source, prompts, world, quiet=quiet)
        if problem is None:
            return source
    say(f"trunk: no cache for {loaded.reference}: {problem}; all layers run in every step", quiet=quiet)
    return None


def _fill(source: TrunkCache, prompts: Sequence[Prompt], world: World, *, quiet: bool) -> str | None:
    """Put `prompts` into the cache, each process its share, and say why where they do not fit."""
    begun = False

    def fill(part: Sequence[Prompt]) -> str | None:
        nonlocal begun
        begun, problem = False, None
        try:
            with progress("trunk", quiet=quiet) as report:

                def count(done: int, total: int) -> None:
                    nonlocal begun
                    begun = True
                    report(done, total)

                source.fill(part, count)
        except TrunkCacheFull as error:
            problem = str(error).rstrip(".")
            if world.sharded and begun:  # the others go on, and wait for this process in every layer
                raise InputError(f"trunk: {problem}; set align.top_layers to null, or make room.") from error
        return next(iter(world.gather([problem] if problem else [])), None)

    if world.size == 1:
        return fill(prompts)
    world.wait()  # what is missing must look the same to all
    if world.sharded:
        problem = fill(prompts)
    else:
        # all that follows one prompt stays together, so that it runs once
        mine = set(world.share(list(dict.fromkeys(prompt.prefix for prompt in prompts))))
        problem = fill([prompt for prompt in prompts if prompt.prefix in mine])
        source.reopen()
        # most often nothing is missing now; a share that made room may have removed another's
        problem = problem or fill(prompts if world.leads else [])
    source.reopen()
    world.wait()  # the leading process may make room for others only when all have opened what they need
    return problem


def write_run(folder: Path, outcome: Outcome, record: dict[str, Any], *, base: str) -> None:
    """Write a run's folder, whole or not at all, and then remove the run's checkpoint.

    Args:
        folder: gets `adapter/` with its model card, `predictions.parquet`, `history.parquet` and `run.json`.
        outcome: the run.
        record: what `run.json` says besides the costs.
        base: model reference that the adapter names as its base.
    """
    trained = outcome.trained
    with replacing_folder(folder) as temporary:
        (temporary / "adapter").mkdir()
        save_adapter(outcome.model, temporary / "adapter", base=base)
        write_card(temporary / "adapter", record, outcome.predictions)
        write_table(temporary / "predictions.parquet", outcome.predictions)
        history = [(step.step, step.loss, step.learning_rate) for step in trained.history]
        schema = {"step": pl.Int64, "loss": pl.Float64, "learning_rate": pl.Float64}
        write_table(temporary / "history.parquet", pl.DataFrame(history, schema=schema, orient="row"))
        costs: dict[str, Any] = {
            "num_steps": len(trained.history),
            "num_examples_seen": outcome.num_examples,
            "tokens": trained.num_tokens,
            "seconds": round(outcome.seconds, 2),
            "train_seconds": round(trained.seconds, 2),
            "evaluate_seconds": round(outcome.evaluate_seconds, 2),
            "trunk_seconds": round(outcome.trunk_seconds, 2),
            "trunk_tokens": outcome.trunk_tokens,
        }
        if outcome.looks is not None:
            costs["early_stop"] = [{"step": step, "accuracy": accuracy} for step, accuracy in outcome.looks]
        write_json(temporary / "run.json", {**record, **costs})
    if outcome.checkpoint:
        outcome.checkpoint.discard()
