"""Batches that fit, and what happens when they do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labelrel.errors import InputError
from labelrel.models.memory import CPU_TOKENS, in_batches, is_out_of_memory, token_budget, token_bytes

GIB = 2**30
CUDA = torch.device("cuda")
OOMS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.cuda.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:75] data. DefaultCPUAllocator: not enough memory"),
    RuntimeError("not enough memory: you tried to allocate 4096 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


class Machine:
    """Runs groups of up to `room` padded tokens and runs out of memory above."""

    def __init__(self, lengths: list[int], room: int, error: Exception = OOMS[0]) -> None:
        self.lengths, self.room, self.error = lengths, room, error
        self.tried: list[list[int]] = []
        self.done: list[list[int]] = []

    def __call__(self, group: list[int]) -> None:
        self.tried.append(group)
        if len(group) * max(self.lengths[i] for i in group) > self.room:
            raise self.error
        self.done.append(group)


def quiet(message: str) -> None: ...


def test_groups_are_sorted_by_length_and_within_the_budget() -> None:
    machine = Machine([5, 1, 3, 2, 4], room=100)
    assert in_batches(machine.lengths, 6, machine) == 6
    assert machine.done == [[1, 3], [2], [4], [0]]


def test_no_sequences_run_nothing() -> None:
    machine = Machine([], room=100)
    in_batches([], 6, machine)
    assert machine.tried == []


@pytest.mark.parametrize("error", OOMS, ids=str)
def test_group_is_halved_when_memory_runs_out_and_stays_so(error: Exception) -> None:
    machine = Machine([10] * 16, room=40, error=error)
    assert in_batches(machine.lengths, 80, machine, told=quiet) == 40
    assert [len(group) for group in machine.tried] == [8, 4, 4, 4, 4]
    assert sorted(i for group in machine.done for i in group) == list(range(16))


def test_every_sequence_is_done_once_whatever_the_lengths() -> None:
    lengths = [1 + 7 * i % 50 for i in range(97)]
    machine = Machine(lengths, room=60)
    in_batches(lengths, 5000, machine, told=quiet)
    assert sorted(i for group in machine.done for i in group) == list(range(97))


def test_smaller_groups_are_told_in_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine([10] * 8, room=40)
    in_batches(machine.lengths, 80, machine)
    assert capsys.readouterr().err == "out of memory with 8 sequences of up to 10 tokens; going on with half as many\n"


def test_sequence_that_does_not_fit_alone_is_the_users_to_shorten() -> None:
    machine = Machine([10, 300], room=40)
    with pytest.raises(InputError, match="a sequence of 300 tokens does not fit into memory by itself; shorten"):
        in_batches(machine.lengths, 80, machine, told=quiet)
    assert machine.done == [[0]]


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), ValueError("not enough memory")])
def test_other_errors_are_passed_on(error: Exception) -> None:
    machine = Machine([10] * 8, room=40, error=error)
    with pytest.raises(type(error), match=str(error)):
        in_batches(machine.lengths, 80, machine)
    assert len(machine.tried) == 1


def test_tensors_of_the_failed_group_are_freed_before_the_next() -> None:
    import weakref

    held: list[weakref.ref[torch.Tensor]] = []

    def run(group: list[int]) -> None:
        assert all(tensor() is None for tensor in held)
        big = torch.zeros(4)
        held.append(weakref.ref(big))
        if len(group) > 1:
            raise torch.OutOfMemoryError

    in_batches([1, 1], 2, run, told=quiet)
    assert len(held) == 3


def test_real_allocation_that_is_too_large_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


# --- the budget ----------------------------------------------------------------------------------


def shape(**changes: Any) -> SimpleNamespace:
    """SmolLM2-135M."""
    sizes = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    }
    return SimpleNamespace(**{**sizes, **changes})


def model_of(parameters: int, **changes: Any) -> Any:
    weights = torch.empty(parameters, dtype=torch.bfloat16, device="meta")
    return SimpleNamespace(config=shape(**changes), parameters=lambda: iter([weights]))


def test_budget_on_the_cpu_is_fixed() -> None:
    assert token_budget(torch.device("cpu"), model_of(135_000_000)) == CPU_TOKENS == 2048


def test_token_bytes_add_up() -> None:
    keys_and_values = 2 * 30 * 3 * 64 * 2
    activations = (4 * 576 + 3 * 1536 + 2 * 9 * 64) * 2
    logits = 49152 * (2 + 4 + 4)
    assert token_bytes(shape(), 2) == keys_and_values + activations + logits


def test_token_bytes_of_a_real_config(tiny_model: Any) -> None:
    assert token_bytes(tiny_model.config, 4) == 2 * 4 * 2 * 8 * 4 + (4 * 32 + 3 * 64 + 2 * 32) * 4 + 300 * 12


def test_budget_on_a_card_is_the_largest_power_of_two_that_is_reckoned_to_fit() -> None:
    budget = token_budget(CUDA, model_of(135_000_000), total_memory=80 * GIB)
    room = 40 * GIB - 2 * 135_000_000
    assert budget * token_bytes(shape(), 2) <= room < 2 * budget * token_bytes(shape(), 2)
    assert budget == 65536


def test_budget_does_not_change_with_a_few_mebibytes() -> None:
    budgets = {token_budget(CUDA, model_of(135_000_000), total_memory=80 * GIB - n * 2**20) for n in range(0, 900, 100)}
    assert budgets == {65536}


@pytest.mark.parametrize(
    ("model", "memory", "budget"),
    [
        (model_of(10_000_000_000), 16 * GIB, 2048),  # more weights than memory: the least, and hope
        (model_of(1_000, vocab_size=100, num_hidden_layers=1), 80 * GIB, 131_072),
    ],
)
def test_budget_is_clamped(model: Any, memory: int, budget: int) -> None:
    assert token_budget(CUDA, model, total_memory=memory) == budget


def test_wider_vocabulary_and_more_weights_leave_less() -> None:
    usual = token_budget(CUDA, model_of(135_000_000), total_memory=80 * GIB)
    assert token_budget(CUDA, model_of(135_000_000, vocab_size=262_144), total_memory=80 * GIB) < usual
    assert token_budget(CUDA, model_of(15_000_000_000), total_memory=80 * GIB) < usual
