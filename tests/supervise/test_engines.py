"""Draws that are frequencies of a softmax and functions of a name, and the engine that makes them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.errors import ConfigError
from labelrel.models.choice import choice_logprobs, tokenize
from labelrel.models.decoder import Decoder
from labelrel.plugin import Params
from labelrel.supervise.engines import Asking, EngineKind, Supervisor, draw, engine, engines
from labelrel.supervise.sample import sample, unread
from labelrel.supervise.transformers_engine import TransformersEngine
from labelrel.supervise.variants import Query, query_variants
from labelrel.tasks import Prompting, Reading

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
def queries(tiny_prompting: Prompting, tiny_items: pl.DataFrame) -> list[Query]:
    return list(query_variants(tiny_prompting, tiny_items, 3))


@pytest.fixture
def open_queries(tiny_prompting: Prompting, tiny_items: pl.DataFrame) -> list[Query]:
    items = tiny_items.with_columns(choices=pl.lit(None, pl.List(pl.String)))
    return list(query_variants(tiny_prompting, items, 3))


Ask = Callable[..., TransformersEngine]


@pytest.fixture
def ask(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Ask:
    """Return a maker of engines on the tiny model: `ask(seed=7)`, `ask(mode="generate")`."""

    def make(fingerprint: str = "weights", **changes: Any) -> TransformersEngine:
        supervisor = Supervisor(tiny_model, tiny_tokenizer, "tiny", fingerprint)
        told: dict[str, Any] = {"mode": "choice", "temperature": 1.0, "seed": 3, "max_new_tokens": 8}
        told |= {"cache": tmp_path, "supervisor": lambda: supervisor, "model": "tiny-model"}
        asking = Asking(**{**told, **changes})
        made = engines.get("transformers").open(asking, {})
        assert isinstance(made, TransformersEngine)
        return made

    return make


# --- what every engine has -----------------------------------------------------------------------


def test_local_engine_asks_the_tuned_supervisor_under_its_name(ask: Ask) -> None:
    assert engines.get("transformers").tuned
    assert ask().name == "tiny"


def test_engine_opens_with_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Params):
        shots: int = 0

    told: list[Any] = []
    monkeypatch.setattr(engines, "_entries", dict(engines._entries))

    @engine("own", Own, tuned=False)
    def own(asking: Asking, params: Own) -> Any:
        """Ask nobody."""
        told.append((asking, params.shots))
        return "opened"

    def never() -> Supervisor:
        raise AssertionError("nobody needs a local model")

    kind = engines.get("own")
    assert isinstance(kind, EngineKind)
    assert (kind.name, kind.tuned, kind.summary) == ("own", False, "Ask nobody.")
    asking = Asking(mode="choice", temperature=0, seed=1, max_new_tokens=2, cache=tmp_path, supervisor=never, model="m")
    assert kind.open(asking, {"shots": 3}) == "opened"  # type: ignore[comparison-overlap]
    assert told == [(asking, 3)]
    with pytest.raises(ConfigError, match=r"unknown key sample\.options\.shot; did you mean 'shots'\?"):
        kind.open(asking, {"shot": 3})
    with pytest.raises(ConfigError, match=r"sample\.options\.shots is wrong: .* got 'three'"):
        kind.open(asking, {"shots": "three"})
    assert len(told) == 1


def test_local_engine_has_no_options() -> None:
    kind = engines.get("transformers")
    wrong = "unknown key sample.options.base_url; it has no parameters"
    assert kind.problems({"base_url": "http://localhost"}, "sample.options")[0].startswith(wrong)
    assert kind.problems({}, "sample.options") == []


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "other"},
        {"mode": "generate"},
        {"temperature": 0.5},
        {"seed": 4},
        {"max_new_tokens": 9},
    ],
    ids=lambda change: next(iter(change)),
)
def test_key_changes_with_whatever_the_answers_depend_on(ask: Ask, change: dict[str, Any]) -> None:
    assert ask(**change).key != ask().key
    assert ask(**change).key == ask(**change).key


def test_key_does_not_change_with_where_things_are_kept(ask: Ask, tmp_path: Path) -> None:
    assert ask(cache=tmp_path / "elsewhere").key == ask().key
    assert json.loads(json.dumps(ask().key)) == ask().key


# --- mode `choice` -------------------------------------------------------------------------------


def test_replies_are_drawn_options_with_the_log_probabilities_of_all(ask: Ask, queries: list[Query]) -> None:
    replies = ask().ask(queries)
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


def test_log_probabilities_are_of_the_own_prompt_whatever_is_shared(
    ask: Ask, queries: list[Query], tiny_model: Any, tiny_tokenizer: Any
) -> None:
    texts = [(query.prompt, query.options or ()) for query in queries]
    alone = [choice_logprobs(Decoder(tiny_model), tokenize(tiny_tokenizer, [text]))[0] for text in texts]
    for reply, expected in zip(ask().ask(queries), alone, strict=True):
        assert reply.choice_logprobs == pytest.approx(expected, abs=5e-5)


def test_variants_of_an_item_are_asked_in_one_tree(
    ask: Ask, queries: list[Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def note(decoder: Any, prompts: Any, progress: Any = None, groups: Any = None) -> Any:
        seen.append(groups)
        return choice_logprobs(decoder, prompts, progress, groups)

    monkeypatch.setattr("labelrel.models.choice.choice_logprobs", note)
    ask().ask(queries[:7])
    assert seen == [[[0, 1, 2], [3, 4, 5], [6]]]


def test_temperature_zero_answers_with_the_most_probable_option(ask: Ask, queries: list[Query]) -> None:
    for reply in ask(temperature=0).ask(queries):
        assert reply.choice_logprobs is not None
        assert reply.answer_logprob == max(reply.choice_logprobs)


def test_answers_do_not_depend_on_what_else_is_asked(ask: Ask, queries: list[Query]) -> None:
    asked = ask()
    together = asked.ask(queries)
    backwards = list(reversed(asked.ask(list(reversed(queries)))))
    alone = [asked.ask([query])[0] for query in queries]
    assert [r.answer for r in together] == [r.answer for r in backwards] == [r.answer for r in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=5e-5)


@pytest.mark.parametrize("mode", ["choice", "generate"])
def test_seeds_draw_different_answers(ask: Ask, queries: list[Query], mode: str) -> None:
    said = [[r.completion for r in ask(mode=mode, temperature=2.0, seed=s).ask(queries)] for s in (1, 2, 1)]
    assert said[0] != said[1]
    assert said[0] == said[2]


def test_open_item_is_refused_with_what_to_do(ask: Ask, queries: list[Query], open_queries: list[Query]) -> None:
    with pytest.raises(ConfigError, match=r"item i01 is an open question .* set sample\.mode to generate\."):
        ask().ask([queries[0], open_queries[4]])


# --- mode `generate` -----------------------------------------------------------------------------


def name(query: Query) -> str:
    return f"{query.item['item_id']}/{query.variant_id}"


def counting(queries: Sequence[Query]) -> list[Query]:
    """Return queries that answer with their name and the length of the text, and abstain where that is odd."""

    def reader(query: Query) -> Callable[[str], Reading]:
        return lambda text: Reading(None, "odd") if len(text) % 2 else Reading(f"{name(query)}: {len(text)}")

    return [dataclasses.replace(query, read=reader(query)) for query in queries]


def test_what_is_written_is_read_by_the_query(ask: Ask, queries: list[Query]) -> None:
    replies = ask(mode="generate").ask(counting(queries))
    lengths = [len(reply.completion) for reply in replies]
    assert [reply.answer for reply in replies] == [
        None if length % 2 else f"{name(query)}: {length}" for query, length in zip(queries, lengths, strict=True)
    ]
    assert {reply.answer is None for reply in replies} == {True, False}
    for reply in replies:
        assert reply.choice_logprobs is None
        assert reply.answer_logprob is not None
        assert reply.answer_logprob <= 0


def test_open_items_are_answered_by_writing(ask: Ask, open_queries: list[Query]) -> None:
    replies = ask(mode="generate", temperature=0).ask(open_queries)
    assert len(replies) == len(open_queries)
    assert any(reply.completion for reply in replies)


def test_text_is_the_greedy_one_at_temperature_zero(
    ask: Ask, queries: list[Query], tiny_model: Any, tiny_tokenizer: Any
) -> None:
    """Against one plain forward per token; a byte is a token, and a line is where the text ends."""
    for query, reply in zip(queries[:4], ask(mode="generate", temperature=0).ask(queries[:4]), strict=True):
        tokens, logprob = list(tiny_tokenizer(query.prompt)["input_ids"]), 0.0
        prompt = len(tokens)
        for _ in range(8):
            with torch.inference_mode():
                logprobs = torch.log_softmax(tiny_model(input_ids=torch.tensor([tokens])).logits[0, -1].float(), 0)
            best = int(logprobs.argmax())
            if "\n" in tiny_tokenizer.decode([best]):
                break
            tokens.append(best)
            logprob += float(logprobs[best])
        assert reply.completion == tiny_tokenizer.decode(tokens[prompt:])
        assert reply.answer_logprob == pytest.approx(logprob, abs=1e-3)


@pytest.mark.parametrize("tokens", [2, 5])
def test_longest_completion_is_as_long_as_told(ask: Ask, queries: list[Query], tokens: int) -> None:
    """A token is a byte, and so at most a character."""
    replies = ask(mode="generate", max_new_tokens=tokens).ask(queries)
    assert max(len(reply.completion) for reply in replies) == tokens


def test_texts_do_not_depend_on_what_else_is_asked(ask: Ask, queries: list[Query]) -> None:
    asked = ask(mode="generate")
    together = [reply.completion for reply in asked.ask(queries)]
    assert together == [asked.ask([query])[0].completion for query in queries]
    assert len(set(together)) > len(queries) / 2


def test_variants_of_an_item_draw_their_own_texts(ask: Ask, queries: list[Query]) -> None:
    same = [dataclasses.replace(queries[0], variant_id=str(n)) for n in range(6)]
    assert len({reply.completion for reply in ask(mode="generate", temperature=2.0).ask(same)}) > 3


def test_answers_that_cannot_be_read_are_null_in_the_table_and_counted(
    ask: Ask, queries: list[Query], tmp_path: Path
) -> None:
    asked = counting(queries)
    answers = sample(ask(mode="generate"), asked, parts=tmp_path / "parts")
    lengths = [len(text) for text in answers["completion"]]
    odd = sum(length % 2 for length in lengths)
    assert answers["answer"].null_count() == odd > 0
    assert unread(answers, asked) == {"odd": odd}
    assert answers["choice_logprobs"].null_count() == len(asked)


def test_a_random_model_names_no_colour_and_nothing_breaks(ask: Ask, queries: list[Query], tmp_path: Path) -> None:
    answers = sample(ask(mode="generate"), queries, parts=tmp_path / "parts")
    causes = unread(answers, queries)
    assert sum(causes.values()) == answers["answer"].null_count() > len(queries) / 2
    assert set(causes) <= {"empty", "names no option", "names several options"}
