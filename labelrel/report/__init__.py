"""The outcome of a comparison: a table, figures and one HTML page, from the files of the stages.

`build_report` writes them; `labelrel.report.table` renders the rows it returns for a terminal or
a pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelrel import __version__
from labelrel.files import read_json, replacing, write_json
from labelrel.report.collect import Comparison, Row, collect
from labelrel.report.runs import Sources
from labelrel.report.sentence import answer, best_method
from labelrel.report.table import as_csv, as_json, as_rich, as_text, metrics

__all__ = [
    "Comparison",
    "Row",
    "Sources",
    "answer",
    "as_csv",
    "as_json",
    "as_rich",
    "as_text",
    "best_method",
    "build_report",
    "collect",
    "read_report",
    "show",
]

FIGURES = ("methods", "entropy", "reliability", "positions", "risk_coverage", "calibration", "loss")


def build_report(
    sources: Sources | Path | str,
    out: Path | str,
    *,
    confidence: float = 0.95,
    bootstrap: int = 2000,
    seed: int = 42,
    methods: Sequence[str] | None = None,
    about: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the report and return what it says.

    Written are `table.csv`, `table.json`, `metrics.json` (for `dvc metrics`), `scores.csv`,
    `report.html` and `figures/*.png`, each whole or not at all.

    Args:
        sources: where the stages' results are; a path stands for `Sources.under(path)`.
        out: folder of the report; other files in it are left alone.
        confidence: level of every interval, in (0, 1).
        bootstrap: number of resamples of the test items.
        seed: of the resamples.
        methods: the methods to report, floor and ceiling aside; null: all that were aligned.
        about: lines for the page, name → value, such as the git commit.

    Returns:
        `task`, `model`, `answer` (the sentence), `confidence`, `num_test_items`, `best` (name of the best
        method, or null), `rows` (one dict per method), `scores` (one dict per scoring method), `params` (what all
        runs share), `folders` (method → run folders), `figures` (their folder) and `files` (the other files).

    Raises:
        InputError: a stage has not been run, or its results cannot be read or do not belong together.
    """
    from labelrel.report import figures, labels
    from labelrel.report.annotators import annotator_table
    from labelrel.report.doubts import doubts
    from labelrel.report.evidence import label_tables
    from labelrel.report.page import Evidence, page
    from labelrel.report.positions import read_answers

    sources = sources if isinstance(sources, Sources) else Sources.under(sources)
    out = Path(out)
    items, scored = labels.read_labels(sources)
    weak = labels.with_gold(scored.filter("weak_label"), items)
    answers = read_answers(sources)
    scores = labels.score_table(weak)
    aurocs = dict(scores.select("method", "auroc").iter_rows())
    comparison = collect(
        sources, confidence=confidence, bootstrap=bootstrap, seed=seed, methods=methods, label_aurocs=aurocs
    )
    words = answer(comparison)
    best = best_method(comparison)
    tables = label_tables(
        items, scored, weak, answers, aurocs=aurocs, confidence=confidence, resamples=bootstrap, seed=seed
    )
    pictures = figures.draw_all(comparison, tables)
    rows = [row.as_dict() for row in comparison.rows]
    facts = {"labelrel": __version__, "bootstrap": f"{bootstrap} resamples, seed {seed}", **(about or {})}
    document = {
        "task": comparison.task,
        "model": comparison.model,
        "answer": words,
        "confidence": confidence,
        "num_test_items": comparison.num_test_items,
        "best": best.method if best else None,
        "rows": rows,
        "scores": scores.to_dicts(),
    }
    evidence = Evidence(
        scores=scores,
        examples=labels.examples(weak),
        doubts=doubts(comparison, sources, items, scored),
        annotators={
            by: annotator_table(answers, items, scored, by, confidence=confidence)
            for by in ("annotator_id", "variant_id")
            if answers is not None
        },
        pictures=pictures,
        about=facts,
    )
    html = page(comparison, words, evidence)
    texts = {"table.csv": as_csv(rows), "table.json": as_json(document), "scores.csv": scores.write_csv()}
    for name, text in {**texts, "report.html": html}.items():
        _write(out / name, text.encode())
    write_json(out / "metrics.json", metrics(rows))
    for picture in pictures:
        _write(out / "figures" / f"{picture.name}.png", picture.light)
    for name in set(FIGURES) - {picture.name for picture in pictures}:
        (out / "figures" / f"{name}.png").unlink(missing_ok=True)  # an earlier report's, which no longer holds
    return {
        **document,
        "params": comparison.params,
        "folders": {runs.method: list(runs.folders) for runs in comparison.runs},
        "figures": out / "figures",
        "files": [out / name for name in ("table.csv", "table.json", "metrics.json", "scores.csv", "report.html")],
    }


def read_report(folder: Path) -> dict[str, Any]:
    """Return what an earlier `build_report` wrote to `table.json`: rows, answer, confidence and more.

    Raises:
        InputError: there is no report.
    """
    return dict(read_json(folder / "table.json"))


def show(result: Mapping[str, Any]) -> None:
    """Print the table and the answer to stdout: rich in a terminal, plain in a pipe."""
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(as_rich(result["rows"], result["confidence"], console.width))
        console.print(f"\n{result['answer']}", markup=False, highlight=False)
    else:
        print(as_text(result["rows"], result["confidence"]))
        print(f"\n{result['answer']}")


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
