"""What a model answers on held-out items, with gold beside it."""

from __future__ import annotations

from typing import Any

import polars as pl

from labelrel.models.choice import choice_logprobs, tokenize
from labelrel.models.decoder import Decoder
from labelrel.models.packing import Prompt
from labelrel.progress import Report
from labelrel.tasks import Task

PREDICTIONS = pl.Schema(
    {
        "item_id": pl.String(),
        "split": pl.String(),
        "answer": pl.String(),
        "gold_label": pl.String(),
        "correct": pl.Boolean(),
        "answer_logprob": pl.Float64(),
        "choice_logprobs": pl.List(pl.Float64()),
    }
)


def item_prompts(task: Task, tokenizer: Any, items: pl.DataFrame) -> list[Prompt]:
    """Tokenise the canonical wording of each item with its options.

    Raises:
        InputError: an open item, which has no options.
    """
    rows = items.iter_rows(named=True)
    return tokenize(tokenizer, [(task.wordings(item)[0], task.options(item)) for item in rows])


def predict(
    decoder: Decoder, task: Task, items: pl.DataFrame, prompts: list[Prompt], progress: Report | None = None
) -> pl.DataFrame:
    """Answer each item with its most probable option, the canonical wording asked once.

    Args:
        decoder: the model.
        task: says when an answer is right.
        items: N items; a gold label that is null leaves `correct` null.
        prompts: what `item_prompts` made of them.
        progress: called with (items done, items in all).

    Returns:
        The columns of `PREDICTIONS`, one row per item, in order.
    """
    rows = []
    scored = choice_logprobs(decoder, prompts, progress)
    for item, logprobs in zip(items.iter_rows(named=True), scored, strict=True):
        best = max(logprobs)
        answer = str(logprobs.index(best))
        gold = item["gold_label"]
        correct = None if gold is None else task.is_correct(answer, gold)
        rows.append((item["item_id"], item["split"], answer, gold, correct, best, logprobs))
    return pl.DataFrame(rows, schema=PREDICTIONS, orient="row")
