"""Started by a launcher of several processes, or by hand: the same command, and one voice."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labelrel.align.world import ALONE, World
from labelrel.errors import ConfigError, LabelrelError
from labelrel.progress import say

_SET_BY_LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "NCCL error")


@contextmanager
def open_world(*, quiet: bool = False) -> Iterator[World]:
    """Yield this process's place among those that `torchrun` or `accelerate launch` has started.

    Where `ACCELERATE_USE_FSDP` is true, as `accelerate launch --use_fsdp` sets it, the frozen weights are
    sharded. Of processes that fail only the first one says why.

    Args:
        quiet: say nothing about how many there are.

    Raises:
        ConfigError: the launcher's variables are incomplete or no numbers.
        SystemExit: another process has failed and told why, or is gone.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    missing = [name for name in _SET_BY_LAUNCHERS if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size} but {missing[0]} is not set; start labelrel with torchrun or accelerate launch."
        )
    rank, local_rank = _number("RANK", 0), _number("LOCAL_RANK", 0)
    from datetime import timedelta

    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    from labelrel.align.processes import Processes

    store, _, _ = next(rendezvous("env://", rank, size))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=timedelta(days=1),  # one process may fetch a model for long; a dead one is told by the launcher
    )
    world = Processes(local_rank, sharded=os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1"))
    try:
        how = "frozen weights sharded" if world.sharded else "each with the whole model"
        say(f"align: {size} processes, {how}", quiet=quiet or not world.leads)
        yield world
        world.wait()  # the first to go would take the others' connections with it
    except BaseException as error:
        _one_voice(error, store, rank, size)
        raise
    distributed.destroy_process_group()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise ConfigError(f"the environment variable {name} must be a whole number, got {text!r}.")
    return int(text)


def _one_voice(error: BaseException, store: Any, rank: int, size: int) -> None:
    """End this process silently unless it is the first that fails, or the first to see that another is gone.

    Raises:
        SystemExit: with the status that the error would have had.
    """
    try:
        first = store.add("labelrel/failed", 1) == 1
    except RuntimeError:  # the process that kept the store is gone
        first = True
    lost = isinstance(error, RuntimeError) and any(words in str(error) for words in _LOST)
    if first and lost:
        print(
            f"labelrel: process {rank} of {size} has lost touch with another one, which was killed or has run out "
            "of memory; the same command goes on where it stopped",
            file=sys.stderr,
            flush=True,
        )
    if first and not lost:
        return
    status = error.code if isinstance(error, SystemExit) else 2 if isinstance(error, LabelrelError) else 1
    raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else status) from None
