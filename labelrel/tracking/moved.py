"""Artifact links of a project that has been moved or copied: MLflow stores them as absolute addresses."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from labelrel import files
from labelrel.progress import say

LINKS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow's tables hold them."""

BACKUP = ".before-move"


def repair_links(database: Path) -> int:
    """Let the links of a store follow its artifacts, which lie beside it in `artifacts`, and say so in one line.

    Only links to a folder of that name are changed whose runs lie in the one beside the store, or that is gone; the
    store as it was is kept beside it (`.before-move`).

    Args:
        database: SQLite file of the store.

    Returns:
        How many links were changed.
    """
    artifacts = database.parent / "artifacts"
    if not database.is_file() or not artifacts.is_dir():
        return 0
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as store:
        old = [location for location in _locations(store) if _has_moved(store, location, artifacts)]
        if not old:
            return 0
        backup = database.with_name(database.name + BACKUP)
        with files.replacing(backup) as temporary, contextlib.closing(sqlite3.connect(temporary)) as copy:
            store.backup(copy)
        with store:
            store.execute("BEGIN IMMEDIATE")
            changed = sum(_replace(store, location, artifacts.as_uri()) for location in old)
    if changed:
        say(
            f"mlflow: the project has moved; {changed} links to artifacts now lead to {artifacts} "
            f"(the store as it was: {backup})"
        )
    return changed


def _locations(store: sqlite3.Connection) -> list[str]:
    """Return the folders named `artifacts` that experiments keep their artifacts in; none without tables."""
    try:
        rows = store.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    except sqlite3.DatabaseError:  # no store yet, or none of MLflow's, which says so itself
        return []
    return [location for (location,) in rows if str(location).startswith("file://") and location.endswith("/artifacts")]


def _has_moved(store: sqlite3.Connection, location: str, artifacts: Path) -> bool:
    if location == artifacts.as_uri():
        return False
    runs = store.execute(
        "SELECT run_uuid FROM runs WHERE substr(artifact_uri, 1, ?) = ?", (len(location) + 1, f"{location}/")
    )
    gone = not Path(unquote(urlsplit(location).path)).is_dir()
    return gone or any((artifacts / run).is_dir() for (run,) in runs)


def _replace(store: sqlite3.Connection, old: str, new: str) -> int:
    changed = 0
    for table, column in LINKS:
        known = {name for _, name, *_ in store.execute(f"PRAGMA table_info({table})")}
        if column in known:
            changed += store.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
            ).rowcount
    return changed
