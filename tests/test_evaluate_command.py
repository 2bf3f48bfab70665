"""`labelrel evaluate` and `labelrel merge` as they are typed, on a tiny model in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from typer.testing import CliRunner, Result

from labelrel.align.evaluate import PREDICTIONS
from labelrel.align.lora import adapter_parameters, add_adapter, save_adapter
from labelrel.align.run import Budget, run, write_run
from labelrel.cli import app
from labelrel.config import Lora
from labelrel.models.load import LoadedModel
from labelrel.schema import TRAINING, check_training
from labelrel.tasks import Prompting, Task, tasks

ROOT = Path(__file__).resolve().parents[1]
RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing:FutureWarning"  # peft reads it; transformers will drop it
)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    make_model: Callable[..., Any],
    tiny_tokenizer: Any,
    tiny_task: Task,
    tiny_items: pl.DataFrame,
) -> Iterator[Path]:
    """A project whose strong model is the folder `tiny`, and a run that has learnt the gold labels of `w2s`."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    root = tmp_path_factory.mktemp("made")
    model = make_model(initializer_range=0.3)  # sharp enough to learn by heart
    model.save_pretrained(root / "tiny")
    tiny_tokenizer.save_pretrained(root / "tiny")
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    document["align"]["model"] = "tiny"
    (root / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (root / "data").mkdir()
    tiny_items.write_parquet(root / "data" / "items.parquet")
    w2s = tiny_items.filter(pl.col("split") == "w2s")
    rows = [
        (i["item_id"], tiny_task.wordings(i)[0].prompt, f" {i['choices'][int(i['gold_label'])]}", i["gold_label"], 1.0)
        for i in w2s.iter_rows(named=True)
    ]
    outcome = run(
        LoadedModel(model, tiny_tokenizer, "tiny", "tiny-fingerprint"),
        Prompting(tiny_task),
        check_training(pl.DataFrame(rows, schema=TRAINING, orient="row")),
        w2s,
        budget=Budget(8, 80, 8, 5e-3),
        lora=Lora(rank=16, alpha=32.0),
        top_layers=2,
        seed=1,
        cache=root / "cache",
        quiet=True,
    )
    write_run(root / "data" / "align" / "gold-1", outcome, {"method": "gold", "seed": 1}, base="tiny")
    yield root
    logging.set_verbosity(level)
    logging.enable_progress_bar()


@pytest.fixture(autouse=True)
def _project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_task: Task) -> None:
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setitem(tasks._entries, "toy", tiny_task)


@pytest.fixture
def learnt() -> pl.DataFrame:
    """What the run answered when it was trained: all of `w2s`, right."""
    predictions = pl.read_parquet("data/align/gold-1/predictions.parquet")
    assert predictions["correct"].all()
    return predictions


def call(*arguments: str, code: int = 0) -> Result:
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == code, (result.stderr, result.exception)
    return result


def numbers(*arguments: str) -> dict[str, Any]:
    result = call("evaluate", "--json", "-q", *arguments)
    assert result.stderr == ""
    return dict(json.loads(result.stdout))


def mistake(*arguments: str) -> str:
    result = call(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("labelrel: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


def write_items(items: pl.DataFrame, **columns: Any) -> str:
    items.with_columns(**columns).write_parquet("mine.parquet")
    return "mine.parquet"


# --- evaluate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["data/align/gold-1", "data/align/gold-1/adapter"])
def test_an_adapter_answers_as_it_did_when_it_was_trained(learnt: pl.DataFrame, folder: str) -> None:
    found = numbers("--adapter", folder, "--split", "w2s", "-o", "predictions.parquet")
    written = pl.read_parquet("predictions.parquet")
    assert written.schema == PREDICTIONS
    assert_frame_equal(written, learnt, abs_tol=0.05)  # which stood on a trunk cache in half precision
    assert learnt["correct"].all()
    expected = {
        "model": "tiny", "adapter": folder, "adapter_base": "tiny", "task": "toy", "split": "w2s", "items": 8,
        "with_gold": 8, "abstained": 0, "accuracy": 1.0, "accuracy_lo": 1.0, "accuracy_hi": 1.0, "confidence": 0.95,
        "classes": None, "out": "predictions.parquet",
    }  # fmt: skip
    assert found.pop("seconds") >= 0
    assert found == expected


def test_a_model_alone_is_scored_on_the_projects_test_split(learnt: pl.DataFrame, tiny_items: pl.DataFrame) -> None:
    found = numbers("-o", "predictions.jsonl")
    assert (found["model"], found["adapter"], found["split"], found["items"]) == ("tiny", None, "test", 4)
    assert pl.read_ndjson("predictions.jsonl")["item_id"].to_list() == [
        i for i, split in tiny_items.select("item_id", "split").rows() if split == "test"
    ]
    plain, tuned = numbers("--split", "w2s"), numbers("--split", "w2s", "--adapter", "data/align/gold-1")
    assert plain["accuracy"] < tuned["accuracy"] == 1.0
    assert plain["accuracy_lo"] <= plain["accuracy"] <= plain["accuracy_hi"]


def test_people_get_a_table(learnt: pl.DataFrame) -> None:
    result = call("evaluate", "--adapter", "data/align/gold-1", "--split", "w2s")
    title, names, row = result.stdout.splitlines()
    assert title == "tiny with data/align/gold-1 on toy, split w2s (95% interval over items)"
    assert names.split() == ["items", "with", "gold", "abstained", "accuracy", "low", "high"]
    assert row.split() == ["8", "8", "0", "1.000", "1.000", "1.000"]


def test_accuracy_by_class_where_all_items_share_their_choices(tiny_items: pl.DataFrame) -> None:
    same = write_items(tiny_items, choices=pl.lit(["red", "green", "blue"]), gold_label=pl.lit("1"))
    found = numbers("--items", same, "--split", "w2s", "-o", "predictions.parquet")
    right = pl.read_parquet("predictions.parquet")["answer"] == "1"
    assert [(c["class"], c["items"], c["accuracy"]) for c in found["classes"]] == [
        ("red", 0, None), ("green", 8, right.sum() / 8), ("blue", 0, None)
    ]  # fmt: skip
    shown = call("evaluate", "--items", same, "--split", "w2s", "-q").stdout
    assert "by gold label" in shown
    assert "green      8" in shown


def test_open_items_are_answered_by_what_the_model_writes(
    tiny_items: pl.DataFrame, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tasks._entries, "toy", replace(tiny_task, is_correct=lambda answer, gold: True))
    names = [item["choices"][int(item["gold_label"])] for item in tiny_items.iter_rows(named=True)]
    path = write_items(tiny_items, choices=pl.lit(None, pl.List(pl.String)), gold_label=pl.Series(names))
    found = numbers("--items", path, "-o", "predictions.parquet")
    answers = pl.read_parquet("predictions.parquet")["answer"]
    assert found["abstained"] == answers.null_count() > 0
    assert found["accuracy"] == 1 - answers.null_count() / 4  # an answer that cannot be read is wrong
    assert found["classes"] is None


def test_items_without_gold_are_answered_all_the_same(tiny_items: pl.DataFrame) -> None:
    path = write_items(tiny_items, gold_label=pl.lit(None, pl.String))
    found = numbers("--items", path, "-o", "predictions.parquet")
    assert (found["items"], found["with_gold"], found["accuracy"], found["accuracy_lo"]) == (4, 0, None, None)
    assert pl.read_parquet("predictions.parquet")["answer"].null_count() == 0
    assert call("evaluate", "--items", path, "-q").stdout.splitlines()[2].split() == ["4", "0", "0"]


def test_the_model_is_the_adapters_own_base_unless_named(learnt: pl.DataFrame) -> None:
    document = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    document["align"]["model"] = "smollm2-135m"
    Path("params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert numbers("--adapter", "data/align/gold-1", "--split", "w2s")["accuracy"] == 1.0


def test_another_base_is_a_warning_where_the_adapter_fits(learnt: pl.DataFrame) -> None:
    Path("tiny").rename("other")
    result = call("evaluate", "--model", "other", "--adapter", "data/align/gold-1", "--json")
    assert result.stderr == (
        "evaluate: the adapter was trained on tiny, not on other; on another model its numbers mean little\n"
    )
    found = json.loads(result.stdout)
    assert (found["model"], found["adapter_base"]) == ("other", "tiny")


def test_another_base_is_a_mistake_where_the_adapter_does_not_fit(
    make_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    wide = add_adapter(make_model(hidden_size=64), Lora(rank=2, alpha=4.0), top_layers=2, seed=0)
    assert adapter_parameters(wide)
    Path("wide").mkdir()
    save_adapter(wide, Path("wide"), base="tiny")
    assert "does not fit the model" in mistake("evaluate", "--adapter", "wide")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--items", "none.parquet"], "no such file: none.parquet"),
        (["--split", "dev"], "data/items.parquet has no item in split 'dev' (found: {'test': 4, 'w2s': 8})"),
        (["--adapter", "data"], "data holds no adapter in PEFT's format (adapter_config.json is missing)"),
        (["--adapter", "nowhere"], "no such folder: nowhere; name a run, such as data/align/naive-0"),
        (["--model", "tyni/x"], "no such model folder: tyni/x"),
        (["-o", "predictions.csv"], "predictions.csv: predictions are written as .parquet or .jsonl, not '.csv'"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], match: str) -> None:
    assert match in mistake("evaluate", *arguments)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (["toy", "unheard"], "has items of 2 tasks (toy, unheard)"),
        (["unheard"] * 2, "unknown task 'unheard' in mine.par"),
    ],
)
def test_items_of_other_tasks(tiny_items: pl.DataFrame, name: list[str], match: str) -> None:
    path = write_items(tiny_items.with_row_index("n"), task=pl.Series(name * 6))
    assert match in mistake("evaluate", "--items", path)


def test_an_item_longer_than_the_context_is_refused(tiny_items: pl.DataFrame) -> None:
    path = write_items(tiny_items, meta=pl.struct(subject=pl.lit("fig " * 80)))
    assert "4 of 4 items are longer than the 256 tokens that tiny reads" in mistake("evaluate", "-q", "--items", path)


# --- merge ---------------------------------------------------------------------------------------


def test_a_merged_run_is_a_model_that_needs_no_adapter(learnt: pl.DataFrame) -> None:
    result = call("merge", "data/align/gold-1", "-o", "merged", "--json", "-q")
    assert json.loads(result.stdout) == {
        "model": "tiny", "adapter": "data/align/gold-1/adapter", "adapter_base": "tiny", "out": "merged"
    }  # fmt: skip
    numbers("--adapter", "data/align/gold-1", "--split", "w2s", "-o", "apart.parquet")
    found = numbers("--model", "merged", "--split", "w2s", "-o", "merged.parquet")
    assert found["accuracy"] == 1.0
    assert_frame_equal(pl.read_parquet("merged.parquet"), pl.read_parquet("apart.parquet"), abs_tol=1e-3)
    card = Path("merged/README.md").read_text(encoding="utf-8")
    assert "test accuracy: 1.000, 95% interval 1.000 to 1.000 (bootstrap over 8 items)" in card
    assert "merged is there already" in mistake("merge", "data/align/gold-1", "-o", "merged")
