"""Commands on tables of any origin: score answers, look at agreement, compare and export scores."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from labelrel.cli_common import (
    PARAMS,
    TABLES,
    AnnotatorCol,
    AnswerCol,
    Debug,
    ItemCol,
    Json,
    Out,
    Params,
    Quiet,
    VariantCol,
    command,
    open_project,
    print_json,
)  # fmt: skip

Method = Annotated[list[str] | None, typer.Option("--method", "-m", help="Scoring method; repeatable.")]
GoldFileOption = Annotated[Path | None, typer.Option("--gold", help="Gold labels of some items, one row each.")]


@command("score", "labelrel score votes.csv --item-col task --annotator-col worker -m dawid_skene", TABLES)
def score(
    answers: Annotated[Path | None, typer.Argument(help="Parquet, CSV or JSONL; none: the project's answers.")] = None,
    items: Annotated[Path | None, typer.Option(help="Items table of these answers.")] = None,
    method: Method = None,
    item_col: ItemCol = "item_id",
    annotator_col: AnnotatorCol = "annotator_id",
    variant_col: VariantCol = "variant_id",
    answer_col: AnswerCol = "answer",
    choices: Annotated[int | None, typer.Option(help="Number of classes, where no items table says it.", min=2)] = None,
    gold: GoldFileOption = None,
    gold_col: Annotated[str | None, typer.Option(help="Its column with the label; without --gold, of ANSWERS.")] = None,
    gold_item_col: Annotated[str | None, typer.Option(help="Its column with the item; else --item-col.")] = None,
    target_accuracy: Annotated[float | None, typer.Option(help="Keep the most labels that are this accurate.")] = None,
    confidence: Annotated[float, typer.Option(help="With which the target accuracy holds.")] = 0.9,
    calibrate: Annotated[Literal["platt", "isotonic", "beta"] | None, typer.Option(help="Fit P(right).")] = None,
    save_calibrator: Annotated[Path | None, typer.Option(help="Write the calibrators, JSON.")] = None,
    calibrator: Annotated[Path | None, typer.Option(help="Use calibrators written before.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="METHOD.KEY=VALUE; repeatable.")] = None,
    protocol: Annotated[Literal["default", "paper"], typer.Option(help="'paper' keeps the code's quirks.")] = "default",
    temperature: Annotated[str, typer.Option(help="T of the paper's reliability, or 'auto'.")] = "0.2",
    canonical: Annotated[str | None, typer.Option(help="Canonical form of open answers: number or text.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Model whose cosine says which answers mean the same.")] = None,
    entailment: Annotated[str | None, typer.Option(help="Model that says which answers entail each other.")] = None,
    similarity: Annotated[float, typer.Option(help="Least cosine of answers that mean the same.")] = 0.85,
    annotators: Annotated[Path | None, typer.Option(help="Write what is learnt of each annotator.")] = None,
    params: Params = PARAMS, out: Out = None, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Score how reliable each answer is, in any table of answers or in the project; measure it on gold."""
    if answers is None:
        from labelrel import pipeline

        of_a_table = {
            "--gold": gold, "--gold-col": gold_col, "--target-accuracy": target_accuracy, "--calibrate": calibrate,
            "--calibrator": calibrator, "--param": param, "--annotators": annotators, "--canonical": canonical,
            "--embedder": embedder, "--entailment": entailment, "--choices": choices,
        }  # fmt: skip
        from labelrel.parse_options import refuse_without_answers

        refuse_without_answers([name for name, value in of_a_table.items() if value])
        project = open_project(params, ["score"])
        print_json(pipeline.score(project, methods=method, items=items, out=out, quiet=quiet), as_json)
        return
    from labelrel.goldcheck import GoldOptions, show_gold
    from labelrel.outside import ScoreOptions, gold_file, score_table
    from labelrel.parse_options import method_params, temperature_of

    gold_options = GoldOptions(
        calibrate=calibrate, save_calibrator=save_calibrator, target_accuracy=target_accuracy, confidence=confidence
    )
    options = ScoreOptions(
        columns=_columns(item_col, annotator_col, variant_col, answer_col),
        methods=method, params=method_params(param or []), items=items, choices=choices, protocol=protocol,
        temperature=temperature_of(temperature), canonical=canonical, embedder=embedder, entailment=entailment,
        similarity=similarity, calibrator=calibrator,
    )  # fmt: skip
    labels = gold_file(gold, gold_item_col or item_col, gold_col, gold_options)
    result = score_table(
        answers, options, gold=labels, gold_options=gold_options, out=out, annotators=annotators, quiet=quiet
    )
    scores = result.pop("scores", None)
    if as_json:
        print_json(result if scores is None else {**result, "scores": scores.to_dicts()}, True)
        return
    if "gold" in result:
        show_gold(result["gold"])
    elif scores is not None:
        scores.write_csv(sys.stdout)


def _columns(item: str, annotator: str, variant: str, answer: str) -> dict[str, str]:
    return {"item_id": item, "annotator_id": annotator, "variant_id": variant, "answer": answer}


@command("agree", "labelrel agree votes.csv --item-col task --annotator-col worker", TABLES)
def agree(
    answers: Annotated[Path, typer.Argument(help="Parquet, CSV or JSONL, one row per answer.")],
    item_col: ItemCol = "item_id",
    annotator_col: AnnotatorCol = "annotator_id",
    variant_col: VariantCol = "variant_id",
    answer_col: AnswerCol = "answer",
    choices: Annotated[int | None, typer.Option(help="Number of choices, where answers are their indices.")] = None,
    top: Annotated[int, typer.Option(help="Number of disputed items to name.", min=0)] = 10,
    out: Out = None, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Say how well annotators agree, who and which position is biased, and what is disputed."""
    from labelrel.agree import AgreeOptions, agree_table, show_agreement

    options = AgreeOptions(columns=_columns(item_col, annotator_col, variant_col, answer_col), choices=choices, top=top)
    _tell(agree_table(answers, options), show_agreement, out, as_json, quiet)


@command("diff", "labelrel diff old.parquet new.parquet --threshold 0.8", TABLES)
def diff(
    old: Annotated[Path, typer.Argument(help="Scores, or a training set.")],
    new: Annotated[Path, typer.Argument(help="The same kind of table.")],
    method: Annotated[str | None, typer.Option("--method", "-m", help="Which; else all that both have.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Label quality from which a label is kept.")] = None,
    keep: Annotated[float | None, typer.Option(help="Fraction of labels that is kept.")] = None,
    top: Annotated[int, typer.Option(help="Number of items to name in each list.", min=0)] = 10,
    out: Out = None, as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Compare two scored label sets: flips, shifts, and what enters or leaves the kept set."""
    from labelrel.diff import DiffOptions, diff_tables, show_diff

    options = DiffOptions(method=method, threshold=threshold, keep=keep, top=top)
    _tell(diff_tables(old, new, options), show_diff, out, as_json, quiet)


@command("export", "labelrel export scores.parquet --to review --items data/items.parquet -o queue.csv", TABLES)
def export(
    scores: Annotated[Path, typer.Argument(help="A scores table.")],
    to: Annotated[str, typer.Option(help="Format: trl, review or labelstudio.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    method: Annotated[str | None, typer.Option("--method", "-m", help="Which, where there are several.")] = None,
    items: Annotated[Path | None, typer.Option(help="Items table with the questions.")] = None,
    weights: Annotated[bool, typer.Option(help="Weigh rows by label quality.")] = True,
    kept: Annotated[bool, typer.Option("--kept", help="Only the labels kept at a target accuracy.")] = False,
    as_json: Json = False, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Write weak labels for other tools: training rows with weights, a review queue, Label Studio tasks."""
    from labelrel.export import ExportOptions, export_scores, show_export

    options = ExportOptions(method=method, items=items, weights=weights, kept=kept)
    _tell(export_scores(scores, to, out, options), show_export, None, as_json, quiet)


def _tell(
    result: dict[str, Any], show: Callable[[dict[str, Any]], None], out: Path | None, as_json: bool, quiet: bool
) -> None:
    """Print a result as JSON or for people, and write the JSON where that was asked for."""
    if out is not None:
        from labelrel.files import write_json

        write_json(out, result)
    if as_json:
        print_json(result, True)
    elif not (quiet and out is not None):
        show(result)
