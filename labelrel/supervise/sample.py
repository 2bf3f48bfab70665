"""Asking many questions and losing none of the answers: blocks, resume, one table in the end."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from labelrel.errors import InputError
from labelrel.files import digest_of, read_table, write_table
from labelrel.schema import ANSWERS, check_answers
from labelrel.supervise.engines import Engine
from labelrel.supervise.variants import Query


def sample(
    engine: Engine,
    queries: Sequence[Query],
    *,
    parts: Path,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Ask every query once and return the answers table.

    Finished blocks are kept under `parts` as they come. Called again with the same queries and an
    engine of the same key, only the missing ones are asked. Blocks have fixed members, so the table
    is the same, to the byte when written, however often the work was interrupted.

    Args:
        engine: who answers.
        queries: what to ask, in the order of the result.
        parts: folder for finished blocks; removed by `discard_parts` when the table is safe.
        progress: called with (queries done, queries in all); resumed ones count as done.
    """
    asked = [(query.item["item_id"], query.variant_id, query.prompt, query.options) for query in queries]
    folder = parts / digest_of([engine.key, engine.name, engine.block, asked])[:24]
    blocks, done = [ANSWERS.to_frame()], 0
    for number, block in enumerate(_blocks(queries, engine.block)):
        file = folder / f"{number:06d}.parquet"
        answers = _resume(file, block)
        if answers is None:
            answers = _table(engine, block)
            write_table(file, answers)
        blocks.append(answers)
        done += len(block)
        if progress:
            progress(done, len(queries))
    return check_answers(pl.concat(blocks))


def discard_parts(parts: Path) -> None:
    """Remove the finished blocks, once the table that holds them all is written."""
    shutil.rmtree(parts, ignore_errors=True)


def unread(answers: pl.DataFrame, queries: Sequence[Query]) -> dict[str, int]:
    """Count the answers that could not be read, by cause, the most frequent first.

    Args:
        answers: the table that `sample` made of these queries.
        queries: what was asked, in the same order.
    """
    causes: Counter[str] = Counter()
    for query, completion, answer in zip(queries, answers["completion"], answers["answer"], strict=True):
        if answer is None:
            causes["no completion" if completion is None else query.read(completion).cause or "abstained"] += 1
    return dict(causes.most_common())


def _blocks(queries: Sequence[Query], size: int) -> list[Sequence[Query]]:
    """Cut at items: the variants of an item are asked together, since they share most of their prompt."""
    blocks, start = [], 0
    while start < len(queries):
        stop = min(start + size, len(queries))
        while start < stop < len(queries) and queries[stop].item["item_id"] == queries[stop - 1].item["item_id"]:
            stop -= 1
            if stop == start:  # one item with more variants than a block holds
                stop = start + size
                break
        blocks.append(queries[start:stop])
        start = stop
    return blocks


def _resume(file: Path, block: Sequence[Query]) -> pl.DataFrame | None:
    if not file.is_file():
        return None
    try:
        answers = read_table(file)
    except InputError:
        return None  # damaged by something else than a kill; ask again
    if answers.schema != ANSWERS:
        return None
    asked = [(query.item["item_id"], query.variant_id) for query in block]
    return answers if answers.select("item_id", "variant_id").rows() == asked else None


def _table(engine: Engine, queries: Sequence[Query]) -> pl.DataFrame:
    rows = [
        (
            query.item["item_id"],
            engine.name,
            query.variant_id,
            query.prompt,
            reply.completion,
            reply.answer,
            reply.answer_logprob,
            reply.choice_logprobs,
        )
        for query, reply in zip(queries, engine.ask(queries), strict=True)
    ]
    return pl.DataFrame(rows, schema=ANSWERS, orient="row")
