"""The trunk cache on disk: how much is rounded off, how much it may take, what goes when it is full."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from labelrel.models import trunk as trunk_module
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.packing import Packed, Prompt, pack
from labelrel.models.shards import GIB, MAX_ERROR, open_shard, rounded, write_shard
from labelrel.models.trunk import TrunkCache, TrunkCacheFull

ROW = 32  # values


class Loud(Trunk):
    """A trunk whose outputs are many times as large."""

    factor = 1e5

    def run(self, packed: Packed) -> torch.Tensor:
        return super().run(packed) * self.factor


class Coarse(Loud):
    """A trunk that computes in bfloat16."""

    def run(self, packed: Packed) -> torch.Tensor:
        return super().run(packed).bfloat16()


class Counting(Trunk):
    """A trunk that counts its runs."""

    runs = 0

    def run(self, packed: Packed) -> torch.Tensor:
        self.runs += 1
        return super().run(packed)


def open_cache(
    folder: Path, model: Any, *, weights: str = "weights", kind: type[Trunk] = Trunk, **settings: Any
) -> TrunkCache:
    return TrunkCache(folder, kind(model, 2), fingerprint=weights, top_layers=2, **settings)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def prompts(first: int, number: int = 1, length: int = 100) -> list[Prompt]:
    """Prompts that no other `first` gives, of `length` tokens in all."""
    return [Prompt((first, n, *range(length - 3)), ((1,),)) for n in range(number)]


def dtype_of(shard: Path) -> torch.dtype:
    with safe_open(shard, framework="pt") as file:
        return file.get_tensor("hidden").dtype  # type: ignore[no-any-return]


def unrounded(cache: TrunkCache, wanted: list[Prompt], length: int) -> torch.Tensor:
    states = cache._trunk.run(pack(wanted)).float()
    padded = torch.zeros(len(wanted), length, ROW)
    for row, prompt in enumerate(wanted):
        padded[row, : len(prompt)] = states[row, : len(prompt)]
    return padded


# --- precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected", "largest"),
    [
        ("auto", torch.float16, 2**-11),
        ("float16", torch.float16, 2**-11),
        ("bfloat16", torch.bfloat16, 2**-8),
        ("float32", torch.float32, 0.0),
    ],
)
def test_states_are_rounded_no_further_than_is_said(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, dtype: str, expected: torch.dtype, largest: float
) -> None:
    cache = open_cache(tmp_path, tiny_model, dtype=dtype)
    assert cache.error_bound == 0  # nothing is used yet
    cache.fill(tiny_prompts)
    (shard,) = shards(tmp_path)
    assert dtype_of(shard) == expected
    exact, stored = unrounded(cache, tiny_prompts, 20), cache.hidden(tiny_prompts, 20)
    assert stored.dtype == torch.float32
    length = exact.norm(dim=2)
    error = float(((stored - exact).norm(dim=2) / length)[length > 0].max())
    assert cache.error_bound == pytest.approx(error, rel=1e-4, abs=0)
    assert cache.error_bound <= largest
    assert (cache.error_bound > 0) == (dtype != "float32")


@pytest.mark.parametrize(("dtype", "nats"), [("float16", 0.01), ("bfloat16", 0.1)])
def test_rounding_moves_log_probabilities_little(
    family_model: Any, tiny_prompts: list[Prompt], naive_logprobs: Any, tmp_path: Path, dtype: str, nats: float
) -> None:
    """These log-probabilities differ by whole nats, more than those of a trained model do."""
    cache = open_cache(tmp_path, family_model, dtype=dtype)
    cache.fill(tiny_prompts)
    with torch.inference_mode():
        tokens = Decoder(family_model, top_layers=2, source=cache).token_logprobs(tiny_prompts, pack(tiny_prompts))
        plain = torch.cat([naive_logprobs(family_model, p.prefix, b) for p in tiny_prompts for b in p.branches])
    moved = float((tokens - plain).abs().max())
    assert 0 < moved < nats


def test_states_are_those_on_disk_from_the_first_step_on(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path
) -> None:
    """A run that goes on after a kill reads them from there."""
    first = open_cache(tmp_path, tiny_model)
    first.fill(tiny_prompts)
    stored = first.hidden(tiny_prompts, 20)
    assert not torch.equal(stored, unrounded(first, tiny_prompts, 20))
    again = open_cache(tmp_path, tiny_model)
    again.fill(tiny_prompts)
    assert again.num_computed_tokens == 0
    assert torch.equal(again.hidden(tiny_prompts, 20), stored)
    assert again.error_bound == first.error_bound > 0


@pytest.mark.parametrize(
    ("kind", "dtype", "expected"),
    [
        (Loud, "auto", torch.float32),
        (Loud, "float16", torch.float32),
        (Loud, "bfloat16", torch.bfloat16),
        (Coarse, "auto", torch.bfloat16),  # which is what it was computed in
    ],
)
def test_states_too_large_for_float16_keep_their_values(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, kind: type[Trunk], dtype: str, expected: torch.dtype
) -> None:
    cache = open_cache(tmp_path, tiny_model, kind=kind, dtype=dtype)
    cache.fill(tiny_prompts)
    exact = unrounded(cache, tiny_prompts, 20)
    assert exact.abs().max() > 65504
    (shard,) = shards(tmp_path)
    assert dtype_of(shard) == expected
    if dtype != "bfloat16":
        assert torch.equal(cache.hidden(tiny_prompts, 20), exact)
        assert cache.error_bound == 0


def test_one_row_that_float16_cannot_hold_keeps_its_shard_whole() -> None:
    fine = torch.linspace(-2, 2, 64).reshape(2, 32)
    small = fine * 1e-7  # below the normal numbers of float16
    parts, error = rounded([fine], "auto")
    assert parts[0].dtype == torch.float16
    assert 0 < error < MAX_ERROR
    parts, error = rounded([fine, small], "auto")
    assert torch.equal(parts[0], fine)
    assert torch.equal(parts[1], small)
    assert error == 0
    parts, error = rounded([fine, small], "float16")  # asked for by name
    assert parts[1].dtype == torch.float16
    assert error > 0.05


def test_rows_of_zeros_lose_nothing_and_nan_is_kept() -> None:
    parts, error = rounded([torch.zeros(2, 4)], "auto")
    assert (parts[0].dtype, error) == (torch.float16, 0.0)
    odd = torch.tensor([[1.0, float("nan")]])
    parts, error = rounded([odd], "auto")
    assert torch.equal(parts[0], odd) or bool(parts[0].isnan().any())
    assert parts[0].dtype == torch.float32


def test_other_precision_shares_nothing(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> None:
    open_cache(tmp_path, tiny_model, dtype="bfloat16").fill(tiny_prompts)
    exact = open_cache(tmp_path, tiny_model, dtype="float32")
    exact.fill(tiny_prompts)
    assert exact.num_computed_tokens == sum(len(prompt) for prompt in tiny_prompts)
    assert exact.error_bound == 0


# --- memory ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_shard_is_mapped_and_not_read(tmp_path: Path) -> None:
    def anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))

    file = tmp_path / "a.safetensors"
    write_shard(file, ["a"], [torch.ones(64 * 1024, 512, dtype=torch.float16)], 0.0)
    before = anonymous()
    shard = open_shard(file)
    assert shard is not None
    assert float(shard.parts[0][-1].float().sum()) == 512
    assert str(file) in Path("/proc/self/maps").read_text()
    assert anonymous() - before < 16 * 1024  # KiB; the file has 65536
    file.unlink()  # by somebody who makes room
    assert float(shard.parts[0][-5].float().sum()) == 512


def test_shard_is_written_as_soon_as_it_is_full(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelrel.models.trunk._SHARD_BYTES", 4 * ROW * 200)
    monkeypatch.setattr("labelrel.models.trunk._BATCH_TOKENS", 100)
    cache = open_cache(tmp_path, tiny_model)
    cache.fill(prompts(1, 5))
    assert len(shards(tmp_path)) == 3
    assert cache.hidden(prompts(1, 5), 100).norm(dim=2).min() > 0  # found in whichever it is


# --- size --------------------------------------------------------------------------------------------


def gib(*files: Path, more: int = 0) -> float:
    return (sum(file.stat().st_size for file in files) + more) / GIB


def aged(folder: Path, seconds: int) -> Path:
    """Make the folder's only shard older."""
    (shard,) = shards(folder)
    stamp = shard.stat().st_mtime - seconds
    os.utime(shard, (stamp, stamp))
    return shard


def test_more_than_fits_is_refused_before_anything_is_computed(tiny_model: Any, tmp_path: Path) -> None:
    cache = open_cache(tmp_path, tiny_model, kind=Counting, max_gib=2 * ROW * 1000 / GIB)
    cache.fill(prompts(1))
    (before,) = shards(tmp_path)
    assert cache._trunk.runs == 1  # type: ignore[attr-defined]
    with pytest.raises(TrunkCacheFull, match=r"needs \S+ GiB and base\.trunk\.max_gib allows 6e-05 GiB") as caught:
        cache.fill(prompts(2, 10))
    assert caught.value.needed > caught.value.allowed == pytest.approx(2 * ROW * 1000 / GIB, rel=1e-3)
    assert cache._trunk.runs == 1  # type: ignore[attr-defined]
    assert shards(tmp_path) == [before]
    cache.fill(prompts(1))  # what is there stays of use


@pytest.fixture
def four(tiny_model: Any, tmp_path: Path) -> Callable[[], Iterator[Path]]:
    """Write four shards, two of other models and two of this one, and return them from oldest to newest."""

    def write() -> Iterator[Path]:
        for number, weights in enumerate(["weights", "other", "third", "weights"]):
            known = set(shards(tmp_path))
            open_cache(tmp_path, tiny_model, weights=weights).fill(prompts(number))
            (new,) = set(shards(tmp_path)) - known
            stamp = new.stat().st_mtime - 1000 + number
            os.utime(new, (stamp, stamp))
            yield new

    return write


@pytest.mark.parametrize(("room", "gone"), [(5, []), (4, [1]), (3, [1, 2]), (2, [1, 2, 0]), (1, [1, 2, 0, 3])])
def test_shards_of_other_models_used_longest_ago_go_first(
    tiny_model: Any, tmp_path: Path, four: Any, room: int, gone: list[int]
) -> None:
    files = list(four())
    limit = room * files[0].stat().st_size + 100
    open_cache(tmp_path, tiny_model, max_gib=limit / GIB).fill(prompts(9))
    assert [number for number, file in enumerate(files) if not file.exists()] == sorted(gone)
    assert len(shards(tmp_path)) == 5 - len(gone)
    assert gib(*shards(tmp_path)) <= limit / GIB


def test_what_is_used_is_touched_and_stays(tiny_model: Any, tmp_path: Path, four: Any) -> None:
    files = list(four())
    cache = open_cache(tmp_path, tiny_model, max_gib=gib(*files, more=100))
    cache.fill(prompts(0))  # the oldest shard of all
    assert files[0].stat().st_mtime > files[3].stat().st_mtime
    cache.fill([*prompts(9), *prompts(10)])
    assert [file.exists() for file in files] == [True, False, False, True]
    with pytest.raises(TrunkCacheFull):
        open_cache(tmp_path, tiny_model, max_gib=2 * files[0].stat().st_size / GIB).fill([*prompts(0), *prompts(11, 2)])
    assert cache.hidden(prompts(0), 100).abs().max() > 0


def test_touching_keeps_a_shard_of_another_model_from_going(tiny_model: Any, tmp_path: Path, four: Any) -> None:
    files = list(four())
    open_cache(tmp_path, tiny_model, weights="other").fill(prompts(1))
    open_cache(tmp_path, tiny_model, max_gib=gib(*files, more=100)).fill(prompts(9))
    assert [file.exists() for file in files] == [True, True, False, True]


def test_states_that_cannot_be_rounded_may_turn_out_too_large(tiny_model: Any, tmp_path: Path) -> None:
    """The estimate takes two bytes a value; these need four."""
    wanted = prompts(1)
    cache = open_cache(tmp_path, tiny_model, kind=Loud, max_gib=3 * ROW * 100 / GIB)
    with pytest.raises(TrunkCacheFull):
        cache.fill(wanted)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    open_cache(tmp_path, tiny_model, kind=Loud, max_gib=5 * ROW * 100 / GIB).fill(wanted)


def test_shard_that_another_process_removed_is_computed_and_written_again(tiny_model: Any, tmp_path: Path) -> None:
    cache = open_cache(tmp_path, tiny_model)
    cache.fill(prompts(1))
    states = cache.hidden(prompts(1), 100)
    shards(tmp_path)[0].unlink()
    assert torch.equal(cache.hidden(prompts(1), 100), states)  # a run in progress does not notice
    cache.fill(prompts(1))
    assert cache.num_computed_tokens == 200
    assert len(shards(tmp_path)) == 1
    assert torch.equal(cache.hidden(prompts(1), 100), states)


# --- a full disk -------------------------------------------------------------------------------------


def test_disk_without_room_is_noticed_before_anything_is_computed(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelrel.models.shards.free_bytes", lambda folder: 1000)
    cache = open_cache(tmp_path, tiny_model, kind=Counting)
    with pytest.raises(TrunkCacheFull, match=r"needs 6e-06 GiB and the disk has room for 9\.3e-07 GiB"):
        cache.fill(prompts(1))
    assert cache._trunk.runs == 0  # type: ignore[attr-defined]


def test_disk_that_fills_up_while_a_shard_is_written(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the size of files stands for the disk: the system refuses the write in the middle of it."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(trunk_module, "_SHARD_TOKENS", 1)
    monkeypatch.setattr(trunk_module, "_BATCH_TOKENS", 1)
    cache = open_cache(tmp_path, tiny_model)
    small, large = prompts(1, length=20), prompts(2, length=200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(TrunkCacheFull, match="the disk takes no more"):
            cache.fill([*small, *large])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 1
    assert open_shard(files[0]) is not None  # the one that was whole
    again = open_cache(tmp_path, tiny_model)
    again.fill([*small, *large])
    assert again.num_computed_tokens == 200


def test_other_trouble_with_a_file_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(FileExistsError):
        write_shard(tmp_path / "folder" / "a.safetensors", ["a"], [torch.zeros(1, 2)], 0.0)
