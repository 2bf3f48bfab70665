"""The frozen-trunk cache: each distinct prompt and continuation goes through the trunk once.

Hidden states are causal, so the states of a prompt do not depend on what follows, and those of a
continuation depend on nothing but the prompt. The cache therefore stores the two apart, and all
methods, epochs and seeds that meet the same text share the same rows, as does the next comparison:
they lie on disk, under the model, the cut, the precision and the token ids (in which the tokenizer and
the wording are contained). Files are safetensors shards, written whole and renamed; a shard that cannot be
read is removed and computed again, and what a kill in the middle of a write has left is removed by the
next process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from labelrel.files import digest_of
from labelrel.models.decoder import Trunk
from labelrel.models.packing import Prompt, batches, pack
from labelrel.models.shards import (
    GIB,
    Shard,
    TrunkCacheFull,
    bytes_per_value,
    make_room,
    open_shard,
    remove_unfinished,
    rounded,
    write_shard,
)

__all__ = ["TrunkCache", "TrunkCacheFull"]

_BATCH_TOKENS = 1024
_SHARD_TOKENS = 65_536
_SHARD_BYTES = 1 << 27
"""Rows of float32 held before they are written: a shard is full at either bound."""
_INDEX_BYTES = 48
"""What a key and its length take in a shard, about."""


def _key(prefix: Sequence[int], branch: Sequence[int] = ()) -> str:
    content = array("q", [*prefix, -1, *branch]).tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


class TrunkCache:
    """Trunk outputs of one model cut at one layer, on disk.

    What `hidden` returns is what is stored, rounding included, in the process that computed it as in any
    other; so a run that was killed goes on with the very states it began with.

    Args:
        folder: where the shards of all models live.
        trunk: the frozen lower layers.
        fingerprint: digest of the model's weights, config and precision.
        top_layers: the number of layers that the trunk leaves out.
        dtype: of the rows on disk: "float16", "bfloat16", "float32"; "auto" takes float16 shard by shard
            and more where that would take more than 1e-3 off the length of a row.
        max_gib: most that the folder may hold; what was used longest ago goes first.
    """

    def __init__(
        self,
        folder: Path,
        trunk: Trunk,
        *,
        fingerprint: str,
        top_layers: int,
        dtype: str = "auto",
        max_gib: float = 8.0,
    ) -> None:
        self._root = Path(folder)
        self._folder = self._root / digest_of([fingerprint, top_layers, dtype])[:24]
        self._trunk = trunk
        self._dtype = dtype
        self._max_bytes = int(max_gib * GIB)
        self.num_computed_tokens = 0
        remove_unfinished(self._folder)
        self.reopen()

    def reopen(self) -> None:
        """Take what is on disk, by other processes too, and nothing else."""
        self._shards: dict[int, Shard] = {}
        self._place: dict[str, tuple[int, int]] = {}  # which shard, and which part of it
        self._used: set[int] = set()
        for file in sorted(self._folder.glob("*.safetensors")):
            shard = open_shard(file)
            if shard:
                self._add(shard)

    @property
    def error_bound(self) -> float:
        """The largest relative error |x - stored(x)|_2 / |x|_2 of a row in the shards that were used."""
        return max((self._shards[number].error for number in self._used), default=0.0)

    def fill(self, prompts: Iterable[Prompt], progress: Callable[[int, int], None] | None = None) -> None:
        """Compute whatever of `prompts` is missing and keep it.

        Args:
            prompts: prompts with their continuations; repeated ones are computed once.
            progress: called with (tokens done, tokens in all).

        Raises:
            TrunkCacheFull: it does not fit in the cache or on the disk, which is looked at before anything
                is computed. Shards that are written already stay, whole.
        """
        self._forget_removed()
        missing, needed = self._missing(prompts)
        self._touch()
        if missing:
            self._make_room(needed)
        total, done = sum(len(prompt) for prompt in missing), 0
        full = min(_SHARD_TOKENS, max(1, _SHARD_BYTES // (4 * self._trunk.hidden_size)))
        fresh: dict[str, torch.Tensor] = {}
        for group in batches([len(prompt) for prompt in missing], _BATCH_TOKENS):
            members = [missing[index] for index in group]
            hidden = self._trunk.run(pack(members).to(self._trunk.device)).float().cpu()
            for prompt, states in zip(members, hidden, strict=True):
                if _key(prompt.prefix) not in self._place:  # a second run may differ in the last bits: keep the first
                    fresh[_key(prompt.prefix)] = states[: len(prompt.prefix)].clone()
                at = len(prompt.prefix)
                for branch in prompt.branches:
                    fresh[_key(prompt.prefix, branch)] = states[at : at + len(branch)].clone()
                    at += len(branch)
            done += sum(len(prompt) for prompt in members)
            if progress:
                progress(done, total)
            if sum(len(states) for states in fresh.values()) >= full:
                self._write(fresh)
                fresh = {}
        if fresh:
            self._write(fresh)
        self.num_computed_tokens += total

    def hidden(self, prompts: Sequence[Prompt], length: int) -> torch.Tensor:
        """Return (B, length, H) float32 cached states in packed order, zero where padded.

        Raises:
            KeyError: a prompt was never filled in; that is a bug of the caller.
        """
        output = torch.zeros(len(prompts), length, self._trunk.hidden_size)
        for row, prompt in zip(output, prompts, strict=True):
            at = 0
            for branch in ((), *prompt.branches):
                number, part = self._place[_key(prompt.prefix, branch)]
                self._used.add(number)
                states = self._shards[number].parts[part]
                row[at : at + len(states)] = states
                at += len(states)
        return output

    def _missing(self, prompts: Iterable[Prompt]) -> tuple[list[Prompt], int]:
        """Merge the missing continuations of each prompt, so that it runs once for all of them.

        Returns:
            What to run, and the bytes that its rows will take. The shards that hold the rest count as used.
        """
        wanted: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        rows: dict[str, int] = {}
        for prompt in prompts:
            absent = []
            for branch in ((), *prompt.branches):
                key = _key(prompt.prefix, branch)
                if key in self._place:
                    self._used.add(self._place[key][0])
                else:
                    absent.append(branch)
                    rows[key] = len(branch or prompt.prefix)
            if absent:
                wanted.setdefault(prompt.prefix, {}).update(dict.fromkeys(branch for branch in absent if branch))
        row = self._trunk.hidden_size * bytes_per_value(self._dtype)
        needed = sum(rows.values()) * row + len(rows) * _INDEX_BYTES
        return [Prompt(prefix, tuple(branches_)) for prefix, branches_ in wanted.items()], needed

    def _forget_removed(self) -> None:
        """Let go of shards that somebody removed to make room: what is used from now on must be there later too."""
        for number, shard in list(self._shards.items()):
            if not shard.file.exists():
                del self._shards[number]
                self._used.discard(number)
                for key in shard.keys:
                    if self._place[key][0] == number:
                        del self._place[key]

    def _touch(self) -> None:
        for number in self._used:
            with contextlib.suppress(OSError):  # removed by another process: the map still holds it
                os.utime(self._shards[number].file)

    def _make_room(self, needed: int) -> None:
        keep = {self._shards[number].file for number in self._used}
        make_room(self._root, needed, self._max_bytes, keep=keep, last=self._folder)

    def _write(self, fresh: dict[str, torch.Tensor]) -> None:
        name = hashlib.sha256("".join(fresh).encode()).hexdigest()[:16]
        parts, error = rounded(list(fresh.values()), self._dtype)
        # again: the rows may have to be kept unrounded, and other processes write here too
        self._make_room(sum(part.nbytes for part in parts) + len(parts) * _INDEX_BYTES)
        self._used.add(self._add(write_shard(self._folder / f"{name}.safetensors", list(fresh), parts, error)))

    def _add(self, shard: Shard) -> int:
        number = max(self._shards, default=-1) + 1
        self._shards[number] = shard
        self._place.update({key: (number, part) for part, key in enumerate(shard.keys)})
        return number
