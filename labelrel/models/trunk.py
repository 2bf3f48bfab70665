"""The frozen-trunk cache: each distinct prompt and continuation goes through the trunk once.

Hidden states are causal, so the states of a prompt do not depend on what follows, and those of a
continuation depend on nothing but the prompt. The cache therefore stores the two apart, and all
methods, epochs and seeds that meet the same text share the same rows. Files are safetensors
shards, written whole and renamed; a shard that cannot be read is removed and computed again, and
what a kill in the middle of a write has left is removed by the next process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from labelrel.files import digest_of, replacing
from labelrel.models.decoder import Trunk
from labelrel.models.packing import Prompt, batches, pack

_BATCH_TOKENS = 1024
_SHARD_TOKENS = 65_536


def _key(prefix: Sequence[int], branch: Sequence[int] = ()) -> str:
    content = array("q", [*prefix, -1, *branch]).tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


class TrunkCache:
    """Trunk outputs of one model cut at one layer, on disk and in memory.

    Args:
        folder: where the shards of all models live.
        trunk: the frozen lower layers.
        fingerprint: digest of the model's weights and precision.
        top_layers: the number of layers that the trunk leaves out.
    """

    def __init__(self, folder: Path, trunk: Trunk, *, fingerprint: str, top_layers: int) -> None:
        self._folder = Path(folder) / digest_of([fingerprint, top_layers])[:24]
        self._trunk = trunk
        self._rows: dict[str, torch.Tensor] = {}
        self.num_computed_tokens = 0
        _remove_unfinished(self._folder)
        for shard in sorted(self._folder.glob("*.safetensors")):
            self._read(shard)

    def fill(self, prompts: Iterable[Prompt], progress: Callable[[int, int], None] | None = None) -> None:
        """Compute whatever of `prompts` is missing and keep it.

        Args:
            prompts: prompts with their continuations; repeated ones are computed once.
            progress: called with (tokens done, tokens in all).
        """
        missing = self._missing(prompts)
        total, done = sum(len(prompt) for prompt in missing), 0
        fresh: dict[str, torch.Tensor] = {}
        for group in batches([len(prompt) for prompt in missing], _BATCH_TOKENS):
            members = [missing[index] for index in group]
            hidden = self._trunk.run(pack(members).to(self._trunk.device)).float().cpu()
            for prompt, states in zip(members, hidden, strict=True):
                if _key(prompt.prefix) not in self._rows:  # a second run may differ in the last bits: keep the first
                    fresh[_key(prompt.prefix)] = states[: len(prompt.prefix)].clone()
                at = len(prompt.prefix)
                for branch in prompt.branches:
                    fresh[_key(prompt.prefix, branch)] = states[at : at + len(branch)].clone()
                    at += len(branch)
            done += sum(len(prompt) for prompt in members)
            if progress:
                progress(done, total)
            if sum(len(states) for states in fresh.values()) >= _SHARD_TOKENS:
                self._write(fresh)
                fresh = {}
        if fresh:
            self._write(fresh)
        self.num_computed_tokens += total

    def hidden(self, prompts: Sequence[Prompt], length: int) -> torch.Tensor:
        """Return (B, length, H) cached states in packed order, zero where padded.

        Raises:
            KeyError: a prompt was never filled in; that is a bug of the caller.
        """
        rows = [self._rows[_key(prompts[0].prefix)]]
        output = torch.zeros(len(prompts), length, rows[0].shape[1])
        for row, prompt in enumerate(prompts):
            parts = [self._rows[_key(prompt.prefix)]]
            parts += [self._rows[_key(prompt.prefix, branch)] for branch in prompt.branches]
            output[row, : len(prompt)] = torch.cat(parts)
        return output

    def _missing(self, prompts: Iterable[Prompt]) -> list[Prompt]:
        """Merge the missing continuations of each prompt, so that it runs once for all of them."""
        wanted: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        for prompt in prompts:
            absent = [b for b in prompt.branches if _key(prompt.prefix, b) not in self._rows]
            if absent or _key(prompt.prefix) not in self._rows:
                wanted.setdefault(prompt.prefix, {}).update(dict.fromkeys(absent))
        return [Prompt(prefix, tuple(branches_)) for prefix, branches_ in wanted.items()]

    def _write(self, fresh: dict[str, torch.Tensor]) -> None:
        keys = list(fresh)
        lengths = [len(fresh[key]) for key in keys]
        hidden = torch.cat([fresh[key] for key in keys])
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        with _lock(self._folder, alone=False), replacing(self._folder / f"{name}.safetensors") as temporary:
            save_file({"hidden": hidden}, temporary, metadata={"index": json.dumps([keys, lengths])})
        self._rows.update(fresh)

    def _read(self, shard: Path) -> None:
        try:
            with safe_open(shard, framework="pt") as file:
                keys, lengths = json.loads(file.metadata()["index"])
                parts = file.get_tensor("hidden").split(lengths)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
            shard.unlink(missing_ok=True)  # cut short, say; it will be computed again
            return
        self._rows.update(zip(keys, parts, strict=True))


@contextlib.contextmanager
def _lock(folder: Path, *, alone: bool) -> Iterator[bool]:
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


def _remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed processes; writers hold the folder, so alone in it there are no others."""
    with _lock(folder, alone=True) as held:
        if held:
            for file in folder.glob(".*.safetensors.*.tmp"):
                file.unlink(missing_ok=True)
