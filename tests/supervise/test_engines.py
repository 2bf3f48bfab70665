"""Draws that are frequencies of a softmax and functions of a name, and the engine that makes them."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.errors import InputError
from labelrel.models.decoder import Decoder
from labelrel.supervise.engines import TransformersEngine, draw, engines
from labelrel.supervise.variants import Query, query_variants
from labelrel.tasks import Task

NUM_DRAWS = 10_000


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_are_as_frequent_as_the_softmax_says(temperature: float) -> None:
    logprobs = [math.log(share) for share in (0.5, 0.3, 0.15, 0.05)]
    counts = [0] * 4
    for number in range(NUM_DRAWS):
        counts[draw(logprobs, temperature, 7, f"item-{number}", "0")] += 1
    weights = [math.exp(value / temperature) for value in logprobs]
    expected = [NUM_DRAWS * weight / sum(weights) for weight in weights]
    statistic = sum((seen - e) ** 2 / e for seen, e in zip(counts, expected, strict=True))
    assert statistic < 16.27  # chi-square with 3 degrees of freedom exceeds this once in 1,000; the draws are fixed


@pytest.mark.parametrize("names", [("item", "0"), ("item",)])
def test_variants_seeds_and_items_draw_independently(names: tuple[str, ...]) -> None:
    """Two streams that agree as often as chance has it: half of the time with two even options."""
    even = [math.log(0.5)] * 2

    def stream(seed: int, suffix: str) -> list[int]:
        return [draw(even, 1.0, seed, f"i{number}", *names[1:], suffix) for number in range(NUM_DRAWS)]

    one = stream(7, "0")
    for other in (stream(8, "0"), stream(7, "1")):
        agreed = sum(a == b for a, b in zip(one, other, strict=True))
        assert abs(agreed - NUM_DRAWS / 2) < 4 * math.sqrt(NUM_DRAWS / 4)


@settings(deadline=None)
@given(
    st.lists(st.floats(-50, 0), min_size=1, max_size=6),
    st.floats(0.01, 10),
    st.integers(0, 2**31),
    st.text(max_size=8),
)
def test_draw_repeats_and_names_an_option(logprobs: list[float], temperature: float, seed: int, name: str) -> None:
    index = draw(logprobs, temperature, seed, name)
    assert 0 <= index < len(logprobs)
    assert draw(logprobs, temperature, seed, name) == index


def test_temperature_zero_takes_the_best_and_of_equals_the_first() -> None:
    assert {draw([-3.0, -1.0, -2.0], 0, seed, "i") for seed in range(20)} == {1}
    assert {draw([-3.0, -1.0, -1.0], 0, seed, "i") for seed in range(20)} == {1}


def test_low_temperature_comes_near_the_best_without_overflow() -> None:
    assert {draw([-3000.0, -1.0, -2.0], 1e-3, 0, f"i{n}") for n in range(200)} == {1}


def test_option_without_probability_is_never_drawn() -> None:
    assert {draw([-math.inf, 0.0, -math.inf], 1.0, 0, f"i{n}") for n in range(200)} == {1}


def test_draw_is_the_same_in_every_process() -> None:
    """Python's own hash changes with the process and would break resuming."""
    third = [math.log(1 / 3)] * 3
    # floor(3 u) with u = the first 8 bytes of SHA-256("42␟item-n␟0") as a fraction of 2^64
    drawn = [1, 1, 1, 1, 1, 0, 1, 2, 2, 1, 1, 1]
    assert [draw(third, 1.0, 42, f"item-{n}", "0") for n in range(12)] == drawn


@pytest.fixture
def queries(tiny_task: Task, tiny_items: pl.DataFrame) -> list[Query]:
    return list(query_variants(tiny_task, tiny_items, 3))


def engine(model: Any, tokenizer: Any, temperature: float = 1.0, seed: int = 3) -> TransformersEngine:
    return TransformersEngine(Decoder(model), tokenizer, name="tiny", temperature=temperature, seed=seed)


def test_engine_is_registered(tiny_model: Any, tiny_tokenizer: Any) -> None:
    made = engines.get("transformers")(Decoder(tiny_model), tiny_tokenizer, name="tiny", temperature=0, seed=0)
    assert isinstance(made, TransformersEngine)
    assert made.name == "tiny"


def test_replies_are_drawn_options_with_the_log_probabilities_of_all(
    tiny_model: Any, tiny_tokenizer: Any, queries: list[Query]
) -> None:
    replies = engine(tiny_model, tiny_tokenizer).ask(queries)
    assert len(replies) == len(queries)
    for query, reply in zip(queries, replies, strict=True):
        assert reply.answer is not None
        assert reply.choice_logprobs is not None
        assert query.options is not None
        index = int(reply.answer)
        assert reply.completion == query.options[index]
        assert reply.answer_logprob == reply.choice_logprobs[index]
        assert math.fsum(map(math.exp, reply.choice_logprobs)) == pytest.approx(1)
        assert index == draw(reply.choice_logprobs, 1.0, 3, query.item["item_id"], query.variant_id)


def test_temperature_zero_answers_with_the_most_probable_option(
    tiny_model: Any, tiny_tokenizer: Any, queries: list[Query]
) -> None:
    for reply in engine(tiny_model, tiny_tokenizer, temperature=0).ask(queries):
        assert reply.choice_logprobs is not None
        assert reply.answer_logprob == max(reply.choice_logprobs)


def test_answers_do_not_depend_on_what_else_is_asked(
    tiny_model: Any, tiny_tokenizer: Any, queries: list[Query]
) -> None:
    asked = engine(tiny_model, tiny_tokenizer)
    together = asked.ask(queries)
    backwards = list(reversed(asked.ask(list(reversed(queries)))))
    alone = [asked.ask([query])[0] for query in queries]
    assert [r.answer for r in together] == [r.answer for r in backwards] == [r.answer for r in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=5e-5)


def test_seeds_draw_different_answers(tiny_model: Any, tiny_tokenizer: Any, queries: list[Query]) -> None:
    answers = [[r.answer for r in engine(tiny_model, tiny_tokenizer, 2.0, seed).ask(queries)] for seed in (1, 2)]
    assert answers[0] != answers[1]


def test_open_item_is_refused(tiny_model: Any, tiny_tokenizer: Any, queries: list[Query]) -> None:
    query = Query({**queries[4].item, "choices": None}, "0", "How many?", None)
    with pytest.raises(InputError, match="item i01 is an open question; engine 'transformers' chooses only"):
        engine(tiny_model, tiny_tokenizer).ask([queries[0], query])
