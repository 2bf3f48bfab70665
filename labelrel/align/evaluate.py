"""What a model answers on held-out items, with gold beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from labelrel.align.world import ALONE, World
from labelrel.errors import InputError
from labelrel.models.choice import choice_logprobs, tokenize
from labelrel.models.decoder import Decoder
from labelrel.models.generate import Generated, generate
from labelrel.models.memory import token_budget
from labelrel.models.packing import Prompt
from labelrel.progress import Report
from labelrel.tasks import Prompting, Task
from labelrel.tasks.base import Item

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
"""One row per item. `answer` is null where an open answer could not be read, which counts as wrong."""

OPEN_TOKENS = 16
"""Longest answer to an open question: a number or a name, no reasoning before it."""


def is_open(items: pl.DataFrame) -> bool:
    """Tell whether the items are open questions; a table is of one kind.

    Raises:
        InputError: some have choices and some have none.
    """
    without = items["choices"].null_count()
    if without not in (0, items.height):
        raise InputError(f"{without} of {items.height} items have no choices: open and closed items need a task each.")
    return bool(without)


def item_prompts(prompting: Prompting, tokenizer: Any, items: pl.DataFrame) -> list[Prompt]:
    """Tokenise the canonical wording of each item with its options.

    Raises:
        InputError: an open item, which has no options.
    """
    texts = []
    for item in items.iter_rows(named=True):
        wording = prompting.canonical(item)
        if wording.options is None:
            raise InputError(f"item {item['item_id']} is an open question: it has no choices to score.")
        texts.append((wording.prompt, wording.options))
    return tokenize(tokenizer, texts)


def predict(
    decoder: Decoder,
    task: Task,
    items: pl.DataFrame,
    prompts: list[Prompt],
    progress: Report | None = None,
    world: World = ALONE,
) -> pl.DataFrame:
    """Answer each item with its most probable option, the canonical wording asked once.

    Args:
        decoder: the model.
        task: says when an answer is right.
        items: N items with choices; a gold label that is null leaves `correct` null.
        prompts: what `item_prompts` made of them.
        progress: called with (items done, items in all), those of this process.
        world: the processes that share the items; all get the whole.

    Returns:
        The columns of `PREDICTIONS`, one row per item, in order.
    """
    scored = world.spread(lambda mine: choice_logprobs(decoder, mine, progress), prompts)
    best = (max(logprobs) for logprobs in scored)
    answers = [(str(s.index(b)), b, s) for s, b in zip(scored, best, strict=True)]
    return with_gold(task, items, answers)


def predict_open(
    model: Any,
    tokenizer: Any,
    prompting: Prompting,
    items: pl.DataFrame,
    progress: Report | None = None,
    world: World = ALONE,
) -> pl.DataFrame:
    """Answer each open item with what the model writes greedily, the canonical wording asked once.

    Args:
        model: causal language model, plain or wrapped by peft.
        tokenizer: its tokenizer.
        prompting: wording, parser and gold check.
        items: N items without choices.
        progress: called with (items done, items in all), those of this process.
        world: the processes that share the items; all get the whole.

    Returns:
        The columns of `PREDICTIONS`, one row per item, in order; `choice_logprobs` is null.
    """
    rows: list[Item] = list(items.iter_rows(named=True))
    wordings = [prompting.canonical(item) for item in rows]
    budget = token_budget(next(model.parameters()).device, model)

    def write(mine: list[int]) -> list[Generated]:
        return generate(
            model,
            tokenizer,
            [wordings[i].prompt for i in mine],
            max_new_tokens=OPEN_TOKENS,
            temperature=0.0,
            seed=0,
            names=[str(rows[i]["item_id"]) for i in mine],
            budget=budget,
            progress=progress,
        )

    written = world.spread(write, range(len(rows)))
    read = [prompting.read(i, w, text.text).answer for i, w, text in zip(rows, wordings, written, strict=True)]
    return with_gold(prompting.task, items, [(a, t.logprob, None) for a, t in zip(read, written, strict=True)])


def with_gold(
    task: Task, items: pl.DataFrame, answers: Iterable[tuple[str | None, float | None, list[float] | None]]
) -> pl.DataFrame:
    """Return the columns of `PREDICTIONS` for (answer, its log-probability, those of the choices), one per item."""
    rows = []
    for item, (answer, logprob, logprobs) in zip(items.iter_rows(named=True), answers, strict=True):
        gold = item["gold_label"]
        correct = None if gold is None else answer is not None and task.is_correct(answer, gold)
        rows.append((item["item_id"], item["split"], answer, gold, correct, logprob, logprobs))
    return pl.DataFrame(rows, schema=PREDICTIONS, orient="row")
