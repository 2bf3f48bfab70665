"""The tables of the figures against the counts of the paper's own, figures 3 and 5 of arXiv 2406.19032."""

from __future__ import annotations

from itertools import chain

import polars as pl
import pytest

from labelrel import schema
from labelrel.report.labels import entropy_bars, open_reliability, with_gold
from labelrel.scoring import score

PATTERNS = {0.0: (5,), 0.5: (4, 1), 0.67: (3, 2), 0.95: (3, 1, 1), 1.05: (2, 2, 1), 1.33: (2, 1, 1, 1), 1.61: (1,) * 5}

COUNTS = {  # entropy → wrong, right, the accuracy printed on the bar
    "hellaswag": {
        0.0: (645, 13175, 0.953),
        0.5: (1572, 3138, 0.666),
        0.67: (1451, 1394, 0.490),
        0.95: (956, 724, 0.431),
        1.05: (1003, 507, 0.336),
        1.33: (312, 123, 0.283),
    },
    "mmlu": {
        0.0: (215, 970, 0.819),
        0.5: (617, 578, 0.484),
        0.67: (725, 365, 0.335),
        0.95: (1062, 503, 0.321),
        1.05: (1205, 455, 0.274),
        1.33: (495, 180, 0.267),
    },
    "gsm8k": {
        0.0: (85, 50, 0.370),
        0.5: (389, 86, 0.181),
        0.67: (260, 45, 0.148),
        0.95: (1458, 177, 0.108),
        1.05: (1172, 128, 0.098),
        1.33: (5955, 345, 0.055),
        1.61: (8014, 221, 0.027),
    },
}


def votes(level: float, wrong: int, right: int) -> list[list[str]]:
    """Return the five answers of each item, "right" or a wrong number, that add up to a bar."""
    sizes, items = PATTERNS[level], []
    for _ in range((wrong + right) // 5):
        size = next((size for size in sizes if size <= right), 0)  # the right answer's votes, as many as are left
        right -= size
        others = list(sizes)
        if size:
            others.remove(size)
        items.append(["right"] * size + list(chain(*([str(n)] * other for n, other in enumerate(others)))))
    assert right == 0
    return items


@pytest.mark.parametrize("task", COUNTS)
def test_entropy_bars_are_the_papers(task: str) -> None:
    items = [cast for level, (wrong, right, _) in COUNTS[task].items() for cast in votes(level, wrong, right)]
    answers = pl.DataFrame(
        [(f"i{n}", "weak", str(v), answer) for n, cast in enumerate(items) for v, answer in enumerate(cast)],
        schema=["item_id", "annotator_id", "variant_id", "answer"],
        orient="row",
    )
    gold = pl.DataFrame(
        [(f"i{n}", task, "w2s", "?", None, "right") for n in range(len(items))], schema=schema.ITEMS, orient="row"
    )
    bars = entropy_bars(score(answers, ["entropy"]), gold)
    found = {level: (wrong, right) for level, right, wrong, _ in bars.iter_rows()}
    assert found == {level: (wrong, right) for level, (wrong, right, _) in COUNTS[task].items()}
    assert bars["accuracy"].to_list() == pytest.approx([share for *_, share in COUNTS[task].values()], abs=5e-4)


def test_two_answers_of_ethics_have_the_reliability_that_follows_from_the_bars() -> None:
    # agreeing pairs have reliability 1, disagreeing ones 1/2 each: figure 5's bars, one row per kind of answer
    bars = [("agree", 0.0, 1.0, 8016, 2036), ("disagree", 0.6931, 0.5, 2724, 1117)]
    rows = [
        ("entropy", item, answer, count, right + wrong, 0.5, reliability, entropy, answer == "1", 0.5, False)
        for item, entropy, reliability, right, wrong in bars
        for answer, count in (("1", right), ("0", wrong))
    ]
    scores = pl.DataFrame(rows, schema=schema.SCORES, orient="row")
    gold = [(item, "ethics", "w2s", "?", None, "1") for item, *_ in bars]
    items = pl.DataFrame(gold, schema=schema.ITEMS, orient="row")
    assert entropy_bars(scores, items)["accuracy"].to_list() == pytest.approx([0.797, 0.709], abs=5e-4)
    right, wrong = open_reliability(with_gold(scores, items))["reliability"]
    # (8016 + 2724 / 2) / 10740 and (2036 + 1117 / 2) / 3153
    assert (right, wrong) == (pytest.approx(0.873, abs=5e-4), pytest.approx(0.823, abs=5e-4))
