"""The comparison of label treatments on every task, from one command; docs/results.md is made from it.

    python -m benchmarks.experiments run --data DIR              # → build/experiments, resumable
    python -m benchmarks.experiments collect                     # → benchmarks/results/experiments.json
    python -m benchmarks.experiments page                        # → docs/results.md and its pictures

DIR holds the files of the paper's tasks. Each experiment is a project of its own under build/experiments with
the params that its profile gives it; a run that was killed goes on where it stopped. All floors and ceilings
come first: they say whether a task leaves a gap at all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "experiments"
RESULTS = Path(__file__).parent / "results" / "experiments.json"

ONE_THREAD = {"base": {"threads": 1}}
"""One process per core gets more done than one process on all cores."""

METHODS = [
    "ceiling", "naive", "majority", "filter", "reweight", "cleanlab_filter", "cleanlab_weight", "target_accuracy",
    "random", "oracle",
]  # fmt: skip
TREATMENTS: dict[str, dict[str, Any]] = {
    "naive_options": {"rule": "naive", "loss": "option_cross_entropy"},
    "confidence": {"rule": "naive", "loss": "confidence"},
    "reverse_kl": {"rule": "naive", "loss": "reverse_kl"},
    "ranking": {"rule": "naive", "loss": "option_ranking"},
    "small_loss": {"rule": "naive", "loss": "small_loss"},
    "soft_labels": {},
    "label_smoothing": {},
    "forward_correction": {},
    "two_stage": {"rule": "filter", "quantile": 0.5, "then": {"relabel": "discarded"}},
    "rounds": {"rule": "majority", "then": {"relabel": "all"}},
}
"""Losses and second looks; `naive_options` is what those that compare options are to be measured by."""

FACTS = {
    "prepare": {"sizes": {"weak_train": 240, "w2s": 240, "gold_dev": 60, "test": 240}},
    "select": {
        "methods": [*METHODS, *TREATMENTS],
        "target_accuracy": {"score": "share", "target": 0.7, "confidence": 0.9},
        **TREATMENTS,
    },
    "align": {"seeds": [0, 1]},
}
"""Where no threshold qualifies for the target accuracy, that is the result."""

LISTED = {
    "prepare": {"sizes": {"weak_train": 240, "w2s": 120, "gold_dev": 20, "test": 60}},
    "prompt": {"options": "listed", "answer": "text", "vary": "order"},
    "supervise": {"variants": 2},
    "select": {"methods": ["naive"]},
}
"""The options shown, and shown in other orders: only as far as its votes, to see what they say."""


@dataclass(frozen=True)
class Experiment:
    """One task with one pair of models.

    Attributes:
        name: of its folder and of its row.
        task: registered name.
        changes: what differs from the profile.
        until: the last stage; `score` where only the informativeness of the votes is asked.
        needs_data: whether the task's files are the user's.
    """

    name: str
    task: str
    changes: dict[str, Any] = field(default_factory=dict)
    until: str = "report"
    needs_data: bool = False


@dataclass(frozen=True)
class Sweep:
    """A round over all experiments, so that what matters most is there first.

    Attributes:
        methods: which; None is all of them, and the report.
        seeds: how many of the seeds.
    """

    methods: tuple[str, ...] | None
    seeds: int


GAP, ONE_SEED, ALL = Sweep(("ceiling",), 1), Sweep(None, 1), Sweep(None, 99)


def experiments() -> list[Experiment]:
    """Return all of them: the fact tasks, the paper's tasks, and the other way of varying the query."""
    from labelrel.tasks import tasks

    paper = ("hellaswag", "mmlu", "ethics_commonsense", "gsm8k")
    facts = [name for name in tasks if name not in (*paper, "table")]
    return [
        *(Experiment(name, name, FACTS) for name in facts),
        *(Experiment(name, name, needs_data=True) for name in paper),
        Experiment("hellaswag-orders", "hellaswag", LISTED, until="score", needs_data=True),
        Experiment("mmlu-orders", "mmlu", LISTED, until="score", needs_data=True),
        Experiment("world_facts-orders", "world_facts", LISTED, until="score"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do what is missing")
    run.add_argument("--data", metavar="DIR", help="folder with the files of the paper's tasks")
    run.add_argument("--profile", default="quick")
    run.add_argument("--only", nargs="*", help="names of experiments")
    run.add_argument("--methods", nargs="*", help="names of methods, of those experiments that have them")
    run.add_argument("--seeds", type=int, help="how many training seeds; none: all")
    run.add_argument("--part", default="1/1", help="i/n: do the i-th of n shares, one process each")
    run.add_argument("--gap-only", action="store_true", help="floors and ceilings, no methods")
    commands.add_parser("collect", help="gather the results of all experiments")
    commands.add_parser("page", help="write docs/results.md")
    options = parser.parse_args()
    if options.command == "run":
        run_all(options)
    elif options.command == "collect":
        RESULTS.write_text(json.dumps(collect(), indent=1) + "\n", encoding="utf-8")
    else:
        from benchmarks.results_page import write_page

        write_page(json.loads(RESULTS.read_text(encoding="utf-8")), WORK, ROOT / "docs")


def run_all(options: argparse.Namespace) -> None:
    share, shares = map(int, options.part.split("/"))
    chosen = [e for e in experiments() if not options.only or e.name in options.only][share - 1 :: shares]
    for sweep in [GAP] if options.gap_only else [GAP, ONE_SEED, ALL]:
        for experiment in chosen:
            if experiment.needs_data and options.data is None:
                continue
            if experiment.needs_data and experiment.until == "report":
                if sweep is ONE_SEED:
                    reproduce(experiment, options.profile, options.data)
                continue
            if experiment.until == "score" and sweep is not ALL:
                continue
            chosen_sweep = replace(sweep, seeds=min(sweep.seeds, options.seeds or sweep.seeds))
            if options.methods and sweep is not GAP:
                chosen_sweep = replace(chosen_sweep, methods=tuple(options.methods))
            run_one(experiment, options.profile, options.data, chosen_sweep)


def reproduce(experiment: Experiment, profile: str, data: str) -> None:
    """Run one of the paper's tasks as a user does, by `dvc repro`, which does what is missing."""
    from benchmarks.dvc_project import dvc, make_project

    folder = WORK / experiment.name
    environment = make_project(folder, params_of(experiment, profile, data, folder))
    _timed(f"{experiment.name}: dvc repro", lambda: dvc(folder, environment, "repro"))


def run_one(experiment: Experiment, profile: str, data: str | None, sweep: Sweep) -> None:
    """Bring one experiment as far as asked; what is there stays."""
    from labelrel import pipeline
    from labelrel.project import open_project

    folder = WORK / experiment.name
    text = params_of(experiment, profile, data, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    project = open_project(folder / "params.yaml")
    stages: list[tuple[Path, Callable[[], Any]]] = [
        (project.items, lambda: pipeline.prepare(project)),
        (project.supervisor / "run.json", lambda: pipeline.supervise(project)),
        (project.answers, lambda: pipeline.sample(project)),
        (project.scores, lambda: pipeline.score(project)),
    ]
    for result, stage in stages:
        if not result.is_file():
            _timed(f"{experiment.name}: {result.name}", stage)
    if experiment.until == "score":
        return
    for seed in project.config.align.seeds[: sweep.seeds]:
        for method in sweep.methods or project.config.select.methods:
            _align(experiment.name, project, method, seed)
    if sweep.methods != GAP.methods:
        pipeline.report(_without_refused(project), track=False)


def _without_refused(project: Any) -> Any:
    """Return the project without the methods that kept nothing, for its report."""
    select = project.config.select
    trained = [method for method in select.methods if any(project.align.glob(f"{method}-*/run.json"))]
    config = project.config.model_copy(update={"select": select.model_copy(update={"methods": trained})})
    return replace(project, config=config)


def _align(name: str, project: Any, method: str, seed: int) -> None:
    from labelrel import pipeline
    from labelrel.errors import InputError

    training = project.training / f"{method}.parquet"
    refused = project.training / f"{method}.refused.txt"
    if (project.align / f"{method}-{seed}" / "run.json").is_file() or refused.is_file():
        return
    if not training.is_file():
        try:
            pipeline.select(project, method)
        except InputError as error:  # no threshold qualifies: a result as well
            refused.parent.mkdir(parents=True, exist_ok=True)
            refused.write_text(f"{error}\n", encoding="utf-8")
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            return
    _timed(f"{name}: {method} seed {seed}", lambda: pipeline.align(project, training, seed, track=False))


def params_of(experiment: Experiment, profile: str, data: str | None, folder: Path) -> str:
    """Return the params of an experiment; what its supervisor said may not be of other settings."""
    import yaml

    from labelrel.profile import compose, merge

    source = str(Path(data).resolve()) if experiment.needs_data and data else None
    document = merge(merge(compose(profile, experiment.task, source), ONE_THREAD), experiment.changes)
    text = yaml.safe_dump(document, sort_keys=False)
    params = folder / "params.yaml"
    there = yaml.safe_load(params.read_text(encoding="utf-8")) if params.is_file() else document
    if any(there[section] != document[section] for section in ("base", "prepare", "prompt", "supervise", "sample")):
        sys.exit(f"{params} is of other settings; remove {folder} to run it anew")
    return text


def collect() -> dict[str, Any]:
    """Return what all experiments found that have got as far as their ceiling, or their scores."""
    from labelrel.project import open_project

    found = []
    for experiment in experiments():
        folder = WORK / experiment.name
        if (folder / "data" / "scores.parquet").is_file():
            found.append(_outcome(experiment, open_project(folder / "params.yaml")))
    return {
        "command": "python -m benchmarks.experiments run --data DIR",
        "date": date.today().isoformat(),
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "cleanlab")},
        "experiments": found,
    }


def _outcome(experiment: Experiment, project: Any) -> dict[str, Any]:
    from labelrel.files import read_json
    from labelrel.report import labels
    from labelrel.report.collect import collect as compare

    config = project.config
    items, scored = labels.read_labels(project.sources())
    weak = labels.with_gold(scored.filter(scored["weak_label"]), items)
    table = labels.score_table(weak)
    entropy = scored.filter(method="entropy").unique("item_id")
    outcome: dict[str, Any] = {
        "name": experiment.name,
        "task": experiment.task,
        "weak": config.supervise.model,
        "strong": config.align.model,
        "prompt": config.prompt.model_dump(),
        "sizes": config.prepare.sizes.model_dump(),
        "seeds": config.align.seeds,
        "variants": config.sample.variants,
        "floor_accuracy": _accuracy(project.supervisor),
        "unanimous": float((entropy["score"] == 0).mean()),
        "label_accuracy": float(weak.filter(method="entropy")["correct"].mean()),
        "auroc": dict(table.select("method", "auroc").iter_rows()),
        "refused": {
            file.name.removesuffix(".refused.txt"): file.read_text(encoding="utf-8").strip()
            for file in sorted(project.training.glob("*.refused.txt"))
        },
        "rows": [],
        "seconds": {"supervise": read_json(project.supervisor / "run.json")["seconds"]},
    }
    if any(project.align.glob("ceiling-*/run.json")):
        comparison = compare(project.sources(), confidence=0.95, bootstrap=2000, seed=config.base.seed)
        outcome["rows"] = [row.as_dict() for row in comparison.rows]
        outcome["vs_options"] = _vs_options(project)
        outcome["gap"] = {"value": comparison.gap.value, "low": comparison.gap.low, "high": comparison.gap.high}
    return outcome


def _vs_options(project: Any) -> dict[str, dict[str, float | None]]:
    """Return loss or second look → its lead over `naive_options`, which shares the way of learning, paired by item."""
    import numpy as np
    import polars as pl

    from labelrel.evaluate.bootstrap import paired_difference

    def correct(method: str) -> Any:
        runs = sorted(project.align.glob(f"{method}-[0-9]*/predictions.parquet"))
        return np.array([pl.read_parquet(run)["correct"].cast(pl.Float64).to_numpy() for run in runs])

    baseline = correct("naive_options")
    found = {}
    for method in [*TREATMENTS, "naive"] if len(baseline) else []:
        runs = correct(method)
        if method != "naive_options" and len(runs):
            lead = paired_difference(runs, baseline, seed=project.config.base.seed)
            found[method] = {"value": lead.value, "low": lead.low, "high": lead.high}
    return found


def _accuracy(folder: Path) -> float:
    import polars as pl

    return float(pl.read_parquet(folder / "predictions.parquet").filter(split="test")["correct"].mean())


def _timed(what: str, run: Callable[[], Any]) -> None:
    started = time.perf_counter()
    run()
    print(f"{what}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
