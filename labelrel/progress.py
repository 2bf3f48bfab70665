"""How far is it, and how long will it take: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Report = Callable[[int, int], None]

_LOG_SECONDS = 10.0


def say(message: str, *, quiet: bool = False) -> None:
    """Write one line to stderr."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Report]:
    """Yield a function to be called with (done, total) as work goes on.

    Args:
        label: what is being done, such as "sample".
        quiet: show nothing.
    """
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar(label) as report:
            yield report
    else:
        yield _lines(label)


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str) -> Report:
    """Report at most every ten seconds, so that a log stays short and still moves.

    The time left is reckoned from what was done since the last line, so that what an earlier process
    had done, which counts at once, is out of it after the first.
    """
    last, before = time.monotonic(), 0

    def report(done: int, total: int) -> None:
        nonlocal last, before
        now = time.monotonic()
        if now - last < _LOG_SECONDS or done >= total or done <= before:
            return
        left = (now - last) / (done - before) * (total - done)
        last, before = now, done
        say(f"  {label}: {done}/{total} ({done / total:.0%}), about {left:.0f} s left")

    return report
