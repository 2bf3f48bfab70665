"""Position shares, worked out by hand, and orders read back from the prompts that list them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from labelrel import schema
from labelrel.config import Prompt
from labelrel.report import Sources
from labelrel.report.positions import listed_order, position_shares, read_answers
from labelrel.tasks import Prompting
from labelrel.tasks.base import Task

AB = ["A1", "B1"]


def table(gold: dict[str, str | None], choices: list[str] | None = AB, split: str = "w2s") -> pl.DataFrame:
    rows = [(item, "toy", split, "Which?", choices, label) for item, label in gold.items()]
    return pl.DataFrame(rows, schema=schema.ITEMS, orient="row")


def replies(*rows: tuple[str, str, str | None, str]) -> pl.DataFrame:
    """(item, variant, answer, order of listing as text) → answers."""
    made = [
        (item, "weak", variant, "Which?\n" + "\n".join(f"- {AB[int(c)]}" for c in order) + "\nAnswer:", answer)
        for item, variant, answer, order in rows
    ]
    return pl.DataFrame(
        made, schema=["item_id", "annotator_id", "variant_id", "prompt", "answer"], orient="row"
    ).with_columns(pl.col("answer").cast(pl.String))


def test_items_count_once_and_unread_answers_not_at_all() -> None:
    answers = replies(
        ("x", "0", "0", "01"),
        ("x", "1", "1", "01"),
        ("y", "0", "0", "01"),
        ("y", "1", None, "01"),
        ("z", "0", None, "01"),
    )
    shares = position_shares(answers, table({"x": "0", "y": "1", "z": "1"}))
    # x says 0 half of the time, y always; z says nothing, so its gold label does not count either
    assert shares.select("kind", "position", "answered", "gold", "num_items").rows() == [
        ("choice", 0, 0.75, 0.5, 2),
        ("choice", 1, 0.25, 0.5, 2),
    ]


def test_places_are_those_of_the_prompt() -> None:
    answers = replies(("x", "0", "0", "01"), ("x", "1", "1", "10"), ("y", "0", "0", "01"), ("y", "1", "0", "10"))
    shares = position_shares(answers, table({"x": "0", "y": "0"})).filter(pl.col("kind") == "place")
    # x answers the first place twice, y once; gold is first in one prompt of two
    assert shares.select("position", "answered", "gold").rows() == [(0, 0.75, 0.5), (1, 0.25, 0.5)]


def test_options_in_their_own_order_have_no_places() -> None:
    answers = replies(("x", "0", "0", "01"), ("x", "1", "1", "01"))
    assert set(position_shares(answers, table({"x": "0"}))["kind"]) == {"choice"}


def test_intervals_are_wilsons_over_items() -> None:
    answers = replies(*((f"i{n}", str(v), "0", "01") for n in range(4) for v in range(5)))
    row = position_shares(answers, table({f"i{n}": str(n % 2) for n in range(4)})).row(0, named=True)
    assert (row["answered"], row["answered_hi"]) == (1.0, 1.0)
    assert row["answered_lo"] == pytest.approx(4 / (4 + 1.959964**2))  # n / (n + z²) where all say so: n is 4, not 20


@pytest.mark.parametrize(
    "items",
    [
        table({"x": "5", "y": None}, None),
        table({"x": None, "y": None}),
        table({"x": "0", "y": "1"}, split="test"),
    ],
    ids=["open", "no gold", "another split"],
)
def test_nothing_to_tell(items: pl.DataFrame) -> None:
    assert position_shares(replies(("x", "0", "5", "01"), ("y", "0", "1", "10")), items).is_empty()


def test_answers_need_no_prompt() -> None:
    answers = replies(("x", "0", "0", "10")).drop("prompt")
    assert set(position_shares(answers, table({"x": "0"}))["kind"]) == {"choice"}


@pytest.mark.parametrize(
    ("prompt", "choices", "order"),
    [
        ("Which?\n- b\n- a\nAnswer:", ["a", "b"], [1, 0]),
        ("Which?\nA. b\nB. a\nAnswer:", ["a", "b"], [1, 0]),
        ("Options: - b c\n- b", ["b", "b c"], [1, 0]),  # one is the beginning of the other
        ("The a and the b?\n- b\n- a", ["a", "b"], [1, 0]),
        ("Which of a and b?", ["a", "b"], None),
        ("Which?\n- a\nAnswer:", ["a", "b"], None),
        ("Which?\n- a\n- a", ["a", "a"], None),
    ],
)
def test_listed_order(prompt: str, choices: list[str], order: list[int] | None) -> None:
    assert listed_order(prompt, choices) == order


@pytest.mark.parametrize(
    ("prompt", "order"),
    [
        ("I did it.\nIs this acceptable or unacceptable?\nAnswer:", [0, 1]),
        ("I did it.\nIs this unacceptable or acceptable?\nAnswer:", [1, 0]),
        ("It was unacceptable, I said.\nAcceptable or unacceptable?", [0, 1]),
        ("It was unacceptable, I said and left for good.\nMost people would say that this is acceptable", None),
        ("Is this unacceptable?", None),
    ],
)
def test_answer_words_are_found_in_a_sentence(prompt: str, order: list[int] | None) -> None:
    assert listed_order(prompt, ["acceptable", "unacceptable"], words=True) == order


@pytest.mark.parametrize("answer", ["text", "letter"])
def test_orders_of_our_own_prompts_are_read_back(tiny_task: Task, tiny_items: pl.DataFrame, answer: str) -> None:
    prompting = Prompting(tiny_task, Prompt(options="listed", answer=answer, vary="order"), seed=3)
    item = tiny_items.row(0, named=True)
    found = [listed_order(wording.prompt, item["choices"]) for wording in prompting.variants(item, 5)]
    assert None not in found
    assert len({tuple(order or ()) for order in found}) == 5
    assert found[0] == list(range(len(item["choices"])))


def test_answers_are_optional(tmp_path: Path) -> None:
    assert read_answers(Sources.under(tmp_path)) is None
