"""Asking in blocks: each query once, and after an interruption only the missing ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from labelrel.files import write_table
from labelrel.schema import ANSWERS
from labelrel.supervise.engines import Asking, Reply, Supervisor
from labelrel.supervise.sample import discard_parts, sample, unread
from labelrel.supervise.transformers_engine import TransformersEngine
from labelrel.supervise.variants import Query, query_variants
from labelrel.tasks import Prompting, Reading

BLOCK = 128
KEY: object = ["weights", 1.0]


def read(completion: str) -> Reading:
    return Reading(None, "empty" if not completion else "refuses" if completion == "hm" else None)


def make_queries(number: int) -> list[Query]:
    return [
        Query({"item_id": f"i{n // 5}"}, str(n % 5), f"Question {n // 5} in wording {n % 5}:", (" yes", " no"), read)
        for n in range(number)
    ]


QUERIES = make_queries(3 * BLOCK + 10)
# an item has 5 queries: 25 items fill 125 of a block's 128 places, and the 26th is asked with the next block
BLOCKS = [QUERIES[:125], QUERIES[125:250], QUERIES[250:375], QUERIES[375:]]


class Fake:
    """Answers by the length of the prompt, abstains now and then, notes what it was asked, can break down."""

    def __init__(self, fail_at: int | None = None, name: str = "fake", key: object = KEY, block: int = BLOCK) -> None:
        self.name = name
        self.key = key
        self.block = block
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
    return written(sample(Fake(), QUERIES, parts=tmp_path / "other"), tmp_path / "expected.parquet")


def test_answers_are_one_row_per_query_in_order(parts: Path) -> None:
    answers = sample(Fake(), QUERIES, parts=parts)
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
    sample(engine, QUERIES, parts=parts)
    assert engine.asked == QUERIES
    assert engine.num_calls == 4


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_after_a_failure_only_the_missing_are_asked(
    parts: Path, uninterrupted: bytes, tmp_path: Path, blocks: int
) -> None:
    with pytest.raises(ConnectionError):
        sample(Fake(fail_at=blocks), QUERIES, parts=parts)
    second = Fake()
    answers = sample(second, QUERIES, parts=parts)
    assert second.asked == [query for block in BLOCKS[blocks:] for query in block]
    assert written(answers, tmp_path / "resumed.parquet") == uninterrupted


def test_finished_work_is_not_asked_again(parts: Path, uninterrupted: bytes, tmp_path: Path) -> None:
    sample(Fake(), QUERIES, parts=parts)
    idle = Fake()
    assert written(sample(idle, QUERIES, parts=parts), tmp_path / "again.parquet") == uninterrupted
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
    sample(Fake(), QUERIES, parts=parts)
    damage(sorted(parts.rglob("*.parquet"))[1])
    again = Fake()
    answers = sample(again, QUERIES, parts=parts)
    assert again.asked == BLOCKS[1]
    assert written(answers, tmp_path / "again.parquet") == uninterrupted


def rewordings() -> list[Query]:
    first = QUERIES[0]
    return [Query(first.item, first.variant_id, first.prompt + " ", first.options, read), *QUERIES[1:]]


def other_options() -> list[Query]:
    first = QUERIES[0]
    return [Query(first.item, first.variant_id, first.prompt, (" no", " yes"), read), *QUERIES[1:]]


@pytest.mark.parametrize(
    ("engine", "queries"),
    [
        (Fake(key=["other weights", 1.0]), QUERIES),
        (Fake(key=["weights", 0.5]), QUERIES),
        (Fake(name="other"), QUERIES),
        (Fake(block=64), QUERIES),
        (Fake(), QUERIES[:-1]),
        (Fake(), rewordings()),
        (Fake(), other_options()),
    ],
    ids=["weights", "temperature", "annotator", "blocks", "fewer", "wording", "options"],
)
def test_whatever_else_is_asked_is_asked_anew(parts: Path, engine: Fake, queries: list[Query]) -> None:
    sample(Fake(), QUERIES, parts=parts)
    sample(engine, queries, parts=parts)
    assert engine.asked == queries


def test_progress_counts_resumed_queries_as_done(parts: Path) -> None:
    with pytest.raises(ConnectionError):
        sample(Fake(fail_at=2), QUERIES, parts=parts)
    told: list[tuple[int, int]] = []
    sample(Fake(), QUERIES, parts=parts, progress=lambda done, total: told.append((done, total)))
    total = len(QUERIES)
    assert told == [(125, total), (250, total), (375, total), (total, total)]


def test_engine_that_loses_a_reply_is_not_believed(parts: Path) -> None:
    class Short(Fake):
        def ask(self, queries: Sequence[Query]) -> list[Reply]:
            return super().ask(queries)[:-1]

    with pytest.raises(ValueError, match="shorter"):
        sample(Short(), QUERIES, parts=parts)
    assert not list(parts.rglob("*.parquet"))


def test_discarded_parts_are_gone_and_may_be_gone_already(parts: Path) -> None:
    sample(Fake(), QUERIES, parts=parts)
    discard_parts(parts)
    assert not parts.exists()
    discard_parts(parts)


def sizes(queries: Sequence[Query], block: int, parts: Path) -> list[list[str]]:
    """Return the items of each block that is asked."""

    class Noted(Fake):
        def ask(self, queries: Sequence[Query]) -> list[Reply]:
            blocks.append([query.item["item_id"] for query in queries])
            return super().ask(queries)

    blocks: list[list[str]] = []
    engine = Noted(block=block)
    sample(engine, queries, parts=parts)
    assert engine.asked == list(queries)
    return blocks


def of_items(*counts: int) -> list[Query]:
    return [
        Query({"item_id": f"i{item}"}, str(n), f"{item} {n}", None, read)
        for item, count in enumerate(counts)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "block", "expected"),
    [
        ((2, 2, 2), 4, ["i0 i0 i1 i1", "i2 i2"]),
        ((2, 2, 2), 3, ["i0 i0", "i1 i1", "i2 i2"]),
        ((1, 3, 1), 3, ["i0", "i1 i1 i1", "i2"]),
        ((1, 2, 1), 3, ["i0 i1 i1", "i2"]),
        # one item with more variants than a block holds is cut, and its rest goes with the next
        ((5, 1), 2, ["i0 i0", "i0 i0", "i0 i1"]),
        ((1, 5, 1), 3, ["i0", "i1 i1 i1", "i1 i1 i2"]),
        ((1, 1, 1), 1, ["i0", "i1", "i2"]),
        ((3,), 1, ["i0", "i0", "i0"]),
        ((2, 1), 100, ["i0 i0 i1"]),
    ],
)
def test_blocks_are_cut_at_items(parts: Path, counts: tuple[int, ...], block: int, expected: list[str]) -> None:
    assert [" ".join(ids) for ids in sizes(of_items(*counts), block, parts)] == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(1, 6))
def test_no_block_is_too_large_and_none_parts_an_item_that_fits(counts: list[int], block: int) -> None:
    with TemporaryDirectory() as folder:
        blocks = sizes(of_items(*counts), block, Path(folder))
    assert all(1 <= len(ids) <= block for ids in blocks)
    for one, other in pairwise(blocks):
        if one[-1] == other[0]:
            assert counts[int(one[-1][1:])] > block


def test_item_that_fills_several_blocks_is_resumed_in_its_middle(parts: Path) -> None:
    queries = of_items(1, 7, 1)
    with pytest.raises(ConnectionError):
        sample(Fake(fail_at=2, block=3), queries, parts=parts)
    second = Fake(block=3)
    assert sample(second, queries, parts=parts)["variant_id"].to_list() == [q.variant_id for q in queries]
    assert second.asked == queries[4:]


def test_unread_answers_are_counted_by_cause_the_most_frequent_first() -> None:
    queries = of_items(7)
    answers = pl.DataFrame(
        {
            "completion": ["hm", "", "hm", "yes", None, "as you like", "hm"],
            "answer": [None, None, None, "0", None, None, None],
        }
    )
    causes = unread(answers, queries)
    assert causes == {"refuses": 3, "empty": 1, "no completion": 1, "abstained": 1}
    assert next(iter(causes)) == "refuses"


def test_what_was_read_is_not_counted_even_where_its_text_says_nothing() -> None:
    answers = pl.DataFrame({"completion": ["", None], "answer": ["1", "0"]})
    assert unread(answers, of_items(2)) == {}


@pytest.mark.parametrize("mode", ["choice", "generate"])
def test_model_that_was_interrupted_writes_the_same_bytes(
    tiny_model: Any,
    tiny_tokenizer: Any,
    tiny_prompting: Prompting,
    tiny_items: pl.DataFrame,
    tmp_path: Path,
    mode: Any,
) -> None:
    queries = list(query_variants(tiny_prompting, tiny_items, 3))
    supervisor = Supervisor(tiny_model, tiny_tokenizer, "tiny", "weights")
    asking = Asking(
        mode=mode,
        temperature=1.0,
        seed=0,
        max_new_tokens=6,
        cache=tmp_path,
        supervisor=lambda: supervisor,
        model="tiny",
    )

    class Mortal(TransformersEngine):
        lives = 3

        def ask(self, queries: Sequence[Query]) -> list[Reply]:
            self.lives -= 1
            if self.lives < 0:
                raise KeyboardInterrupt
            return super().ask(queries)

    def engine(lives: int) -> Mortal:
        made = Mortal(supervisor, asking)
        made.lives, made.block = lives, 8  # two items and a bit: five blocks of 6 and one more
        return made

    whole = sample(engine(99), queries, parts=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        sample(engine(2), queries, parts=tmp_path / "parts")
    resumed = sample(engine(4), queries, parts=tmp_path / "parts")
    assert written(resumed, tmp_path / "a.parquet") == written(whole, tmp_path / "b.parquet")
