"""How to get the same numbers again: command lines, and the digests of what the runs read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

import polars as pl

from labelrel.report.collect import Comparison


@dataclass(frozen=True)
class Origin:
    """What the runs of a comparison came from.

    Attributes:
        commands: command line → what it is for.
        alone: command line → the one method that it trains.
        inputs: `input, path, sha256, methods` of every file that a run read; "all" where every run that read the
            input read the same file.
        mixed: names of the inputs, training sets aside, of which runs read different versions.
    """

    commands: dict[str, str]
    alone: dict[str, str]
    inputs: pl.DataFrame
    mixed: list[str]


def origin(comparison: Comparison, about: Mapping[str, str]) -> Origin:
    """Return how to repeat a comparison.

    Args:
        comparison: its runs.
        about: facts for the page; `git commit` is checked out first where it names one.
    """
    return Origin(_commands(about.get("git commit", "")), _alone(comparison), *_inputs(comparison))


def _commands(commit: str) -> dict[str, str]:
    found = re.match(r"[0-9a-f]{7,64}\b", commit)
    lines = {}
    if found:
        dirty = found.group() != commit
        lines[f"git checkout {found.group()}"] = "the code, without the local changes" if dirty else "the code"
    return lines | {
        "dvc repro": "every stage whose inputs, parameters or code changed",
        "labelrel report": "this page alone",
        "labelrel ui": "the same runs in MLflow",
    }


def _alone(comparison: Comparison) -> dict[str, str]:
    lines = {}
    for runs in comparison.runs:
        for record in runs.records:
            path = (record.get("inputs") or {}).get("training", {}).get("path")
            if runs.role != "floor" and path:
                lines[f"labelrel align --train {quote(str(path))} --seed {int(record['seed'])}"] = runs.method
    return lines


def _inputs(comparison: Comparison) -> tuple[pl.DataFrame, list[str]]:
    """Return what was read, each file once, and which inputs are not the same for all."""
    read: dict[tuple[str, str, str], list[str]] = {}
    for runs in comparison.runs:
        for record in runs.records:
            for name, source in (record.get("inputs") or {}).items():
                methods = read.setdefault((name, str(source.get("path", "")), str(source.get("sha256", ""))), [])
                if runs.method not in methods:
                    methods.append(runs.method)
    versions: dict[str, set[str]] = {}
    for name, _, digest in read:
        versions.setdefault(name, set()).add(digest)
    mixed = [name for name, digests in versions.items() if name != "training" and len(digests) > 1]
    rows = [
        {
            "input": name,
            "path": path,
            "sha256": digest,
            "methods": ", ".join(methods) if name == "training" or name in mixed else "all",
        }
        for (name, path, digest), methods in read.items()
    ]
    kinds = dict.fromkeys(("input", "path", "sha256", "methods"), pl.String)
    return pl.DataFrame(rows, schema=kinds), mixed
