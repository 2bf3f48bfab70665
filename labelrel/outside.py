"""Scoring a table of answers that belongs to no project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.errors import InputError
from labelrel.progress import say
from labelrel.schema import check_items, require_columns


def score_table(
    path: Path,
    *,
    columns: dict[str, str],
    items: Path | None = None,
    methods: list[str] | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score any table of answers.

    Args:
        path: one row per answer; Parquet, CSV or JSONL.
        columns: our column name → theirs, for item_id, annotator_id, variant_id and answer. Only
            item and answer must be there, and those that are named otherwise than ours.
        items: an items table, for methods that need to know the choices.
        methods: scoring methods; None means all that need nothing but answers.
        out: where to write the scores (by extension); None returns them as CSV under "csv".
        quiet: no messages.
    """
    from labelrel.scoring import score as score_answers

    answers = files.read_table(path)
    needed = [theirs for ours, theirs in columns.items() if ours in ("item_id", "answer") or theirs != ours]
    require_columns(answers, needed, str(path))
    taken = {theirs: ours for ours, theirs in columns.items() if theirs in answers.columns}
    if len(taken) < sum(theirs in answers.columns for theirs in columns.values()):
        raise InputError(f"one column cannot be two things: {', '.join(f'{o} = {t}' for o, t in columns.items())}.")
    if out is not None and out.suffix not in files.WRITABLE:
        raise InputError(f"{out}: unknown extension; writable are {', '.join(files.WRITABLE)}.")
    # a column of one of our names that is not meant makes way for the one that is
    rest = [name for name in answers.columns if name not in taken and name not in columns]
    answers = answers.select(*(pl.col(theirs).alias(ours) for theirs, ours in taken.items()), *rest)
    known = check_items(files.read_table(items), str(items)) if items else None
    scores = score_answers(answers, methods, items=known)
    used = scores["method"].unique(maintain_order=True).to_list()
    say(f"score: {answers.height} answers, methods {', '.join(used)}", quiet=quiet)
    summary: dict[str, Any] = {"methods": used, "rows": scores.height}
    if out is None:
        return {**summary, "csv": scores.write_csv()}
    files.write_any_table(out, scores)
    return {**summary, "out": str(out)}
