"""One plain function per stage; the command line and DVC both end here.

A stage reads files, calls one room, and writes files whole. It returns what a person wants to
read about it, as a plain dict. Rooms with heavy imports are entered inside the functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.errors import InputError
from labelrel.progress import progress, say
from labelrel.project import Project
from labelrel.schema import (
    check_answers,
    check_items,
    check_scores,
    check_training,
    require_split,
)

Summary = dict[str, Any]


def prepare(project: Project, *, out: Path | None = None, quiet: bool = False) -> Summary:
    """Data set → `items.parquet`."""
    from labelrel.tasks import tasks

    config = project.config
    task = tasks.get(config.prepare.task)
    items = check_items(task.load(config.prepare.source, config.prepare.sizes.model_dump(), config.base.seed))
    out = out or project.items
    files.write_table(out, items)
    counts = dict(items["split"].value_counts().iter_rows())
    say(f"prepare: {items.height} items of task {task.name} → {out}", quiet=quiet)
    return {"task": task.name, "items": items.height, "splits": counts, "out": str(out)}


def fetch(project: Project, *, quiet: bool = False) -> Summary:
    """Bring the models of the project to the local cache and write down which they are."""
    record = {}
    for reference in dict.fromkeys((project.config.supervise.model, project.config.align.model)):
        model = reference.partition("@")[0]
        if model not in record:
            record[model] = fetch_model(model, quiet=quiet)["weights_sha256"]
    files.write_json(project.models, record)
    return {"models": record, "out": str(project.models)}


def fetch_model(reference: str, *, quiet: bool = False) -> Summary:
    """Bring one model to the local cache, verified."""
    from labelrel.models.fetch import RECORD, fetch
    from labelrel.models.reference import parse_reference

    folder = fetch(parse_reference(reference), progress=lambda line: say(f"fetch: {line}", quiet=quiet))
    record = folder / RECORD
    known = files.read_json(record) if record.is_file() else {}
    weights = known.get("weights_sha256") or {f.name: files.digest(f) for f in sorted(folder.glob("*.safetensors"))}
    say(f"fetch: {reference} is in {folder}", quiet=quiet)
    return {"model": reference, "folder": str(folder), "weights_sha256": weights}


def supervise(project: Project, *, quiet: bool = False) -> Summary:
    """Tune the weak supervisor on the gold labels of `weak_train`; its test accuracy is the floor."""
    from labelrel.align.run import Budget, run, write_run
    from labelrel.schema import TRAINING
    from labelrel.supervise.variants import query_variants

    config, settings = project.config, project.config.supervise
    items, task = _items_and_task(project)
    gold = require_split(items, "weak_train").filter(pl.col("gold_label").is_not_null())
    test = require_split(items, "test")
    if gold.is_empty():
        raise InputError("no item of split 'weak_train' has a gold label; the supervisor has nothing to learn from.")
    rows = [
        (q.item["item_id"], q.prompt, task.target(q.item, q.item["gold_label"]), q.item["gold_label"], 1.0)
        for q in query_variants(task, gold, settings.variants)
    ]
    loaded = _load(settings.model, config.base)
    outcome = run(
        loaded,
        task,
        check_training(pl.DataFrame(rows, schema=TRAINING, orient="row")),
        test,
        budget=Budget(gold.height, settings.epochs, settings.batch_size, settings.learning_rate),
        lora=settings.lora,
        top_layers=settings.top_layers,
        seed=config.base.seed,
        cache=project.cache / "trunk",
        quiet=quiet,
    )
    record = {
        "method": "floor",
        "role": "floor",
        "seed": config.base.seed,
        "task": task.name,
        "model": settings.model,
        "num_rows": len(rows),
        "num_items": gold.height,
        "params": _flat({"base": config.base.model_dump(), "supervise": settings.model_dump()}),
        "comparison": None,  # the floor serves every comparison on these items
        "mlflow_run_id": None,
        "inputs": {"items": _source(project, project.items)},
    }
    write_run(project.supervisor, outcome, record, base=settings.model)
    accuracy = _accuracy(outcome.predictions)
    say(f"supervise: test accuracy {_shown(accuracy)} (floor), {outcome.seconds:.0f} s", quiet=quiet)
    return {"model": settings.model, "test_accuracy": accuracy, "seconds": outcome.seconds}


def sample(project: Project, *, quiet: bool = False) -> Summary:
    """Ask the supervisor in several wordings → `answers.parquet`; goes on where it stopped."""
    from labelrel.align.lora import load_adapter
    from labelrel.models.decoder import Decoder
    from labelrel.supervise.engines import engines
    from labelrel.supervise.sample import discard_parts, sample
    from labelrel.supervise.variants import query_variants

    config, settings = project.config, project.config.sample
    items, task = _items_and_task(project)
    asked = pl.concat([require_split(items, split) for split in settings.splits])
    queries = list(query_variants(task, asked, settings.variants))
    loaded = _load(config.supervise.model, config.base)
    adapter = project.supervisor / "adapter"
    model = load_adapter(loaded.model, adapter)
    engine = engines.get(settings.engine)(
        Decoder(model),
        loaded.tokenizer,
        name=config.supervise.model,
        temperature=settings.temperature,
        seed=config.base.seed,
    )
    key = [
        loaded.fingerprint,
        files.digest(adapter / "adapter_model.safetensors"),
        settings.temperature,
        config.base.model_dump(),
    ]
    parts = project.cache / "sample"
    with progress("sample", quiet=quiet) as report:
        answers = sample(engine, queries, parts=parts, key=key, progress=report)
    files.write_table(project.answers, answers)
    discard_parts(parts)
    say(f"sample: {answers.height} answers to {asked.height} items → {project.answers}", quiet=quiet)
    return {"items": asked.height, "answers": answers.height, "out": str(project.answers)}


def score(
    project: Project,
    *,
    methods: list[str] | None = None,
    items: Path | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> Summary:
    """Score the project's answers → `scores.parquet`; methods that learn from gold see that of gold_dev."""
    from labelrel.scoring import label_probs_source
    from labelrel.scoring import score as score_answers

    settings = project.config.score
    names = methods or settings.methods
    known = check_items(_read(items or project.items, "prepare"), str(items or project.items))
    answers = check_answers(_read(project.answers, "sample"), str(project.answers))
    scores = score_answers(
        answers,
        names,
        items=known,
        gold=_small_gold(known),
        protocol=settings.protocol,
        temperature=settings.temperature,
        params=settings.sections(),
    )
    source = label_probs_source(answers)
    out = out or project.scores
    files.write_table(out, check_scores(scores), {"labelrel.label_probs": source})
    say(f"score: {len(names)} methods, label probabilities from {source} → {out}", quiet=quiet)
    return {"methods": names, "label_probs": source, "rows": scores.height, "out": str(out)}


def _small_gold(items: pl.DataFrame) -> pl.DataFrame | None:
    """Return the gold labels that methods may learn from, those of gold_dev; None where there are none."""
    gold = items.filter(pl.col("split") == "gold_dev").select("item_id", "gold_label").drop_nulls()
    return gold if gold.height else None


def select(project: Project, name: str, *, quiet: bool = False) -> Summary:
    """Turn scores into the training set of one rule."""
    from labelrel.selection import reads, rules
    from labelrel.selection import select as select_examples
    from labelrel.training_set import label_accuracy, word_examples

    config = project.config
    rule, params = rules.get(name, where="--rule"), config.select.params(name)
    items, task = _items_and_task(project)
    answers = check_answers(_read(project.answers, "sample"), str(project.answers))
    scores = check_scores(_read(project.scores, "score"), str(project.scores))
    chosen = select_examples(name, scores, answers, items, seed=config.base.seed, params=params)
    training = check_training(word_examples(chosen, items, task), f"the training set of rule '{name}'")
    pool = require_split(items, "w2s").height
    read = reads(name, params)
    summary = {
        "method": name,
        "role": rule.role,
        "num_items": training["item_id"].n_unique(),
        "num_rows": training.height,
        "kept_fraction": training["item_id"].n_unique() / pool,
        "label_accuracy": label_accuracy(training, items, task),
        "score_method": read[0] if read else None,
        "params": params,
    }
    out = project.training / f"{name}.parquet"
    metadata = {"labelrel.method": name, "labelrel.role": rule.role, "labelrel.params": str(params)}
    files.write_table(out, training, metadata)
    files.write_json(project.training / f"{name}.json", summary)
    say(f"select: {name} keeps {summary['num_items']} of {pool} items → {out}", quiet=quiet)
    return {**summary, "out": str(out)}


def align(project: Project, source: Path, seed: int, *, track: bool = True, quiet: bool = False) -> Summary:
    """Train the strong model on one training set, evaluate it, and log both to MLflow.

    Args:
        project: items and settings.
        source: the training set; its file name names the method, and a JSON file of that name
            beside it, which `select` writes, tells what it is.
        seed: of adapter and data order.
        track: log to MLflow.
        quiet: no messages.
    """
    from labelrel.align.run import Budget, run, write_run
    from labelrel.tracking import dvc_md5s, git_state, open_tracker
    from labelrel.training_set import describe

    config, settings = project.config, project.config.align
    items, task = _items_and_task(project)
    source, method = source.resolve(), source.stem
    training = check_training(_read(source, f"select --rule {method}"), str(source))
    selection = describe(source, training)
    pool, test = require_split(items, "w2s"), require_split(items, "test")
    params = _flat(
        {
            "base": config.base.model_dump(),
            "align": settings.model_dump(exclude={"seeds"}),
            "select": {"method": method, method: config.select.params(method)},
        }
    )
    paths = {"items": project.items, "answers": project.answers, "scores": project.scores, "training": source}
    record = {
        "method": method,
        "role": selection["role"],
        "seed": seed,
        "task": task.name,
        "model": settings.model,
        "num_rows": training.height,
        "num_items": selection["num_items"],
        "params": params,
        "comparison": comparison_id(project),
        "inputs": {name: _source(project, path) for name, path in paths.items() if path.is_file()},
    }
    loaded = _load(settings.model, config.base)
    folder = project.align / f"{method}-{seed}"
    tracker = open_tracker(project.root, track=track)
    parent = tracker.comparison_run(task.name, record["comparison"])
    with tracker.start_child(
        parent,
        method=method,
        role=record["role"],
        seed=seed,
        task=task.name,
        params=params,
        inputs=record["inputs"],
        git=git_state(project.root),
        dvc_md5s=dvc_md5s(project.root, {name: Path(s["path"]) for name, s in record["inputs"].items()}),
    ) as child:
        curve: list[dict[str, float]] = []

        def on_step(step: Any) -> None:
            curve.append({"step": step.step, "loss": step.loss, "learning_rate": step.learning_rate})
            if len(curve) >= _LOG_EVERY:
                child.log_history(curve)
                curve.clear()

        outcome = run(
            loaded,
            task,
            training,
            test,
            budget=Budget(pool.height, settings.epochs, settings.batch_size, settings.learning_rate),
            lora=settings.lora,
            top_layers=settings.top_layers,
            seed=seed,
            cache=project.cache / "trunk",
            pool=pool,
            on_step=on_step,
            quiet=quiet,
        )
        child.log_history(curve)
        write_run(folder, outcome, {**record, "mlflow_run_id": child.run_id}, base=settings.model)
        accuracy = _accuracy(outcome.predictions)
        child.log_dataset(training, "training", source, "training")
        child.log_dataset(test, "test items", project.items, "evaluation")
        child.log_table_sample(training, "training")
        child.log_artifacts(folder / "adapter", "adapter")
        child.log_metrics(
            {
                "test/accuracy": accuracy,
                "labels/accuracy": selection["label_accuracy"],
                "labels/kept_fraction": selection["kept_fraction"],
                "cost/seconds": outcome.seconds,
                "cost/tokens": outcome.trained.num_tokens,
            }
        )
    say(f"align: {method} (seed {seed}): test accuracy {_shown(accuracy)}, {outcome.seconds:.0f} s", quiet=quiet)
    return {"method": method, "seed": seed, "test_accuracy": accuracy, "seconds": outcome.seconds, "out": str(folder)}


_LOG_EVERY = 20


def report(project: Project, *, out: Path | None = None, track: bool = True, quiet: bool = False) -> Summary:
    """Compare what was aligned: table, figures, page, and the same on the parent run in MLflow."""
    from labelrel.report import build_report
    from labelrel.tracking import git_state, open_tracker

    config, settings = project.config, project.config.report
    git = git_state(project.root)
    commit = f"{git.commit}{' with local changes' if git.dirty else ''}" if git.commit else "not in git"
    result = build_report(
        project.sources(),
        out or project.report,
        confidence=settings.confidence,
        bootstrap=settings.bootstrap,
        seed=config.base.seed,
        methods=config.select.methods,
        about={"git commit": commit},
    )
    say(f"report: {out or project.report}/report.html", quiet=quiet)
    open_tracker(project.root, track=track).finish_comparison(
        result["task"],
        comparison_id(project),
        rows=result["rows"],
        folders=result["folders"],
        answer=result["answer"],
        figures=result["figures"],
        files=result["files"],
        params=result["params"],
    )
    return result


def comparison_id(project: Project) -> str:
    """Return the digest of what all runs of a comparison share: items, answers, strong model, budget."""
    shared = [files.digest(path) for path in (project.items, project.answers) if path.is_file()]
    settings = [project.config.base.model_dump(), project.config.align.model_dump(exclude={"seeds"})]
    return files.digest_of([shared, settings])[:16]


def _read(path: Path, stage: str) -> pl.DataFrame:
    if not path.is_file():
        raise InputError(f"no such file: {path}; `labelrel {stage}` makes it, `dvc repro` makes all.")
    return files.read_table(path)


def _items_and_task(project: Project) -> tuple[pl.DataFrame, Any]:
    from labelrel.tasks import tasks

    items = check_items(_read(project.items, "prepare"), str(project.items))
    return items, tasks.get(items["task"][0], where=f"{project.items} (column task)")


def _load(model: str, base: Any) -> Any:
    from labelrel.models.load import load_model, pick_device, set_threads
    from labelrel.models.reference import parse_reference

    set_threads(base.threads)
    return load_model(parse_reference(model), device=pick_device(base.device))


def _accuracy(predictions: pl.DataFrame) -> float | None:
    """Return the share of right answers; null where no gold label is known."""
    correct = predictions["correct"].drop_nulls().cast(pl.Float64)
    return None if correct.is_empty() else float(correct.to_numpy().mean())


def _shown(accuracy: float | None) -> str:
    return "unknown" if accuracy is None else f"{accuracy:.3f}"


def _source(project: Project, path: Path) -> dict[str, str]:
    inside = path.is_relative_to(project.root)
    return {"path": str(path.relative_to(project.root) if inside else path), "sha256": files.digest(path)}


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
