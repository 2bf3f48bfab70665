"""Asking many questions and losing none of the answers: blocks, resume, one table in the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from labelrel.errors import InputError
from labelrel.files import digest_of, read_table, write_table
from labelrel.schema import ANSWERS, check_answers
from labelrel.supervise.engines import Engine
from labelrel.supervise.variants import Query

BLOCK = 128
"""Queries per block: what a kill can cost, and the unit that is computed the same way every time."""


def sample(
    engine: Engine,
    queries: Sequence[Query],
    *,
    parts: Path,
    key: object,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Ask every query once and return the answers table.

    Finished blocks are kept under `parts` as they come. Called again with the same queries and
    key, only the missing ones are asked. Blocks have fixed members, so the table is the same, to
    the byte when written, however often the work was interrupted.

    Args:
        engine: who answers.
        queries: what to ask, in the order of the result.
        parts: folder for finished blocks; removed by `discard_parts` when the table is safe.
        key: whatever else the answers depend on (model, adapter, temperature, seed).
        progress: called with (queries done, queries in all); resumed ones count as done.
    """
    asked = [(query.item["item_id"], query.variant_id, query.prompt, query.options) for query in queries]
    folder = parts / digest_of([key, engine.name, BLOCK, asked])[:24]
    blocks, done = [ANSWERS.to_frame()], 0
    for number, block in enumerate(_blocks(queries)):
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


def _blocks(queries: Sequence[Query]) -> list[Sequence[Query]]:
    return [queries[start : start + BLOCK] for start in range(0, len(queries), BLOCK)]


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
