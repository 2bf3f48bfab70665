"""Stages `align` and `report`: train the strong model on each training set, and compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.align.world import ALONE, World
from labelrel.evaluate import interval
from labelrel.pipeline.common import Summary, accuracy_of, flat, items_and_prompting, load, read, shown, source_of
from labelrel.progress import say
from labelrel.project import Project
from labelrel.schema import check_training, require_split


def align_each(
    project: Project,
    sources: Sequence[Path],
    seeds: Sequence[int],
    *,
    loss: str | None = None,
    track: bool = True,
    quiet: bool = False,
    world: World = ALONE,
) -> list[Summary]:
    """Run `align` for every training set and seed, with the strong model loaded once.

    Args:
        project: items and settings.
        sources: the training sets, one method each.
        seeds: of adapter and data order.
        loss: as for `align`.
        track: log to MLflow.
        quiet: no messages.
        world: as for `align`.
    """
    settings = project.config.align

    @cache
    def model() -> Any:
        return load(settings.model, project.config.base, load_in_8bit=settings.load_in_8bit, world=world)

    return [
        align(project, source, seed, loss=loss, track=track, quiet=quiet, world=world, model=model)
        for source in sources
        for seed in seeds
    ]


def align(
    project: Project,
    source: Path,
    seed: int,
    *,
    loss: str | None = None,
    track: bool = True,
    quiet: bool = False,
    world: World = ALONE,
    model: Callable[[], Any] | None = None,
) -> Summary:
    """Train the strong model on one training set, evaluate it, and log both to MLflow.

    A method with a second look (`then`) trains once more, on what it answers itself.

    Args:
        project: items and settings.
        source: the training set; its file name names the method, and a JSON file of that name
            beside it, which `select` writes, tells what it is.
        seed: of adapter and data order.
        loss: name of the loss; None is what the method's section, or its rule, says.
        track: log to MLflow.
        quiet: no messages.
        world: the processes that share the work, see `open_world`; the leading one alone writes, logs and speaks.
        model: returns the strong model, which is handed back without the adapter; None loads it.

    Raises:
        ConfigError: sharded weights in 8 bits, or more processes than cards.
    """
    from labelrel.align.lora import remove_adapter
    from labelrel.align.objective import Criterion
    from labelrel.align.run import write_run
    from labelrel.pipeline.stages import train_in_stages
    from labelrel.selection import Then
    from labelrel.tracking import dvc_md5s, git_state, open_tracker
    from labelrel.training_set import describe

    quiet, track = quiet or not world.leads, track and world.leads
    config, settings = project.config, project.config.align
    items, prompting = items_and_prompting(project)
    source, method = source.resolve(), source.stem
    training = check_training(read(source, f"select --rule {method}"), str(source))
    selection = describe(source, training)
    criterion = Criterion.named(**({"name": loss} if loss else selection["loss"]))
    then = None if selection["then"] is None else Then.model_validate(selection["then"])
    pool, test = require_split(items, "w2s"), require_split(items, "test")
    params = flat(
        {
            "base": config.base.model_dump(),
            "prompt": config.prompt.model_dump(),
            "align": settings.model_dump(exclude={"seeds"}),
            "select": {"method": method, method: config.select.params(method)},
            "loss": {"name": criterion.loss.name, **criterion.params.model_dump()},
        }
    )
    paths = {"items": project.items, "answers": project.answers, "scores": project.scores, "training": source}
    record = {
        "method": method,
        "role": selection["role"],
        "seed": seed,
        "task": prompting.task.name,
        "model": settings.model,
        "rule": selection.get("rule"),
        "loss": criterion.loss.name,
        "num_rows": training.height,
        "num_items": selection["num_items"],
        "params": params,
        "comparison": comparison_id(project),
        "inputs": {name: source_of(project, path) for name, path in paths.items() if path.is_file()},
    }
    loaded = model() if model else load(settings.model, config.base, load_in_8bit=settings.load_in_8bit, world=world)
    record["num_parameters"] = loaded.num_parameters
    _warn_of_a_smaller_model(project, loaded.num_parameters, quiet=quiet)
    folder = project.align / f"{method}-{seed}"
    tracker = open_tracker(project.root, track=track)
    parent = tracker.comparison_run(prompting.task.name, record["comparison"])
    with tracker.start_child(
        parent,
        method=method,
        role=record["role"],
        seed=seed,
        task=prompting.task.name,
        params=params | ({"rule": record["rule"]} if record["rule"] else {}),
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

        staged = train_in_stages(
            project,
            loaded,
            prompting,
            items,
            training,
            method=method,
            criterion=criterion,
            then=then,
            seed=seed,
            on_step=on_step,
            quiet=quiet,
            world=world,
        )
        outcome = staged.outcome
        child.log_history(curve)
        child.log_looks(outcome.looks or [])
        child.log_stages(staged.stages)
        if staged.stages:
            last = staged.stages[-1]
            record |= {"stages": staged.stages, "num_rows": staged.training.height, "num_items": last["num_items"]}
            selection |= {
                "label_accuracy": last["label_accuracy"],
                "kept_fraction": last["num_items"] / pool.height,
            }
        if world.leads:
            write_run(folder, outcome, {**record, "mlflow_run_id": child.run_id}, base=settings.model)
            staged.discard()
        accuracy = accuracy_of(outcome.predictions)
        child.log_dataset(staged.training, "training", source, "training")
        child.log_dataset(test, "test items", project.items, "evaluation")
        child.log_table_sample(staged.training, "training")
        child.log_artifacts(folder / "adapter", "adapter")
        child.log_metrics(
            {
                "test/accuracy": accuracy,
                **_ends(outcome.predictions, config.base.seed),
                "labels/accuracy": selection["label_accuracy"],
                "labels/kept_fraction": selection["kept_fraction"],
                "cost/seconds": outcome.seconds,
                "cost/tokens": outcome.trained.num_tokens,
            }
        )
    if model:
        remove_adapter(outcome.model)
    say(f"align: {method} (seed {seed}): test accuracy {shown(accuracy)}, {outcome.seconds:.0f} s", quiet=quiet)
    return {"method": method, "seed": seed, "test_accuracy": accuracy, "seconds": outcome.seconds, "out": str(folder)}


_LOG_EVERY = 20


def _ends(predictions: pl.DataFrame, seed: int) -> dict[str, float | None]:
    """Return the ends of the 95 % interval of a run's accuracy over items; `report` puts its method's there."""
    correct = predictions["correct"].drop_nulls().cast(pl.Float64)
    if correct.is_empty():
        return {}
    found = interval(correct.to_numpy(), seed=seed)
    return {"test/accuracy_lo": found.low, "test/accuracy_hi": found.high}


def _warn_of_a_smaller_model(project: Project, size: int, *, quiet: bool) -> None:
    """Say so where the strong model is smaller than the supervisor: the gap is then no weak-to-strong one."""
    record = project.supervisor / "run.json"
    weak = files.read_json(record).get("num_parameters") if record.is_file() else None
    if weak is not None and size < weak:
        say(
            f"warning: the strong model has {size / 1e6:.0f} million weights, fewer than the supervisor's "
            f"{weak / 1e6:.0f} million; for weak-to-strong training set align.model to the larger one.",
            quiet=quiet,
        )


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
    settings = [
        project.config.base.model_dump(exclude={"trunk": {"max_gib"}}),
        project.config.prompt.model_dump(),
        project.config.align.model_dump(exclude={"seeds"}),
    ]
    return files.digest_of([shared, settings])[:16]
