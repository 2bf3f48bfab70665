"""Test accuracy of LoRA on the top layers beside LoRA on all layers: same labels, same budget, same seeds.

The labels are those of an experiment under build/experiments where there is one; else they are made here. Each
way is a project of its own under build/align, resumable run by run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.align import WORK, facts, read_part, write
from benchmarks.experiments import FACTS, Experiment, params_of
from benchmarks.experiments import WORK as EXPERIMENTS

METHOD = "naive"
LABELS = ("items.parquet", "answers.parquet", "scores.parquet")


def quality(options: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing and return the record, written after every task; other tasks with these settings stay."""
    before = read_part(options.out, "quality")
    settings = {"model": options.model, "top_layers": options.top_layers, "seeds": options.seeds, "method": METHOD}
    tasks = before["tasks"] if before and before["settings"] == settings else {}
    record = {**facts(options), "settings": settings, "tasks": tasks}
    for task in options.tasks:
        record["tasks"][task] = compare(task, options)
        write(options.out, "quality", record)
    return record


def compare(task: str, options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import polars as pl

    from labelrel import pipeline
    from labelrel.evaluate.bootstrap import interval, paired_difference
    from labelrel.files import read_json

    correct: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {}
    labels = make_labels(task, options)
    for name, top_layers in (("top_layers", options.top_layers), ("all_layers", None)):
        project = open_one(task, name, {"top_layers": top_layers}, options)
        project.data.mkdir(exist_ok=True)
        for file in LABELS:
            if not (project.data / file).is_file():
                shutil.copy(labels / file, project.data / file)
        training = project.training / f"{METHOD}.parquet"
        if not training.is_file():
            pipeline.select(project, METHOD, quiet=True)
        runs = [project.align / f"{METHOD}-{seed}" for seed in range(options.seeds)]
        for seed, run in enumerate(runs):
            if not (run / "run.json").is_file():
                pipeline.align(project, training, seed, track=False)
        tables = [pl.read_parquet(run / "predictions.parquet").sort("item_id") for run in runs]
        correct[name] = np.array([table["correct"].cast(pl.Float64).to_numpy() for table in tables])
        seconds[name] = [read_json(run / "run.json")["seconds"] for run in runs]
    top, whole = correct["top_layers"], correct["all_layers"]
    return {
        "epochs": project.config.align.epochs,
        "num_train_items": project.config.prepare.sizes.w2s,
        "accuracy": {name: asdict(interval(runs)) for name, runs in correct.items()},
        "all_minus_top": asdict(paired_difference(whole, top)),
        "seconds": seconds,
    }


def make_labels(task: str, options: argparse.Namespace) -> Path:
    """Return the folder of items, answers and scores, made by the stages or by an experiment before."""
    import yaml

    from labelrel import pipeline

    project = open_one(task, "labels", {}, options)
    other = EXPERIMENTS / task
    if all((other / "data" / file).is_file() for file in LABELS):
        theirs = yaml.safe_load((other / "params.yaml").read_text(encoding="utf-8"))
        ours = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
        if all(theirs[part] == ours[part] for part in ("prepare", "prompt", "sample")):
            return other / "data"
    stages = [
        (project.items, pipeline.prepare), (project.supervisor / "run.json", pipeline.supervise),
        (project.answers, pipeline.sample), (project.scores, pipeline.score),
    ]  # fmt: skip
    for result, stage in stages:
        if not result.is_file():
            print(f"{task}: {result.name}", file=sys.stderr, flush=True)
            stage(project)
    return project.data


def open_one(task: str, name: str, align: dict[str, Any], options: argparse.Namespace) -> Any:
    from labelrel.project import open_project

    seeds = list(range(options.seeds))
    changes = {
        **FACTS,
        "base": {"threads": options.threads},
        "align": {**align, "seeds": seeds, "model": options.model},
    }
    changes["select"] = {"methods": [METHOD]}
    folder = WORK / task / name
    text = params_of(Experiment(task, task, changes), "quick", None, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return open_project(folder / "params.yaml")


def quality_table(record: dict[str, Any]) -> str:
    how = record["settings"]
    lines = [
        f"{how['model']}: test accuracy [95 %], top {how['top_layers']} layers beside all, {how['method']} labels, "
        f"{how['seeds']} seeds"
    ]
    for task, found in record["tasks"].items():
        top, whole = found["accuracy"]["top_layers"], found["accuracy"]["all_layers"]
        lines.append(
            f"{task:<16} top {_shown(top)}  all {_shown(whole)}  all - top {_shown(found['all_minus_top'], '+')}  "
            f"({top['n']} items)"
        )
    return "\n".join(lines)


def _shown(found: dict[str, Any], sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
