"""The command line: parse, call one pipeline function, print.

Everything heavy is imported where it is used, so that `--help` answers at once. This file has the
commands of a project; `cli_tables.py` those on any table, `cli_models.py` those on any model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelrel import __version__, cli_tables  # noqa: F401  (registers its commands, which help shows first)

# isort: split
from labelrel import cli_models  # noqa: F401  (and then these)
from labelrel.cli_common import (
    LISTS,
    PARAMS,
    PROJECT,
    Debug,
    Json,
    Out,
    Params,
    Quiet,
    Seed,
    Track,
    app,
    command,
    open_project,
    print_json,
)  # fmt: skip
from labelrel.errors import ConfigError


def _version(given: bool) -> None:
    if given:
        print(f"labelrel {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


@command("prepare", "labelrel prepare --task world_facts", PROJECT)
def prepare(
    task: Annotated[str | None, typer.Option(help="A registered task; `labelrel tasks` lists them.")] = None,
    source: Annotated[str | None, typer.Option(help="Folder with the task's files, or 'hub'.")] = None,
    params: Params = PARAMS, out: Out = None, as_json: Json = False, quiet: Quiet = False, seed: Seed = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Make the items: data set → data/items.parquet."""
    from labelrel import pipeline

    project = open_project(params, ["base", "prepare"], prepare__task=task, prepare__source=source, base__seed=seed)
    print_json(pipeline.prepare(project, out=out, quiet=quiet), as_json)


@command("fetch", "labelrel fetch smollm2-135m", PROJECT)
def fetch(
    model: Annotated[str | None, typer.Argument(help="Model reference; none: all models of the project.")] = None,
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Bring a model to the local cache, verified."""
    from labelrel import pipeline

    if model is not None:
        result = pipeline.fetch_model(model, quiet=quiet)
        print_json(result, as_json)
        if not as_json:
            print(result["folder"])
    else:
        print_json(pipeline.fetch(open_project(params, ["supervise", "sample", "align"]), quiet=quiet), as_json)


@command("supervise", "labelrel supervise --model smollm2-135m@layers=10", PROJECT)
def supervise(
    model: Annotated[str | None, typer.Option(help="Model reference of the weak supervisor.")] = None,
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, seed: Seed = None, debug: Debug = False,
) -> None:  # fmt: skip
    """Tune the weak supervisor on the gold labels of weak_train; its accuracy is the floor."""
    from labelrel import pipeline

    project = open_project(params, ["base", "prompt", "supervise", "sample"], supervise__model=model, base__seed=seed)
    print_json(pipeline.supervise(project, quiet=quiet), as_json)


@command("sample", "labelrel sample --variants 5", PROJECT)
def sample(
    model: Annotated[str | None, typer.Option(help="Model reference of the weak supervisor.")] = None,
    variants: Annotated[int | None, typer.Option(help="Wordings asked per item.", min=1)] = None,
    engine: Annotated[str | None, typer.Option(help="Who answers.")] = None,
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, seed: Seed = None, debug: Debug = False,
) -> None:  # fmt: skip
    """Ask the supervisor several times per item; goes on where it stopped."""
    from labelrel import pipeline

    project = open_project(
        params, ["base", "prompt", "supervise", "sample"],
        supervise__model=model, sample__variants=variants, sample__engine=engine, base__seed=seed,
    )  # fmt: skip
    print_json(pipeline.sample(project, quiet=quiet), as_json)


@command("paraphrase", "labelrel paraphrase --count 4 -o paraphrases.jsonl", PROJECT)
def paraphrase(
    count: Annotated[int, typer.Option(help="Paraphrases asked per item.", min=1)] = 4,
    engine: Annotated[str | None, typer.Option(help="Who writes them.")] = None,
    params: Params = PARAMS, out: Out = None, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Ask the engine for the questions in other words; prepare.paraphrases takes the file."""
    from labelrel import pipeline

    project = open_project(params, ["base", "supervise", "sample"], sample__engine=engine)
    print_json(pipeline.paraphrase(project, count=count, out=out, quiet=quiet), as_json)


@command("select", "labelrel select --rule filter", PROJECT)
def select(
    rule: Annotated[str, typer.Option(help="Selection rule; `labelrel methods` lists them.")],
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, seed: Seed = None, debug: Debug = False,
) -> None:  # fmt: skip
    """Turn scores into the training set of one rule."""
    from labelrel import pipeline

    project = open_project(params, ["base", "prompt", "select"], base__seed=seed)
    print_json(pipeline.select(project, rule, quiet=quiet), as_json)


@command("align", "labelrel align --rule naive --rule filter --seed 0", PROJECT)
def align(
    train: Annotated[list[Path] | None, typer.Option(help="Training set; its file name names the method.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Method whose training set is made first.")] = None,
    seed: Annotated[int | None, typer.Option(help="Training seed; none: all of align.seeds.", min=0)] = None,
    model: Annotated[str | None, typer.Option(help="Model reference of the strong model.")] = None,
    top_layers: Annotated[int | None, typer.Option(help="Adapt the last K layers, cache the rest.", min=1)] = None,
    loss: Annotated[str | None, typer.Option(help="`labelrel methods` lists them; none: the method's own.")] = None,
    track: Track = True, params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train the strong model on a training set, or on each of several, evaluate it, log it to MLflow."""
    from labelrel import pipeline
    from labelrel.align.launch import open_world

    sections = ["base", "prompt", "select", "align"]
    if not train and not rule:
        raise ConfigError("name what to train on: --train FILE or --rule NAME, each as often as you like.")
    with open_world(quiet=quiet) as world:
        project = open_project(params, sections, align__model=model, align__top_layers=top_layers)
        for name in rule or () if world.leads else ():
            pipeline.select(project, name, quiet=quiet)
        world.wait()
        sources = [*(train or ()), *(project.training / f"{name}.parquet" for name in rule or ())]
        seeds = project.config.align.seeds if seed is None else [seed]
        results = pipeline.align_each(project, sources, seeds, loss=loss, track=track, quiet=quiet, world=world)
    print_json(results[0] if len(results) == 1 else {"runs": results}, as_json and world.leads)


@command("report", "labelrel report", PROJECT)
def report(
    shown: Annotated[bool, typer.Option("--show", help="Print the report that is there; make nothing.")] = False,
    track: Track = True, params: Params = PARAMS, out: Out = None, as_json: Json = False, quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Compare the methods: table, figures, one HTML page, and the same in MLflow."""
    from labelrel import pipeline
    from labelrel.report import read_report, show

    project = open_project(params, ["base", "select", "align", "report"])
    if shown:
        result = read_report(out or project.report)
    else:
        result = pipeline.report(project, out=out, track=track, quiet=quiet)
    if as_json:
        print_json({key: value for key, value in result.items() if key not in ("folders", "figures", "files")}, True)
    else:
        show(result)


@command("methods", "labelrel methods --json", LISTS)
def methods(as_json: Json = False, debug: Debug = False) -> None:
    """List the scoring methods and selection rules with what they need."""
    from labelrel.listing import list_methods, print_listing

    listing = list_methods()
    print_json(listing, True) if as_json else print_listing(listing)


@command("tasks", "labelrel tasks", LISTS)
def tasks(as_json: Json = False, debug: Debug = False) -> None:
    """List the tasks with kind and source."""
    from labelrel.listing import list_tasks, print_listing

    listing = list_tasks()
    print_json(listing, True) if as_json else print_listing(listing)


@command("engines", "labelrel engines", LISTS)
def engines(as_json: Json = False, debug: Debug = False) -> None:
    """List who can be asked, with the options of each."""
    from labelrel.listing import list_engines, print_listing

    listing = list_engines()
    print_json(listing, True) if as_json else print_listing(listing)


@command("profile", "labelrel profile quick --task hellaswag --source DIR", PROJECT)
def profile(
    name: Annotated[str | None, typer.Argument(help="quick, gpu or paper; none: list them.")] = None,
    task: Annotated[str, typer.Option(help="A registered task; `labelrel tasks` lists them.")] = "world_facts",
    source: Annotated[str | None, typer.Option(help="Folder with the task's files, or 'hub'.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The params file to write.")] = PARAMS,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    as_json: Json = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write params.yaml for a task: how large, how thorough, which models."""
    from labelrel.listing import list_profiles, print_listing
    from labelrel.profile import write_profile

    if name is None:
        listing = list_profiles()
        print_json(listing, True) if as_json else print_listing(listing)
    else:
        write_profile(name, task, source, out, force=force)
        print_json({"profile": name, "task": task, "out": str(out)}, as_json)


@command("ui", "labelrel ui --port 5000", PROJECT)
def ui(
    port: Annotated[int, typer.Option(help="On the loopback interface.", min=1, max=65535)] = 5000,
    params: Params = PARAMS, debug: Debug = False,
) -> None:  # fmt: skip
    """Open the MLflow UI on this project's store, reachable from this machine only."""
    from labelrel.tracking import serve

    serve(params.resolve().parent, port)


if __name__ == "__main__":
    app()
