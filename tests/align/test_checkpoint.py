"""A run that is cut short goes on to the same adapter and history; a checkpoint is never in the way."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from labelrel.align import checkpoint as module
from labelrel.align.checkpoint import Checkpoint, TrainingState
from labelrel.align.lora import add_adapter, save_adapter
from labelrel.align.objective import Example
from labelrel.align.run import Budget, Outcome, run, write_run
from labelrel.align.train import Step, Trained, train, training_key
from labelrel.config import Lora
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.load import LoadedModel
from labelrel.models.packing import Prompt
from labelrel.models.trunk import TrunkCache
from labelrel.schema import TRAINING, check_items, check_training
from labelrel.tasks import Prompting, Task
from labelrel.tasks.base import Reading, Wording

EXAMPLES = [
    Example(Prompt((1, 2, 3), ((4, 5, 6, 7, 8),)), 2.0),
    Example(Prompt((9,), ((10,),)), 0.5),
    Example(Prompt((11, 12, 13, 14, 15, 16, 17), ((18, 19),)), 0.5),
    Example(Prompt((20, 21), ((22, 23, 24),)), 1.0),
    Example(Prompt((25, 26, 27), ((28,),)), 3.5),
]
SETTINGS: dict[str, Any] = {"steps": 9, "batch_size": 4, "learning_rate": 1e-2, "seed": 3}
LORA = Lora(rank=3, alpha=6.0, dropout=0.3)


class StopError(Exception):
    """What ends a run in these tests."""


class Training:
    """Trains fresh copies of one tiny model, in micro-batches, and keeps what each was told and became."""

    def __init__(self, make_model: Callable[..., Any], folder: Path, top_layers: int | None) -> None:
        self.make_model, self.folder, self.top_layers = make_model, folder, top_layers
        self.told: list[Step] = []
        self.adapter = b""

    def checkpoint(self, key: object = "key") -> Checkpoint:
        return Checkpoint(self.folder / "checkpoints", key)

    def __call__(
        self, checkpoint: Checkpoint | None, on_step: Callable[[Step], object] | None = None, **changes: Any
    ) -> Trained:
        base = self.make_model()
        source = None
        if self.top_layers is not None:
            trunk = Trunk(base, self.top_layers)
            source = TrunkCache(self.folder / "trunk", trunk, fingerprint="tiny", top_layers=self.top_layers)
            source.fill([example.prompt for example in EXAMPLES])
        model = add_adapter(base, LORA, top_layers=self.top_layers, seed=0)
        decoder = Decoder(model, top_layers=self.top_layers, source=source)
        told: list[Step] = []
        self.told = told

        def tell(step: Step) -> None:
            told.append(step)
            if on_step:
                on_step(step)

        trained = train(model, decoder, EXAMPLES, **{**SETTINGS, **changes}, on_step=tell, checkpoint=checkpoint)
        written = self.folder / "adapter"
        written.mkdir(exist_ok=True)
        save_adapter(model, written, base="tiny")
        self.adapter = (written / "adapter_model.safetensors").read_bytes()
        return trained

    def stopped_at(self, number: int, checkpoint: Checkpoint | None = None) -> Checkpoint:
        """Train until telling of a step fails."""
        checkpoint = checkpoint or self.checkpoint()

        def stop(step: Step) -> None:
            if step.step == number:
                raise StopError

        with pytest.raises(StopError):
            self(checkpoint, stop)
        return checkpoint


@pytest.fixture(autouse=True)
def _signals_as_in_a_terminal() -> Iterator[None]:
    """A shell starts what it runs in the background with SIGINT ignored; here it means what Ctrl-C means."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _in_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelrel.align.objective.MICRO_TOKENS", 20)


@pytest.fixture
def training(make_model: Callable[..., Any], tmp_path: Path) -> Training:
    return Training(make_model, tmp_path, None)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after every step."""
    for name in ("_FIRST_SECONDS", "_EVERY_SECONDS"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(module, "_MOST_OF_THE_TIME", 1e9)


Check = Callable[[Training, Trained], None]


@pytest.fixture(scope="module")
def check(make_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Check that a run ended as one that nothing disturbed and that kept no checkpoint."""
    undisturbed: dict[int | None, tuple[Training, Trained]] = {}

    def check(training: Training, trained: Trained) -> None:
        top_layers = training.top_layers
        if top_layers not in undisturbed:
            first = Training(make_model, tmp_path_factory.mktemp("undisturbed"), top_layers)
            undisturbed[top_layers] = first, first(None)
        first, whole = undisturbed[top_layers]
        assert training.adapter == first.adapter
        assert trained.history == whole.history == training.told
        assert trained.num_tokens == whole.num_tokens

    return check


@pytest.fixture(scope="module")
def saved_at_five(make_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The checkpoint of a run stopped after its fifth step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelrel.align.objective.MICRO_TOKENS", 20)
        return Training(make_model, tmp_path_factory.mktemp("stopped"), None).stopped_at(5).path.read_bytes()


@pytest.fixture
def stopped(training: Training, saved_at_five: bytes) -> Checkpoint:
    """The checkpoint of a run stopped after its fifth step, in the folder of `training`."""
    checkpoint = training.checkpoint()
    checkpoint.path.parent.mkdir()
    checkpoint.path.write_bytes(saved_at_five)
    return checkpoint


@pytest.mark.parametrize("top_layers", [2, None])
def test_run_stopped_between_steps_goes_on_to_the_same_adapter(
    check: Check,
    make_model: Callable[..., Any],
    tmp_path: Path,
    top_layers: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = Training(make_model, tmp_path, top_layers)
    for number in (1, 5, 9):
        checkpoint = training.stopped_at(number)
        assert len(training.told) == number
        torch.manual_seed(99)  # whatever the next process has drawn before
        trained = training(training.checkpoint())
        check(training, trained)
        checkpoint.discard()
    err = capsys.readouterr().err.splitlines()
    assert err == [
        "train: goes on at step 2 of 9",
        "train: goes on at step 6 of 9",
        "train: all of its 9 steps are done",
    ]


def test_run_stopped_again_and_again_goes_on_each_time(check: Check, training: Training) -> None:
    for number in (2, 3, 7):
        training.stopped_at(number)
    check(training, training(training.checkpoint()))


def test_checkpoint_does_not_change_an_undisturbed_run(check: Check, training: Training, often: None) -> None:
    checkpoint = training.checkpoint()
    check(training, training(checkpoint))
    assert checkpoint.path.is_file()  # results are not safe yet


def test_run_that_dies_within_a_step_goes_on_after_the_last_saved_one(
    check: Check, training: Training, often: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = torch.nn.utils.clip_grad_norm_, itertools.count(1)

    def dies(*arguments: Any) -> Any:
        if next(calls) == 6:
            raise torch.OutOfMemoryError
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", dies)
        with pytest.raises(torch.OutOfMemoryError):
            training(training.checkpoint())
    check(training, training(training.checkpoint()))
    assert "goes on at step 6 of 9" in capsys.readouterr().err


def test_seconds_of_the_process_before_are_counted(training: Training, often: None) -> None:
    def slow(step: Step) -> None:
        if step.step == 2:
            threading.Event().wait(0.3)
        if step.step == 3:
            raise StopError

    with pytest.raises(StopError):
        training(training.checkpoint(), slow)
    trained = training(training.checkpoint())
    assert 0.3 < trained.seconds_before < trained.seconds


# interrupts


def kill_self(number: int, at: int = 4) -> Callable[[Step], None]:
    def kill(step: Step) -> None:
        if step.step == at:
            os.kill(os.getpid(), number)

    return kill


def within_a_step(patch: pytest.MonkeyPatch, number: int, *, times: int = 1) -> None:
    """Send a signal in the middle of the fourth step."""
    real, calls = torch.nn.utils.clip_grad_norm_, itertools.count(1)

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 4:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return real(*arguments)

    patch.setattr(torch.nn.utils, "clip_grad_norm_", interrupted)


@pytest.fixture
def terminated() -> Iterator[None]:
    """SIGTERM raises, as a program may have it."""

    def handler(number: int, frame: object) -> None:
        raise SystemExit(7)

    before = signal.signal(signal.SIGTERM, handler)
    yield
    assert signal.getsignal(signal.SIGTERM) is handler
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_interrupt_waits_for_the_step_and_is_let_through(
    check: Check,
    training: Training,
    terminated: None,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[BaseException],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        within_a_step(patch, number)
        with pytest.raises(error):
            training(training.checkpoint())
    assert len(training.told) == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capsys.readouterr().err == "train: stops after step 4; to go on, start it again\n"
    check(training, training(training.checkpoint()))


def test_second_interrupt_does_not_wait(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        within_a_step(patch, signal.SIGINT, times=2)
        with pytest.raises(KeyboardInterrupt):
            training(training.checkpoint())
    assert len(training.told) == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_before_another_error_is_not_swallowed(training: Training) -> None:
    def both(step: Step) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise StopError

    with pytest.raises(KeyboardInterrupt):
        training(training.checkpoint(), both)


def test_ignored_signal_stays_ignored(training: Training, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        trained = training(training.checkpoint(), kill_self(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(trained.history) == 9
    assert capsys.readouterr().err == ""


def test_handler_that_only_takes_note_lets_the_run_go_on(training: Training) -> None:
    noted: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    try:
        trained = training(training.checkpoint(), kill_self(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert noted == [signal.SIGTERM]
    assert len(trained.history) == 9


def test_without_a_checkpoint_nothing_is_held_back(training: Training) -> None:
    with pytest.raises(KeyboardInterrupt):
        training(None, kill_self(signal.SIGINT))
    assert len(training.told) == 4


def test_another_thread_trains_without_holding_signals(training: Training, often: None) -> None:
    done: list[Trained] = []
    thread = threading.Thread(target=lambda: done.append(training(training.checkpoint())))
    thread.start()
    thread.join()
    assert len(done[0].history) == 9


# what cannot be used


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def scribble(file: Path) -> None:
    file.write_bytes(b"not a checkpoint")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip_one_bit(file: Path) -> None:
    """Within the tensors, where safetensors does not look."""
    content = bytearray(file.read_bytes())
    content[-2000] ^= 1
    file.write_bytes(content)


def without_metadata(file: Path) -> None:
    save_file(load_file(file), file)


def foreign(file: Path) -> None:
    save_file({"weight": torch.zeros(3)}, file, metadata={"format": "pt"})


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [cut_short, scribble, empty, flip_one_bit, without_metadata, foreign, folder])
def test_damaged_checkpoint_is_not_used(
    stopped: Checkpoint,
    check: Check,
    training: Training,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(stopped.path)
    check(training, training(training.checkpoint()))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: the checkpoint {stopped.path} cannot be used (")
    assert line.endswith("); starts afresh")


@pytest.mark.parametrize("missing", ["parameter.3", "exp_avg_sq.3", "history", "random.cpu"])
def test_incomplete_checkpoint_changes_nothing(
    stopped: Checkpoint, check: Check, training: Training, missing: str
) -> None:
    """One that is whole by its checksum, as one of another version might be."""
    tensors = load_file(stopped.path)
    del tensors[missing]
    metadata = {"key": stopped._key, "checksum": str(module._checksum(tensors))}
    save_file(tensors, stopped.path, metadata=metadata)
    check(training, training(training.checkpoint()))


def test_checkpoint_of_another_model_changes_nothing(stopped: Checkpoint, check: Check, training: Training) -> None:
    tensors = load_file(stopped.path)
    tensors["parameter.7"] = tensors["parameter.7"][:, :-1].contiguous()
    metadata = {"key": stopped._key, "checksum": str(module._checksum(tensors))}
    save_file(tensors, stopped.path, metadata=metadata)
    check(training, training(training.checkpoint()))


def test_checkpoint_under_the_name_of_another_run_is_not_used(check: Check, training: Training) -> None:
    other = training.stopped_at(5, training.checkpoint("other"))
    other.path.rename(training.checkpoint().path)
    check(training, training(training.checkpoint()))


# what determines a run


def changed_examples() -> Iterator[list[Example]]:
    yield [Example(Prompt((1, 2, 3), ((4, 5, 6, 7, 9),)), 2.0), *EXAMPLES[1:]]
    yield [Example(EXAMPLES[0].prompt, 2.5), *EXAMPLES[1:]]
    yield [Example(Prompt((1, 2), ((3, 4, 5, 6, 7, 8),)), 2.0), *EXAMPLES[1:]]
    yield EXAMPLES[:-1]
    yield EXAMPLES[::-1]


def test_whatever_determines_the_run_is_in_its_key(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = add_adapter(make_model(), LORA, top_layers=None, seed=0)
    keys = [training_key(model, EXAMPLES, **SETTINGS)]
    assert training_key(model, list(EXAMPLES), **SETTINGS) == keys[0]
    keys += [training_key(model, examples, **SETTINGS) for examples in changed_examples()]
    for name in SETTINGS:
        keys.append(training_key(model, EXAMPLES, **{**SETTINGS, name: SETTINGS[name] * 2}))
    keys.append(training_key(model.to(torch.bfloat16), EXAMPLES, **SETTINGS))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    keys.append(training_key(model, EXAMPLES, **SETTINGS))
    assert len({str(key) for key in keys}) == len(keys) == 12


# when it is written, and when it cannot be


class Clock:
    """A clock that goes on by hand, and by `writing` seconds in each save."""

    def __init__(self, writing: float) -> None:
        self.now, self.writing = 1000.0, writing

    def monotonic(self) -> float:
        return self.now

    def save_file(self, *arguments: Any, **options: Any) -> None:
        self.now += self.writing
        save_file(*arguments, **options)


@pytest.mark.parametrize(("writing", "pause"), [(0.0, 30.0), (0.5, 30.0), (2.0, 100.0)])
def test_saving_is_due_so_seldom_that_it_costs_little(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writing: float, pause: float
) -> None:
    clock = Clock(writing)
    monkeypatch.setattr("labelrel.align.checkpoint.time.monotonic", clock.monotonic)
    monkeypatch.setattr(module, "save_file", clock.save_file)
    parameters = [torch.nn.Parameter(torch.zeros(3))]
    state = TrainingState(parameters, torch.optim.AdamW(parameters), torch.device("cpu"))
    checkpoint = Checkpoint(tmp_path, "key")
    clock.now += 100  # the trunk is filled, say
    checkpoint.load(state, steps=99)
    begun, saved = clock.now, []
    while clock.now < begun + 600:
        clock.now += 1.0
        if checkpoint.due:
            saved.append(clock.now)
            checkpoint.save(state)
    assert saved[0] == begun + 15
    assert len(saved) > 4
    assert {later - earlier for earlier, later in itertools.pairwise(saved)} == {pause + writing}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of a checkpoint gets longer than 4 KiB, by the system itself."""

    def save_on_full_disk(*arguments: Any, **options: Any) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            save_file(*arguments, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(module, "save_file", save_on_full_disk)


@pytest.mark.usefixtures("often", "full_disk")
def test_full_disk_is_one_warning_and_training_goes_on(
    check: Check, training: Training, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    check(training, training(training.checkpoint()))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: train goes on without a new checkpoint: ")
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_full_disk_keeps_the_checkpoint_before(
    check: Check, training: Training, often: None, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    before = training.stopped_at(3).path.read_bytes()
    request.getfixturevalue("full_disk")
    assert training.stopped_at(6).path.read_bytes() == before
    check(training, training(training.checkpoint()))
    assert capsys.readouterr().err.count("goes on at step 4 of 9") == 2


def test_folder_that_cannot_be_made_is_one_warning(
    training: Training, often: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    assert len(training(training.checkpoint()).history) == 9
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_interrupt_on_a_full_disk_promises_nothing(
    training: Training, full_disk: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        training(training.checkpoint(), kill_self(signal.SIGINT))
    assert "to go on" not in capsys.readouterr().err


def test_quiet_says_nothing(training: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.stopped_at(5)
    training(Checkpoint(tmp_path / "checkpoints", "key", quiet=True))
    assert capsys.readouterr().err == ""


def test_what_nobody_will_take_up_is_removed(training: Training, tmp_path: Path) -> None:
    checkpoint, others = training.checkpoint(), tmp_path / "checkpoints"
    others.mkdir()
    stale = others / f".{checkpoint.path.name}.abc.tmp"
    beside = others / ".0123.safetensors.abc.tmp"  # maybe of a process that runs now
    recent, old, own = others / "1.safetensors", others / "2.safetensors", others / "notes.txt"
    for file in (stale, beside, recent, old, own):
        file.touch()
    for file in (old, own):
        os.utime(file, (0, 0))
    training(checkpoint)
    assert sorted(others.iterdir()) == sorted([beside, recent, own])


# the whole run


def toy_wordings(item: Any) -> list[Wording]:
    return [Wording(str(item["question"]), tuple(f" {choice}" for choice in item["choices"]))]


TOY = Task(
    name="toy",
    kind="choice",
    summary="colours of things",
    source="made up",
    load=lambda source, sizes, seed: pl.DataFrame(),
    wordings=toy_wordings,
    parse=lambda item, completion: Reading(None, "empty"),
)


def toy_items() -> pl.DataFrame:
    rows = [
        {
            "item_id": f"i{number}",
            "task": "toy",
            "split": "w2s",
            "question": f"Colour of {name}:",
            "choices": ["red", "green"],
            "gold_label": str(number % 2),
            "meta": {"name": name},
        }
        for number, name in enumerate(("fig", "kiwi", "plum", "lime"))
    ]
    return check_items(pl.DataFrame(rows))


@pytest.fixture
def do_run(make_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path) -> Callable[..., Outcome]:
    items = toy_items()
    rows = [(i["item_id"], i["question"], " green", "1", 1.0) for i in items.iter_rows(named=True)]

    def do(fingerprint: str = "tiny", **changes: Any) -> Outcome:
        settings = {
            "budget": Budget(num_items=4, epochs=6, batch_size=3, learning_rate=1e-2),
            "lora": LORA,
            "top_layers": 2,
            "seed": 1,
            "cache": tmp_path / "trunk",
            "checkpoints": tmp_path / "checkpoints",
            "quiet": True,
            **changes,
        }
        training = settings.pop("training", check_training(pl.DataFrame(rows, schema=TRAINING, orient="row")))
        loaded = LoadedModel(make_model(), tiny_tokenizer, "tiny", fingerprint)
        return run(loaded, Prompting(TOY), training, items, **settings)

    return do


def stop_at_five(step: Step) -> None:
    if step.step == 5:
        raise StopError


def files_of(outcome: Outcome, folder: Path) -> dict[str, bytes]:
    write_run(folder, outcome, {"method": "gold"}, base="tiny")
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("top_layers", [2, None])
def test_whole_run_goes_on_to_the_same_files_and_then_removes_its_checkpoint(
    do_run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top_layers: int | None
) -> None:
    whole = files_of(do_run(top_layers=top_layers, checkpoints=None), tmp_path / "whole")
    with pytest.raises(StopError):
        do_run(top_layers=top_layers, on_step=stop_at_five)
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    told: list[Step] = []
    outcome = do_run(top_layers=top_layers, on_step=told.append)
    assert told == outcome.trained.history
    assert outcome.seconds >= outcome.trained.seconds >= outcome.trained.seconds_before > 0

    def fails(*arguments: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("labelrel.align.run.write_table", fails)
        with pytest.raises(OSError, match="no space"):
            files_of(outcome, tmp_path / "resumed")
    assert checkpoint.is_file()
    resumed = files_of(outcome, tmp_path / "resumed")
    assert not checkpoint.exists()
    assert resumed.keys() == whole.keys()
    for name in whole.keys() - {"run.json"}:  # which holds seconds
        assert resumed[name] == whole[name], name


def test_other_settings_never_meet_the_checkpoint(do_run: Callable[..., Outcome], tmp_path: Path) -> None:
    """Every run that differs in one thing leaves a checkpoint of its own."""
    items = toy_items()
    rows = [(i["item_id"], i["question"], " red", "0", 1.0) for i in items.iter_rows(named=True)]
    changes: list[dict[str, Any]] = [
        {},
        {"fingerprint": "other weights"},
        {"lora": Lora(rank=3, alpha=6.0, dropout=0.2)},
        {"lora": Lora(rank=3, alpha=5.0, dropout=0.3)},
        {"top_layers": 4},
        {"top_layers": None},  # all 4 as well, from token ids
        {"seed": 2},
        {"budget": Budget(num_items=4, epochs=6, batch_size=3, learning_rate=2e-2)},
        {"budget": Budget(num_items=4, epochs=7, batch_size=3, learning_rate=1e-2)},
        {"training": check_training(pl.DataFrame(rows, schema=TRAINING, orient="row"))},
    ]
    for number, change in enumerate(changes, start=1):
        with pytest.raises(StopError):
            do_run(on_step=stop_at_five, **change)
        assert len(list((tmp_path / "checkpoints").iterdir())) == number, change
