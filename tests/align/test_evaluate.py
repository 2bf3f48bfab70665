"""Predictions on held-out items: the most probable option, beside its gold label."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
import torch

from labelrel.align.evaluate import PREDICTIONS, item_prompts, predict
from labelrel.errors import InputError
from labelrel.models.decoder import Decoder
from labelrel.tasks import Task


@pytest.fixture
def predictions(tiny_model: Any, tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame) -> pl.DataFrame:
    prompts = item_prompts(tiny_task, tiny_tokenizer, tiny_items)
    return predict(Decoder(tiny_model), tiny_task, tiny_items, prompts)


def test_item_prompts_are_the_canonical_wording_and_every_option(
    tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame
) -> None:
    prompts = item_prompts(tiny_task, tiny_tokenizer, tiny_items)
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
    from dataclasses import replace

    lenient = replace(tiny_task, is_correct=lambda answer, gold: True)
    prompts = item_prompts(lenient, tiny_tokenizer, tiny_items)
    assert predict(Decoder(tiny_model), lenient, tiny_items, prompts)["correct"].all()


def test_unknown_gold_leaves_correct_unknown(
    tiny_model: Any, tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame
) -> None:
    items = tiny_items.with_columns(
        gold_label=pl.when(pl.col("item_id") == "i03").then(None).otherwise(pl.col("gold_label"))
    )
    found = predict(Decoder(tiny_model), tiny_task, items, item_prompts(tiny_task, tiny_tokenizer, items))
    assert found.filter(pl.col("correct").is_null())["item_id"].to_list() == ["i03"]
    assert found["answer"].null_count() == 0


def test_open_item_has_no_options_to_predict(tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    items = tiny_items.with_columns(choices=pl.when(pl.col("item_id") == "i02").then(None).otherwise(pl.col("choices")))
    with pytest.raises(InputError, match="item i02 is an open question: it has no choices to score"):
        item_prompts(tiny_task, tiny_tokenizer, items)


def test_progress_counts_items(tiny_model: Any, tiny_tokenizer: Any, tiny_task: Task, tiny_items: pl.DataFrame) -> None:
    told: list[tuple[int, int]] = []
    prompts = item_prompts(tiny_task, tiny_tokenizer, tiny_items)
    predict(Decoder(tiny_model), tiny_task, tiny_items, prompts, lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12)
