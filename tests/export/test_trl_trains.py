"""The `trl` export trains in a stock SFTTrainer, whose loss is of the completions and knows no weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from labelrel.export import ExportOptions, export_scores
from labelrel.schema import SCORES

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing:FutureWarning",  # trl reads it; transformers will drop it
    "ignore:.*pin_memory.*:UserWarning",  # torch, where there is no accelerator
)
QUALITIES = (0.9, 0.3, 0.6, 0.8)
CHOICES = ["red", "green", "dark blue"]


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """A scores table with four weak labels, and the items."""
    rows = [
        (
            {**dict.fromkeys(SCORES), "method": "share", "item_id": f"i{n}", "answer": str(n % 3), "num_votes": 3}
            | {"num_answers": 5, "share": quality, "weak_label": True, "label_quality": quality, "tie": False}
        )
        for n, quality in enumerate(QUALITIES)
    ]
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(4)],
            "question": [f"Colour of {thing}?" for thing in ("a fig", "kiwi", "plum", "the sky")],
            "choices": [CHOICES] * 4,
        }
    )
    pl.DataFrame(rows, schema=SCORES).write_parquet(tmp_path / "scores.parquet")
    items.write_parquet(tmp_path / "items.parquet")
    return tmp_path / "scores.parquet", tmp_path / "items.parquet"


@pytest.fixture
def exported(tables: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    scores, items = tables

    def export(name: str, *, weights: bool = True) -> Path:
        export_scores(scores, "trl", tmp_path / name, ExportOptions(items=items, weights=weights))
        return tmp_path / name

    return export


@pytest.fixture
def trainer(make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path) -> Callable[[Any], Any]:
    """Return a maker of stock trainers: two steps of two rows on a fresh tiny Llama."""
    import trl

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.eos_token = "<pad>"

    def make(rows: Any) -> Any:
        settings = trl.SFTConfig(
            output_dir=str(tmp_path / "trained"),
            max_steps=2,
            per_device_train_batch_size=2,
            logging_steps=1,
            learning_rate=1e-3,
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            disable_tqdm=True,
            report_to=[],
        )
        model = make_model().requires_grad_(True)
        return trl.SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)

    return make


def loaded(path: Path, tmp_path: Path) -> Any:
    import datasets

    kind = "json" if path.suffix == ".jsonl" else "parquet"
    return datasets.load_dataset(kind, data_files=str(path), cache_dir=str(tmp_path / "cache"), split="train")


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_an_exported_file_trains_as_it_is(
    exported: Callable[..., Path], trainer: Callable[[Any], Any], tmp_path: Path, name: str
) -> None:
    rows = loaded(exported(name), tmp_path)
    assert rows.column_names == ["prompt", "completion", "weight", "item_id"]
    stock = trainer(rows)
    before = {name: value.detach().clone() for name, value in stock.model.named_parameters()}
    found = losses(stock)
    assert len(found) == stock.state.global_step == 2
    assert all(0 < loss < 30 for loss in found)
    assert any(not value.equal(before[name]) for name, value in stock.model.named_parameters())


def test_rows_as_plain_dicts_train_too(exported: Callable[..., Path], trainer: Callable[[Any], Any]) -> None:
    from datasets import Dataset

    lines = exported("train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(losses(trainer(Dataset.from_list([json.loads(line) for line in lines])))) == 2


def test_only_the_completion_is_learnt(
    exported: Callable[..., Path], trainer: Callable[[Any], Any], make_model: Callable[..., Any], tiny_tokenizer: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Every label is a token of a completion or the end after it, and the first loss is their mean."""
    import torch

    path = exported("train.jsonl")
    stock = trainer(loaded(path, tmp_path))
    learnt, sums, tokens = set(), 0.0, 0
    batch = next(iter(stock.get_train_dataloader()))
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        target = labels != -100
        learnt.add((tiny_tokenizer.decode(ids[mask.bool() & ~target]), tiny_tokenizer.decode(ids[target])))
        with torch.inference_mode():
            logits = make_model()(input_ids=ids[mask.bool()][None]).logits[0]
        start = int(target.nonzero()[0])
        wanted = ids[target]
        sums += torch.nn.functional.cross_entropy(
            logits[start - 1 : start - 1 + len(wanted)], wanted, reduction="sum"
        ).item()
        tokens += len(wanted)
    rows = pl.read_ndjson(path)
    assert rows["completion"].to_list() == [" red", " green", " dark blue", " red"]
    assert learnt < {
        (prompt, f"{completion}<pad>") for prompt, completion in rows.select("prompt", "completion").rows()
    }
    assert losses(stock)[0] == pytest.approx(sums / tokens, abs=1e-4)


def test_weights_change_nothing_there(
    exported: Callable[..., Path], trainer: Callable[[Any], Any], tmp_path: Path
) -> None:
    """What docs/footguns.md says: a stock trainer drops the column."""
    weighted, plain = loaded(exported("w.jsonl"), tmp_path), loaded(exported("p.jsonl", weights=False), tmp_path)
    assert (weighted["weight"][:], plain["weight"][:]) == (list(QUALITIES), [1.0] * 4)
    first, second = trainer(weighted), trainer(plain)
    assert losses(first) == losses(second)
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(one.equal(other) for one, other in pairs)
