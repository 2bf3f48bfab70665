"""The model card: it says where an adapter comes from, in the same bytes, and what it quotes stays a quotation."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from labelrel.align.card import _DATA_SETS, measured, model_card, write_card
from labelrel.align.lora import adapter_parameters, add_adapter, save_adapter
from labelrel.config import Lora
from labelrel.tasks import tasks

RECORD: dict[str, Any] = {
    "method": "filter",
    "role": "method",
    "seed": 3,
    "task": "hellaswag",
    "model": "smollm2-135m",
    "num_rows": 40,
    "num_items": 20,
    "params": {"align.model": "smollm2-135m", "align.lora.rank": 16, "select.method": "filter"},
    "comparison": "c0ffee",
    "inputs": {
        name: {"path": f"data/{name}.parquet", "sha256": f"{number}" * 64}
        for number, name in enumerate(("items", "answers", "scores"))
    }
    | {"training": {"path": "data/training/filter.parquet", "sha256": "9" * 64}},
    "accuracy": {"value": 0.7125, "low": 0.66, "high": 0.7634, "items": 300},
}


def front_matter(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found
    return dict(yaml.safe_load(found[1]))


def blocks(card: str, language: str) -> list[str]:
    return [
        text
        for _, name, text in re.findall(r"^(`{3,})(\w+)\n(.*?)\n\1$", card, re.MULTILINE | re.DOTALL)
        if name == language
    ]


def test_front_matter_is_what_hubs_read() -> None:
    assert front_matter(model_card(RECORD)) == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["labelrel", "weak-to-strong", "lora"],
        "datasets": ["Rowan/hellaswag"],
        "metrics": ["accuracy"],
    }
    merged = front_matter(model_card({**RECORD, "model": "hub:org/name@layers=4"}, merged=True))
    assert (merged["base_model"], merged["base_model_relation"]) == ("org/name", "merge")
    assert merged["library_name"] == "transformers"


def test_data_sets_are_those_of_the_tasks() -> None:
    for task, hub in _DATA_SETS.items():
        module = importlib.import_module(f"labelrel.tasks.{task}")
        assert f'hub="{hub}"' in inspect.getsource(module)
        assert task in tasks


def test_lineage_is_all_there() -> None:
    card = model_card(RECORD)
    for words in (
        "method: `filter`", "role: `method`", "seed: `3`", "task: `hellaswag`", "`40`, of `20` items", "`c0ffee`",
        "test accuracy: 0.713, 95% interval 0.660 to 0.763 (bootstrap over 300 items)",
        *(f"- {name}, `{Path(file['path']).name}`: `{file['sha256']}`" for name, file in RECORD["inputs"].items()),
    ):  # fmt: skip
        assert words in card
    assert json.loads(blocks(card, "json")[0]) == RECORD["params"]
    assert blocks(card, "console") == [
        "$ labelrel align --train data/training/filter.parquet --model smollm2-135m --seed 3"
    ]
    floor = {**RECORD, "role": "floor", "method": "floor", "model": "smollm2-135m@layers=10"}
    assert blocks(model_card(floor), "console") == ["$ labelrel supervise --model smollm2-135m@layers=10"]


@pytest.mark.parametrize("place", ["record", "params"])
def test_loss_is_told_where_the_run_names_one(place: str) -> None:
    assert "loss" not in model_card(RECORD)
    given = {"loss": "ranking"} if place == "record" else {"params": {"align.loss": "ranking"}}
    assert "- loss: `ranking`" in model_card({**RECORD, **given})


def test_what_names_the_run_or_its_cost_changes_nothing() -> None:
    run = {"mlflow_run_id": "abc", "git_commit": "def", "seconds": 12.5, "tokens": 9, "num_steps": 4}
    turned = {**dict(reversed(RECORD.items())), "params": dict(reversed(RECORD["params"].items()))}
    assert model_card({**RECORD, **run}) == model_card(turned)


def test_a_record_with_little_gives_a_card_with_little() -> None:
    card = model_card({})
    assert front_matter(card)["library_name"] == "peft"
    assert "##" not in card
    assert "None" not in model_card({"method": "gold", "seed": 1})
    assert "None" not in model_card({"model": "smollm2-135m"}, merged=True)


def test_folders_of_the_machine_are_not_in_it() -> None:
    paths = {
        "model": "/secret/models/own@layers=4",
        "params": {
            "align.model": "gguf:/secret/own.gguf@layers=2", "align.extra": ["/secret/list.txt"],
            "select.target": {"file": "C:\\secret\\gold.csv"}, "prompt.templates": ["/think {question}"],
        },
        "inputs": {"items": {"path": "/secret/elsewhere/items.parquet", "sha256": "0"}},
    }  # fmt: skip
    card = model_card({**RECORD, **paths})
    assert "secret" not in card
    assert json.loads(blocks(card, "json")[0]) == {
        "align.model": "gguf:own.gguf@layers=2", "align.extra": ["list.txt"],
        "select.target": {"file": "gold.csv"}, "prompt.templates": ["/think {question}"],
    }  # fmt: skip
    assert "base_model" not in front_matter(card)  # a folder's name is no model of any hub
    assert "from_pretrained(base, num_hidden_layers=4)" in card
    assert "--model own@layers=4" in card


HOSTILE = "x`\n```\n---\n# Heading <script>alert(1)</script> | [a](http://b) ![i](c) \x85 \ud800"


def test_text_of_the_data_cannot_break_out() -> None:
    record = {**RECORD, "method": HOSTILE, "task": HOSTILE, "role": HOSTILE, "comparison": HOSTILE}
    record["params"] = {"prompt.templates": [HOSTILE], HOSTILE: "````"}
    record["inputs"] = {HOSTILE: {"path": f"data/{HOSTILE}", "sha256": HOSTILE}}
    record["model"] = f"hub:{HOSTILE}"
    card = model_card(record)
    assert front_matter(card)["base_model"] == HOSTILE.replace("\ud800", "?")
    assert json.loads(blocks(card, "json")[0])[HOSTILE.replace("\ud800", "?")] == "````"
    assert "- method: ````x` ``` --- # Heading" in card
    body = card.split("\n---\n", 1)[1]
    for _, fence_and_text in re.findall(r"^(`{3,})\w+\n(.*?)\n\1$", body, re.MULTILINE | re.DOTALL):
        body = body.replace(fence_and_text, "")
    headings = re.findall(r"^#+ .*$", body, re.MULTILINE)
    assert [h for h in headings if h.startswith("## ")] == [
        "## What it is", "## What it was made from", "## Settings", "## Load it", "## Make it again"
    ]  # fmt: skip
    assert len(headings) == 6
    without_code = re.sub(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", body)
    assert "<script>" not in without_code
    assert not re.search(r"(?<!\\)\]\(http", without_code)


def test_accuracy_is_measured_on_items_with_gold() -> None:
    assert measured(pl.DataFrame({"correct": [None, None]}, schema={"correct": pl.Boolean})) is None
    found = measured(pl.DataFrame({"correct": [True, True, False, None]}))
    assert found is not None
    assert (found["value"], found["items"]) == (pytest.approx(2 / 3), 3)
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft reads it; transformers drops it
def test_the_code_in_a_card_loads_the_adapter(
    make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model().save_pretrained(tmp_path / "tiny")
    tiny_tokenizer.save_pretrained(tmp_path / "tiny")
    tuned = add_adapter(make_model(), Lora(rank=4, alpha=8.0), top_layers=2, seed=5)
    for parameter in adapter_parameters(tuned):
        parameter.data += 0.1
    tuned.eval()
    (tmp_path / "adapter").mkdir()
    save_adapter(tuned, tmp_path / "adapter", base="tiny")
    write_card(tmp_path / "adapter", {**RECORD, "model": str(tmp_path / "tiny")})
    (code,) = blocks((tmp_path / "adapter" / "README.md").read_text(encoding="utf-8"), "python")
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    exec(code.replace('adapter = "."', 'adapter = "adapter"'), names)
    ids = torch.tensor([names["tokenizer"]("Colour of fig:")["input_ids"]])
    with torch.inference_mode():
        torch.testing.assert_close(names["model"](input_ids=ids).logits, tuned(input_ids=ids).logits)
