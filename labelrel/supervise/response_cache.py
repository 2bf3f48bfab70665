"""Replies that were paid for once, kept so that nothing is asked twice."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelrel.errors import InputError
from labelrel.progress import say

_WAIT = 60.0
"""Seconds to wait for another process that is writing; a write takes milliseconds."""


class ResponseCache:
    """A file of key → reply that survives a kill and serves several processes at once.

    Every reply is written as it comes, in a transaction of its own. A file that is no longer a
    database is set aside with a line, since it holds nothing that cannot be asked again.

    Args:
        path: the SQLite file; its folder is made where it is missing.

    Raises:
        InputError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, read-only, full: no reason to lose it
                raise InputError(f"{path} cannot be opened: {error}.") from None
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            say(f"{path} is damaged ({error}); it is now {aside.name}, and its replies are asked again")
            self._database = self._open()
        weakref.finalize(self, self._database.close)  # an engine is not closed by those who ask it

    def get(self, key: str) -> str | None:
        """Return the reply that is kept under a key; None where there is none."""
        with self._one_line():
            row = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, reply: str) -> str:
        """Keep a reply and return the one that counts from now on.

        Of two processes that asked the same, the first to write decides for both.
        """
        with self._one_line():
            self._database.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, reply))
        kept = self.get(key)
        return reply if kept is None else kept

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _open(self) -> sqlite3.Connection:
        # autocommit: each statement is its own transaction. Used by one thread at a time, not always the same
        database = sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        try:
            # a log beside the file: a kill loses nothing, a power cut the last few at most, and no write waits
            # for the disk. Two processes may ask for it at once; what they get is the file's from then on
            with suppress(sqlite3.OperationalError):
                database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT) WITHOUT ROWID")
            database.execute("SELECT reply FROM replies LIMIT 1").fetchone()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(
                f"the replies in {self._path} cannot be read or written: {error}; free some space, or delete the file "
                "and ask again."
            ) from error
