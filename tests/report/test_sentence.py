"""The answer never says more than its intervals do."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_results import write_runs

from labelrel.report import Sources, answer, best_method, collect


def first(count: int, of: int = 40) -> list[int]:
    return [1] * count + [0] * (of - count)


def said(data: Path) -> str:
    return answer(collect(Sources.under(data), bootstrap=500))


FRAME = {"floor": ("floor", first(8)), "ceiling": ("ceiling", first(38))}


def test_decisive_lead_is_told_with_its_basis(tmp_path: Path) -> None:
    text = said(write_runs(tmp_path, **FRAME, naive=("method", first(20)), filter=("method", first(32))))
    assert text.startswith("filter gave the best strong model: test accuracy 0.800 [")
    assert "on 40 test items, 1 training seed" in text
    assert "a PGR of 0.80 [" in text  # (32 - 8) / (38 - 8)
    assert "between floor 0.200 and ceiling 0.950" in text
    assert "its lead over naive labels is +0.300 [+" in text
    assert "not decisive" not in text


def test_lead_that_may_be_chance_is_not_decisive(tmp_path: Path) -> None:
    # one item of 40 more: some 36 % of resamples do not draw it
    text = said(write_runs(tmp_path, **FRAME, naive=("method", first(20)), filter=("method", first(21))))
    assert "its lead over naive labels, +0.025 [+0.000, " in text
    assert "is not decisive: the 95% interval includes 0" in text


def test_no_gap_is_said_and_pgr_undefined(tmp_path: Path) -> None:
    same = {"floor": ("floor", first(20)), "ceiling": ("ceiling", first(20))}
    text = said(write_runs(tmp_path, **same, naive=("method", first(20)), filter=("method", first(32))))
    assert text.startswith("There is no gap to recover with confidence: ceiling - floor is +0.000 [")
    assert "PGR is undefined; the best method was filter" in text


def test_without_ceiling_the_methods_are_still_compared(tmp_path: Path) -> None:
    text = said(write_runs(tmp_path, floor=FRAME["floor"], naive=("method", first(20)), filter=("method", first(32))))
    assert text.startswith("Without a ceiling run PGR is undefined; the best method was filter")
    assert "its lead over naive labels is" in text


def test_naive_may_win(tmp_path: Path) -> None:
    text = said(write_runs(tmp_path, **FRAME, naive=("method", first(30)), filter=("method", first(20))))
    assert text.startswith("naive gave the best strong model")
    assert "none of the 1 other methods did better" in text


def test_random_control_that_does_as_well_is_named(tmp_path: Path) -> None:
    runs = {"naive": ("method", first(20)), "filter": ("method", first(32)), "random": ("control", first(32))}
    assert "A random subset did as well (0.800)" in said(write_runs(tmp_path, **FRAME, **runs))


@pytest.mark.parametrize(("control", "count"), [("random", 31), ("oracle", 36)])
def test_other_controls_are_not(tmp_path: Path, control: str, count: int) -> None:
    data = write_runs(tmp_path, **FRAME, filter=("method", first(32)), **{control: ("control", first(count))})
    assert "random" not in said(data)


def test_without_naive_there_is_no_lead(tmp_path: Path) -> None:
    assert "naive labels were not tried" in said(write_runs(tmp_path, **FRAME, filter=("method", first(32))))


def test_controls_alone_are_no_answer(tmp_path: Path) -> None:
    data = write_runs(tmp_path, **FRAME, oracle=("control", first(36)))
    assert said(data).startswith("No method has been aligned yet")
    assert best_method(collect(Sources.under(data), bootstrap=100)) is None
