"""The data order: full batches, fair passes, and a function of seed and lengths alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.align.order import num_steps, plan_batches


@pytest.mark.parametrize(
    ("num_items", "epochs", "batch_size", "steps"),
    [
        (300, 2, 8, 75),
        (10, 1, 4, 3),  # 2.5, rounded up
        (10, 0.5, 5, 1),
        (1, 0.1, 8, 1),  # never none
        (8, 3, 1, 24),
        (320, 2.5, 16, 50),
    ],
)
def test_num_steps(num_items: int, epochs: float, batch_size: int, steps: int) -> None:
    assert num_steps(num_items, epochs, batch_size) == steps


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 30), st.integers(1, 9), st.integers(0, 9))
def test_every_step_is_full_and_no_example_is_ahead_by_two(
    lengths: list[int], steps: int, batch_size: int, seed: int
) -> None:
    plan = plan_batches(lengths, steps=steps, batch_size=batch_size, seed=seed)
    assert [len(batch) for batch in plan] == [batch_size] * steps
    seen = Counter({index: 0 for index in range(len(lengths))})
    seen.update(index for batch in plan for index in batch)
    assert set(seen) == set(range(len(lengths)))
    assert max(seen.values()) - min(seen.values()) <= 1


def test_each_pass_sees_every_example_once() -> None:
    # 64 examples are 16 batches of 4, two whole windows: passes end where windows end
    plan = plan_batches([1] * 64, steps=48, batch_size=4, seed=0)
    for start in (0, 16, 32):
        assert sorted(index for batch in plan[start : start + 16] for index in batch) == list(range(64))
    assert plan[:16] != plan[16:32] != plan[32:]


def test_fewer_examples_are_recycled_to_the_same_number_of_steps() -> None:
    plan = plan_batches([3, 3, 3], steps=10, batch_size=4, seed=0)
    assert Counter(index for batch in plan for index in batch) in (
        Counter({0: 14, 1: 13, 2: 13}),
        Counter({0: 13, 1: 14, 2: 13}),
        Counter({0: 13, 1: 13, 2: 14}),
    )


def test_one_example_fills_every_step() -> None:
    assert plan_batches([7], steps=2, batch_size=3, seed=0) == [[0, 0, 0], [0, 0, 0]]


def test_equal_seeds_give_equal_plans_and_other_seeds_others() -> None:
    lengths = [n % 7 + 1 for n in range(50)]
    plans = [plan_batches(lengths, steps=20, batch_size=4, seed=seed) for seed in (3, 3, 4)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_indices_are_plain_integers() -> None:
    assert {type(i) for batch in plan_batches([1, 2], steps=2, batch_size=2, seed=0) for i in batch} == {int}


def test_batches_hold_similar_lengths() -> None:
    """Every window of 8 batches is sorted by length, so at most one batch of it holds both kinds."""
    lengths = [10] * 32 + [90] * 32
    plan = plan_batches(lengths, steps=16, batch_size=4, seed=0)
    mixed = [batch for batch in plan if len({lengths[index] for index in batch}) == 2]
    assert len(mixed) <= 2


def test_batches_do_not_come_sorted_by_length() -> None:
    plan = plan_batches(list(range(64)), steps=16, batch_size=4, seed=0)
    means = [sum(batch) / 4 for batch in plan]
    assert means[:8] != sorted(means[:8])
    assert means[8:] != sorted(means[8:])
