"""Predictions on held-out items: the most probable option, beside its gold label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch

from labelrel.align.evaluate import OPEN_TOKENS, PREDICTIONS, is_open, item_prompts, predict, predict_open, with_gold
from labelrel.config import Prompt
from labelrel.errors import InputError
from labelrel.models.decoder import Decoder
from labelrel.models.generate import generate
from labelrel.tasks import Prompting, Reading, Task


@pytest.fixture
def predictions(tiny_model: Any, tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame) -> pl.DataFrame:
    prompts = item_prompts(Prompting(tiny_task), tiny_tokenizer, tiny_items)
    return predict(Decoder(tiny_model), tiny_task, tiny_items, prompts)


def test_item_prompts_are_the_canonical_wording_and_every_option(
    tiny_tokenizer: Any, tiny_prompting: Prompting, tiny_items: pl.DataFrame
) -> None:
    prompts = item_prompts(tiny_prompting, tiny_tokenizer, tiny_items)
    assert len(prompts) == tiny_items.height
    assert tiny_tokenizer.decode(prompts[1].prefix) == "Colour of kiwi:"
    assert [tiny_tokenizer.decode(branch) for branch in prompts[1].branches] == [" green", " blue", " red"]


def test_predictions_are_one_row_per_item_in_order(predictions: pl.DataFrame, tiny_items: pl.DataFrame) -> None:
    assert predictions.schema == PREDICTIONS
    assert predictions.select("item_id", "split", "gold_label").equals(
        tiny_items.select("item_id", "split", "gold_label")
    )


def test_answer_is_the_most_probable_option(
    predictions: pl.DataFrame, tiny_model: Any, tiny_tokenizer: Any, naive_logprobs: Any
) -> None:
    for row, subject in zip(predictions.iter_rows(named=True), ("fig", "kiwi", "plum"), strict=False):
        prefix = tiny_tokenizer(f"Colour of {subject}:")["input_ids"]
        colours = [("red", "green", "blue")[(int(row["item_id"][1:]) + k) % 3] for k in range(3)]
        with torch.inference_mode():
            sums = torch.stack(
                [naive_logprobs(tiny_model, prefix, tiny_tokenizer(f" {c}")["input_ids"]).sum() for c in colours]
            )
        expected = torch.log_softmax(sums, 0)
        assert row["choice_logprobs"] == pytest.approx(expected.tolist(), abs=5e-5)
        assert row["answer"] == str(int(expected.argmax()))
        assert row["answer_logprob"] == max(row["choice_logprobs"])


def test_correct_compares_answer_and_gold(predictions: pl.DataFrame) -> None:
    assert predictions["correct"].to_list() == (predictions["answer"] == predictions["gold_label"]).to_list()
    assert set(predictions["correct"].to_list()) == {True, False}


def test_gold_check_is_the_tasks_own(
    tiny_model: Any, tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame
) -> None:
    lenient = replace(tiny_task, is_correct=lambda answer, gold: True)
    prompts = item_prompts(Prompting(lenient), tiny_tokenizer, tiny_items)
    assert predict(Decoder(tiny_model), lenient, tiny_items, prompts)["correct"].all()


def test_unknown_gold_leaves_correct_unknown(
    tiny_model: Any, tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame
) -> None:
    items = tiny_items.with_columns(
        gold_label=pl.when(pl.col("item_id") == "i03").then(None).otherwise(pl.col("gold_label"))
    )
    found = predict(Decoder(tiny_model), tiny_task, items, item_prompts(Prompting(tiny_task), tiny_tokenizer, items))
    assert found.filter(pl.col("correct").is_null())["item_id"].to_list() == ["i03"]
    assert found["answer"].null_count() == 0


def test_open_item_has_no_options_to_predict(
    tiny_tokenizer: Any, tiny_prompting: Prompting, tiny_items: pl.DataFrame
) -> None:
    items = tiny_items.with_columns(choices=pl.when(pl.col("item_id") == "i02").then(None).otherwise(pl.col("choices")))
    with pytest.raises(InputError, match="item i02 is an open question: it has no choices to score"):
        item_prompts(tiny_prompting, tiny_tokenizer, items)


def test_progress_counts_items(tiny_model: Any, tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    told: list[tuple[int, int]] = []
    prompts = item_prompts(Prompting(tiny_task), tiny_tokenizer, tiny_items)
    predict(Decoder(tiny_model), tiny_task, tiny_items, prompts, lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12)


def test_options_are_those_of_the_projects_wording(
    tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame
) -> None:
    listed = Prompting(tiny_task, Prompt(options="listed", answer="letter", vary="order"))
    prompts = item_prompts(listed, tiny_tokenizer, tiny_items)
    assert tiny_tokenizer.decode(prompts[1].prefix).endswith("\nA. green\nB. blue\nC. red\nAnswer:")
    assert [tiny_tokenizer.decode(branch) for branch in prompts[1].branches] == [" A", " B", " C"]


# --- open items ----------------------------------------------------------------------------------


def without_choices(items: pl.DataFrame) -> pl.DataFrame:
    return items.with_columns(choices=pl.lit(None, pl.List(pl.String)))


def test_table_is_of_one_kind(tiny_items: pl.DataFrame) -> None:
    assert not is_open(tiny_items)
    assert is_open(without_choices(tiny_items))
    mixed = pl.concat([tiny_items.head(9), without_choices(tiny_items.tail(3))])
    with pytest.raises(InputError, match=r"^3 of 12 items have no choices: open and closed items need a task each\.$"):
        is_open(mixed)


@pytest.fixture
def counting(tiny_task: Task) -> Task:
    """Answers with the length of what was written, abstains where that is odd; right are multiples of 4."""

    def parse(item: Any, completion: str) -> Reading:
        return Reading(None, "odd") if len(completion) % 2 else Reading(str(len(completion)))

    return replace(tiny_task, parse=parse, is_correct=lambda answer, gold: int(answer) % 4 == 0)


def test_open_items_are_answered_by_what_is_written(
    tiny_model: Any, tiny_tokenizer: Any, counting: Task, tiny_items: pl.DataFrame
) -> None:
    items, told = without_choices(tiny_items).with_columns(gold_label=pl.lit("14")), []
    found = predict_open(
        tiny_model, tiny_tokenizer, Prompting(counting), items, lambda done, total: told.append((done, total))
    )
    written = generate(
        tiny_model,
        tiny_tokenizer,
        [f"Colour of {item['meta']['subject']}:" for item in items.iter_rows(named=True)],
        max_new_tokens=OPEN_TOKENS,
        temperature=0,
        seed=7,
        names=[f"other {n}" for n in range(12)],
        budget=64,
    )
    expected = [None if len(w.text) % 2 else str(len(w.text)) for w in written]
    assert found.schema == PREDICTIONS
    assert found["item_id"].to_list() == items["item_id"].to_list()
    assert found["answer"].to_list() == expected
    assert {answer is None for answer in expected} == {True, False}
    assert found["answer_logprob"].to_list() == pytest.approx([w.logprob for w in written], abs=1e-3)
    assert found["correct"].to_list() == [answer is not None and int(answer) % 4 == 0 for answer in expected]
    assert found["correct"].any()
    assert found["choice_logprobs"].null_count() == 12
    assert told[-1] == (12, 12)


def test_answer_that_cannot_be_read_is_wrong_and_unknown_gold_unknown(
    tiny_task: Task, tiny_items: pl.DataFrame
) -> None:
    items = tiny_items.head(4).with_columns(gold_label=pl.Series(["1", "1", None, "1"]))
    found = with_gold(
        tiny_task, items, [("1", -0.5, [-1.0, -0.5]), (None, None, None), (None, -1.0, None), ("0", 0, None)]
    )
    assert found.schema == PREDICTIONS
    assert found["correct"].to_list() == [True, False, None, False]
    assert found["answer"].to_list() == ["1", None, None, "0"]
    assert found["choice_logprobs"].to_list() == [[-1.0, -0.5], None, None, None]


def test_predictions_are_one_per_item(tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="shorter"):
        with_gold(tiny_task, tiny_items, [("1", None, None)])
