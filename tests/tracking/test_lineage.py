"""Commit and hashes that a run rests on."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from labelrel.tracking import GitState, dvc_md5s, git_state


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_git_state_tells_the_commit_and_whether_tracked_files_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("1")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("results are no change of the code")
    assert git_state(tmp_path) == GitState(commit, False)
    (tmp_path / "a.txt").write_text("2")
    assert git_state(tmp_path) == GitState(commit, True)


def test_git_state_is_null_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == GitState(None, None)


def test_file_is_hashed_even_where_the_lock_is_behind(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_bytes(b"new")
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  prepare:\n    outs:\n    - {path: items.parquet, md5: old}\n    - {path: adapter, md5: abc.dir}\n"
    )
    (tmp_path / "adapter").mkdir()
    found = dvc_md5s(tmp_path, {"items": "items.parquet", "adapter": "adapter", "missing": "no.parquet"})
    assert found == {"items": hashlib.md5(b"new").hexdigest(), "adapter": "abc.dir"}


@pytest.mark.parametrize("lock", ["", "stages: 3", "stages: [", "stages:\n  a:\n    outs:\n    - {md5: x}\n"])
def test_broken_lock_is_no_lineage_and_no_crash(tmp_path: Path, lock: str) -> None:
    (tmp_path / "dvc.lock").write_text(lock)
    assert dvc_md5s(tmp_path, {"a": "folder"}) == {}
