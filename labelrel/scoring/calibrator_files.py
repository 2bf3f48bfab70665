"""Calibrators as a JSON file, which may come from anywhere and is not trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from labelrel.errors import InputError
from labelrel.files import read_json, write_json
from labelrel.scoring.calibrators import Calibrator, Strict

_MOST_BYTES = 64 * 2**20
_VERSION = 1


def write_calibrators(path: Path | str, calibrators: Mapping[str, Calibrator]) -> None:
    """Write calibrators as JSON, whole or not at all; `read_calibrators` gives back equal ones.

    Args:
        path: the file.
        calibrators: method → its calibrator.

    Raises:
        InputError: no calibrator at all, or one under the name of another method.
    """
    if not calibrators:
        raise InputError(f"{path}: there is no calibrator to write; no method has a score for labels with gold.")
    document = _Document(version=_VERSION, calibrators=dict(_named(path, calibrators)))
    write_json(path, document.model_dump(mode="json"))


def read_calibrators(path: Path | str) -> dict[str, Calibrator]:
    """Return method → calibrator from a file of `write_calibrators`; nothing in it is trusted.

    Raises:
        InputError: no such file, no JSON, another version, or anything missing, unknown or impossible.
    """
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes; calibrators take less than {_MOST_BYTES}.")
        content = read_json(path)
    except (OSError, ValueError, RecursionError) as error:  # a folder, a number of a million digits, brackets only
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read as calibrators: {reason}") from None
    version = content.get("version") if isinstance(content, dict) else None
    if version != _VERSION or isinstance(version, bool):
        raise InputError(
            f"{path} is not a file of calibrators of version {_VERSION} (version: {_shown(version)}); "
            "write one with --calibrate and --save-calibrator."
        )
    try:
        document = _Document.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path} is not a file of calibrators: {_first(error)}.") from None
    return dict(_named(path, document.calibrators))


class _Document(Strict):
    version: int
    calibrators: dict[str, Calibrator] = Field(min_length=1)


def _named(path: Path | str, calibrators: Mapping[str, Calibrator]) -> Iterator[tuple[str, Calibrator]]:
    for name, calibrator in calibrators.items():
        if calibrator.method != name:
            raise InputError(f"{path}: the calibrator of {_shown(name)} is of method {_shown(calibrator.method)}.")
        yield name, calibrator


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(
        _shown(part) if isinstance(part, str) and not part.isidentifier() else str(part) for part in first["loc"]
    )
    message = first["msg"].removeprefix("Value error, ")
    return f"{place[:120]}: {message[0].lower()}{message[1:]}, got {_shown(first['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
