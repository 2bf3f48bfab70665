"""The trunk cache: the same losses and gradients as the plain forward, and nothing computed twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from labelrel.align.lora import add_adapter
from labelrel.config import Lora
from labelrel.models.decoder import Decoder, Trunk
from labelrel.models.packing import Packed, Prompt, pack
from labelrel.models.trunk import TrunkCache


def open_cache(folder: Path, model: Any, top_layers: int = 2, fingerprint: str = "weights") -> TrunkCache:
    """A cache that rounds nothing, so that it can be compared with plain forwards."""
    trunk = Trunk(model, top_layers)
    return TrunkCache(folder, trunk, fingerprint=fingerprint, top_layers=top_layers, dtype="float32")


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def tokens_of(prompts: list[Prompt]) -> int:
    return sum(len(prompt) for prompt in prompts)


def adapted(model: Any, top_layers: int) -> Any:
    """Put an adapter on the model whose second factor is not 0, so that all its gradients speak."""
    wrapped = add_adapter(model, Lora(rank=3, alpha=6.0), top_layers=top_layers, seed=0)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return wrapped


def gradients(model: Any, losses: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a sum in which every loss counts differently, so that none can stand for another."""
    model.zero_grad()
    (losses * torch.linspace(0.5, 1.5, len(losses))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("top_layers", [1, 3])
def test_cached_losses_and_gradients_are_those_of_the_plain_forward(
    family_model: Any, tiny_prompts: list[Prompt], naive_logprobs: Any, tmp_path: Path, top_layers: int
) -> None:
    cache = open_cache(tmp_path, family_model, top_layers)
    cache.fill(tiny_prompts)
    model = adapted(family_model, top_layers)
    cached = -Decoder(model, top_layers=top_layers, source=cache).token_logprobs(tiny_prompts, pack(tiny_prompts))
    plain = -torch.cat([naive_logprobs(model, p.prefix, branch) for p in tiny_prompts for branch in p.branches])
    torch.testing.assert_close(cached, plain, atol=1e-5, rtol=0)
    from_cache, from_ids = gradients(model, cached), gradients(model, plain)
    assert len(from_ids) == 14 * top_layers  # two factors on each of seven linear layers
    assert all(gradient.abs().max() > 1e-3 for gradient in from_ids.values())
    for name, gradient in from_ids.items():
        # 1e-5 absolute, and relative to the gradient's own size where that is above 1
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(from_cache[name] / scale, gradient / scale, atol=1e-5, rtol=0, msg=name)


def test_second_fill_computes_nothing(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> None:
    cache = open_cache(tmp_path, tiny_model)
    cache.fill(tiny_prompts)
    assert cache.num_computed_tokens == tokens_of(tiny_prompts)
    cache.fill([*tiny_prompts, *reversed(tiny_prompts)])
    assert cache.num_computed_tokens == tokens_of(tiny_prompts)


def test_new_object_finds_everything_on_disk(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> None:
    first = open_cache(tmp_path, tiny_model)
    first.fill(tiny_prompts)
    second = open_cache(tmp_path, tiny_model)
    second.fill(tiny_prompts)
    assert second.num_computed_tokens == 0
    assert torch.equal(second.hidden(tiny_prompts, 30), first.hidden(tiny_prompts, 30))


def test_prefix_is_computed_and_stored_once_for_several_branches(tiny_model: Any, tmp_path: Path) -> None:
    cache = open_cache(tmp_path, tiny_model)
    prefix = (5, 6, 7, 8)
    cache.fill([Prompt(prefix, ((1, 2),)), Prompt(prefix, ((3,),)), Prompt(prefix, ((1, 2), (4,)))])
    assert cache.num_computed_tokens == 4 + 2 + 1 + 1
    (shard,) = shards(tmp_path)
    with safe_open(shard, framework="pt") as file:
        keys, lengths, _ = json.loads(file.metadata()["index"])
        assert len(set(keys)) == len(keys) == 4
        assert sorted(lengths) == [1, 1, 2, 4]
        assert file.get_tensor("hidden").shape == (8, 32)


def test_only_a_new_branch_is_computed_later(tiny_model: Any, tmp_path: Path) -> None:
    cache = open_cache(tmp_path, tiny_model)
    cache.fill([Prompt((5, 6, 7), ((1, 2),))])
    cache.fill([Prompt((5, 6, 7), ((1, 2), (3,)))])
    assert cache.num_computed_tokens == 5 + 4  # the prompt runs again for its new branch, the old branch does not


def test_branch_states_do_not_depend_on_the_branches_filled_with_them(tiny_model: Any, tmp_path: Path) -> None:
    together, apart = open_cache(tmp_path / "a", tiny_model), open_cache(tmp_path / "b", tiny_model)
    both = Prompt((5, 6, 7), ((1, 2), (3, 4, 9)))
    together.fill([both])
    for branch in both.branches:
        apart.fill([Prompt(both.prefix, (branch,))])
    torch.testing.assert_close(together.hidden([both], 8), apart.hidden([both], 8), atol=1e-5, rtol=0)


def test_same_tokens_split_otherwise_are_another_prompt(tiny_model: Any, tmp_path: Path) -> None:
    prompts = [Prompt((5,), ((6,),)), Prompt((5, 6), ((7,),)), Prompt((5,), ((6, 7),))]
    shared = open_cache(tmp_path / "shared", tiny_model)
    shared.fill(prompts)
    for number, prompt in enumerate(prompts):
        own = open_cache(tmp_path / str(number), tiny_model)
        own.fill([prompt])
        torch.testing.assert_close(shared.hidden([prompt], 3), own.hidden([prompt], 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("top_layers", "fingerprint"), [(1, "weights"), (2, "other weights")])
def test_other_weights_or_another_cut_share_nothing(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, top_layers: int, fingerprint: str
) -> None:
    open_cache(tmp_path, tiny_model).fill(tiny_prompts)
    other = open_cache(tmp_path, tiny_model, top_layers, fingerprint)
    with pytest.raises(KeyError):
        other.hidden(tiny_prompts, 30)
    other.fill(tiny_prompts)
    assert other.num_computed_tokens == tokens_of(tiny_prompts)


def cut_short(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])


def scribble(shard: Path) -> None:
    shard.write_bytes(b"not a shard")


def empty(shard: Path) -> None:
    shard.write_bytes(b"")


def foreign(shard: Path) -> None:
    save_file({"hidden": torch.zeros(3, 32)}, shard)


def without_states(shard: Path) -> None:
    save_file({"other": torch.zeros(3, 32)}, shard, metadata={"index": json.dumps([["a"], [3], 0.0])})


def wrong_lengths(shard: Path) -> None:
    save_file({"hidden": torch.zeros(3, 32)}, shard, metadata={"index": json.dumps([["a"], [4], 0.0])})


def without_error(shard: Path) -> None:
    save_file({"hidden": torch.zeros(3, 32)}, shard, metadata={"index": json.dumps([["a"], [3]])})


def keys_without_rows(shard: Path) -> None:
    index = json.dumps([["a", "b"], [3], 0.0])
    save_file({"hidden": torch.zeros(3, 32)}, shard, metadata={"index": index})


DAMAGES = [cut_short, scribble, empty, foreign, without_states, wrong_lengths, without_error, keys_without_rows]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shard_is_computed_again(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    whole = open_cache(tmp_path, tiny_model)
    whole.fill(tiny_prompts)
    before = whole.hidden(tiny_prompts, 30)
    (shard,) = shards(tmp_path)
    damage(shard)
    again = open_cache(tmp_path, tiny_model)
    again.fill(tiny_prompts)
    assert again.num_computed_tokens == tokens_of(tiny_prompts)
    assert torch.equal(again.hidden(tiny_prompts, 30), before)
    healed = open_cache(tmp_path, tiny_model)
    healed.fill(tiny_prompts)
    assert healed.num_computed_tokens == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shard_is_removed(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    open_cache(tmp_path, tiny_model).fill(tiny_prompts)
    (shard,) = shards(tmp_path)
    damage(shard)
    open_cache(tmp_path, tiny_model)
    assert shards(tmp_path) == []


def test_one_damaged_shard_of_many_costs_only_its_own(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelrel.models.trunk._SHARD_TOKENS", 1)
    monkeypatch.setattr("labelrel.models.trunk._BATCH_TOKENS", 1)
    open_cache(tmp_path, tiny_model).fill(tiny_prompts)
    assert len(shards(tmp_path)) == len(tiny_prompts)
    scribble(shards(tmp_path)[0])
    again = open_cache(tmp_path, tiny_model)
    again.fill(tiny_prompts)
    assert again.num_computed_tokens in {len(prompt) for prompt in tiny_prompts}


def test_shards_written_before_a_failure_are_kept(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelrel.models.trunk._SHARD_TOKENS", 1)
    monkeypatch.setattr("labelrel.models.trunk._BATCH_TOKENS", 1)

    class Failing(Trunk):
        runs = 0

        def run(self, packed: Packed) -> torch.Tensor:
            self.runs += 1
            if self.runs == 3:
                raise MemoryError
            return super().run(packed)

    trunk = Failing(tiny_model, 2)
    broken = TrunkCache(tmp_path, trunk, fingerprint="weights", top_layers=2, dtype="float32")
    with pytest.raises(MemoryError):
        broken.fill(tiny_prompts)
    longest_two = sorted(len(prompt) for prompt in tiny_prompts)[2:]
    second = open_cache(tmp_path, tiny_model)
    second.fill(tiny_prompts)
    assert second.num_computed_tokens == sum(longest_two)
    assert [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".safetensors"] == []


def unfinished(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> Path:
    """A shard that a kill left half written, beside a whole one."""
    open_cache(tmp_path, tiny_model).fill(tiny_prompts)
    (shard,) = shards(tmp_path)
    left = shard.with_name(f".{shard.name}.abcdef.tmp")
    left.write_bytes(shard.read_bytes()[:100])
    return left


def test_what_a_killed_writer_left_is_removed(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> None:
    left = unfinished(tiny_model, tiny_prompts, tmp_path)
    again = open_cache(tmp_path, tiny_model)
    assert not left.exists()
    again.fill(tiny_prompts)
    assert again.num_computed_tokens == 0


def test_what_another_process_is_writing_is_left_alone(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def save_while_another_opens(tensors: Any, file: Path, metadata: Any) -> None:
        save_file(tensors, file, metadata=metadata)
        open_cache(tmp_path, tiny_model)
        seen.append(file.exists())

    monkeypatch.setattr("labelrel.models.shards.save_file", save_while_another_opens)
    open_cache(tmp_path, tiny_model).fill(tiny_prompts)
    assert seen == [True]
    assert len(shards(tmp_path)) == 1


def test_file_system_without_locks_keeps_the_cache_working(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = unfinished(tiny_model, tiny_prompts, tmp_path)
    open_cache(tmp_path, tiny_model)
    assert left.exists()  # whether somebody writes it cannot be known


def test_no_handle_is_left_open(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> None:
    def handles() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    open_cache(tmp_path, tiny_model).fill(tiny_prompts[:1])
    before = handles()
    for number in range(2, 4):
        open_cache(tmp_path, tiny_model).fill(tiny_prompts[:number])
    assert handles() == before


def test_hidden_is_zero_where_padded(tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path) -> None:
    cache = open_cache(tmp_path, tiny_model)
    cache.fill(tiny_prompts)
    states = cache.hidden(tiny_prompts, 20)
    assert states.shape == (4, 20, 32)
    for row, prompt in zip(states, tiny_prompts, strict=True):
        assert row[: len(prompt)].abs().sum(dim=1).min() > 0
        assert row[len(prompt) :].abs().max() == 0


def test_prompt_that_was_never_filled_in_is_an_error(tiny_model: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        open_cache(tmp_path, tiny_model).hidden([Prompt((1,), ((2,),))], 2)


def test_fill_reports_tokens_up_to_the_total(
    tiny_model: Any, tiny_prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelrel.models.trunk._BATCH_TOKENS", 20)
    told: list[tuple[int, int]] = []
    open_cache(tmp_path, tiny_model).fill(tiny_prompts, lambda done, total: told.append((done, total)))
    total = tokens_of(tiny_prompts)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) > 1
