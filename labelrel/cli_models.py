"""Commands on a model or an adapter: score it on any task, or merge it into its base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelrel.cli_common import MODELS, PARAMS, Debug, Json, Params, Quiet, Seed, command, open_project, print_json


@command("evaluate", "labelrel evaluate --adapter data/align/filter-0 --split test", MODELS)
def evaluate(
    model: Annotated[str | None, typer.Option(help="Reference; none: the adapter's base, or align.model.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="A run, such as data/align/filter-0, or an adapter.")] = None,
    items: Annotated[Path | None, typer.Option(help="Items of any task; none: the project's.")] = None,
    split: Annotated[str, typer.Option(help="Which of the items.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the answers, Parquet or JSONL.")] = None,
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, seed: Seed = None, debug: Debug = False,
) -> None:  # fmt: skip
    """Score a model, with or without an adapter, on the items of any task."""
    from labelrel import pipeline
    from labelrel.pipeline.evaluate import show_evaluation

    project = open_project(params, ["base", "prompt"], align__model=model, base__seed=seed)
    result = pipeline.evaluate(project, model=model, adapter=adapter, items=items, split=split, out=out, quiet=quiet)
    print_json(result, True) if as_json else show_evaluation(result)


@command("merge", "labelrel merge data/align/filter-0 -o merged", MODELS)
def merge(
    run: Annotated[Path, typer.Argument(help="A run, such as data/align/filter-0, or an adapter in PEFT's format.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    model: Annotated[str | None, typer.Option(help="Model reference of its base; none: the one it names.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is there.")] = False,
    as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Merge an adapter into its base: a folder that transformers loads without peft."""
    from labelrel import pipeline

    print_json(pipeline.merge(run, model=model, out=out, force=force, quiet=quiet), as_json)
