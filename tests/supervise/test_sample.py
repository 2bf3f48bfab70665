"""Asking in blocks: each query once, and after an interruption only the missing ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.files import write_table
from labelrel.models.decoder import Decoder
from labelrel.schema import ANSWERS
from labelrel.supervise.engines import Reply, TransformersEngine
from labelrel.supervise.sample import BLOCK, discard_parts, sample
from labelrel.supervise.variants import Query, query_variants
from labelrel.tasks import Task

KEY = ["weights", 1.0]


def make_queries(number: int) -> list[Query]:
    return [
        Query({"item_id": f"i{n // 5}"}, str(n % 5), f"Question {n // 5} in wording {n % 5}:", [" yes", " no"])
        for n in range(number)
    ]


QUERIES = make_queries(3 * BLOCK + 10)


class Fake:
    """Answers by the length of the prompt, abstains now and then, notes what it was asked, can break down."""

    def __init__(self, fail_at: int | None = None, name: str = "fake") -> None:
        self.name = name
        self.asked: list[Query] = []
        self.num_calls = 0
        self._fail_at = fail_at

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        if self.num_calls == self._fail_at:
            raise ConnectionError("gone")
        self.num_calls += 1
        self.asked += queries
        return [self.reply(query) for query in queries]

    def reply(self, query: Query) -> Reply:
        number = sum(query.prompt.encode())
        if number % 11 == 0:
            return Reply("hm", None, None, None)
        return Reply(" yes" if number % 2 else " no", str(number % 2), -0.1 * (number % 7), [-0.5, -0.9])


def written(table: pl.DataFrame, path: Path) -> bytes:
    write_table(path, table)
    return path.read_bytes()


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return tmp_path / "parts"


@pytest.fixture
def uninterrupted(tmp_path: Path) -> bytes:
    return written(sample(Fake(), QUERIES, parts=tmp_path / "other", key=KEY), tmp_path / "expected.parquet")


def test_answers_are_one_row_per_query_in_order(parts: Path) -> None:
    answers = sample(Fake(), QUERIES, parts=parts, key=KEY)
    replies = [Fake().reply(query) for query in QUERIES]
    expected = pl.DataFrame(
        {
            "item_id": [q.item["item_id"] for q in QUERIES],
            "annotator_id": ["fake"] * len(QUERIES),
            "variant_id": [q.variant_id for q in QUERIES],
            "prompt": [q.prompt for q in QUERIES],
            "completion": [r.completion for r in replies],
            "answer": [r.answer for r in replies],
            "answer_logprob": [r.answer_logprob for r in replies],
            "choice_logprobs": [r.choice_logprobs for r in replies],
        },
        schema=ANSWERS,
    )
    assert_frame_equal(answers, expected)
    assert answers["answer"].null_count() > 0


def test_every_query_is_asked_once(parts: Path) -> None:
    engine = Fake()
    sample(engine, QUERIES, parts=parts, key=KEY)
    assert engine.asked == QUERIES
    assert engine.num_calls == 4


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_after_a_failure_only_the_missing_are_asked(
    parts: Path, uninterrupted: bytes, tmp_path: Path, blocks: int
) -> None:
    with pytest.raises(ConnectionError):
        sample(Fake(fail_at=blocks), QUERIES, parts=parts, key=KEY)
    second = Fake()
    answers = sample(second, QUERIES, parts=parts, key=KEY)
    assert second.asked == QUERIES[blocks * BLOCK :]
    assert written(answers, tmp_path / "resumed.parquet") == uninterrupted


def test_finished_work_is_not_asked_again(parts: Path, uninterrupted: bytes, tmp_path: Path) -> None:
    sample(Fake(), QUERIES, parts=parts, key=KEY)
    idle = Fake()
    assert written(sample(idle, QUERIES, parts=parts, key=KEY), tmp_path / "again.parquet") == uninterrupted
    assert idle.num_calls == 0


def cut_short(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-20])


def empty(part: Path) -> None:
    part.write_bytes(b"")


def other_columns(part: Path) -> None:
    pl.read_parquet(part).drop("completion").write_parquet(part)


def missing(part: Path) -> None:
    part.unlink()


@pytest.mark.parametrize("damage", [cut_short, empty, other_columns, missing])
def test_damaged_part_is_asked_again(
    parts: Path, uninterrupted: bytes, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    sample(Fake(), QUERIES, parts=parts, key=KEY)
    damage(sorted(parts.rglob("*.parquet"))[1])
    again = Fake()
    answers = sample(again, QUERIES, parts=parts, key=KEY)
    assert again.asked == QUERIES[BLOCK : 2 * BLOCK]
    assert written(answers, tmp_path / "again.parquet") == uninterrupted


def rewordings() -> list[Query]:
    first = QUERIES[0]
    return [Query(first.item, first.variant_id, first.prompt + " ", first.options), *QUERIES[1:]]


def other_options() -> list[Query]:
    first = QUERIES[0]
    return [Query(first.item, first.variant_id, first.prompt, [" no", " yes"]), *QUERIES[1:]]


@pytest.mark.parametrize(
    ("engine", "queries", "key"),
    [
        (Fake(), QUERIES, ["other weights", 1.0]),
        (Fake(), QUERIES, ["weights", 0.5]),
        (Fake(name="other"), QUERIES, KEY),
        (Fake(), QUERIES[:-1], KEY),
        (Fake(), rewordings(), KEY),
        (Fake(), other_options(), KEY),
    ],
    ids=["weights", "temperature", "annotator", "fewer", "wording", "options"],
)
def test_whatever_else_is_asked_is_asked_anew(parts: Path, engine: Fake, queries: list[Query], key: object) -> None:
    sample(Fake(), QUERIES, parts=parts, key=KEY)
    sample(engine, queries, parts=parts, key=key)
    assert engine.asked == queries


def test_progress_counts_resumed_queries_as_done(parts: Path) -> None:
    with pytest.raises(ConnectionError):
        sample(Fake(fail_at=2), QUERIES, parts=parts, key=KEY)
    told: list[tuple[int, int]] = []
    sample(Fake(), QUERIES, parts=parts, key=KEY, progress=lambda done, total: told.append((done, total)))
    total = len(QUERIES)
    assert told == [(BLOCK, total), (2 * BLOCK, total), (3 * BLOCK, total), (total, total)]


def test_engine_that_loses_a_reply_is_not_believed(parts: Path) -> None:
    class Short(Fake):
        def ask(self, queries: Sequence[Query]) -> list[Reply]:
            return super().ask(queries)[:-1]

    with pytest.raises(ValueError, match="shorter"):
        sample(Short(), QUERIES, parts=parts, key=KEY)
    assert not list(parts.rglob("*.parquet"))


def test_discarded_parts_are_gone_and_may_be_gone_already(parts: Path) -> None:
    sample(Fake(), QUERIES, parts=parts, key=KEY)
    discard_parts(parts)
    assert not parts.exists()
    discard_parts(parts)


def test_model_that_was_interrupted_writes_the_same_bytes(
    tiny_model: Any,
    tiny_tokenizer: Any,
    tiny_task: Task,
    tiny_items: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("labelrel.supervise.sample.BLOCK", 8)
    queries = list(query_variants(tiny_task, tiny_items, 3))

    class Mortal(TransformersEngine):
        lives = 3

        def ask(self, queries: Sequence[Query]) -> list[Reply]:
            self.lives -= 1
            if self.lives < 0:
                raise KeyboardInterrupt
            return super().ask(queries)

    def engine(lives: int) -> Mortal:
        made = Mortal(Decoder(tiny_model), tiny_tokenizer, name="tiny", temperature=1.0, seed=0)
        made.lives = lives
        return made

    whole = sample(engine(99), queries, parts=tmp_path / "whole", key=KEY)
    with pytest.raises(KeyboardInterrupt):
        sample(engine(2), queries, parts=tmp_path / "parts", key=KEY)
    resumed = sample(engine(3), queries, parts=tmp_path / "parts", key=KEY)
    assert written(resumed, tmp_path / "a.parquet") == written(whole, tmp_path / "b.parquet")
