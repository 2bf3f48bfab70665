"""One whole run on a tiny model: it learns, it repeats to the byte, and it writes what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.align.evaluate import PREDICTIONS
from labelrel.align.run import Budget, Outcome, run, write_run
from labelrel.align.train import Step
from labelrel.config import Lora, Trunk
from labelrel.errors import InputError
from labelrel.files import read_json
from labelrel.models.load import LoadedModel
from labelrel.schema import TRAINING, check_training
from labelrel.tasks import Prompting, Task

BUDGET = Budget(num_items=8, epochs=1, batch_size=4, learning_rate=1e-2)
LONG = Budget(num_items=8, epochs=80, batch_size=8, learning_rate=5e-3)


@pytest.fixture(scope="session")
def learnt(tiny_items: pl.DataFrame) -> pl.DataFrame:
    """The 8 items to learn, as items."""
    return tiny_items.filter(pl.col("split") == "w2s")


@pytest.fixture(scope="session")
def training(tiny_task: Task, learnt: pl.DataFrame) -> pl.DataFrame:
    """The training set that gold labels give."""
    rows = [
        (i["item_id"], tiny_task.wordings(i)[0].prompt, f" {i['choices'][int(i['gold_label'])]}", i["gold_label"], 1.0)
        for i in learnt.iter_rows(named=True)
    ]
    return check_training(pl.DataFrame(rows, schema=TRAINING, orient="row"))


Runner = Callable[..., Outcome]


@pytest.fixture
def do_run(
    make_model: Callable[..., Any],
    tiny_tokenizer: Any,
    tiny_prompting: Prompting,
    training: pl.DataFrame,
    learnt: pl.DataFrame,
    tmp_path: Path,
) -> Runner:
    def do(**changes: Any) -> Outcome:
        # sharp enough to learn by heart: the frozen vocabulary bounds how sure the model can get
        loaded = LoadedModel(make_model(initializer_range=0.3), tiny_tokenizer, "tiny", "tiny-fingerprint")
        settings = {
            "training": training,
            "test": learnt,
            "budget": BUDGET,
            "lora": Lora(rank=16, alpha=32.0),
            "top_layers": 2,
            "seed": 1,
            "cache": tmp_path / "cache",
            "quiet": True,
            **changes,
        }
        return run(loaded, tiny_prompting, settings.pop("training"), settings.pop("test"), **settings)

    return do


@pytest.mark.parametrize("top_layers", [2, None])
def test_run_learns_its_items(do_run: Runner, top_layers: int | None) -> None:
    before = do_run(top_layers=top_layers, budget=Budget(8, 1, 8, 0.0))
    assert before.predictions["correct"].sum() <= 5
    assert (before.trunk_tokens > 0) == (top_layers is not None)
    outcome = do_run(top_layers=top_layers, budget=LONG)
    assert outcome.predictions["correct"].all()
    assert outcome.trained.history[-1].loss < 0.5


def test_run_learns_the_labels_it_is_given_not_gold(
    do_run: Runner, training: pl.DataFrame, learnt: pl.DataFrame
) -> None:
    """Trained on the option after the gold one, it answers that one."""
    options = dict(learnt.select("item_id", "choices").rows())
    wrong = training.with_columns(answer=((pl.col("answer").cast(pl.Int64) + 1) % 3).cast(pl.String))
    targets = [f" {options[item][int(answer)]}" for item, answer in wrong.select("item_id", "answer").rows()]
    outcome = do_run(training=wrong.with_columns(target=pl.Series(targets)), budget=LONG)
    assert outcome.predictions["answer"].to_list() == wrong["answer"].to_list()
    assert not outcome.predictions["correct"].any()


def test_predictions_are_of_the_test_items(do_run: Runner, tiny_items: pl.DataFrame) -> None:
    test = tiny_items.filter(pl.col("split") == "test")
    predictions = do_run(test=test).predictions
    assert predictions.schema == PREDICTIONS
    assert_frame_equal(
        predictions.select("item_id", "split", "gold_label"), test.select("item_id", "split", "gold_label")
    )
    assert predictions["correct"].to_list() == (predictions["answer"] == predictions["gold_label"]).to_list()


def write(outcome: Outcome, folder: Path) -> dict[str, bytes]:
    write_run(folder, outcome, {"method": "gold", "seed": 1}, base="smollm2-135m")
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("top_layers", [2, None])
def test_same_seed_gives_the_same_bytes(do_run: Runner, tmp_path: Path, top_layers: int | None) -> None:
    written = [
        write(do_run(top_layers=top_layers, cache=tmp_path / name / "cache"), tmp_path / name / "run")
        for name in ("one", "two")
    ]
    assert written[0].keys() == written[1].keys()
    for name in written[0].keys() - {"run.json"}:  # which holds seconds
        assert written[0][name] == written[1][name], name


def test_warm_cache_gives_the_same_bytes_and_computes_nothing(do_run: Runner, tmp_path: Path) -> None:
    cold, warm = do_run(), do_run()
    assert cold.trunk_tokens > 0
    assert warm.trunk_tokens == 0
    assert (
        write(cold, tmp_path / "cold")["adapter/adapter_model.safetensors"]
        == (write(warm, tmp_path / "warm")["adapter/adapter_model.safetensors"])
    )


def test_seed_is_of_the_adapter_and_of_the_order(do_run: Runner, tmp_path: Path) -> None:
    """A learning rate of 0 leaves the first adapter, and losses that differ by the order alone."""
    frozen = Budget(8, 1, 2, 0.0)
    outcomes = [do_run(seed=seed, budget=frozen) for seed in (1, 2)]
    adapters = [write(o, tmp_path / str(n))["adapter/adapter_model.safetensors"] for n, o in enumerate(outcomes)]
    assert adapters[0] != adapters[1]
    assert [s.loss for s in outcomes[0].trained.history] != [s.loss for s in outcomes[1].trained.history]


def test_weights_arrive_from_the_table(do_run: Runner, training: pl.DataFrame, tmp_path: Path) -> None:
    """What an example of weight 0 would teach does not matter; with weight 1 it does."""
    first = pl.col("item_id") == training["item_id"][0]
    other = training.with_columns(target=pl.when(first).then(pl.lit(" tan")).otherwise("target"))
    assert len(" tan") == len(training["target"][0])  # other lengths would be another order

    def adapter(table: pl.DataFrame, weight: float) -> bytes:
        weighted = table.with_columns(weight=pl.when(first).then(weight).otherwise("weight"))
        folder = tmp_path / f"run-{weight}"
        return write(do_run(training=weighted, top_layers=None), folder)["adapter/adapter_model.safetensors"]

    assert adapter(other, 0.0) == adapter(training, 0.0)
    assert adapter(other, 1.0) != adapter(training, 1.0)


def test_all_layers_on_top_of_the_cache_learn_as_all_layers_without(do_run: Runner) -> None:
    """With every layer on top the trunk is the embedding alone, and both ways are one computation."""
    cached = do_run(top_layers=4, trunk=Trunk(dtype="float32"))
    plain = do_run(top_layers=None)
    assert [s.loss for s in cached.trained.history] == pytest.approx([s.loss for s in plain.trained.history], abs=1e-4)


def test_pool_is_cached_for_the_methods_that_follow(
    do_run: Runner, training: pl.DataFrame, learnt: pl.DataFrame, tiny_items: pl.DataFrame
) -> None:
    test = tiny_items.filter(pl.col("split") == "test")
    first = do_run(training=training.head(2), test=test, pool=learnt)
    assert first.trunk_tokens > 0
    other_labels = training.with_columns(target=pl.lit(" red"))
    assert do_run(training=other_labels, test=test, pool=learnt).trunk_tokens == 0


def test_fewer_examples_get_the_steps_of_the_full_pool(do_run: Runner, training: pl.DataFrame) -> None:
    outcome = do_run(training=training.head(3))
    assert len(outcome.trained.history) == BUDGET.steps == 2
    assert outcome.num_examples == 8


def test_every_step_is_told(do_run: Runner) -> None:
    told: list[Step] = []
    assert do_run(on_step=told.append).trained.history == told


def test_written_folder_holds_adapter_tables_and_record(do_run: Runner, tmp_path: Path) -> None:
    outcome = do_run()
    written = write(outcome, tmp_path / "run")
    assert sorted(written) == [
        "adapter/README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "history.parquet",
        "predictions.parquet",
        "run.json",
    ]
    assert_frame_equal(pl.read_parquet(tmp_path / "run" / "predictions.parquet"), outcome.predictions)
    history = pl.read_parquet(tmp_path / "run" / "history.parquet")
    assert history.rows() == [(s.step, s.loss, s.learning_rate) for s in outcome.trained.history]
    record = read_json(tmp_path / "run" / "run.json")
    assert record.pop("method") == "gold"
    assert record.pop("seed") == 1
    assert (record["num_steps"], record["num_examples_seen"]) == (2, 8)
    assert record["tokens"] == outcome.trained.num_tokens
    assert record["trunk_tokens"] == outcome.trunk_tokens
    assert record["seconds"] >= max(record["train_seconds"], record["evaluate_seconds"], record["trunk_seconds"])


def test_folder_is_replaced_whole_or_not_at_all(
    do_run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = do_run()
    before = write(outcome, tmp_path / "runs" / "run")
    (tmp_path / "runs" / "run" / "left").touch()

    def full_disk(*args: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("labelrel.align.run.write_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        write(outcome, tmp_path / "runs" / "run")
    kept = {
        str(f.relative_to(tmp_path / "runs" / "run")) for f in (tmp_path / "runs" / "run").rglob("*") if f.is_file()
    }
    assert kept == {*before, "left"}
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["run"]
    monkeypatch.undo()
    assert write(outcome, tmp_path / "runs" / "run").keys() == before.keys()


# --- open items ----------------------------------------------------------------------------------


def open_items(items: pl.DataFrame) -> pl.DataFrame:
    """Ask the same without choices; gold is the colour's name."""
    names = [item["choices"][int(item["gold_label"])] for item in items.iter_rows(named=True)]
    return items.with_columns(choices=pl.lit(None, pl.List(pl.String)), gold_label=pl.Series(names))


@pytest.mark.parametrize("top_layers", [2, None])
def test_open_items_are_answered_by_what_the_tuned_model_writes(
    do_run: Runner, training: pl.DataFrame, learnt: pl.DataFrame, top_layers: int | None
) -> None:
    items = open_items(learnt)
    lines = training.with_columns(target=pl.col("target") + "\n")
    before = do_run(training=lines, test=items, pool=items, top_layers=top_layers, budget=Budget(8, 1, 8, 0.0))
    assert not before.predictions["correct"].any()
    outcome = do_run(training=lines, test=items, pool=items, top_layers=top_layers, budget=LONG)
    assert outcome.predictions.schema == PREDICTIONS
    assert outcome.predictions["answer"].to_list() == items["gold_label"].to_list()
    assert outcome.predictions["correct"].all()
    assert outcome.predictions["choice_logprobs"].null_count() == 8


def test_open_and_closed_test_items_are_refused_before_training(do_run: Runner, learnt: pl.DataFrame) -> None:
    steps: list[Step] = []
    mixed = pl.concat([learnt.head(4), open_items(learnt.tail(4))])
    with pytest.raises(InputError, match="4 of 8 items have no choices"):
        do_run(test=mixed, on_step=steps.append)
    assert steps == []
