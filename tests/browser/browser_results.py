"""Results with everything a page can show: answers, training sets, stages, a loss, and a text for every question."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))
from fake_results import write_labels, write_results

from labelrel import schema


def write_results_with_answers(data: Path, question: str) -> Path:
    """Write the comparison of `fake_results` with answers to it and the training set of `filter`."""
    write_results(data)
    votes = {"a": ("0", {"0": 5}), "b": ("1", {"1": 5}), "c": ("2", {"2": 3, "0": 2}), "d": ("3", {"1": 5})}
    write_labels(data, votes, question=question)
    answers = [
        (item, "weak", str(place), "Where?", answer, answer, None, None)
        for item, (_, cast) in votes.items()
        for place, answer in enumerate(answer for answer, count in cast.items() for _ in range(count))
    ]
    pl.DataFrame(answers, schema=schema.ANSWERS, orient="row").write_parquet(data / "answers.parquet")
    kept = [("a", "Where?", "Paris", "0", 1.0), ("c", "Where?", "Oslo", "2", 1.0)]
    pl.DataFrame(kept, schema=schema.TRAINING, orient="row").write_parquet(data / "training" / "filter.parquet")
    return data
