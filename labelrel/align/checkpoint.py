"""Checkpoints of a training run: killed at any moment, it goes on to the same adapter, bit for bit.

A checkpoint is one safetensors file of everything that a step changes, written to a temporary name and
renamed. Its name is a digest of what determines the run, so other settings never meet it. It is a
convenience: one that is damaged is not used, one that cannot be written stops nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from labelrel.align.world import ALONE, World
from labelrel.files import digest_of, replacing
from labelrel.progress import say

_FORMAT = 1
_FIRST_SECONDS = 15.0
_EVERY_SECONDS = 30.0
_MOST_OF_THE_TIME = 0.02
_KEPT_SECONDS = 14 * 86_400.0
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainingState:
    """Everything of a training run that a step changes.

    Args:
        parameters: the trainable ones, in the order of the optimiser.
        optimizer: an AdamW over them.
        device: where the run draws its dropout from, besides the CPU.
        more: something else that a step changes, with `tensors` and `restore` of its own.

    Attributes:
        history: (loss, learning rate) of each step done.
        num_tokens: tokens seen.
        seconds_before: wall seconds that the steps took in processes that ended before this one.
    """

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        *,
        more: Any = None,
    ) -> None:
        self._parameters, self._optimizer, self._device, self._more = parameters, optimizer, device, more
        self._started = time.perf_counter()
        self.history: list[tuple[float, float]] = []
        self.num_tokens = 0
        self.seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Return the wall seconds of the run, those of processes before this one with them."""
        return self.seconds_before + time.perf_counter() - self._started

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state by name, on the CPU; tensors that are there already are not copied."""
        found = {
            "history": torch.tensor(self.history, dtype=torch.float64).reshape(-1, 2),
            "num_tokens": torch.tensor([self.num_tokens]),
            "seconds": torch.tensor([self.seconds], dtype=torch.float64),
            "random.cpu": torch.get_rng_state(),
        }
        if self._device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self._device)
        for number, parameter in enumerate(self._parameters):
            found[f"parameter.{number}"] = parameter.detach()
            for name, value in self._optimizer.state.get(parameter, {}).items():
                found[f"{name}.{number}"] = value
        if self._more:
            found |= self._more.tensors()
        return {name: tensor.cpu().contiguous() for name, tensor in found.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over the state that `tensors` gave.

        Raises:
            ValueError: they are of another model; nothing is changed then.
            KeyError: one is missing; nothing is changed then either.
        """
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for number, parameter in enumerate(self._parameters):
            saved = tensors[f"parameter.{number}"]
            if (saved.shape, saved.dtype) != (parameter.shape, parameter.dtype):
                raise ValueError(f"parameter {number} is {tuple(saved.shape)}, the model's {tuple(parameter.shape)}")
            if f"{_MOMENTS[0]}.{number}" in tensors:  # it has none before its first gradient
                moments[number] = {name: tensors[f"{name}.{number}"].clone() for name in _MOMENTS}
        history = [(loss, rate) for loss, rate in tensors["history"].tolist()]
        num_tokens, seconds = int(tensors["num_tokens"]), float(tensors["seconds"])
        random = {name: tensors[f"random.{name}"] for name in ("cpu", "cuda") if name in ("cpu", self._device.type)}

        if self._more:
            self._more.restore(tensors)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        with torch.no_grad():
            for number, parameter in enumerate(self._parameters):
                parameter.copy_(tensors[f"parameter.{number}"])
        torch.set_rng_state(random["cpu"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self._device)
        self.history, self.num_tokens, self.seconds_before = history, num_tokens, seconds


class Checkpoint:
    """The file that holds the state of one training run.

    It is written after the first 15 s and every 30 s from then, less often where writing takes so long
    that it would cost more than 2 % of the time.

    Args:
        folder: where the checkpoints of all runs live; a cache, all in it can be lost.
        key: JSON-able; everything that determines the run.
        quiet: say nothing.
        writes: whether this process saves; of several that share a run, one does, and all take it up.
    """

    def __init__(self, folder: Path, key: object, *, quiet: bool = False, writes: bool = True) -> None:
        self._key = digest_of([_FORMAT, key])
        self.path = Path(folder) / f"{self._key[:32]}.safetensors"
        self.quiet = quiet
        self._writes = writes
        self._warned = False
        self._next = time.monotonic() + _FIRST_SECONDS

    def load(self, state: TrainingState, *, steps: int) -> None:
        """Put the state on disk into `state`; leave it as it is where there is none that can be used.

        Args:
            state: of a run that has not begun.
            steps: the run's steps in all.
        """
        self._clean()
        self._next = time.monotonic() + _FIRST_SECONDS
        if not os.path.exists(self.path):  # False as well where the folder may not be entered
            return
        try:
            state.restore(self._read())
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            say(f"train: the checkpoint {self.path} cannot be used ({reason}); starts afresh", quiet=self.quiet)
            return
        done = len(state.history)
        where = f"goes on at step {done + 1} of {steps}" if done < steps else f"all of its {steps} steps are done"
        say(f"train: {where}", quiet=self.quiet)

    @property
    def due(self) -> bool:
        """Say whether it is time to save."""
        return time.monotonic() >= self._next

    def save(self, state: TrainingState) -> bool:
        """Write the state; where that fails, keep the one before and say so the first time.

        Returns:
            Whether it was written.
        """
        if not self._writes:
            return False
        started = time.monotonic()
        try:
            tensors = state.tensors()
            metadata = {"key": self._key, "checksum": str(_checksum(tensors))}
            with replacing(self.path) as temporary:
                save_file(tensors, temporary, metadata=metadata)
        except (OSError, SafetensorError) as error:
            if not self._warned:
                reason = " ".join(str(error).split())[:200]
                say(f"warning: train goes on without a new checkpoint: {reason}", quiet=self.quiet)
            self._warned = True
            return False
        finally:
            now = time.monotonic()
            self._next = now + max(_EVERY_SECONDS, (now - started) / _MOST_OF_THE_TIME)
        return True

    def discard(self) -> None:
        """Remove the file, once what the run made is safe."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, torch.Tensor]:
        with safe_open(self.path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if metadata["key"] != self._key:
            raise ValueError("it is of another run")
        if metadata["checksum"] != str(_checksum(tensors)):
            raise ValueError("it is damaged")
        return tensors

    def _clean(self) -> None:
        """Remove what kills in the middle of a save and runs that nobody took up again have left."""
        unfinished = [*self.path.parent.glob(f".{self.path.name}.*.tmp")]
        old = time.time() - _KEPT_SECONDS
        for file in [*unfinished, *self.path.parent.glob("*.safetensors*")]:
            with contextlib.suppress(OSError):
                if file in unfinished or (file != self.path and file.stat().st_mtime < old):
                    file.unlink()


def _checksum(tensors: dict[str, torch.Tensor]) -> int:
    """Return a CRC-32 of names and contents; safetensors itself notices a short file and no other damage."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return found


class Saving:
    """Save a run between two steps: when it is time, when it is interrupted, when telling of a step fails.

    As a context it holds SIGINT and SIGTERM back until the step is done, in the main thread, which alone can;
    a second one is let through at once.

    Args:
        checkpoint: where to; None saves nothing and holds nothing back.
        state: of the run.
        world: the processes that share the run: a signal to one of them stops all after the same step.
    """

    def __init__(self, checkpoint: Checkpoint | None, state: TrainingState, world: World = ALONE) -> None:
        self._checkpoint, self._state, self._world = checkpoint, state, world
        self._before: dict[int, Any] = {}
        self._pending: int | None = None

    def __enter__(self) -> Saving:
        if self._checkpoint is not None and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # as under nohup, or not Python's
                    self._before[number] = handler
                    signal.signal(number, self._hold)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._let_through()

    def step_done(self, tell: Callable[[], None]) -> None:
        """Tell of the step that is done and save where there is reason to."""
        if self._checkpoint is None:
            tell()
            return
        try:
            tell()
        except BaseException:
            self._checkpoint.save(self._state)
            raise
        if self._world.size > 1:
            self._pending = max(self._world.gather([self._pending or 0])) or None
        if self._pending is not None or self._checkpoint.due:
            saved = self._checkpoint.save(self._state)
            if saved and self._pending is not None:
                done = len(self._state.history)
                say(f"train: stops after step {done}; to go on, start it again", quiet=self._checkpoint.quiet)
        self._let_through()

    def _hold(self, number: int, frame: FrameType | None) -> None:
        again, self._pending = self._pending is not None, number
        if again:
            self._let_through()

    def _let_through(self) -> None:
        """Do what the signal held back would have done; most often that does not return."""
        number, self._pending = self._pending, None
        if number is None:
            return
        handler = self._before.get(number, signal.SIG_DFL)
        if callable(handler):
            handler(number, None)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)
