"""Weak labels for other tools: rows with a weight to train on, a queue to review, tasks to annotate.

A format is one registered function, `(source, path) → what was written`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelrel.errors import InputError
from labelrel.export import trl as _trl  # noqa: F401  (first: formats are listed in order of registration)

# isort: split
from labelrel.export import review as _review  # noqa: F401

# isort: split
from labelrel.export import labelstudio as _labelstudio  # noqa: F401
from labelrel.export.base import Exporter, Source, exporters, read_source

__all__ = ["ExportOptions", "Exporter", "Source", "export_scores", "exporters", "show_export"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export.

    Attributes:
        method: whose weak labels; None where the scores are of one method only.
        items: a table of `item_id`, `question` and maybe `choices`; None for none.
        weights: whether a label's weight is its label quality; else it is 1.
        kept: only items whose weak label is kept, as the column `kept` of the scores says.
    """

    method: str | None = None
    items: Path | None = None
    weights: bool = True
    kept: bool = False


def export_scores(scores: Path, to: str, out: Path, options: ExportOptions | None = None) -> dict[str, Any]:
    """Write the weak labels of one scoring method in another tool's format, whole or not at all.

    Args:
        scores: a scores table; Parquet, CSV or JSONL.
        to: the name of the format.
        out: where to write; its extension must be one of the format's.
        options: what to export.

    Returns:
        A JSON-able dict: `to`, `method`, `out`, `rows` (written), `left_out` (why → how many items), and
        what else the format tells (`basis` of a review queue's values, `config` of Label Studio).

    Raises:
        UnknownNameError: no such format, or a method that the scores have not.
        InputError: another extension, scores or items that cannot be what they are said to be, or
            items that the format needs.
    """
    options = options or ExportOptions()
    chosen = exporters.get(to, where="--to")
    if out.suffix not in chosen.suffixes:
        raise InputError(f"{out}: export to {to} writes {' or '.join(chosen.suffixes)}, not '{out.suffix}'.")
    source = read_source(scores, options.method, options.items, weights=options.weights, kept=options.kept)
    return {"to": to, "method": source.method, "out": str(out), **chosen.write(source, out)}


def show_export(result: Mapping[str, Any]) -> None:
    """Print what was written."""
    left_out = ", ".join(f"{num} with {why}" for why, num in result["left_out"].items() if num)
    print(
        f"{result['out']}: {result['rows']} rows of method {result['method']} for {result['to']}"
        + (f" (left out: {left_out})" if left_out else "")
    )
    if "basis" in result:
        print(f"value rests on: {', '.join(f'{basis} ({num})' for basis, num in result['basis'].items())}")
    if "config" in result:
        print(f"{result['config']}: the labelling interface, to be pasted into the project's settings")
