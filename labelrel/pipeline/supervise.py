"""Stages `supervise` and `sample`, and `paraphrase`: tune the weak supervisor, and ask."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.errors import InputError
from labelrel.pipeline.common import Summary, accuracy_of, flat, items_and_prompting, load, shown, source_of
from labelrel.progress import progress, say
from labelrel.project import Project
from labelrel.schema import TRAINING, check_training, require_split


def supervise(project: Project, *, quiet: bool = False) -> Summary:
    """Tune the weak supervisor on the gold labels of `weak_train`; its test accuracy is the floor.

    A supervisor that is asked over an API or from a file cannot be tuned: its floor is measured by
    asking the test items, each in its canonical wording.
    """
    from labelrel.supervise import engines

    tuned = engines.get(project.config.sample.engine).tuned
    return _tune(project, quiet=quiet) if tuned else _ask_floor(project, quiet=quiet)


def _tune(project: Project, *, quiet: bool) -> Summary:
    from labelrel.align.run import Budget, run, write_run
    from labelrel.supervise.variants import query_variants
    from labelrel.tasks import Wording

    config, settings = project.config, project.config.supervise
    items, prompting = items_and_prompting(project)
    gold = require_split(items, "weak_train").filter(pl.col("gold_label").is_not_null())
    test = require_split(items, "test")
    if gold.is_empty():
        raise InputError("no item of split 'weak_train' has a gold label; the supervisor has nothing to learn from.")
    rows = []
    for query in query_variants(prompting, gold, settings.variants):
        label = query.item["gold_label"]
        target = prompting.target(query.item, Wording(query.prompt, query.options), label)
        rows.append((query.item["item_id"], query.prompt, target, label, 1.0))
    loaded = load(settings.model, config.base)
    size = loaded.num_parameters
    outcome = run(
        loaded,
        prompting,
        check_training(pl.DataFrame(rows, schema=TRAINING, orient="row")),
        test,
        budget=Budget(gold.height, settings.epochs, settings.batch_size, settings.learning_rate),
        lora=settings.lora,
        top_layers=settings.top_layers,
        seed=config.base.seed,
        cache=project.cache / "trunk",
        trunk=config.base.trunk,
        checkpoints=project.cache / "checkpoints",
        quiet=quiet,
    )
    record = _floor_record(project, prompting.task.name, settings.model, len(rows), gold.height, size)
    write_run(project.supervisor, outcome, record, base=settings.model)
    accuracy = accuracy_of(outcome.predictions)
    say(f"supervise: test accuracy {shown(accuracy)} (floor), {outcome.seconds:.0f} s", quiet=quiet)
    return {"model": settings.model, "test_accuracy": accuracy, "seconds": outcome.seconds}


def _ask_floor(project: Project, *, quiet: bool) -> Summary:
    from labelrel.align.evaluate import with_gold
    from labelrel.supervise.sample import discard_parts, sample
    from labelrel.supervise.variants import query_variants

    items, prompting = items_and_prompting(project)
    test = require_split(items, "test")
    started = time.perf_counter()
    engine = _open_engine(project, temperature=0.0)
    parts = project.cache / "floor"
    with progress("supervise", quiet=quiet) as report:
        answers = sample(engine, list(query_variants(prompting, test, 1)), parts=parts, progress=report)
    columns = answers.select("answer", "answer_logprob", "choice_logprobs").iter_rows()
    predictions = with_gold(prompting.task, test, columns)
    seconds = round(time.perf_counter() - started, 2)
    record = _floor_record(project, prompting.task.name, engine.name, 0, 0, None)
    with files.replacing_folder(project.supervisor) as folder:
        files.write_table(folder / "predictions.parquet", predictions)
        files.write_json(folder / "run.json", {**record, "seconds": seconds, "tokens": None})
    discard_parts(parts)
    accuracy = accuracy_of(predictions)
    say(f"supervise: {engine.name} is asked as it is; test accuracy {shown(accuracy)} (floor)", quiet=quiet)
    return {"model": engine.name, "test_accuracy": accuracy, "seconds": seconds}


def _floor_record(
    project: Project, task: str, model: str, num_rows: int, num_items: int, num_parameters: int | None
) -> dict[str, Any]:
    from labelrel.supervise import engines

    config = project.config
    told_by = "supervise" if engines.get(config.sample.engine).tuned else "sample"
    sections = {name: getattr(config, name).model_dump() for name in ("base", "prompt", told_by)}
    return {
        "method": "floor",
        "role": "floor",
        "seed": config.base.seed,
        "task": task,
        "model": model,
        "num_rows": num_rows,
        "num_items": num_items,
        "num_parameters": num_parameters,
        "params": flat(sections),
        "comparison": None,  # the floor serves every comparison on these items
        "mlflow_run_id": None,
        "inputs": {"items": source_of(project, project.items)},
    }


def sample(project: Project, *, quiet: bool = False) -> Summary:
    """Ask the supervisor in several wordings → `answers.parquet`; goes on where it stopped."""
    from labelrel.supervise.sample import discard_parts, sample, unread
    from labelrel.supervise.variants import query_variants

    settings = project.config.sample
    items, prompting = items_and_prompting(project)
    asked = pl.concat([require_split(items, split) for split in settings.splits])
    queries = list(query_variants(prompting, asked, settings.variants))
    engine = _open_engine(project)
    parts = project.cache / "sample"
    with progress("sample", quiet=quiet) as report:
        answers = sample(engine, queries, parts=parts, progress=report)
    files.write_table(project.answers, answers)
    discard_parts(parts)
    causes = unread(answers, queries)
    say(f"sample: {answers.height} answers to {asked.height} items → {project.answers}", quiet=quiet)
    if causes:
        told = ", ".join(f"{cause} ({count})" for cause, count in causes.items())
        say(f"sample: {sum(causes.values())} answers could not be read: {told}", quiet=quiet)
    return {"items": asked.height, "answers": answers.height, "unread": causes, "out": str(project.answers)}


PARAPHRASE = "Rewrite the question in other words. Keep every number and every name.\nQuestion: {}\nRewritten question:"


def paraphrase(project: Project, *, count: int = 4, out: Path | None = None, quiet: bool = False) -> Summary:
    """Ask the engine for the question of every sampled item in other words → a table for `prepare.paraphrases`.

    A paraphrase that changes a number, says nothing or says the same is left out.

    Args:
        project: items and engine; a tuned engine is asked as it was before tuning.
        count: paraphrases asked per item.
        out: JSONL, CSV or Parquet; null: `paraphrases.jsonl` in the project.
        quiet: no messages.
    """
    from labelrel.supervise.sample import discard_parts, sample
    from labelrel.supervise.variants import Query
    from labelrel.tasks.base import Reading
    from labelrel.tasks.paraphrase import accept_paraphrase

    items, _ = items_and_prompting(project)
    asked = pl.concat([require_split(items, split) for split in project.config.sample.splits])
    rows = list(asked.iter_rows(named=True))
    queries = [
        Query(item, str(n), PARAPHRASE.format(item["question"]), None, lambda text: Reading(text.strip() or None))
        for item in rows
        for n in range(count)
    ]
    engine = _open_engine(project, mode="generate", tuned=False)
    parts = project.cache / "paraphrase"
    with progress("paraphrase", quiet=quiet) as report:
        answers = sample(engine, queries, parts=parts, progress=report)
    kept: dict[tuple[str, str], None] = {}
    for query, text in zip(queries, answers["answer"], strict=True):
        if text is not None and accept_paraphrase(query.item["question"], text) is None:
            kept.setdefault((query.item["item_id"], text))
    table = pl.DataFrame(list(kept), schema={"item_id": pl.String, "paraphrase": pl.String}, orient="row")
    if table.is_empty():
        raise InputError(
            f"none of {len(queries)} paraphrases by {engine.name} keeps to its question; ask a better model."
        )
    out = out or project.root / "paraphrases.jsonl"
    files.write_any_table(out, table)
    discard_parts(parts)
    say(f"paraphrase: {table.height} of {len(queries)} accepted → {out}", quiet=quiet)
    return {"items": asked.height, "asked": len(queries), "accepted": table.height, "out": str(out)}


def _open_engine(project: Project, *, temperature: float | None = None, mode: Any = None, tuned: bool = True) -> Any:
    """Return the project's engine, with what differs from its settings."""
    from labelrel.supervise import Asking, engines

    config, settings = project.config, project.config.sample
    asking = Asking(
        mode=mode or settings.mode,
        temperature=settings.temperature if temperature is None else temperature,
        seed=config.base.seed,
        max_new_tokens=settings.max_new_tokens,
        cache=project.cache / settings.engine,
        supervisor=lambda: _local_supervisor(project, tuned=tuned),
        model=config.supervise.model,
    )
    return engines.get(settings.engine, where="sample.engine").open(asking, settings.options)


def _local_supervisor(project: Project, *, tuned: bool) -> Any:
    """Load the supervisor with the adapter that `supervise` has trained, or without."""
    from labelrel.align.lora import check_adapter, load_adapter
    from labelrel.supervise import Supervisor

    config = project.config
    adapter = project.supervisor / "adapter"
    if tuned:
        check_adapter(adapter)  # before a model is loaded for nothing
    loaded = load(config.supervise.model, config.base)
    if not tuned:
        return Supervisor(loaded.model, loaded.tokenizer, config.supervise.model, loaded.fingerprint)
    fingerprint = files.digest_of(
        [loaded.fingerprint, files.digest(adapter / "adapter_model.safetensors"), config.base.model_dump()]
    )
    return Supervisor(load_adapter(loaded.model, adapter), loaded.tokenizer, config.supervise.model, fingerprint)
