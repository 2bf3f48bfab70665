"""What all commands share: the application, its common options, and how errors and results are told.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 2 the user's mistake,
1 ours.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from labelrel.errors import LabelrelError

app = typer.Typer(
    help="Score how reliable weak labels are, clean them, align a strong model on the rest, compare in MLflow.",
    epilog="Start: `labelrel prepare` makes the questions, `dvc repro` runs everything, `labelrel ui` shows it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

PARAMS = Path("params.yaml")
PROJECT = "A project (params.yaml)"
TABLES = "Any table of answers"
MODELS = "Any model or adapter"
LISTS = "What there is"

Params = Annotated[Path, typer.Option("--params", help="Settings; its folder is the project.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write instead of the project's own place.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Instead of base.seed.", min=0)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Track = Annotated[bool, typer.Option("--track/--no-track", help="Log to MLflow.")]

ItemCol = Annotated[str, typer.Option(help="Column that names the item.")]
AnnotatorCol = Annotated[str, typer.Option(help="Column that names the annotator.")]
VariantCol = Annotated[str, typer.Option(help="Column that names the query variant.")]
AnswerCol = Annotated[str, typer.Option(help="Column with the answer.")]


def command(name: str, example: str, panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that registers a command, with an example in its help."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, epilog=f"Example: `{example}`", rich_help_panel=panel)(_told_in_one_line(function))
        return function

    return register


def _told_in_one_line(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a user's mistake into one line and exit code 2; --debug shows the traceback first."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except LabelrelError as error:
            if kwargs.get("debug"):
                import traceback

                traceback.print_exc()
            print(f"labelrel: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("labelrel: interrupted; the same command goes on where it stopped", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapped


def open_project(params: Path, sections: list[str], **overrides: Any) -> Any:
    """Return the project of a params file; `score__methods=...` overrides score.methods where not None."""
    from labelrel.project import open_project

    return open_project(params, sections=sections, overrides={k.replace("__", "."): v for k, v in overrides.items()})


def print_json(result: dict[str, Any], as_json: bool) -> None:
    """Print one JSON document where it was asked for."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str, allow_nan=False))
