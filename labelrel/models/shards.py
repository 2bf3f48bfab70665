"""Files of trunk outputs: written whole, read through a memory map, rounded no further than they may be.

A shard is a safetensors file with one tensor, `hidden` (T, H), and in its metadata which rows belong to
which key and how much rounding took off them. Nothing of it is held in memory but what a batch reads.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from labelrel.files import replacing

GIB = 1 << 30
MAX_ERROR = 1e-3
"""Most that "auto" takes off a row: |x - stored(x)|_2 / |x|_2. float16 takes at most 2^-11 = 4.9e-4 off a
row whose values it can hold as normal numbers, bfloat16 at most 2^-8 = 3.9e-3."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class TrunkCacheFull(Exception):
    """The trunk outputs do not fit where they should go; training can go on without them.

    Attributes:
        needed: GiB that the cache would hold with what is needed now.
        allowed: GiB that it may hold, or that the disk has left.
    """

    def __init__(self, needed: float, allowed: float, reason: str) -> None:
        super().__init__(f"the trunk cache needs {_gib(needed)} GiB and {reason} {_gib(allowed)} GiB")
        self.needed = needed
        self.allowed = allowed


def _gib(size: float) -> str:
    return f"{size:.2f}" if size >= 0.01 else f"{size:.2g}"


@dataclass(frozen=True)
class Shard:
    """An open shard.

    Attributes:
        file: where it is.
        size: bytes on disk.
        keys: names of its parts.
        parts: for each key its rows, (T, H), views of the map; they stay valid when the file is removed.
        error: largest relative distance between a row and what the trunk gave, |x - stored(x)|_2 / |x|_2.
    """

    file: Path
    size: int
    keys: list[str]
    parts: tuple[torch.Tensor, ...]
    error: float


def open_shard(file: Path) -> Shard | None:
    """Map a shard; None, and the file is removed, where it is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            keys, lengths, error = json.loads(opened.metadata()["index"])
            parts = opened.get_tensor("hidden").split(lengths)
        if len(keys) != len(parts):
            raise ValueError(f"{len(keys)} keys for {len(parts)} parts")
        return Shard(file, file.stat().st_size, keys, parts, float(error))
    except FileNotFoundError:  # another process has just made room
        return None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        with contextlib.suppress(OSError):
            file.unlink()  # cut short, say; it will be computed again
        return None


def write_shard(file: Path, keys: Sequence[str], parts: Sequence[torch.Tensor], error: float) -> Shard:
    """Write a shard whole and open it: what it holds is what anybody reads from now on.

    Args:
        file: where to.
        keys: names of the parts.
        parts: rows of each, (T, H), as they are to be stored.
        error: see `Shard`.

    Raises:
        TrunkCacheFull: the disk is full. Nothing is left of the file then.
    """
    hidden = torch.cat(list(parts))
    # one entry: several would be written in any order, and equal rows shall give equal bytes
    index = json.dumps([list(keys), [len(part) for part in parts], error])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with lock(file.parent, alone=False), replacing(file) as temporary:
            save_file({"hidden": hidden}, temporary, metadata={"index": index})
    except (OSError, SafetensorError) as problem:
        number = re.search(r"os error (\d+)", str(problem))
        code = problem.errno if isinstance(problem, OSError) else int(number[1]) if number else None
        if code not in _FULL:
            raise
        reason = f"the disk takes no more ({os.strerror(code)}); it has left"
        raise TrunkCacheFull(hidden.nbytes / GIB, free_bytes(file.parent) / GIB, reason) from problem
    shard = open_shard(file)
    if shard is None:
        raise OSError(f"{file} cannot be read back although it has just been written; is the disk sound?")
    return shard


def rounded(parts: Sequence[torch.Tensor], dtype: str) -> tuple[list[torch.Tensor], float]:
    """Return float32 rows as they are to be stored, and the largest relative error of a row.

    "auto" takes float16, then bfloat16 (which has the range of what was computed in it), where no row
    loses more than `MAX_ERROR`, else float32. A type asked for by name is taken unless a value overflows.
    """
    limit = MAX_ERROR if dtype == "auto" else math.inf
    for name in ("float16", "bfloat16") if dtype == "auto" else (dtype,):
        shorter = [part.to(getattr(torch, name)) for part in parts]
        errors = [_largest_error(part, short) for part, short in zip(parts, shorter, strict=True)]
        if max(errors) <= limit and not any(map(math.isnan, errors)):
            return shorter, max(errors)
    return list(parts), 0.0


def _largest_error(part: torch.Tensor, short: torch.Tensor) -> float:
    if bool((short.isinf() & part.isfinite()).any()):
        return math.nan  # a value overflowed
    length = torch.linalg.vector_norm(part, dim=1)
    lost = torch.linalg.vector_norm(part - short.float(), dim=1)
    return float(torch.where(length > 0, lost / length, lost).max())


def bytes_per_value(dtype: str) -> int:
    """Return how much a value takes on disk, at the least."""
    return 4 if dtype == "float32" else 2


def free_bytes(folder: Path) -> int:
    """Return how much a user may still write to the disk of a folder that exists."""
    return shutil.disk_usage(folder).free


@contextlib.contextmanager
def lock(folder: Path, *, alone: bool) -> Iterator[bool]:
    """Hold a folder until the block ends, or the process, and yield whether that was possible.

    Args:
        folder: the folder.
        alone: only if nobody else holds it, and without waiting; else together with others.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # no such folder, or a system without such locks
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed processes; writers hold the folder, so alone in it there are no others."""
    with lock(folder, alone=True) as held:
        if held:
            for file in folder.glob(".*.safetensors.*.tmp"):
                file.unlink(missing_ok=True)


def make_room(root: Path, needed: int, max_bytes: int, *, keep: set[Path], last: Path) -> None:
    """Remove the shards used longest ago until `needed` bytes more fit in a cache.

    Args:
        root: folder of the whole cache; its subfolders hold shards.
        needed: bytes to be written.
        max_bytes: most that the shards of all subfolders may take together.
        keep: shards that stay.
        last: the subfolder whose shards go last.

    Raises:
        TrunkCacheFull: it would not fit even then, in the cache or on the disk. Nothing is removed then.
    """
    shards: list[tuple[bool, float, int, Path]] = []
    total = needed
    for file in root.glob("*/*.safetensors"):
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            total += status.st_size
            if file not in keep:
                shards.append((file.parent == last, status.st_mtime, status.st_size, file))
    removable = sum(size for _, _, size, _ in shards)
    if total - removable > max_bytes:
        raise TrunkCacheFull((total - removable) / GIB, max_bytes / GIB, "base.trunk.max_gib allows")
    root.mkdir(parents=True, exist_ok=True)
    missing = max(total - max_bytes, needed - free_bytes(root))
    if missing > removable:
        raise TrunkCacheFull(needed / GIB, (free_bytes(root) + removable) / GIB, "the disk has room for")
    for _, _, size, file in sorted(shards):
        if missing <= 0:
            return
        with contextlib.suppress(OSError):  # gone already, or held open on a system that does not let go
            file.unlink()
        missing -= size
