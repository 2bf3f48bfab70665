from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from fake_openai import FakeServer, asking, letter_query, refusal, text_query

from labelrel.errors import ConfigError, InputError
from labelrel.supervise import openai_requests, openai_server
from labelrel.supervise.engines import Asking, Engine, engines
from labelrel.supervise.sample import sample

KEY = "sk-never-shown-0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_requests, "_FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.die()


def open_engine(server: FakeServer, told: Asking, **options: Any) -> Engine:
    return engines.get("openai").open(told, {"base_url": server.url, "model": "tiny", **options})


def questions(count: int) -> list[Any]:
    return [text_query(f"q{number}") for number in range(count)]


def says(server: FakeServer, text: str) -> None:
    server.write = lambda prompt: text


# what is asked, and what is made of it


def test_generate_reads_what_is_written(server, tmp_path):
    server.write = lambda prompt: " Rome, of course" if "q1" in prompt else " no idea"
    server.tops = lambda prompt: {" Rome": -0.25}
    replies = open_engine(server, asking(tmp_path)).ask(questions(2))
    assert [(r.completion, r.answer, r.answer_logprob, r.choice_logprobs) for r in replies] == [
        (" no idea", None, -0.25, None),
        (" Rome, of course", "1", -0.25, None),
    ]
    assert server.paths == ["/v1/completions"] * 2
    assert {"prompt": "Question q0/0", "model": "tiny", "max_tokens": 20, "stop": ["\n"], "logprobs": 1}.items() <= (
        next(body for body in server.bodies if "q0" in body["prompt"]).items()
    )


def test_chat_sends_messages_and_does_not_stop_at_a_line(server, tmp_path):
    says(server, "Rome")
    engine = open_engine(server, asking(tmp_path), api="chat", system="Be brief.", extra={"top_k": 0})
    assert engine.ask(questions(1))[0].answer == "1"
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Question q0/0"},
    ]
    assert server.bodies[0]["top_k"] == 0
    assert "stop" not in server.bodies[0]


def test_replies_are_in_the_order_of_the_queries(server, tmp_path):
    server.write = lambda prompt: " Rome" if prompt.endswith(("1/0", "7/0")) else " Paris"
    server.seconds = 0.01
    answers = [reply.answer for reply in open_engine(server, asking(tmp_path)).ask(questions(10))]
    assert answers == ["0", "1", "0", "0", "0", "0", "0", "1", "0", "0"]


def test_seeds_differ_by_item_and_variant_and_come_again(server, tmp_path):
    queries = [text_query("q0"), text_query("q0", "1"), text_query("q1")]
    open_engine(server, asking(tmp_path / "a", temperature=1.0), concurrency=1).ask(queries)
    open_engine(server, asking(tmp_path / "b", temperature=1.0), concurrency=1).ask(queries)
    open_engine(server, asking(tmp_path / "c", temperature=1.0, seed=2), concurrency=1).ask(queries)
    seeds = [body["seed"] for body in server.bodies]
    assert seeds[:3] == seeds[3:6]
    assert len(set(seeds)) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(("api", "form"), [("completions", "old"), ("completions", "chat"), ("chat", "chat")])
def test_letters_are_weighed_by_the_first_token(server, tmp_path, api, form):
    # " B" .5 and "B" .1 both say B: .6, and A .2, C .1, D .1 add up to 1 without the .1 of " The"
    told = {" A": 0.18, " B": 0.45, "B": 0.09, " C": 0.09, " D": 0.09, " The": 0.1}
    server.tops = lambda prompt: {token: math.log(p) for token, p in told.items()}
    server.form = form
    engine = open_engine(server, asking(tmp_path, "choice"), api=api)
    reply = engine.ask([letter_query("q")])[0]
    assert (reply.completion, reply.answer) == (" B", "1")
    assert [math.exp(value) for value in reply.choice_logprobs] == pytest.approx([0.2, 0.6, 0.1, 0.1])
    assert reply.answer_logprob == reply.choice_logprobs[1]
    assert [body["max_tokens"] for body in server.bodies] == [1]
    assert server.bodies[0]["temperature"] == 0


def test_letters_are_drawn_by_their_probability(server, tmp_path):
    server.tops = lambda prompt: {
        f" {letter}": math.log(p) for letter, p in zip("ABCD", (0.7, 0.1, 0.1, 0.1), strict=True)
    }
    queries = [letter_query(f"q{number}") for number in range(200)]
    replies = open_engine(server, asking(tmp_path, "choice", temperature=1.0), concurrency=16).ask(queries)
    assert 120 < [reply.answer for reply in replies].count("0") < 160  # 140 expected, sd 6.5
    assert replies == open_engine(server, asking(tmp_path, "choice", temperature=1.0)).ask(queries)


def test_a_letter_that_is_not_told_makes_the_model_write(server, tmp_path):
    server.tops = lambda prompt: {" A": -0.5, " B": -1.5, " C": -2.5}
    says(server, " (C)")
    reply = open_engine(server, asking(tmp_path, "choice")).ask([letter_query("q")])[0]
    assert (reply.completion, reply.answer, reply.choice_logprobs) == (" (C)", "2", None)
    assert [body["max_tokens"] for body in server.bodies] == [1, 20]


def test_long_options_are_written(server, tmp_path):
    says(server, " Copenhagen")
    server.tops = lambda prompt: {" Paris": -0.25, " Copenhagen": -0.5}
    reply = open_engine(server, asking(tmp_path, "choice")).ask([text_query("q", choices=("Paris", "Copenhagen"))])[0]
    assert (reply.answer, reply.choice_logprobs) == ("1", None)
    assert [body["max_tokens"] for body in server.bodies] == [20]


def test_an_open_question_has_nothing_to_choose_from(server, tmp_path):
    query = text_query("q")
    query = type(query)(query.item, "0", query.prompt, None, query.read)
    with pytest.raises(ConfigError, match=r"item q is an open question.*sample\.mode to generate"):
        open_engine(server, asking(tmp_path, "choice")).ask([query])
    assert server.bodies == []


def test_an_answers_table_comes_out(server, tmp_path):
    says(server, " Rome")
    table = sample(open_engine(server, asking(tmp_path)), questions(3), parts=tmp_path / "parts")
    assert table["annotator_id"].to_list() == ["tiny"] * 3
    assert table["answer"].to_list() == ["1"] * 3


def test_it_works_where_an_event_loop_runs(server, tmp_path):
    says(server, " Rome")

    async def notebook() -> list[Any]:
        return open_engine(server, asking(tmp_path)).ask(questions(2))

    assert [reply.answer for reply in asyncio.run(notebook())] == ["1", "1"]


# log-probabilities that a server does not give


def refuse_logprobs(most: int) -> Any:
    def trouble(number: int, body: dict[str, Any]) -> Any:
        asked = body.get("top_logprobs", body.get("logprobs", 0))
        return refusal(400, f"logprobs must be at most {most}") if asked > most else None

    return trouble


def test_fewer_logprobs_are_asked_for_when_twenty_are_too_many(server, tmp_path, capsys):
    server.trouble = refuse_logprobs(5)
    server.tops = lambda prompt: {f" {letter}": -1.0 for letter in "ABCD"}
    replies = open_engine(server, asking(tmp_path, "choice")).ask([letter_query(f"q{n}") for n in range(20)])
    assert all(reply.choice_logprobs == pytest.approx([math.log(0.25)] * 4) for reply in replies)
    assert capsys.readouterr().err.count("asking for the 5 most probable") == 1
    assert sum(body["logprobs"] > 5 for body in server.bodies) == 1


def test_a_server_without_logprobs_is_read(server, tmp_path, capsys):
    server.trouble = refuse_logprobs(0)
    says(server, " D")
    queries = [letter_query(f"q{n}") for n in range(20)]
    replies = open_engine(server, asking(tmp_path, "choice")).ask(queries)
    assert [(reply.answer, reply.answer_logprob) for reply in replies] == [("3", None)] * 20
    assert capsys.readouterr().err.count("going on without") == 1
    asked = len(server.bodies)
    assert asked <= 3 + 20  # with 20, with 5, the first without, and the writing
    assert open_engine(server, asking(tmp_path, "choice")).ask(queries) == replies
    assert len(server.bodies) == asked


def test_a_server_that_leaves_logprobs_out_is_read(server, tmp_path, capsys):
    says(server, " D")
    queries = [letter_query(f"q{n}") for n in range(20)]
    assert [r.answer for r in open_engine(server, asking(tmp_path, "choice")).ask(queries)] == ["3"] * 20
    assert capsys.readouterr().err.count("it leaves them out") == 1
    assert len(server.bodies) == 21


def test_what_is_left_out_is_told_once(server, tmp_path, capsys):
    server.seconds = 0.05
    says(server, " Rome")
    open_engine(server, asking(tmp_path), concurrency=8).ask(questions(20))
    assert capsys.readouterr().err.count("\n") == 1


def test_logprobs_can_be_left_unasked(server, tmp_path):
    says(server, " D")
    open_engine(server, asking(tmp_path, "choice"), logprobs=False).ask([letter_query("q")])
    assert all("logprobs" not in body for body in server.bodies)


def test_a_model_that_knows_only_the_new_name_of_max_tokens(server, tmp_path):
    def trouble(number: int, body: dict[str, Any]) -> Any:
        told = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return refusal(400, told) if "max_tokens" in body else None

    server.trouble = trouble
    says(server, "Rome")
    replies = open_engine(server, asking(tmp_path), api="chat").ask(questions(20))
    assert [reply.answer for reply in replies] == ["1"] * 20
    assert server.bodies[-1]["max_completion_tokens"] == 20


# trouble


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(429, "slow down"),
        refusal(500, "oh"),
        refusal(503, "Loading model"),
        (200, {}, '{"choices": [{"te'),
        "drop",
    ],
    ids=["429", "500", "503", "cut off", "drop"],
)
def test_passing_trouble_is_waited_out(server, tmp_path, capsys, trouble):
    server.trouble = lambda number, body: trouble if number < 5 else None
    says(server, " Rome")
    assert [r.answer for r in open_engine(server, asking(tmp_path)).ask(questions(12))] == ["1"] * 12
    assert len(server.bodies) == 12 + 5
    assert capsys.readouterr().err.count("again in") == 1  # one line, not one per request


def test_a_server_that_hangs_is_asked_again(server, tmp_path, capsys):
    server.trouble = lambda number, body: "hang" if number == 0 else None
    says(server, " Rome")
    assert open_engine(server, asking(tmp_path), timeout=0.3).ask(questions(1))[0].answer == "1"
    assert "no answer within 0.3 s; again in" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "date"])
def test_retry_after_is_obeyed_by_all(server, tmp_path, capsys, value):
    times: list[float] = []

    def trouble(number: int, body: dict[str, Any]) -> Any:
        times.append(time.monotonic())
        after = value if value != "date" else formatdate(time.time() + 2, usegmt=True)  # whole seconds
        return refusal(429, "slow down", Retry_After=after) if number == 0 else None

    server.trouble = trouble
    says(server, " Rome")
    open_engine(server, asking(tmp_path), concurrency=2).ask(questions(6))
    # the second worker had sent its first request; nothing else comes before the second is over
    assert sum(moment - times[0] < 0.9 for moment in times) <= 3
    assert times[-1] - times[0] >= 0.9
    assert value == "date" or "slow down; again in 1.0 s (try 2 of 9)" in capsys.readouterr().err


def test_a_wish_for_an_hour_ends_it_at_once(server, tmp_path):
    server.trouble = lambda number, body: refusal(429, "daily quota", Retry_After="3600")
    with pytest.raises(InputError, match=r"daily quota.*asks for 3600 s; when it does, run the same command again"):
        open_engine(server, asking(tmp_path), concurrency=1).ask(questions(3))
    assert len(server.bodies) == 1


def test_waits_grow_and_end(server, tmp_path, monkeypatch):
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float, *rest: Any) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr(openai_requests, "_FIRST_WAIT", 8.0)
    monkeypatch.setattr(openai_requests.asyncio, "sleep", sleep)
    server.trouble = lambda number, body: refusal(500, "oh")
    with pytest.raises(InputError, match=r"does not answer after 5 tries \(HTTP 500: oh\)"):
        open_engine(server, asking(tmp_path), concurrency=1, retries=4).ask(questions(1))
    waits = [wait for wait in waits if wait > 0]
    assert len(waits) == 4
    for wait, most in zip(waits, [8, 16, 30, 30], strict=True):
        assert most / 2 <= wait <= most


@pytest.mark.parametrize(
    ("trouble", "match"),
    [
        (refusal(401, "bad key"), "refuses the key.*put the right key into the environment variable MY_KEY, which is"),
        (refusal(404, "no such model"), "does not offer model 'tiny' at /completions.*or set api to chat"),
        (refusal(400, "prompt too long"), "refuses what it is asked.*prompt too long.*check sample.options"),
        ((200, {"Content-Type": "text/html"}, "<html>hello"), "answers is no completion: '<html>hello'.*base_url"),
        ((200, {}, '{"object": "list"}'), "answers is no completion"),
        (
            (429, {}, json.dumps({"error": {"message": "no credit", "code": "insufficient_quota"}})),
            "refuses what it is asked.*no credit",
        ),
    ],
)
def test_what_does_not_pass_ends_it_at_once(server, tmp_path, trouble, match):
    server.trouble = lambda number, body: trouble
    with pytest.raises(InputError, match=match) as caught:
        open_engine(server, asking(tmp_path), concurrency=1, api_key_env="MY_KEY").ask(questions(5))
    assert "\n" not in str(caught.value)
    assert len(server.bodies) == 1


def test_an_address_where_nobody_is(server, tmp_path):
    server.die()
    with pytest.raises(InputError, match=r"http://127.*does not answer after 3 tries \(.*run the same command again"):
        open_engine(server, asking(tmp_path), retries=2).ask(questions(5))


def test_no_more_requests_at_once_than_allowed(server, tmp_path):
    server.seconds = 0.05
    open_engine(server, asking(tmp_path), concurrency=3).ask(questions(12))
    assert server.most_at_once == 3


# nothing is asked twice


def test_a_rerun_asks_nothing(server, tmp_path):
    says(server, " Rome")
    first = open_engine(server, asking(tmp_path, temperature=1.0)).ask(questions(10))
    server.die()
    assert open_engine(server, asking(tmp_path, temperature=1.0), retries=0).ask(questions(10)) == first
    assert len(server.bodies) == 10


@pytest.mark.parametrize(
    ("told", "options"),
    [
        ({"temperature": 0.5}, {}),
        ({"seed": 2}, {}),
        ({"max_new_tokens": 5}, {}),
        ({}, {"model": "other"}),
        ({}, {"api": "chat"}),
        ({}, {"stop": ["."]}),
        ({}, {"extra": {"top_k": 3}}),
        ({}, {"label": "elsewhere"}),
    ],
)
def test_whatever_the_reply_depends_on_is_asked_anew(server, tmp_path, told, options):
    before = {"temperature": 1.0}
    one = open_engine(server, asking(tmp_path, **before))
    one.ask(questions(1))
    other = open_engine(server, asking(tmp_path, **{**before, **told}), **options)
    other.ask(questions(1))
    assert len(server.bodies) == 2
    assert one.key != other.key


def test_patience_and_place_are_no_part_of_the_key(server, tmp_path):
    one = open_engine(server, asking(tmp_path), label="mine")
    one.ask(questions(1))
    moved = FakeServer()
    other = open_engine(moved, asking(tmp_path), label="mine", concurrency=2, timeout=5.0, retries=0)
    other.ask(questions(1))
    moved.die()
    assert moved.bodies == []
    assert one.key == other.key


def test_equal_requests_are_one(server, tmp_path):
    says(server, " Rome")
    queries = [text_query("q0"), text_query("q0"), text_query("q0")]
    assert [r.answer for r in open_engine(server, asking(tmp_path)).ask(queries)] == ["1"] * 3
    assert len(server.bodies) == 1


@pytest.mark.parametrize("mode", ["choice", "generate"])
def test_a_server_killed_in_mid_run_costs_only_what_was_not_answered(server, tmp_path, mode):
    server.tops = lambda prompt: {f" {letter}": -len(prompt) / (3 + ord(letter)) for letter in "ABCD"}
    server.write = lambda prompt: f" {'ABCD'[hash_of(prompt) % 4]}"
    queries = [letter_query(f"q{number}", str(variant)) for number in range(20) for variant in range(2)]
    whole = sample(
        open_engine(server, asking(tmp_path / "whole", mode, temperature=1.0)), queries, parts=tmp_path / "parts"
    )
    assert server.answered == 40

    def trouble(number: int, body: dict[str, Any]) -> Any:
        if server.answered >= 40 + 17:
            server.die()
            return "drop"
        return None

    server.trouble = trouble
    told = asking(tmp_path / "killed", mode, temperature=1.0)
    with pytest.raises(InputError, match="what was answered is kept and not asked again"):
        sample(open_engine(server, told, retries=1), queries, parts=tmp_path / "other")
    before = server.answered
    server.trouble = lambda number, body: None
    server.start()
    again = sample(open_engine(server, told), queries, parts=tmp_path / "other")
    assert again.equals(whole)
    kept = before - 40
    assert 17 <= kept < 40
    assert server.answered - before <= 40 - kept + 8  # what was under way at the kill may not have arrived


def hash_of(text: str) -> int:
    return sum(text.encode())


# the key


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_key_is_sent_and_is_nowhere_else(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", KEY)
    server.write = lambda prompt: f" Rome {KEY}"
    server.trouble = lambda number, body: refusal(500, f"{KEY} is over its limit") if number == 0 else None
    engine = open_engine(server, asking(tmp_path), api_key_env="MY_KEY")
    replies = engine.ask(questions(3))
    assert set(server.keys) == {f"Bearer {KEY}"}
    shown = capsys.readouterr()
    assert "*** is over its limit" in shown.err
    assert KEY not in shown.err + shown.out + json.dumps(engine.key) + repr(replies)
    assert KEY.encode() not in everything_in(tmp_path)
    assert b"Rome" in everything_in(tmp_path)


def test_trouble_is_waited_out_also_when_something_was_learnt_meanwhile(server, tmp_path, capsys):
    """The first request fails only after the answer to another showed that there are no log-probabilities."""

    def late(number: int, body: dict) -> object:
        if number > 0:
            return None
        while not any("logprobs" not in other for other in server.bodies):
            time.sleep(0.005)
        return refusal(500, "too busy")

    server.write = lambda prompt: " Rome"
    server.trouble = late
    replies = open_engine(server, asking(tmp_path), concurrency=2).ask(questions(4))
    assert [reply.answer for reply in replies] == ["1"] * 4
    assert "HTTP 500: too busy; again in" in capsys.readouterr().err


def test_the_key_is_not_in_errors(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    server.trouble = lambda number, body: refusal(401, f"Incorrect API key provided: {KEY}")
    with pytest.raises(InputError, match=r"Incorrect API key provided: \*\*\*") as caught:
        open_engine(server, asking(tmp_path), api_key_env="MY_KEY").ask(questions(1))
    assert KEY not in str(caught.value)


def test_a_placeholder_for_a_key_leaves_texts_alone(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "e")
    says(server, " Rome, the EMPTY")
    assert open_engine(server, asking(tmp_path)).ask(questions(1))[0].completion == " Rome, the EMPTY"
    assert server.keys == ["Bearer e"]


def test_no_key_is_sent_where_none_is_set(server, tmp_path):
    open_engine(server, asking(tmp_path), api_key_env=None).ask(questions(1))
    assert server.keys == ["Bearer none"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"base_url": "http://me:secret@127.0.0.1/v1"}, "base_url holds a user or password"),
        ({"base_url": "127.0.0.1:8080"}, "base_url must be an address such as"),
        ({"api_key_env": "sk-secret"}, "must be the NAME of an environment variable"),
        ({"api_key_env": "skSecret1"}, "must be the NAME of an environment variable"),
        ({"system": "secret"}, "system needs api: chat"),
        ({"extra": {"n": 5}}, r"extra cannot hold 'n'; set sample\.variants"),
        ({"extra": {"stream": True}}, "extra cannot hold 'stream'; leave it out"),
        ({"modle": "x"}, r"unknown key sample\.options\.modle; did you mean 'model'"),
        ({"concurrency": 0}, "sample.options.concurrency is wrong"),
    ],
)
def test_settings_that_cannot_work(server, tmp_path, options, match):
    with pytest.raises(ConfigError, match=match) as caught:
        open_engine(server, asking(tmp_path), **options)
    assert "secret" not in str(caught.value).lower()


def test_a_missing_client_library_is_told_in_one_line(server, tmp_path, monkeypatch):
    import importlib

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"needs the package 'openai'.*pip install 'labelrel\[openai\]'"):
        open_engine(server, asking(tmp_path))


def test_the_engine_is_registered():
    assert openai_server.openai is engines.get("openai").function
    assert not engines.get("openai").tuned
