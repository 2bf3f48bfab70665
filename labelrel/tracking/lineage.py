"""Which code and which data a run rests on: the git commit, and the hashes DVC knows inputs by."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class GitState(NamedTuple):
    """The commit that is checked out.

    Attributes:
        commit: its hash; null outside a git repository, without git, or before the first commit.
        dirty: whether tracked files differ from it; null where `commit` is.
    """

    commit: str | None
    dirty: bool | None


def git_state(root: Path | str = ".") -> GitState:
    """Return the commit and whether the tracked files under it have been changed since."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return GitState(None, None) if commit is None or changes is None else GitState(commit, changes != "")


def _git(root: Path | str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def dvc_md5s(root: Path | str, paths: Mapping[str, Path | str]) -> dict[str, str]:
    """Return name → MD5 of inputs, as DVC records them.

    A file is hashed here, so that the hash is true of what was read even where `dvc.lock` is behind; it equals
    what DVC records. A folder's hash (`….dir`) is DVC's own and comes from `dvc.lock`.

    Args:
        root: project folder, which holds `dvc.lock`.
        paths: name → path, relative to `root` or absolute.

    Returns:
        The hashes; a path that is neither a file nor in `dvc.lock` is left out.
    """
    root = Path(root)
    locked = _locked_md5s(root)
    found: dict[str, str] = {}
    for name, path in paths.items():
        absolute = (root / path).resolve()
        if absolute.is_file():
            with absolute.open("rb") as file:
                found[name] = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        elif absolute in locked:
            found[name] = locked[absolute]
    return found


def _locked_md5s(root: Path) -> dict[Path, str]:
    """Read the hashes of all stages' outputs and dependencies; an output's wins."""
    try:
        lock: Any = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
        stages = list(lock["stages"].values())
        entries = [e for kind in ("deps", "outs") for stage in stages for e in stage.get(kind) or []]
        return {(root / e["path"]).resolve(): e["md5"] for e in entries if "md5" in e}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return {}  # no lock, or one DVC itself will complain about; lineage is then told by the files' own hashes
