"""Something on stderr now and then, nothing on stdout ever."""

from __future__ import annotations

import pytest

from labelrel import progress as module
from labelrel.progress import progress, say


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_say_writes_one_line_to_stderr(capsys):
    say("hello")
    say("nothing", quiet=True)
    assert capsys.readouterr() == ("", "hello\n")


def test_a_log_gets_a_line_every_ten_seconds(clock, capsys):
    with progress("train") as report:
        for done in range(1, 41):
            clock.now += 1
            report(done, 40)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "  train: 10/40 (25%), about 30 s left",
        "  train: 20/40 (50%), about 20 s left",
        "  train: 30/40 (75%), about 10 s left",
    ]


def test_time_left_is_reckoned_from_the_speed_since_the_last_line(clock, capsys):
    """After a resume the first 80 count at once; from the second line on they are out of the estimate."""
    with progress("train") as report:
        report(80, 100)
        for done in range(81, 91):
            clock.now += 2
            report(done, 100)
    assert capsys.readouterr().err.splitlines()[1] == "  train: 90/100 (90%), about 20 s left"


def test_no_line_before_anything_is_done(clock, capsys):
    with progress("train") as report:
        clock.now += 60
        report(0, 10)
    assert capsys.readouterr().err == ""


def test_quiet_shows_nothing(clock, capsys):
    with progress("train", quiet=True) as report:
        clock.now += 60
        report(5, 10)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_on_stderr(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with progress("train") as report:
        report(10, 10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "train" in err
    assert "10/10" in err


def test_error_in_the_block_is_not_swallowed(monkeypatch):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)

    def fail() -> None:
        with progress("train"):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
