"""Ready params files: a profile says how large and how thorough, a task what differs for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import yaml

from labelrel import files
from labelrel.errors import InputError, UnknownNameError, near_match

HEADER = (
    "# Profile `{profile}` for task `{task}`. One section per stage; `labelrel STAGE --help` says what each key does.\n"
)


def profiles() -> dict[str, str]:
    """Return profile → what it is for, the comment on its first line."""
    folder = resources("labelrel") / "profiles"
    found = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {name: _text(name).partition("\n")[0].removeprefix("# ") for name in found}


def compose(profile: str, task: str, source: str | None = None) -> dict[str, Any]:
    """Return the sections of a params file.

    Args:
        profile: a name that `profiles` lists.
        task: a registered task.
        source: folder or file of its data, or "hub"; null keeps the profile's.

    Raises:
        UnknownNameError: no such profile or task.
    """
    from labelrel.tasks import tasks

    known = profiles()
    if profile not in known:
        raise UnknownNameError(
            f"unknown profile '{profile}'{near_match(profile, known) or '.'} Known: {', '.join(known)}."
        )
    tasks.get(task)
    document: dict[str, Any] = yaml.safe_load(_text(profile))
    for_task = document.pop("tasks").get(task, {})
    merged = merge(document, for_task)
    merged["prepare"] |= {"task": task, "source": source if source is not None else document["prepare"]["source"]}
    return merged


def write_profile(profile: str, task: str, source: str | None, out: Path, *, force: bool) -> None:
    """Write a params file.

    Raises:
        InputError: the file is there and `force` is not set.
    """
    if out.exists() and not force:
        raise InputError(f"{out} is there already; --force replaces it, --out names another file.")
    document = compose(profile, task, source)
    text = HEADER.format(profile=profile, task=task)
    text += "\n".join(yaml.safe_dump({name: section}, sort_keys=False, width=110) for name, section in document.items())
    with files.replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _text(name: str) -> str:
    return (resources("labelrel") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with what `changes` says otherwise, sections within sections."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
