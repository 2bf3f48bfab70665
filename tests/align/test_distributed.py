"""Several processes train as one does: real ones, started by torchrun, on the CPU, without shared memory.

This file is also what they run: `torchrun ... test_distributed.py NAME FOLDER`.
"""

from __future__ import annotations

import ast
import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from labelrel.align.launch import open_world
from labelrel.align.world import World
from labelrel.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ("red", "green", "tan")
NAMES = ("fig", "kiwi", "plum", "lime", "rust", "jade", "sky")
SAME = 1e-5
CASES: dict[str, dict[str, Any]] = {
    "cross_entropy": {"top_layers": 1},
    "odd": {"batch_size": 3, "gradient_checkpointing": True},
    "fewer_than_processes": {"batch_size": 1, "top_layers": 1, "open_test": True},
    "confidence": {"loss": "confidence", "top_layers": 1, "batch_size": 5, "early_stop": True},
    "small_loss": {"loss": "small_loss", "batch_size": 5, "lora": "dora"},
}
"""Micro-batches hold two examples, so that one process may need more of them than the other."""


# --- what the processes do ---------------------------------------------------------------------------


def make_model_folder(folder: Path) -> None:
    """Save a random Llama of two layers, with a token per byte."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**vocab, "<pad>": len(vocab)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)


def toy() -> tuple[pl.DataFrame, pl.DataFrame, Any]:
    """Return items, a training set and the task that words them."""
    from labelrel.schema import OPTIONS, TRAINING, check_items, check_training
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
                    "choices": list(COLOURS),
                    "gold_label": str(number % 3),
                    "meta": {"name": name},
                }
                for number, name in enumerate(NAMES)
            ]
        )
    )
    options = [f" {colour}" for colour in COLOURS]
    spread = [[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], None]
    examples = [
        (name, f"Colour of {name}:", options[n % 3], str(n % 3), 1.0 + n, options, spread[n % 3])
        for n, name in enumerate(NAMES)
    ]
    task = Task(
        name="toy",
        kind="choice",
        summary="colours of things",
        source="made up",
        load=lambda source, sizes, seed: items,
        wordings=lambda item: [
            Wording(item["question"], tuple(f" {c}" for c in item["choices"]) if item["choices"] else None)
        ],
        parse=lambda item, completion: Reading(completion.strip() or None, "empty"),
    )
    return items, check_training(pl.DataFrame(examples, schema={**TRAINING, **OPTIONS}, orient="row")), task


def train(
    folder: Path,
    world: Any,
    *,
    model: Path,
    batch_size: int = 4,
    loss: str = "cross_entropy",
    top_layers: int | None = None,
    lora: str = "lora",
    epochs: float = 3,
    dropout: float = 0.0,
    open_test: bool = False,
    early_stop: bool = False,
    gradient_checkpointing: bool = False,
    on_step: Callable[[Any], None] | None = None,
) -> None:
    """Train, evaluate and write what each process has to `folder`; the leading one writes the run too."""
    import torch

    from labelrel.align import objective
    from labelrel.align.lora import adapter_parameters
    from labelrel.align.run import Budget, run, write_run
    from labelrel.config import Base, EarlyStop, Lora, Trunk
    from labelrel.pipeline.common import load
    from labelrel.tasks import Prompting

    items, training, task = toy()
    loaded = load(str(model), Base(threads=1), world=world)
    test = items.with_columns(choices=pl.lit(None, pl.List(pl.String))) if open_test else items
    micro_tokens, objective.MICRO_TOKENS = objective.MICRO_TOKENS, 60  # the single process is this one: put it back
    outcome = run(
        loaded,
        Prompting(task),
        training,
        test,
        budget=Budget(len(NAMES), epochs, batch_size, 1e-3),
        lora=Lora(rank=3, alpha=6.0, dropout=dropout, variant=lora),  # type: ignore[arg-type]
        top_layers=top_layers,
        seed=1,
        cache=folder / "cache" / "trunk",
        trunk=Trunk(dtype="float32"),
        criterion=objective.Criterion.named(loss),
        checkpoints=folder / "cache" / "checkpoints",
        early_stop=(EarlyStop(every=1, patience=2), items) if early_stop else None,
        gradient_checkpointing=gradient_checkpointing,
        on_step=on_step,
        world=world,
        quiet=not world.leads,
    )
    objective.MICRO_TOKENS = micro_tokens
    if world.leads:
        write_run(folder / "run", outcome, {"method": "gold"}, base="tiny")
    torch.save([p.detach() for p in adapter_parameters(outcome.model)], folder / f"adapter-{world.rank}.pt")
    told = {
        "history": [[step.step, step.loss, step.learning_rate] for step in outcome.trained.history],
        "tokens": outcome.trained.num_tokens,
        "trunk_tokens": outcome.trunk_tokens,
        "looks": outcome.looks,
        "predictions": outcome.predictions.to_dicts(),
        "held": sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in loaded.model.parameters()),
    }
    (folder / f"told-{world.rank}.json").write_text(json.dumps(told))


def train_cases(folder: Path, world: Any) -> None:
    for name, options in CASES.items():
        (folder / name).mkdir(exist_ok=True)
        world.wait()
        train(folder / name, world, model=folder.parent / "model", **options)


def train_long(folder: Path, world: Any, seconds: float = 0.0) -> None:
    """Save as often as can be; a file tells which step is done."""
    from labelrel.align import checkpoint

    checkpoint._FIRST_SECONDS = checkpoint._EVERY_SECONDS = 0.0
    checkpoint._MOST_OF_THE_TIME = 0.5

    def on_step(step: Any) -> None:
        (folder / f"step-{world.rank}").write_text(str(step.step))
        time.sleep(seconds)

    model = folder.parent / "model"
    train(folder, world, model=model, epochs=16, dropout=0.2, batch_size=3, top_layers=1, on_step=on_step)


def train_long_slowly(folder: Path, world: Any) -> None:
    train_long(folder, world, seconds=0.02)


def train_on_nan(folder: Path, world: Any) -> None:
    """The last example of the first step, which is the other process's, has a loss that is no number."""
    from dataclasses import replace

    from labelrel.align import objective

    loss = objective.losses.get("cross_entropy")
    broken = replace(loss, function=lambda b, p: loss.function(b, p).masked_fill(b.rows == 3, float("nan")))
    backward = objective.Objective.backward

    def kiwi_last(self: Any, step: Any, progress: float) -> float:
        self._criterion = replace(self._criterion, loss=broken)
        names = [example.item_id for example in self._examples]
        return backward(self, [names.index(name) for name in ("fig", "plum", "lime", "kiwi")], progress)

    objective.Objective.backward = kiwi_last  # type: ignore[method-assign]
    train(folder, world, model=folder.parent / "model")


def fail(folder: Path, world: Any) -> None:
    """The last process finds a mistake while the others wait for it."""
    from labelrel.errors import InputError

    if world.rank == world.size - 1:
        raise InputError("this file is wrong")
    world.wait()


def everybody_fails(folder: Path, world: Any) -> None:
    from labelrel.errors import InputError

    raise InputError("all files are wrong")


def main(name: str, folder: Path) -> None:
    import torch

    from labelrel.errors import LabelrelError

    torch.set_num_threads(1)
    try:
        with open_world(quiet=True) as world:
            globals()[name](folder, world)
    except LabelrelError as error:
        print(f"labelrel: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


# --- the tests ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def launched(*command: str, cwd: Path | None = None, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command on one thread; whatever happens, it is over when the block ends."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return out, error


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import torch

    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("distributed")
    make_model_folder(folder / "model")
    yield folder
    torch.set_num_threads(threads)


def work(name: str, folder: Path, rank: int, port: int, environment: dict[str, str]) -> None:
    """Be one of two processes, as a launcher would start it but forked from one that has imported all."""
    os.environ |= environment
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with (folder / f"stderr-{rank}").open("a") as file:
        os.dup2(file.fileno(), 2)
        main(name, folder)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServerContext]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["labelrel.align.run", "transformers.models.llama.modeling_llama"])
    yield context
    from multiprocessing import forkserver

    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def start(server: ForkServerContext, name: str, folder: Path, **environment: str) -> list[ForkServerProcess]:
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [server.Process(target=work, args=(name, folder, rank, port, environment)) for rank in (0, 1)]
    for process in processes:
        process.start()
    return processes


def statuses(processes: list[ForkServerProcess]) -> list[int | None]:
    for process in processes:
        process.join(60)
    found = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return found


def lines(folder: Path) -> list[list[str]]:
    """Return what each process has written to stderr, and forget it."""
    found = [(folder / f"stderr-{rank}").read_text().splitlines() for rank in (0, 1)]
    for rank in (0, 1):
        (folder / f"stderr-{rank}").unlink()
    return found


@pytest.fixture(scope="module")
def trained(server: ForkServerContext, root: Path) -> Path:
    """All cases by one process, by two, and by two that share the weights."""
    folders = {name: root / name for name in ("one", "two", "sharded")}
    for folder in folders.values():
        folder.mkdir()
    two = start(server, "train_cases", folders["two"])
    main("train_cases", folders["one"])
    assert statuses(two) == [0, 0], lines(folders["two"])
    sharded = start(server, "train_cases", folders["sharded"], ACCELERATE_USE_FSDP="true")
    assert statuses(sharded) == [0, 0], lines(folders["sharded"])
    return root


def told(folder: Path, rank: int = 0) -> dict[str, Any]:
    return dict(json.loads((folder / f"told-{rank}.json").read_text()))


def adapter(folder: Path, rank: int = 0) -> Any:
    import torch

    return torch.cat([p.flatten() for p in torch.load(folder / f"adapter-{rank}.pt")])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["two", "sharded"])
def test_processes_train_as_one_does(trained: Path, how: str, case: str) -> None:
    one, several = told(trained / "one" / case), told(trained / how / case)
    for step, alone in zip(several["history"], one["history"], strict=True):
        assert step == pytest.approx(alone, abs=SAME, rel=0)
    assert float((adapter(trained / how / case) - adapter(trained / "one" / case)).abs().max()) < SAME
    assert (several["tokens"], several["looks"]) == (one["tokens"], one["looks"])
    assert (one["trunk_tokens"] > 0) == (CASES[case].get("top_layers") is not None)
    assert several["trunk_tokens"] == one["trunk_tokens"]  # no token ran twice
    for row, alone in zip(several["predictions"], one["predictions"], strict=True):
        for column in ("item_id", "answer", "correct"):
            assert row[column] == alone[column]
        assert row["answer_logprob"] == pytest.approx(alone["answer_logprob"], abs=SAME)
        assert (row["choice_logprobs"] or []) == pytest.approx(alone["choice_logprobs"] or [], abs=SAME)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["two", "sharded"])
def test_all_processes_end_with_the_same(trained: Path, how: str, case: str) -> None:
    assert bool((adapter(trained / how / case, 0) == adapter(trained / how / case, 1)).all())
    assert told(trained / how / case, 0) == told(trained / how / case, 1)


def test_sharded_processes_hold_half_of_the_layers_each(trained: Path) -> None:
    one, two, sharded = (told(trained / how / "odd")["held"] for how in ("one", "two", "sharded"))
    layers = 2 * (4 * 16 * 16 + 3 * 16 * 32 + 2 * 16)
    assert one == two
    assert sharded == one - layers // 2


def test_the_adapter_is_a_plain_one(trained: Path) -> None:
    """What sharded processes write has the names and shapes that one process writes, and its checkpoint is gone."""
    from safetensors.torch import load_file

    one, sharded = (
        load_file(trained / how / "odd/run/adapter/adapter_model.safetensors") for how in ("one", "sharded")
    )
    assert {name: tensor.shape for name, tensor in one.items()} == {name: t.shape for name, t in sharded.items()}
    assert not list((trained / "sharded/odd/cache").rglob("checkpoints/*"))


# --- kills and mistakes ------------------------------------------------------------------------------


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while not (folder / "step-0").exists() or int((folder / "step-0").read_text() or 0) < step:
        assert time.monotonic() < deadline, lines(folder)
        time.sleep(0.005)


def test_killed_processes_go_on_to_the_same_adapter(server: ForkServerContext, root: Path) -> None:
    whole, killed = root / "whole", root / "killed"
    assert statuses(start(server, "train_long", whole)) == [0, 0]

    processes = start(server, "train_long_slowly", killed)
    wait_for_step(killed, 8)
    processes[1].terminate()  # of a signal to one, both hear
    assert statuses(processes) == [-signal.SIGTERM, -signal.SIGTERM]
    (said,), quiet = lines(killed)
    stopped = int(re.fullmatch(r"train: stops after step (\d+); to go on, start it again", said)[1])
    assert quiet == []

    processes = start(server, "train_long_slowly", killed)
    wait_for_step(killed, stopped + 8)
    processes[1].kill()
    assert statuses(processes) == [1, -signal.SIGKILL]
    goes_on, lost = lines(killed)[0]
    assert goes_on == f"train: goes on at step {stopped + 1} of 38"
    assert lost.startswith("labelrel: process 0 of 2 has lost touch with another one")

    assert statuses(start(server, "train_long", killed)) == [0, 0]
    (goes_on,), quiet = lines(killed)
    assert int(goes_on.split()[5]) > stopped + 7
    assert quiet == []
    assert told(killed)["history"] == told(whole)["history"]
    assert bool((adapter(killed) == adapter(whole)).all())
    assert bool((adapter(killed, 1) == adapter(whole, 0)).all())


def test_a_mistake_that_one_process_finds_ends_all_with_one_line(server: ForkServerContext, root: Path) -> None:
    assert statuses(start(server, "fail", root / "fail")) == [1, 2]
    assert lines(root / "fail") == [[], ["labelrel: this file is wrong"]]


def test_a_mistake_that_all_processes_find_is_told_once(server: ForkServerContext, root: Path) -> None:
    assert statuses(start(server, "everybody_fails", root / "all_fail")) == [2, 2]
    assert sorted(lines(root / "all_fail")) == [[], ["labelrel: all files are wrong"]]


def test_items_of_a_loss_that_is_no_number_are_named_whoever_has_them(server: ForkServerContext, root: Path) -> None:
    assert statuses(start(server, "train_on_nan", root / "nan")) == [2, 2]
    (line,) = [line for said in lines(root / "nan") for line in said]
    assert "the loss is no finite number on kiwi" in line
    assert "fig" not in line


@pytest.mark.parametrize(
    ("environment", "match"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number, got 'two'"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2 but RANK is not set; start labelrel with torchrun"),
    ],
)
def test_half_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], match: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=match), open_world():
        pass


# --- the command ---------------------------------------------------------------------------------------


def make_project(root: Path, folder: Path) -> Path:
    """Make a project of 12 items to learn, some labelled in one voice, with a method that looks twice."""
    from labelrel import files, pipeline
    from labelrel.project import open_project
    from labelrel.schema import ANSWERS

    document = yaml.safe_load((ROOT / "tests/smoke/params.yaml").read_text(encoding="utf-8"))
    document["prepare"]["sizes"] = {"weak_train": 1, "w2s": 12, "gold_dev": 1, "test": 5}
    document["base"] |= {"threads": 1, "trunk": {"dtype": "float32", "max_gib": 1}}
    document["sample"] |= {"mode": "choice", "variants": 2}
    document["score"]["methods"] = ["share", "entropy", "reliability"]
    document["select"] = {
        "methods": ["two_stage"],
        "two_stage": {"rule": "filter", "then": {"relabel": "discarded", "agreement": 0.5}},
    }
    document["align"] |= {"model": str(root / "model"), "top_layers": 1, "batch_size": 3}
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    project = open_project(folder / "params.yaml")
    pipeline.prepare(project, quiet=True)
    rows = []
    items = files.read_table(project.items).filter(split="w2s")
    for number, (item, gold) in enumerate(items.select("item_id", "gold_label").iter_rows()):
        votes = [gold, gold if number % 2 else str((int(gold) + 1) % 2), gold]
        rows += [(item, "weak", str(v), "p", vote, vote, 0.0, None) for v, vote in enumerate(votes)]
    files.write_table(project.answers, pl.DataFrame(rows, schema=ANSWERS, orient="row"))
    pipeline.score(project, quiet=True)
    pipeline.select(project, "two_stage", quiet=True)
    return folder


def test_the_command_does_the_same_under_torchrun(root: Path) -> None:
    """One process writes, logs and speaks; the second look is shared too."""
    from safetensors.torch import load_file

    from labelrel import pipeline
    from labelrel.project import open_project

    several = make_project(root, root / "project")
    alone = Path(shutil.copytree(several, root / "alone"))
    command = (
        "-m",
        "labelrel",
        "align",
        "--train",
        "data/training/two_stage.parquet",
        "--seed",
        "0",
        "--json",
        "--no-track",
    )
    with launched(*TORCHRUN, *command, cwd=several) as process:
        pipeline.align(
            open_project(alone / "params.yaml"), alone / "data/training/two_stage.parquet", 0, track=False, quiet=True
        )
        out, error = finish(process)
    said = [line for line in error.splitlines() if line.startswith(("align:", "trunk:", "train:", "warning:"))]
    assert said[0] == "align: 2 processes, each with the whole model"
    assert len(said) == len(set(said)) == 3
    assert json.loads(out)["method"] == "two_stage"

    runs = [json.loads((f / "data/align/two_stage-0/run.json").read_text()) for f in (several, alone)]
    first, second = (run["stages"] for run in runs)
    assert first[0]["asked"] == second[0]["asked"] > 0
    for stage, other in zip(first, second, strict=True):
        assert {**stage, "seconds": 0} == {**other, "seconds": 0}
    files = [f / "data/align/two_stage-0/adapter/adapter_model.safetensors" for f in (several, alone)]
    ours, theirs = map(load_file, files)
    for name in theirs:
        assert float((ours[name] - theirs[name]).abs().max()) < SAME
    columns = ["item_id", "answer", "correct"]
    ours, theirs = (pl.read_parquet(f / "data/align/two_stage-0/predictions.parquet") for f in (several, alone))
    assert ours.select(columns).equals(theirs.select(columns))
    assert [p.name for p in (several / "data/align").iterdir()] == ["two_stage-0"]
    assert not [p for p in (several / "data/cache").rglob("*") if p.is_file() and "trunk" not in p.parts]


def test_accelerate_sets_what_is_read(tmp_path: Path) -> None:
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "ACCELERATE_USE_FSDP", "MASTER_ADDR", "MASTER_PORT"]
    script = tmp_path / "tell.py"
    script.write_text(f"import os\nopen(os.environ['RANK'], 'w').write(repr([os.environ[n] for n in {names}]))\n")
    with launched(*ACCELERATE, str(script), cwd=tmp_path) as process:
        finish(process)
    for rank in "01":
        assert ast.literal_eval((tmp_path / rank).read_text())[:4] == [rank, rank, "2", "true"]


def test_a_process_that_does_not_lead_leaves_nothing(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from labelrel import pipeline
    from labelrel.project import open_project

    class Follower(World):
        rank = 1

    folder = make_project(root, root / "follower")
    before = {path for path in folder.rglob("*") if path.is_file()}
    capfd.readouterr()
    project = open_project(folder / "params.yaml")
    pipeline.align(project, folder / "data/training/two_stage.parquet", 0, world=Follower())
    after = {path for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(folder).parts[:3] for path in after - before} <= {
        ("data", "cache", "trunk"),
        ("data", "cache", "relabel"),
    }
    assert capfd.readouterr().err == ""


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
