"""JSON lines, read by polars; a file it refuses is read once more for the line to name."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import polars as pl

from labelrel.files.source import Source, gist, not_utf8


def read_jsonl(source: Source) -> pl.DataFrame:
    """Return the table of JSON lines.

    Raises:
        InputError: a line that is no object, or values that no column holds together.
    """
    try:
        return pl.read_ndjson(_without_lone_surrogates(source), infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise source.wrong(_what_is_wrong_with_lines(source) or f"{gist(error)}.") from None


_ESCAPE = re.compile(rb"\\(?:\\|u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..))")


def _without_lone_surrogates(source: Source) -> Path | bytes:
    """Return the text with a replacement mark for every half of a character, which polars would make a NUL.

    Scripts that cut texts to a length leave them behind in the middle of an emoji.
    """
    if source.raw.find(b"\\ud") < 0 and source.raw.find(b"\\uD") < 0:
        return source.content
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], bytes(source.raw))


_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def _what_is_wrong_with_lines(source: Source) -> str | None:
    """Return the first thing wrong with the lines of a JSONL file; None where each is an object of its own.

    Kinds of values that no column holds together are told last, since text takes in all others.
    """
    seen: dict[str, dict[str, int]] = {}
    start = 0
    for number, line in enumerate(io.BytesIO(source.raw), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            return not_utf8(line[error.start], start + error.start, number)
        start += len(line)
        if not text.strip():
            continue
        try:
            value = json.loads(text.rstrip(), parse_constant=_refuse_number, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
            message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            return f"line {number} is not JSON: {message}{where}."
        if not isinstance(value, dict):
            return f"line {number} holds {_KINDS.get(type(value), 'null')}, not an object."
        for key, entry in value.items():
            if entry is not None:
                seen.setdefault(key, {}).setdefault(_KINDS[type(entry)], number)
    for key, kinds in seen.items():
        if len(kinds) > 1 and "text" not in kinds:
            first, second = list(kinds.items())[:2]
            return f"{key!r} is {first[0]} in line {first[1]} and {second[0]} in line {second[1]}; write both as text."
    return None


def _refuse_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number; write null")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"the number {text} is too large")
    return float(text)
