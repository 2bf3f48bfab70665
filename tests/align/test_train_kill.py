"""A process that trains is killed by the system again and again, and started again each time.

Each is a process of its own, forked from a server that has torch loaded, since loading takes longer than
the training. The model, its tokenizer and the questions are made in code.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

STEPS = 80
NAMES = ("fig", "kiwi", "plum", "lime", "rust", "jade", "sky", "moss")


def work(folder: Path, top_layers: int | None) -> None:
    """Train, evaluate and write the run's files to `folder`, saving as often as can be."""
    import torch

    from labelrel.align import checkpoint
    from labelrel.align.run import Budget, run, write_run
    from labelrel.config import Lora
    from labelrel.models import trunk
    from labelrel.tasks import Prompting

    torch.set_num_threads(1)
    checkpoint._FIRST_SECONDS = checkpoint._EVERY_SECONDS = 0.0
    checkpoint._MOST_OF_THE_TIME = 0.5
    trunk._BATCH_TOKENS = trunk._SHARD_TOKENS = 40  # several shards
    folder.mkdir(parents=True, exist_ok=True)
    sys.stderr = (folder / "stderr.txt").open("a", buffering=1)
    told: list[list[float]] = []

    def on_step(step: Any) -> None:
        told.append([step.step, step.loss, step.learning_rate])

    items, training, task = toy()
    (folder / "begun").touch()
    outcome = run(
        loaded(),
        Prompting(task),
        training,
        items,
        budget=Budget(num_items=STEPS * 2, epochs=1, batch_size=2, learning_rate=1e-2),
        lora=Lora(rank=3, alpha=6.0, dropout=0.2),
        top_layers=top_layers,
        seed=1,
        cache=folder / "cache" / "trunk",
        checkpoints=folder / "cache" / "checkpoints",
        on_step=on_step,
    )
    (folder / "told.json").write_text(json.dumps(told))
    write_run(folder / "run", outcome, {"method": "gold"}, base="tiny")


def loaded() -> Any:
    """Return a random Llama of two layers with a token per byte."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from labelrel.models.load import LoadedModel

    vocab = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**vocab, "<pad>": len(vocab)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    return LoadedModel(model.requires_grad_(False).eval(), wrapped, "tiny", "tiny-fingerprint")


def toy() -> tuple[pl.DataFrame, pl.DataFrame, Any]:
    """Return items, a training set and the task that words them."""
    from labelrel.schema import TRAINING, check_items, check_training
    from labelrel.tasks import Task
    from labelrel.tasks.base import Reading, Wording

    items = check_items(
        pl.DataFrame(
            [
                {
                    "item_id": name,
                    "task": "toy",
                    "split": "w2s",
                    "question": f"Colour of {name}:",
                    "choices": ["red", "green"],
                    "gold_label": str(number % 2),
                    "meta": {"name": name},
                }
                for number, name in enumerate(NAMES)
            ]
        )
    )
    rows = [(name, f"Colour of {name}:", (" red", " green")[n % 2], str(n % 2), 1.0) for n, name in enumerate(NAMES)]
    task = Task(
        name="toy",
        kind="choice",
        summary="colours of things",
        source="made up",
        load=lambda source, sizes, seed: items,
        wordings=lambda item: [Wording(item["question"], tuple(f" {choice}" for choice in item["choices"]))],
        parse=lambda item, completion: Reading(None, "empty"),
    )
    return items, check_training(pl.DataFrame(rows, schema=TRAINING, orient="row")), task


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServerContext]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["labelrel.align.run", "transformers.models.llama.modeling_llama"])
    yield context
    from multiprocessing import forkserver

    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def start(server: ForkServerContext, *arguments: Any) -> ForkServerProcess:
    process = server.Process(target=work, args=arguments)
    process.start()
    return process


def wait_for_another(checkpoints: Path, seen: set[int], process: ForkServerProcess) -> None:
    """Wait until there is a checkpoint that was not there before, or the process is done."""
    deadline = time.monotonic() + 120
    while process.is_alive():
        found = {file.stat().st_mtime_ns for file in checkpoints.glob("*.safetensors")}
        if found - seen:
            seen |= found
            return
        assert time.monotonic() < deadline, "no checkpoint was written in time"
        time.sleep(0.002)


def finish(process: ForkServerProcess) -> None:
    process.join(120)
    assert process.exitcode == 0


def results(folder: Path) -> dict[str, bytes]:
    files = {str(f.relative_to(folder)): f.read_bytes() for f in (folder / "run").rglob("*") if f.is_file()}
    del files["run/run.json"]  # which holds seconds
    return {**files, "told.json": (folder / "told.json").read_bytes()}


def gone_on(folder: Path) -> list[int]:
    """Return the steps at which processes went on."""
    lines = (folder / "stderr.txt").read_text().splitlines()
    return [int(line.split()[5]) for line in lines if line.startswith("train: goes on at step")]


@pytest.mark.parametrize(("top_layers", "kills"), [(1, 5), (None, 3)])
def test_killed_training_goes_on_to_the_same_bytes(
    server: ForkServerContext, tmp_path: Path, top_layers: int | None, kills: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(server, whole, top_layers))

    moments = random.Random(kills)
    seen: set[int] = set()
    for _ in range(kills):
        process = start(server, killed, top_layers)
        wait_for_another(killed / "cache" / "checkpoints", seen, process)
        time.sleep(moments.uniform(0, 0.02))  # some steps on, or in the middle of a file
        process.kill()  # SIGKILL: nothing in the process can react to it
        process.join(60)
        if process.exitcode == 0:
            break  # it was done before
        assert process.exitcode == -signal.SIGKILL
    if not (killed / "run").exists():
        finish(start(server, killed, top_layers))
    steps = gone_on(killed)
    assert steps == sorted(steps)
    assert max(steps) > 1
    assert results(killed) == results(whole)
    left = [file for file in (killed / "cache").rglob("*") if file.is_file()]
    assert [file for file in left if file.suffix == ".tmp"] == []
    assert {file.parent.parent.name for file in left} <= {"trunk"}  # the checkpoint is gone


def test_terminated_training_goes_on_where_it_was(server: ForkServerContext, tmp_path: Path) -> None:
    """SIGTERM ends it after the step, with the exit status that SIGTERM gives."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(start(server, whole, None))
    process = start(server, stopped, None)
    checkpoints = stopped / "cache" / "checkpoints"
    while not list(checkpoints.glob("*.safetensors")):
        assert process.is_alive()
        time.sleep(0.002)
    process.terminate()
    process.join(60)
    assert process.exitcode == -signal.SIGTERM
    (line,) = (stopped / "stderr.txt").read_text().splitlines()
    assert line.startswith("train: stops after step ")
    after = int(line.split()[4].rstrip(";"))
    finish(start(server, stopped, None))
    assert gone_on(stopped) == [after + 1]
    assert results(stopped) == results(whole)


def test_trunk_filled_after_a_kill_holds_the_same_states(server: ForkServerContext, tmp_path: Path) -> None:
    """A kill while a shard is written leaves a hidden file, which the next process removes."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(server, whole, 1))
    (shards,) = (whole / "cache" / "trunk").iterdir()
    files = {shard.name: shard.read_bytes() for shard in shards.iterdir()}
    assert len(files) > 3
    there = killed / "cache" / "trunk" / shards.name
    there.mkdir(parents=True)
    by_time = sorted(shards.iterdir(), key=lambda shard: shard.stat().st_mtime_ns)
    for shard in by_time[:2]:
        (there / shard.name).write_bytes(files[shard.name])
    (there / f".{by_time[2].name}.abcdef.tmp").write_bytes(files[by_time[2].name][:100])
    finish(start(server, killed, 1))
    assert {shard.name: shard.read_bytes() for shard in there.iterdir()} == files
    assert results(killed) == results(whole)
