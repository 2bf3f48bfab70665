"""The command line: parse, call one pipeline function, print.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 2 the user's mistake,
1 ours. Everything heavy is imported where it is used, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from labelrel import __version__
from labelrel.errors import LabelrelError

app = typer.Typer(
    help="Score how reliable weak labels are, clean them, align a strong model on the rest, compare in MLflow.",
    epilog="Start: `labelrel prepare` makes the questions, `dvc repro` runs everything, `labelrel ui` shows it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Params = Annotated[Path, typer.Option("--params", help="Settings; its folder is the project.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write instead of the project's own place.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Instead of base.seed.", min=0)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Track = Annotated[bool, typer.Option("--track/--no-track", help="Log to MLflow.")]
PARAMS = Path("params.yaml")


def _told_in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a user's mistake into one line and exit code 2, unless --debug asks for the traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LabelrelError as error:
            if kwargs.get("debug"):
                raise
            print(f"labelrel: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("labelrel: interrupted; the same command goes on where it stopped", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapped


def _command(name: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, epilog=f"Example: `{example}`")(_told_in_one_line(function))
        return function

    return register


def _project(params: Path, sections: list[str], **overrides: Any) -> Any:
    from labelrel.project import open_project

    return open_project(params, sections=sections, overrides={k.replace("__", "."): v for k, v in overrides.items()})


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str, allow_nan=False))


def _version(given: bool) -> None:
    if given:
        print(f"labelrel {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


@_command("prepare", "labelrel prepare --task world_facts")
def prepare(
    task: Annotated[str | None, typer.Option(help="A registered task; `labelrel tasks` lists them.")] = None,
    source: Annotated[str | None, typer.Option(help="Folder with the task's files, or 'hub'.")] = None,
    params: Params = PARAMS, out: Out = None, as_json: Json = False, quiet: Quiet = False, seed: Seed = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Make the items: data set → data/items.parquet."""
    from labelrel import pipeline

    project = _project(params, ["base", "prepare"], prepare__task=task, prepare__source=source, base__seed=seed)
    _print(pipeline.prepare(project, out=out, quiet=quiet), as_json)


@_command("fetch", "labelrel fetch smollm2-135m")
def fetch(
    model: Annotated[str | None, typer.Argument(help="Model reference; none: all models of the project.")] = None,
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Bring a model to the local cache, verified."""
    from labelrel import pipeline

    if model is not None:
        result = pipeline.fetch_model(model, quiet=quiet)
        _print(result, as_json)
        if not as_json:
            print(result["folder"])
    else:
        _print(pipeline.fetch(_project(params, ["supervise", "align"]), quiet=quiet), as_json)


@_command("supervise", "labelrel supervise --model smollm2-135m@layers=10")
def supervise(
    model: Annotated[str | None, typer.Option(help="Model reference of the weak supervisor.")] = None,
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, seed: Seed = None, debug: Debug = False,
) -> None:  # fmt: skip
    """Tune the weak supervisor on the gold labels of weak_train; its accuracy is the floor."""
    from labelrel import pipeline

    project = _project(params, ["base", "supervise"], supervise__model=model, base__seed=seed)
    _print(pipeline.supervise(project, quiet=quiet), as_json)


@_command("sample", "labelrel sample --variants 5")
def sample(
    model: Annotated[str | None, typer.Option(help="Model reference of the weak supervisor.")] = None,
    variants: Annotated[int | None, typer.Option(help="Wordings asked per item.", min=1)] = None,
    engine: Annotated[str | None, typer.Option(help="Who answers.")] = None,
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, seed: Seed = None, debug: Debug = False,
) -> None:  # fmt: skip
    """Ask the supervisor several times per item; goes on where it stopped."""
    from labelrel import pipeline

    project = _project(
        params, ["base", "supervise", "sample"],
        supervise__model=model, sample__variants=variants, sample__engine=engine, base__seed=seed,
    )  # fmt: skip
    _print(pipeline.sample(project, quiet=quiet), as_json)


@_command("score", "labelrel score votes.csv --item-col task --annotator-col worker --answer-col label -m entropy")
def score(
    answers: Annotated[Path | None, typer.Argument(help="Parquet, CSV or JSONL; none: the project's answers.")] = None,
    items: Annotated[Path | None, typer.Option(help="Items table of these answers.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="Scoring method; repeatable.")] = None,
    item_col: Annotated[str, typer.Option(help="Column that names the item.")] = "item_id",
    annotator_col: Annotated[str, typer.Option(help="Column that names the annotator.")] = "annotator_id",
    variant_col: Annotated[str, typer.Option(help="Column that names the query variant.")] = "variant_id",
    answer_col: Annotated[str, typer.Option(help="Column with the answer.")] = "answer",
    params: Params = PARAMS, out: Out = None, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Score how reliable each answer is, in the project or in any table of answers."""
    if answers is None:
        from labelrel import pipeline

        project = _project(params, ["score"], score__methods=method or None)
        _print(pipeline.score(project, items=items, out=out, quiet=quiet), as_json)
        return
    from labelrel.outside import score_table

    columns = {"item_id": item_col, "annotator_id": annotator_col, "variant_id": variant_col, "answer": answer_col}
    result = score_table(answers, columns=columns, items=items, methods=method, out=out, quiet=quiet)
    if as_json:
        _print(result, True)
    elif out is None:
        print(result["csv"], end="")


@_command("select", "labelrel select --rule filter")
def select(
    rule: Annotated[str, typer.Option(help="Selection rule; `labelrel methods` lists them.")],
    params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, seed: Seed = None, debug: Debug = False,
) -> None:  # fmt: skip
    """Turn scores into the training set of one rule."""
    from labelrel import pipeline

    _print(pipeline.select(_project(params, ["base", "select"], base__seed=seed), rule, quiet=quiet), as_json)


@_command("align", "labelrel align --train data/training/filter.parquet --seed 0")
def align(
    train: Annotated[Path, typer.Option(help="Training set; its file name names the method.")],
    seed: Annotated[int | None, typer.Option(help="Training seed; none: all of align.seeds.", min=0)] = None,
    model: Annotated[str | None, typer.Option(help="Model reference of the strong model.")] = None,
    top_layers: Annotated[int | None, typer.Option(help="Adapt the last K layers, cache the rest.", min=1)] = None,
    track: Track = True, params: Params = PARAMS, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train the strong model on one training set, evaluate it, log it to MLflow."""
    from labelrel import pipeline

    project = _project(params, ["base", "select", "align"], align__model=model, align__top_layers=top_layers)
    seeds = project.config.align.seeds if seed is None else [seed]
    results = [pipeline.align(project, train, one, track=track, quiet=quiet) for one in seeds]
    _print(results[0] if len(results) == 1 else {"runs": results}, as_json)


@_command("report", "labelrel report")
def report(
    shown: Annotated[bool, typer.Option("--show", help="Print the report that is there; make nothing.")] = False,
    track: Track = True, params: Params = PARAMS, out: Out = None, as_json: Json = False, quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Compare the methods: table, figures, one HTML page, and the same in MLflow."""
    from labelrel import pipeline
    from labelrel.report import read_report, show

    project = _project(params, ["base", "select", "align", "report"])
    if shown:
        result = read_report(out or project.report)
    else:
        result = pipeline.report(project, out=out, track=track, quiet=quiet)
    if as_json:
        _print({key: value for key, value in result.items() if key not in ("folders", "figures", "files")}, True)
    else:
        show(result)


@_command("methods", "labelrel methods --json")
def methods(as_json: Json = False, debug: Debug = False) -> None:
    """List the scoring methods and selection rules with what they need."""
    from labelrel.listing import list_methods, print_listing

    listing = list_methods()
    _print(listing, True) if as_json else print_listing(listing)


@_command("tasks", "labelrel tasks")
def tasks(as_json: Json = False, debug: Debug = False) -> None:
    """List the tasks with kind and source."""
    from labelrel.listing import list_tasks, print_listing

    listing = list_tasks()
    _print(listing, True) if as_json else print_listing(listing)


@_command("ui", "labelrel ui --port 5000")
def ui(
    port: Annotated[int, typer.Option(help="On the loopback interface.", min=1, max=65535)] = 5000,
    params: Params = PARAMS, debug: Debug = False,
) -> None:  # fmt: skip
    """Open the MLflow UI on this project's store, reachable from this machine only."""
    from labelrel.tracking import serve

    serve(params.resolve().parent, port)


if __name__ == "__main__":
    app()
