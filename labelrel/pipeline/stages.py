"""Train once, or in stages: the strong model answers again, and trains afresh on what that gives.

Two stages: Shi et al. 2025 (arXiv 2503.04249). Rounds: Burns et al. 2023 (arXiv 2312.09390), bootstrapping.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from labelrel.align.world import ALONE, World
from labelrel.errors import InputError
from labelrel.pipeline.common import accuracy_of
from labelrel.progress import progress, say
from labelrel.project import Project
from labelrel.schema import check_training, require_split
from labelrel.selection import Then
from labelrel.tasks import Prompting


@dataclass(frozen=True)
class Student:
    """A strong model that has learnt once.

    Attributes:
        model: wrapped by peft.
        tokenizer: its tokenizer.
        name: its model reference.
        fingerprint: digest of the frozen weights.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str

    @property
    def digest(self) -> str:
        """Return a digest of frozen weights and adapter."""
        seen = hashlib.sha256(self.fingerprint.encode())
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                seen.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
        return seen.hexdigest()

    def parts(self, project: Project) -> Path:
        """Return the folder of its finished answers, so that a killed run does not ask twice."""
        return project.cache / "relabel" / self.digest[:24]


@dataclass(frozen=True)
class Staged:
    """What training in stages leaves behind.

    Attributes:
        outcome: of the last stage, with the costs of all.
        training: what the last stage learnt from.
        stages: one dict per stage: `num_items, label_accuracy, test_accuracy, seconds`, and where the model
            was asked again, `asked` and `joined`; empty where nothing is looked at twice.
        discard: removes what a killed run would have taken up; call it when the results are written.
    """

    outcome: Any
    training: pl.DataFrame
    stages: list[dict[str, Any]]
    discard: Callable[[], None]


def train_in_stages(
    project: Project,
    loaded: Any,
    prompting: Prompting,
    items: pl.DataFrame,
    training: pl.DataFrame,
    *,
    method: str,
    criterion: Any,
    then: Then | None,
    seed: int,
    on_step: Callable[[Any], None],
    quiet: bool = False,
    world: World = ALONE,
) -> Staged:
    """Train and evaluate the strong model once, and once more after each second look, always from the start.

    Args:
        project: settings and caches.
        loaded: the frozen strong model; each stage puts a fresh adapter on it.
        prompting: wording and gold check.
        items: all items.
        training: the first training set.
        method: whose rule chooses again.
        criterion: the loss.
        then: the second look; None trains once.
        seed: of adapter and data order, in every stage.
        on_step: told of each optimiser step, counted through all stages.
        quiet: no messages.
        world: the processes that share the work; all get the same.

    Raises:
        InputError: what `run` and `relabel` refuse, and an early stop without gold labels to look at.
    """
    from labelrel.align.lora import remove_adapter
    from labelrel.align.run import Budget, run
    from labelrel.training_set import label_accuracy

    settings = project.config.align
    pool, test = require_split(items, "w2s"), require_split(items, "test")
    early_stop = (settings.early_stop, _gold_dev(items)) if settings.early_stop else None
    looks = [None] if then is None else [*range(1, then.times + 1), None]
    stages: list[dict[str, Any]] = []
    outcomes: list[Any] = []
    folders: list[Path] = []
    for look in looks:
        before = sum(len(outcome.trained.history) for outcome in outcomes)
        outcome = run(
            loaded,
            prompting,
            training,
            test,
            budget=Budget(pool.height, settings.epochs, settings.batch_size, settings.learning_rate),
            lora=settings.lora,
            top_layers=settings.top_layers,
            seed=seed,
            cache=project.cache / "trunk",
            trunk=project.config.base.trunk,
            criterion=criterion,
            checkpoints=project.cache / "checkpoints",
            keep_checkpoint=look is not None,
            pool=pool,
            early_stop=early_stop,
            gradient_checkpointing=settings.gradient_checkpointing,
            on_step=_counted_from(before, on_step) if before else on_step,
            quiet=quiet,
            world=world,
        )
        outcomes.append(outcome)
        if then is None:
            return Staged(outcome, training, [], lambda: None)
        known = {
            "num_items": training["item_id"].n_unique(),
            "label_accuracy": label_accuracy(training, items, prompting.task),
            "test_accuracy": accuracy_of(outcome.predictions),
        }
        stages.append({**known, "seconds": outcome.seconds})
        if look is None:
            break
        started = time.perf_counter()
        student = Student(outcome.model, loaded.tokenizer, settings.model, loaded.fingerprint)
        folders.append(student.parts(project))
        training, told = relabel(
            project, prompting, items, training, student, method, then, look, quiet=quiet, world=world
        )
        say(
            f"align: {method}: {told['joined']} of {told['asked']} items by the strong model's own answers", quiet=quiet
        )
        stages[-1] |= {**told, "seconds": outcome.seconds + time.perf_counter() - started}
        loaded = replace(loaded, model=remove_adapter(outcome.model))

    def discard() -> None:
        for one in outcomes[:-1]:
            one.checkpoint.discard()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    tokens = sum(one.trained.num_tokens for one in outcomes)
    whole = replace(
        outcomes[-1],
        seconds=sum(stage["seconds"] for stage in stages),
        num_examples=sum(one.num_examples for one in outcomes),
        trained=replace(outcomes[-1].trained, num_tokens=tokens),
    )
    return Staged(whole, training, stages, discard)


def _gold_dev(items: pl.DataFrame) -> pl.DataFrame:
    known = require_split(items, "gold_dev").drop_nulls("gold_label")
    if known.is_empty():
        raise InputError("align.early_stop looks at gold labels of split 'gold_dev', and it has none; set it to null.")
    return known


def _counted_from(before: int, on_step: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda step: on_step(replace(step, step=before + step.step))


def relabel(
    project: Project,
    prompting: Prompting,
    items: pl.DataFrame,
    training: pl.DataFrame,
    student: Student,
    method: str,
    then: Then,
    number: int,
    *,
    quiet: bool = False,
    world: World = ALONE,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the next training set, and what is known about it.

    Args:
        project: its settings; the student is asked as `sample` asks the supervisor.
        prompting: wording.
        items: all items.
        training: what the student has learnt from.
        student: who is asked.
        method: the method, whose rule chooses again.
        then: whose questions are asked again, and what may join.
        number: of the second look, from 1; draws differ from look to look.
        quiet: no progress.
        world: the processes that share the asking; all get the same.

    Raises:
        InputError: the rule keeps nothing of the student's answers.
    """
    from labelrel.scoring import score
    from labelrel.selection import reads, select
    from labelrel.training_set import word_examples

    pool = require_split(items, "w2s")
    left = pool.join(training.select("item_id").unique(), on="item_id", how="anti", maintain_order="left")
    asked = left if then.relabel == "discarded" else pl.concat([pool, items.filter(pl.col("split") == "gold_dev")])
    info = {"asked": asked.height}
    if asked.is_empty():
        return training, {**info, "joined": 0}
    answers = _ask(project, prompting, asked, student, number, quiet=quiet, world=world)
    section = project.config.select.params(method)
    if then.relabel == "discarded":
        votes = score(answers, ["share"], items=items).filter(pl.col("weak_label") & pl.col("answer").is_not_null())
        chosen = votes.filter(pl.col("share") >= then.agreement - 1e-9).select("item_id", "answer")
        chosen = left.select("item_id").join(chosen, on="item_id", how="inner", maintain_order="left")
        chosen = chosen.with_columns(
            variant_id=pl.lit(None, pl.String), weight=1.0, option_probs=pl.lit(None, pl.List(pl.Float64()))
        )
        if chosen.height:
            training = pl.concat([training, word_examples(chosen, items, prompting)])
        return training, {**info, "joined": chosen.height}
    settings = project.config.score
    methods = reads(method, section) or ("share",)
    gold = items.filter(pl.col("split") == "gold_dev").select("item_id", "gold_label").drop_nulls()
    scores = score(
        answers,
        list(methods),
        items=items,
        gold=gold if gold.height else None,
        protocol=settings.protocol,
        temperature=settings.temperature,
        params=settings.sections(),
    )
    chosen = select(method, scores, answers, items, seed=project.config.base.seed, params=section)
    where = f"what '{method}' keeps of the strong model's answers"
    return check_training(word_examples(chosen, items, prompting), where), {**info, "joined": chosen.height}


def _ask(
    project: Project,
    prompting: Prompting,
    asked: pl.DataFrame,
    student: Student,
    number: int,
    *,
    quiet: bool,
    world: World,
) -> pl.DataFrame:
    from labelrel.supervise import Asking, Supervisor, engines
    from labelrel.supervise.sample import sample
    from labelrel.supervise.variants import query_variants

    settings = project.config.sample
    asking = Asking(
        mode=settings.mode,
        temperature=settings.temperature,
        seed=project.config.base.seed + number,
        max_new_tokens=settings.max_new_tokens,
        cache=project.cache / "relabel",
        supervisor=lambda: Supervisor(student.model, student.tokenizer, student.name, student.digest),
        model=student.name,
    )
    engine = engines.get("transformers").open(asking, {})
    parts = student.parts(project)
    if world.size > 1:
        parts /= f"{world.rank}-of-{world.size}"
    if world.sharded:  # the processes must ask the same questions, whatever each of them has finished before
        shutil.rmtree(parts, ignore_errors=True)

    def ask(rows: list[int]) -> list[pl.DataFrame]:
        if not rows:
            return []
        queries = list(query_variants(prompting, asked[rows], settings.variants))
        with progress("relabel", quiet=quiet) as report:
            answers = sample(engine, queries, parts=parts, progress=report)
        return answers.partition_by("item_id", maintain_order=True)

    return pl.concat(world.spread(ask, range(asked.height)))
